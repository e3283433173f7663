"""Each term by hand: on hidden patches alone, in its unit, of the composite, of the places."""

from dataclasses import replace

import pytest
import torch

from apatite.data.places import CropPlaces
from apatite.losses.topology import TopologyLossConfig, topological_loss
from apatite.nn.patches import patchify, place_tokens, take_tokens
from apatite.nn.vit import ViTConfig
from apatite.pretrain.health import reconstruction_pictures
from apatite.pretrain.term import TermSettings
from apatite.pretrain.terms import TERMS, ReconstructHidden, ReconstructVoxels, composite_and_input
from apatite.pretrain.view import Seen
from apatite.topology.diagrams import DiagramConfig


@pytest.fixture
def seen(task, batch) -> Seen:
    return task.look(batch, 0)["vit"]


@pytest.fixture
def term(encoder) -> ReconstructHidden:
    return ReconstructHidden(encoder.windows_hu, TermSettings())


def changed(seen: Seen, chosen: torch.Tensor) -> Seen:
    """The same look with other contents in the chosen patches."""
    patches = seen.view.patches
    other = torch.randn_like(take_tokens(patches, chosen))
    return replace(seen, view=replace(seen.view, patches=place_tokens(patches, other, chosen)))


def test_the_loss_by_hand(term, seen):
    total, count = 0.0, 0
    for sample in range(3):
        for place, token in enumerate(seen.view.hidden[sample].tolist()):
            patch = seen.view.patches[sample, token].view(30, 2)
            target = (patch - patch.mean(0)) / torch.sqrt(patch.var(0, unbiased=True) + 1e-6)
            total += (seen.reconstruction[sample, place] - target.flatten()).square().sum().item()
            count += 60
    assert term.loss(seen).item() == pytest.approx(total / count, rel=1e-5)


def test_only_hidden_patches_are_targets(term, seen):
    before = term.loss(seen)
    assert torch.equal(term.loss(changed(seen, seen.view.visible)), before)
    assert not torch.isclose(term.loss(changed(seen, seen.view.hidden)), before)


def test_brightness_and_contrast_of_a_hidden_patch_are_not_asked_for(term, seen):
    brighter = place_tokens(seen.view.patches, 3 * seen.view.hidden_patches() + 2, seen.view.hidden)
    other = replace(seen, view=replace(seen.view, patches=brighter))
    torch.testing.assert_close(term.loss(other), term.loss(seen), rtol=1e-4, atol=1e-5)


def test_a_perfect_prediction_costs_nothing(term, seen):
    hidden = seen.view.hidden_patches().view(3, -1, 30, 2)
    target = (hidden - hidden.mean(2, keepdim=True)) / torch.sqrt(hidden.var(2, keepdim=True) + 1e-6)
    assert term.loss(replace(seen, reconstruction=target.flatten(2))).item() < 1e-9


def test_the_floor_is_given_in_hu_and_reaches_target_loss_and_picture(encoder, seen):
    """Windows of 4095 and 300 HU span 2 network units each, so 20 HU are 40/4095 and 40/300."""
    floored = ReconstructHidden(encoder.windows_hu, TermSettings(target_floor_hu=20.0))
    true = seen.view.hidden_patches().unflatten(2, (30, 2))
    least = torch.tensor([40 / 4095, 40 / 300])
    mean, spread = true.mean(2, keepdim=True), torch.sqrt(true.var(2, keepdim=True) + 1e-6 + least**2)
    target = ((true - mean) / spread).flatten(2)
    torch.testing.assert_close(floored.target(seen), target, rtol=1e-4, atol=1e-5)
    made = seen.made_patches()
    assert floored.loss(seen).item() == pytest.approx((made - target).square().mean().item(), rel=1e-4)
    picture = patchify(reconstruction_pictures(floored, seen)[2], encoder.patch)
    drawn = take_tokens(picture, seen.view.hidden)
    torch.testing.assert_close(drawn, (made.unflatten(2, (30, 2)) * spread + mean).flatten(2), rtol=1e-4, atol=1e-5)


def test_voxels_are_judged_as_they_are(encoder, seen):
    term = ReconstructVoxels(encoder.windows_hu, TermSettings())
    true = seen.view.hidden_patches()
    assert term.loss(seen).item() == pytest.approx((seen.reconstruction - true).square().mean().item(), rel=1e-5)
    assert term.loss(replace(seen, reconstruction=true)).item() == 0
    assert torch.equal(term.loss(changed(seen, seen.view.visible)), term.loss(seen))


def test_the_composite_shows_what_was_visible_and_what_was_made(encoder, seen):
    made, given = (patchify(image, encoder.patch) for image in composite_and_input(seen))
    visible, hidden = seen.view.visible, seen.view.hidden
    torch.testing.assert_close(take_tokens(given, hidden), (seen.view.hidden_patches() + 1) / 2)
    assert torch.equal(take_tokens(made, visible), take_tokens(given, visible))
    torch.testing.assert_close(take_tokens(made, hidden), (seen.made_patches() + 1) / 2)
    assert given.min() >= 0
    assert given.max() <= 1


@pytest.mark.parametrize("name", ["topology", "euler", "critical_voxels"])
def test_terms_on_the_shape_want_nothing_of_a_perfect_composite_and_pull_at_another(encoder, seen, name):
    settings = TermSettings(topology=TopologyLossConfig(pool=1))
    term = TERMS[name](encoder.windows_hu, settings)
    perfect = seen.view.hidden_patches().clone().requires_grad_()
    loss = term.start(replace(seen, reconstruction=perfect))()
    assert loss.item() == 0
    noise = torch.randn(perfect.shape, generator=torch.Generator().manual_seed(1))
    other = (perfect.detach() + 0.3 * noise).requires_grad_()
    loss = term.loss(replace(seen, reconstruction=other))
    loss.backward()
    assert loss.item() > 0
    assert torch.isfinite(other.grad).all()
    assert other.grad.abs().max() > 0


def test_the_topological_term_is_the_loss_of_composite_and_input(encoder, seen):
    config = TopologyLossConfig(pool=1, diagram=DiagramConfig(least_persistence=0.05))
    term = TERMS["topology"](encoder.windows_hu, TermSettings(topology=config))
    made, given = composite_and_input(seen)
    assert torch.equal(term.start(seen)(), topological_loss(made, given, config))


def test_the_position_term_by_hand(seen):
    config = ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=2, heads=2)
    draw = torch.Generator().manual_seed(2)
    wanted, found = torch.rand(3, 9, 3, generator=draw), torch.rand(3, 9, 3, generator=draw)
    places = CropPlaces(points=wanted, extent_mm=torch.ones(3, 3))
    located = replace(seen, view=replace(seen.view, places=places), points=found)
    expected = sum((a - b) ** 2 for a, b in zip(found.flatten().tolist(), wanted.flatten().tolist(), strict=True)) / 81
    term = TERMS["position"](config.windows_hu, TermSettings())
    assert term.loss(located).item() == pytest.approx(expected, rel=1e-5)
