"""The reconstruction loss is on hidden patches, normalised one by one, and on nothing else."""

from dataclasses import replace

import pytest
import torch

from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.patches import patchify, place_tokens, take_tokens
from apatite.pretrain.health import reconstruction_pictures
from apatite.pretrain.methods import METHODS, PretrainTask
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


def test_the_floor_is_given_in_hu_and_reaches_target_loss_and_picture(encoder, seen):
    """Windows of 4095 and 300 HU span 2 network units each, so 20 HU are 40/4095 and 40/300."""
    torch.manual_seed(0)
    method = replace(METHODS["mae"], hidden_ratio=0.6, target_floor_hu=20.0)
    small = TokenDecoderConfig(dim=12, depth=1, heads=2)
    floored = PretrainTask(method, encoder, small, AttentionKernel(), seed=1).terms["reconstruct_hidden"]
    true = take_tokens(seen.patches, seen.hidden).unflatten(2, (30, 2))
    least = torch.tensor([40 / 4095, 40 / 300])
    mean, spread = true.mean(2, keepdim=True), torch.sqrt(true.var(2, keepdim=True) + 1e-6 + least**2)
    target = ((true - mean) / spread).flatten(2)
    torch.testing.assert_close(floored.target(seen), target, rtol=1e-4, atol=1e-5)
    made = floored.predict(seen)
    assert floored.loss(seen).item() == pytest.approx((made - target).square().mean().item(), rel=1e-4)
    picture = patchify(reconstruction_pictures(floored, seen, encoder)[2], encoder.patch)
    drawn = take_tokens(picture, seen.hidden)
    torch.testing.assert_close(drawn, (made.unflatten(2, (30, 2)) * spread + mean).flatten(2), rtol=1e-4, atol=1e-5)
