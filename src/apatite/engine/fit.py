"""The one loop: it yields a row of numbers per optimiser step and knows nothing of files, bars or validation.

The caller logs, saves and stops. Every draw of a step is a function of (seed, step): batches are asked for by their
step, and torch's own generator is seeded per step, so there is no random state to save.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from apatite.core.errors import TrainingError
from apatite.core.rng import derived_seed
from apatite.core.types import Scalar
from apatite.data.batches import Batch
from apatite.engine.distributed import ALONE, World
from apatite.engine.optim import OptimConfig, set_learning_rate, set_weight_decay
from apatite.engine.precision import Precision
from apatite.engine.schedule import warmup_cosine
from apatite.nn.drop_path import share_draws

Row = dict[str, float]


@runtime_checkable
class Task(Protocol):
    """What is learned: a module and its named losses."""

    @property
    def module(self) -> nn.Module:
        """All that learns."""
        ...

    def losses(self, batch: Batch, step: int) -> dict[str, Scalar]:
        """Weighted losses of a batch; their sum is minimised."""
        ...


@runtime_checkable
class Following(Protocol):
    """A task of which something moves after the optimiser's step, such as a teacher after its student."""

    def after(self, step: int) -> None:
        """Move; a function of what the step did and of its number alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How long and how fast.

    Attributes:
        steps: Optimiser steps of the whole run.
        seed: Of every draw.
        optim: Rates and clipping.
        precision: Device and number format.
    """

    steps: int
    seed: int
    optim: OptimConfig
    precision: Precision


def fit(
    task: Task,
    batches: Callable[[int], Batch],
    optimizer: torch.optim.Optimizer,
    plan: FitPlan,
    first_step: int = 0,
    world: World = ALONE,
) -> Iterator[Row]:
    """Train from `first_step` to the end of the plan.

    Args:
        task: What is learned.
        batches: The batch of a step, this process's share of it.
        optimizer: Over `task.module`, its state restored when `first_step` is not 0.
        plan: Length, rates, precision.
        first_step: Where a resumed run goes on.
        world: The processes that share the run.

    Yields:
        `step`, `loss`, `lr`, `gradient_norm` and one number per named loss, after each optimiser step; the same in all
        processes.

    Raises:
        TrainingError: the loss or the gradient is not finite; raised before the optimiser step, so the weights are
            still those of the step before. The message names the batch's cases.
    """
    warmup_steps = round(plan.steps * plan.optim.warmup_fraction)
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    share_draws(task.module, world.share)
    losses_of = world.shared(task.module, task.losses)
    for step in range(first_step, plan.steps):
        task.module.train()
        torch.manual_seed(derived_seed(plan.seed, "torch", step) % 2**63)
        lr = plan.optim.lr * warmup_cosine(step, plan.steps, warmup_steps)
        set_learning_rate(optimizer, lr)
        set_weight_decay(optimizer, plan.optim.weight_decay_at(step, plan.steps))
        batch = batches(step)
        with plan.precision.autocast():
            losses = losses_of(batch.to(plan.precision.device), step)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(parameters, plan.optim.clip_norm or float("inf"))
        if not torch.isfinite(total) or not torch.isfinite(norm):
            raise TrainingError(
                f"the loss is {total.item():.3g} and the gradient norm {norm.item():.3g}",
                where=f"step {step}, cases {', '.join(batch.case_ids)}",
                fix="look at these cases; lower optim.lr if they are sound",
                code="NONFINITE",
            )
        optimizer.step()
        if isinstance(task, Following):
            task.after(step)
        means = world.mean(torch.stack([total, *losses.values()]).detach()).tolist()
        yield {"step": step, "loss": means[0], "lr": lr, "gradient_norm": norm.item()} | dict(
            zip(losses, means[1:], strict=True)
        )
