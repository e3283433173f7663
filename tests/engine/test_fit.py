"""One row per step; a loss that is not finite stops the run before it can spoil the weights."""

from dataclasses import replace

import pytest
import torch

from apatite.core.errors import TrainingError
from apatite.data.batches import Batch
from apatite.engine.fit import fit
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.engine.schedule import warmup_cosine


def weights(task) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in task.module.state_dict().values()]


def test_a_row_per_step_with_the_sum_of_the_named_losses(make, plan, draw_batches):
    task, optimizer = make()
    rows = list(fit(task, draw_batches, optimizer, plan))
    assert [row["step"] for row in rows] == list(range(12))
    for row in rows:
        assert row["loss"] == pytest.approx(row["fit"] + row["size"], rel=1e-6)
        assert row["lr"] == plan.optim.lr * warmup_cosine(int(row["step"]), 12, 3)
        assert row["gradient_norm"] > 0


def test_the_same_as_a_plain_loop_by_hand(make, plan, draw_batches):
    """Without dropout and clipping: AdamW at the schedule's rates, nothing else."""
    plan = replace(plan, optim=replace(plan.optim, clip_norm=0.0))
    task, optimizer = make()
    task.net[1].p = 0.0
    list(fit(task, draw_batches, optimizer, plan))
    hand, _ = make()
    hand.net[1].p = 0.0
    decayed = [p for p in hand.parameters() if p.ndim > 1]
    rest = [p for p in hand.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
    for step in range(12):
        for group in plain.param_groups:
            group["lr"] = 1e-2 * warmup_cosine(step, 12, 3)
        plain.zero_grad()
        sum(hand.losses(draw_batches(step), step).values()).backward()
        plain.step()
    for ours, theirs in zip(weights(task), weights(hand), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_the_norm(make, plan, draw_batches):
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            seen.append(float(torch.sqrt(sum(g.square().sum() for g in gradients))))

    for clip_norm in (1e-3, 0.0):
        task, _ = make()
        optimizer = Watched([{"params": list(task.parameters()), "lr_scale": 1.0}], lr=0.1)
        row = next(fit(task, draw_batches, optimizer, replace(plan, optim=OptimConfig(clip_norm=clip_norm))))
        assert row["gradient_norm"] > 1e-3, "the journal shows the norm before clipping"
    assert seen[0] == pytest.approx(1e-3, rel=1e-3)
    assert seen[1] == pytest.approx(row["gradient_norm"], rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_optimiser_and_names_the_cases(make, plan, draw_batches, bad):
    task, optimizer = make()

    def poisoned(step: int) -> Batch:
        batch = draw_batches(step)
        if step == 5:
            batch.images_hu[1, 0, 0, 1, 2] = bad
        return batch

    before = []
    with pytest.raises(TrainingError, match="step 5, cases a5, b5") as caught:
        for _ in fit(task, poisoned, optimizer, plan):
            before = weights(task)
    assert caught.value.code == "NONFINITE"
    assert all(torch.equal(was, now) for was, now in zip(before, weights(task), strict=True))
    assert all(torch.isfinite(m).all() for state in optimizer.state.values() for m in state.values())


def test_a_gradient_that_is_not_finite_stops_too(make, plan, draw_batches):
    """sqrt at 0 has a finite value and an infinite slope."""
    task, optimizer = make()
    whole = task.losses
    task.losses = lambda batch, step: (
        whole(batch, step) | ({"edge": (task.net[3].bias * 0).sum().sqrt()} if step == 2 else {})
    )
    before = []
    with pytest.raises(TrainingError, match=r"step 2.*gradient norm nan"):
        for _ in fit(task, draw_batches, optimizer, plan):
            before = weights(task)
    assert all(torch.equal(was, now) for was, now in zip(before, weights(task), strict=True))


def test_what_happens_between_steps_does_not_change_the_next_ones(make, plan, draw_batches):
    """A check that draws random numbers or switches to evaluation must not change the training."""
    calm, disturbed = make(), make()
    expected = [row["loss"] for row in fit(calm[0], draw_batches, calm[1], plan)]
    found = []
    for row in fit(disturbed[0], draw_batches, disturbed[1], plan):
        found.append(row["loss"])
        torch.rand(int(row["step"]) + 1)
        disturbed[0].eval()
    assert found == expected


def test_another_seed_draws_other_dropout(make, plan, draw_batches):
    runs = []
    for seed in (3, 4):
        task, optimizer = make()
        runs.append([row["loss"] for row in fit(task, draw_batches, optimizer, replace(plan, seed=seed))])
    assert runs[0] != runs[1]


def test_every_step_draws_its_own_dropout(make, plan, draw_batches):
    task, optimizer = make()
    dropped = []
    task.net[1].register_forward_hook(lambda module, given, made: dropped.append((made == 0).flatten().tolist()))
    for _ in fit(task, draw_batches, optimizer, plan):
        pass
    assert len({tuple(pattern) for pattern in dropped}) > 8


def test_losses_are_computed_in_the_plans_format(make, plan, draw_batches):
    task, optimizer = make()
    formats = []
    task.net[0].register_forward_hook(lambda module, given, made: formats.append(made.dtype))
    bf16 = replace(plan, steps=1, precision=Precision(format="bf16"))
    next(fit(task, draw_batches, optimizer, bf16))
    next(fit(task, draw_batches, optimizer, plan))
    assert formats == [torch.bfloat16, torch.float32]
    assert {p.dtype for p in task.parameters()} == {torch.float32}
