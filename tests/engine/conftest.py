"""A task small enough to train in milliseconds, with dropout so that torch's own draws matter."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from apatite.core.rng import derived_seed
from apatite.data.batches import Batch
from apatite.engine.fit import FitPlan
from apatite.engine.optim import OptimConfig, build_optimizer
from apatite.engine.precision import Precision


class Smooth(nn.Module):
    """Predict a voxel pattern through dropout; two named losses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(24, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 24))

    @property
    def module(self) -> nn.Module:
        return self

    def losses(self, batch: Batch, step: int) -> dict:
        x = batch.images_hu.flatten(1)
        made = self.net(x)
        return {"fit": (made - x).square().mean(), "size": 0.01 * made.abs().mean()}


def batches(step: int) -> Batch:
    """Two samples of 2×3×4 voxels."""
    draw = torch.Generator().manual_seed(derived_seed(9, "test", step) % 2**63)
    return Batch(case_ids=(f"a{step}", f"b{step}"), images_hu=torch.randn(2, 1, 2, 3, 4, generator=draw))


@pytest.fixture
def plan() -> FitPlan:
    return FitPlan(steps=12, seed=3, optim=OptimConfig(lr=1e-2, warmup_fraction=0.25), precision=Precision())


@pytest.fixture
def make(plan) -> Callable[[], tuple[Smooth, torch.optim.Optimizer]]:
    """A fresh task with its optimiser; always the same weights."""

    def build() -> tuple[Smooth, torch.optim.Optimizer]:
        task = Smooth()
        return task, build_optimizer(task, plan.optim)

    return build


@pytest.fixture
def draw_batches() -> Callable[[int], Batch]:
    return batches


@pytest.fixture(autouse=True)
def one_thread():
    """Sums depend on the number of threads, and the machine has others to serve."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
