"""Several processes that do one run: the same draws, the same sums, one process that writes.

Each process computes its share of every step's batch; gradients are averaged by torch's DistributedDataParallel and
sums that a loss needs over the whole batch (Dice) are added up with their gradient. So the numbers are those of one
process at the same global batch, up to rounding.

Processes are started by `torchrun`, which also says who is who; nothing else is needed. They begin at the same step
or not at all, and leave together: the first one's files are whole before any other has ended, since what watches over
a job (`torchrun`, SLURM) may kill the rest once one has ended.
Source: Li et al. 2020 (arXiv 2006.15704) for the averaging.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from traceback import clear_frames

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, get_node_local_rank
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from apatite.core.errors import ConfigError, StoppedError, StorageError, TrainingError
from apatite.core.share import WHOLE, Share
from apatite.core.types import Scalar
from apatite.data.batches import Batch

PATIENCE = timedelta(hours=2)
"""How long processes wait for one another: the first one looks at the development split while the others wait."""

_RUNS = count()
"""Numbers the runs of this process; all processes do the same ones in the same order."""

_UNSHARED: ContextVar[bool] = ContextVar("unshared", default=False)
"""Whether sums are those of this process alone."""

Losses = Callable[[Batch, int], dict[str, Scalar]]


@contextmanager
def unshared() -> Iterator[None]:
    """For what one process does by itself: within, no sum waits for the other processes, which do something else."""
    before = _UNSHARED.set(True)
    try:
        yield
    finally:
        _UNSHARED.reset(before)


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run, seen from one of them.

    Attributes:
        share: Which part of every batch is this process's.
    """

    share: Share = WHOLE

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, looks at held-out cases and shows progress."""
        return self.share.index == 0

    def shared(self, module: nn.Module, losses: Losses) -> Losses:
        """The losses such that `backward` leaves gradients averaged over the processes.

        Args:
            module: All that learns; its weights become the first process's.
            losses: Of this process's share of a batch.

        Raises:
            StorageError: by the losses, where the processes do not begin at the same step.
        """
        if self.share.of == 1:
            return losses
        # Parameters are sent in one order from the first step on: torch would otherwise choose another order after
        # the first step of a process, and a resumed run would add up in another order than an uninterrupted one.
        return DistributedDataParallel(_Forward(module, losses, self), find_unused_parameters=True)

    def sum(self, value: Tensor) -> Tensor:
        """Add up over the processes, with its gradient: what a loss over the whole batch needs."""
        return value if self.share.of == 1 or _UNSHARED.get() else _Sum.apply(value)  # type: ignore[return-value]

    @torch.no_grad()
    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes, to be reported."""
        return value if self.share.of == 1 else _Sum.apply(value) / self.share.of  # type: ignore[return-value]

    def any(self, *, is_true: bool) -> bool:
        """Whether it is true in any process."""
        if self.share.of == 1:
            return is_true
        vote = torch.tensor([float(is_true)])
        dist.all_reduce(vote)
        return bool(vote.item() > 0)

    def agree(self, text: str) -> str:
        """What the first process says, in all of them."""
        if self.share.of == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        dist.broadcast(length, src=0)
        if not self.is_first:
            content = torch.empty(int(length.item()), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        return bytes(content.tolist()).decode()


ALONE = World()
"""One process by itself."""


@contextmanager
def joined() -> Iterator[World]:
    """The processes that `torchrun` started, for the time of the block; one process alone otherwise.

    Raises:
        ConfigError: there are more of them than GPUs.
        TrainingError: another one ended in the middle of the run (`PEER_LOST`).
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield ALONE
        return
    is_new = not dist.is_initialized()
    if is_new:
        _meet()
    world = World(share=Share(index=dist.get_rank(), of=dist.get_world_size()))
    try:
        yield from _until_all_end(world)
    except StoppedError as error:
        _part(error, is_new=is_new)
        raise
    except BaseException as error:
        # NCCL would wait for others that may never come; it ends with the process.
        _part(error, is_new=is_new and not torch.cuda.is_available())
        if not _is_of_a_peer(error):
            raise
        raise TrainingError(
            "another process of this run ended, or did not answer",
            where=f"process {world.share.index} of {world.share.of}",
            fix="look at what that one says; then run the same command with --resume",
            code="PEER_LOST",
        ) from error
    _part(None, is_new=is_new)


def _until_all_end(world: World) -> Iterator[World]:
    """The block, and the wait for the others where all of them come to its end, or are stopped after the same step."""
    try:
        yield world
    except StoppedError:
        world.any(is_true=True)
        raise
    world.any(is_true=False)


def _part(error: BaseException | None, *, is_new: bool) -> None:
    """Close the connections, if they were opened here.

    gloo's threads end when nothing refers to them, be it an error's frames or a cycle. One that outlives the
    interpreter aborts the process, whose exit code would then be that of a crash.
    """
    if not is_new:
        return
    if error is not None:
        clear_frames(error.__traceback__)
    dist.destroy_process_group()
    gc.collect()


def _meet() -> None:
    """Find the others. What lies on a GPU is sent by NCCL, what lies on the host by gloo, whatever the run computes on.

    Raises:
        ConfigError: there are more processes than GPUs.
    """
    backend = "gloo"
    if torch.cuda.is_available():
        local, gpus = get_node_local_rank(), torch.cuda.device_count()
        if local >= gpus:
            raise ConfigError(
                f"process {local + 1} on a machine with {gpus} GPUs",
                where="torchrun --nproc-per-node",
                fix=f"use at most {gpus}, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to compute on the processors",
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    store, rank, size = next(iter(rendezvous("env://", timeout=PATIENCE)))
    # Under a name of its own, or a second run of the same processes would look for the first one's connections.
    store = PrefixStore(f"run {next(_RUNS)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)


def _is_of_a_peer(error: BaseException) -> bool:
    """Whether it is of the connection to the others; gloo says so in words alone."""
    is_said = type(error) is RuntimeError and ("gloo" in str(error) or "Connection" in str(error))
    return isinstance(error, dist.DistError) or is_said


class _Forward(nn.Module):
    """Losses as a module's forward pass, since that is where averaging is hooked in."""

    def __init__(self, module: nn.Module, losses: Losses, world: World) -> None:
        super().__init__()
        self.module, self.losses, self.world = module, losses, world
        self.is_begun = False
        # torch warns of time lost where it looks for unused parameters and finds none.
        self.unused = nn.Parameter(torch.zeros(1, device=next(module.parameters()).device))

    def forward(self, batch: Batch, step: int) -> dict[str, Scalar]:
        """The losses of this process's share."""
        if not self.is_begun:
            self._require_equal(step)
        return self.losses(batch, step)

    def _require_equal(self, step: int) -> None:
        """A network disk may show a process an older checkpoint; draws of two steps must never be mixed."""
        first = int(self.world.agree(str(step)))
        if step != first:
            raise StorageError(
                f"this process found the state after step {step}, the first one that after step {first}",
                where=f"process {self.world.share.index} of {self.world.share.of}",
                fix="wait until all machines see the same files, then run the same command again",
            )
        self.is_begun = True


class _Sum(torch.autograd.Function):
    """A sum over processes; each process's loss depends on every addend, so gradients add up as well."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        return _total(value)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        return _total(gradient)


def _total(value: Tensor) -> Tensor:
    total = value.clone()
    dist.all_reduce(total)
    return total
