"""The reconstruction loss is on hidden patches, normalised one by one, and on nothing else."""

from dataclasses import replace

import pytest
import torch

from apatite.nn.patches import place_tokens, take_tokens
from apatite.pretrain.terms import Pass, ReconstructHidden


@pytest.fixture
def term(task) -> ReconstructHidden:
    return task.terms["reconstruct_hidden"]


@pytest.fixture
def seen(task, batch) -> Pass:
    return task.look(batch, 0)


def changed(seen: Pass, chosen: torch.Tensor) -> Pass:
    """The same pass with other contents in the chosen patches."""
    other = torch.randn_like(take_tokens(seen.patches, chosen))
    return replace(seen, patches=place_tokens(seen.patches, other, chosen))


def test_the_loss_by_hand(term, seen):
    total, count = 0.0, 0
    made = term.predict(seen)
    for sample in range(3):
        for place, token in enumerate(seen.hidden[sample].tolist()):
            patch = seen.patches[sample, token].view(30, 2)
            target = (patch - patch.mean(0)) / torch.sqrt(patch.var(0, unbiased=True) + 1e-6)
            total += (made[sample, place] - target.flatten()).square().sum().item()
            count += 60
    assert term.loss(seen).item() == pytest.approx(total / count, rel=1e-5)


def test_only_hidden_patches_are_targets(term, seen):
    before = term.loss(seen)
    assert torch.equal(term.loss(changed(seen, seen.visible)), before)
    assert not torch.isclose(term.loss(changed(seen, seen.hidden)), before)


def test_brightness_and_contrast_of_a_hidden_patch_are_not_asked_for(term, seen):
    brighter = place_tokens(seen.patches, 3 * take_tokens(seen.patches, seen.hidden) + 2, seen.hidden)
    torch.testing.assert_close(term.loss(replace(seen, patches=brighter)), term.loss(seen), rtol=1e-4, atol=1e-5)


def test_a_perfect_prediction_costs_nothing(term, seen, monkeypatch):
    hidden = take_tokens(seen.patches, seen.hidden).view(3, -1, 30, 2)
    target = (hidden - hidden.mean(2, keepdim=True)) / torch.sqrt(hidden.var(2, keepdim=True) + 1e-6)
    monkeypatch.setattr(term, "predict", lambda _: target.flatten(2))
    assert term.loss(seen).item() < 1e-9
