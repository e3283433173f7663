"""Several processes that do one run: the same draws, the same sums, one process that writes.

Each process computes its share of every step's batch; gradients are averaged by torch's DistributedDataParallel and
sums that a loss needs over the whole batch (Dice) are added up with their gradient. So the numbers are those of one
process at the same global batch, up to rounding.

Processes are started by `torchrun`, which also says who is who; nothing else is needed.
Source: Li et al. 2020 (arXiv 2006.15704) for the averaging.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from apatite.core.share import WHOLE, Share
from apatite.core.types import Scalar
from apatite.data.batches import Batch

PATIENCE = timedelta(hours=2)
"""How long processes wait for one another: the first one looks at the development split while the others wait."""

Losses = Callable[[Batch, int], dict[str, Scalar]]


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run, seen from one of them.

    Attributes:
        share: Which part of every batch is this process's.
        device: Where tensors must lie to be sent, `cpu` or this process's `cuda`.
    """

    share: Share = WHOLE
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, looks at held-out cases and shows progress."""
        return self.share.index == 0

    def shared(self, module: nn.Module, losses: Losses) -> Losses:
        """The losses such that `backward` leaves gradients averaged over the processes.

        Args:
            module: All that learns.
            losses: Of this process's share of a batch.
        """
        if self.share.of == 1:
            return losses
        return DistributedDataParallel(_Forward(module, losses))

    def sum(self, value: Tensor) -> Tensor:
        """Add up over the processes, with its gradient: what a loss over the whole batch needs."""
        return value if self.share.of == 1 else _Sum.apply(value)  # type: ignore[return-value]

    @torch.no_grad()
    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes, to be reported."""
        return value if self.share.of == 1 else _Sum.apply(value) / self.share.of  # type: ignore[return-value]

    def any(self, *, is_true: bool) -> bool:
        """Whether it is true in any process."""
        if self.share.of == 1:
            return is_true
        vote = torch.tensor([float(is_true)], device=self.device)
        dist.all_reduce(vote)
        return bool(vote.item() > 0)

    def agree(self, text: str) -> str:
        """What the first process says, in all of them."""
        if self.share.of == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        length = torch.tensor([len(content)], device=self.device)
        dist.broadcast(length, src=0)
        if not self.is_first:
            content = torch.empty(int(length.item()), dtype=torch.uint8, device=self.device)
        dist.broadcast(content, src=0)
        return bytes(content.cpu().tolist()).decode()


ALONE = World()
"""One process by itself."""


@contextmanager
def joined() -> Iterator[World]:
    """The processes that `torchrun` started, for the time of the block; one process alone otherwise."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield ALONE
        return
    is_new = not dist.is_initialized()
    if is_new:
        has_cuda = torch.cuda.is_available()
        if has_cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if has_cuda else "gloo", timeout=PATIENCE)
    try:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        yield World(share=Share(index=dist.get_rank(), of=dist.get_world_size()), device=device)
    finally:
        if is_new:
            dist.destroy_process_group()


class _Forward(nn.Module):
    """Losses as a module's forward pass, since that is where averaging is hooked in."""

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.module, self.losses = module, losses

    def forward(self, batch: Batch, step: int) -> dict[str, Scalar]:
        """The losses of this process's share."""
        return self.losses(batch, step)


class _Sum(torch.autograd.Function):
    """A sum over processes; each process's loss depends on every addend, so gradients add up as well."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        total = gradient.clone()
        dist.all_reduce(total)
        return total
