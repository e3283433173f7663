"""What each of two processes measures for `scaling.py`, which starts them with torchrun: one round after the other.

A round is: a step of the first process alone, while the other waits; one with twice the samples; a step of both at
once that exchange nothing; a step of both as one run; forward and backward; the gradients' all-reduce. So a slow
minute of the machine meets all of them.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from apatite.core.commit import commit_json
from apatite.data.batches import Batch
from apatite.engine.distributed import ALONE, World, joined
from apatite.engine.fit import FitPlan, fit
from apatite.engine.optim import OptimConfig, build_optimizer
from apatite.engine.precision import Precision
from apatite.nn.attention import AttentionKernel
from apatite.nn.models import model_size
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask

WINDOW_HU = (-1024.0, 3071.0)
PATCH = (8, 8, 8)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained: a model on crops of these edges, samples per process, rounds that count."""

    model: str
    crop: tuple[int, int, int]
    batch: int
    rounds: int

    def task(self) -> PretrainTask:
        """Always the same weights."""
        torch.manual_seed(0)
        size = model_size(self.model)
        encoder = size.encoder(crop=self.crop, patch=PATCH, windows_hu=(WINDOW_HU,))
        shapes = Shapes(encoder=encoder, decoder=size.decoder)
        return PretrainTask(METHODS["mae"], shapes, AttentionKernel(), 0, steps=1)

    def images(self, batch: int) -> Batch:
        """Anything: the time of a step does not depend on what is in the image."""
        drawn = torch.randn(batch, 1, *self.crop, generator=torch.Generator().manual_seed(0)) * 300
        return Batch(case_ids=tuple(map(str, range(batch))), images_hu=drawn)


@dataclass(kw_only=True)
class Times:
    """Seconds of every round; of what both do, those of the slower one.

    Attributes:
        gradient_bytes: What is sent per step.
        alone, alone_double: A step of one process, with the samples of one and of both.
        together: A step of each at once, without exchange.
        shared: A step of both as one run.
        backward: Of one process, while the other one waits.
        all_reduce: Of the gradients alone.
    """

    gradient_bytes: int
    alone: list[float] = field(default_factory=list)
    alone_double: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    shared: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    all_reduce: list[float] = field(default_factory=list)


def steps(case: Case, batch: int, world: World = ALONE) -> Callable[[], Any]:
    """The package's own loop, one step per call."""
    task, images = case.task(), case.images(batch)
    plan = FitPlan(steps=10**6, seed=0, optim=OptimConfig(), precision=Precision(threads=1))
    rows = fit(task, lambda _: images, build_optimizer(task, plan.optim), plan, world=world)
    return lambda: next(rows)


def backwards(case: Case) -> Iterator[float]:
    """Seconds of one backward pass after the other."""
    task, images = case.task(), case.images(case.batch)
    while True:
        loss = torch.stack(list(task.losses(images, 0).values())).sum()
        start = time.perf_counter()
        loss.backward()
        yield time.perf_counter() - start
        task.zero_grad(set_to_none=True)


def timed_together(function: Callable[[], Any], *, is_active: bool = True) -> float:
    """Seconds of the slower process, both beginning at once; one that is not active only waits."""
    dist.barrier()
    start = time.perf_counter()
    if is_active:
        function()
    elapsed = torch.tensor([time.perf_counter() - start if is_active else 0.0], dtype=torch.float64)
    dist.all_reduce(elapsed, dist.ReduceOp.MAX)
    return float(elapsed)


def measure(case: Case, world: World) -> Times:
    """All rounds, after one to warm up."""
    gradients = torch.zeros(sum(p.numel() for p in case.task().parameters() if p.requires_grad))
    alone, double = steps(case, case.batch), steps(case, 2 * case.batch)
    together, shared = steps(case, case.batch), steps(case, case.batch, world)
    backward, found = backwards(case), Times(gradient_bytes=4 * gradients.numel())
    is_first = world.is_first
    for _ in range(1 + case.rounds):
        found.alone.append(timed_together(alone, is_active=is_first))
        found.shared.append(timed_together(shared))
        found.together.append(timed_together(together))
        found.alone_double.append(timed_together(double, is_active=is_first))
        found.all_reduce.append(timed_together(lambda: dist.all_reduce(gradients)))
        dist.barrier()
        found.backward.append(next(backward) if is_first else 0.0)
    for rounds in asdict(found).values():
        if isinstance(rounds, list):
            assert len(rounds) == 1 + case.rounds
    for name in ("alone", "alone_double", "together", "shared", "backward", "all_reduce"):
        setattr(found, name, getattr(found, name)[1:])
    return found


def measure_pair(cases: list[Case], out: Path) -> None:
    """Measure in turn; the first process writes a list of `Times`."""
    torch.set_num_threads(1)
    meeting: AbstractContextManager[World] = joined()
    with meeting as world:
        found = [asdict(measure(case, world)) for case in cases]
        if world.is_first:
            commit_json(out, found)


if __name__ == "__main__":
    measure_pair([Case(**case) for case in json.loads(sys.argv[1])], Path(sys.argv[2]))
