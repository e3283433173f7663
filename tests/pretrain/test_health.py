"""Baselines that need no learning, and the rank of features, against values known by hand."""

import math
from dataclasses import replace

import pytest
import torch

from apatite.core.types import Projected
from apatite.data.hiding import Hidden, HidingLaw
from apatite.losses.reconstruction import normalise_patches
from apatite.nn.patches import patchify, place_tokens, take_tokens, unpatchify
from apatite.nn.vit import ViTConfig
from apatite.pretrain.health import (
    effective_rank,
    feature_spread,
    interpolate_hidden,
    reconstruction_health,
    reconstruction_pictures,
    teacher_numbers,
)
from apatite.pretrain.term import TermSettings
from apatite.pretrain.terms import ReconstructHidden, ReconstructVoxels
from apatite.pretrain.view import Seen, Target, Taught, View

CONFIG = ViTConfig(crop=(8, 12, 20), patch=(2, 3, 5), dim=12, depth=1, heads=2, windows_hu=((0.0, 1.0),))


def looked(image: torch.Tensor, config: ViTConfig = CONFIG, ratio: float = 0.8, seed: int = 0) -> View:
    """What is visible of an image in network units, without a network."""
    hiding = HidingLaw(ratio=ratio).hide(seed, 0, range(len(image)), config.tokens)
    return View(patches=patchify(image, config.patch), hiding=hiding, tokens=config.tokens, patch=config.patch)


def guessing_nothing(view: View) -> Seen:
    """The look of a network that makes zeros."""
    features = torch.zeros(len(view.patches), view.visible.shape[1], 12)
    return Seen(view=view, features=features, reconstruction=torch.zeros_like(view.hidden_patches()))


def smooth_image(samples: int = 2, channels: int = 1) -> torch.Tensor:
    d, h, w = torch.meshgrid(*(torch.arange(float(edge)) for edge in CONFIG.crop), indexing="ij")
    waves = [torch.sin(d / 5 + n) + torch.cos(h / 6) + torch.sin(w / 9 + n) for n in range(samples)]
    return torch.stack(waves)[:, None].repeat(1, channels, 1, 1, 1)


def test_a_constant_image_is_interpolated_exactly():
    image = torch.full((2, 1, *CONFIG.crop), 0.37)
    torch.testing.assert_close(interpolate_hidden(looked(image)), image, rtol=1e-5, atol=1e-6)


def test_hidden_voxels_do_not_leak_into_the_interpolation():
    seen = looked(smooth_image())
    spoiled = torch.randn_like(take_tokens(seen.patches, seen.hidden)) * 100
    other = replace(seen, patches=place_tokens(seen.patches, spoiled, seen.hidden))
    assert torch.equal(interpolate_hidden(other), interpolate_hidden(seen))


def test_visible_voxels_stay_and_hidden_ones_come_close_on_a_smooth_image():
    image = smooth_image()
    seen = looked(image, ratio=0.5)
    filled = interpolate_hidden(seen)
    rows = patchify(filled, CONFIG.patch)
    assert torch.equal(take_tokens(rows, seen.visible), take_tokens(seen.patches, seen.visible))
    error = (take_tokens(rows, seen.hidden) - take_tokens(seen.patches, seen.hidden)).square().mean()
    assert error < 0.1 * image.var()


@pytest.mark.parametrize("place", [0, 63, 37])
def test_one_visible_patch_fills_everything(place):
    seen = looked(smooth_image(1))
    seen = replace(seen, hiding=Hidden(is_hidden=torch.arange(64)[None] != place))
    filled = interpolate_hidden(seen)
    patch = take_tokens(seen.patches, seen.visible)
    assert torch.isfinite(filled).all()
    assert patch.min() - 1e-4 <= filled.min()
    assert filled.max() <= patch.max() + 1e-4


def test_a_large_crop_with_one_visible_patch_ends():
    config = replace(CONFIG, crop=(64, 64, 64), patch=(1, 1, 1))
    image = torch.rand(1, 1, 64, 64, 64)
    patches = patchify(image, config.patch)
    seen = View(
        patches=patches,
        hiding=Hidden(is_hidden=torch.arange(64**3)[None] > 0),
        tokens=config.tokens,
        patch=config.patch,
    )
    torch.testing.assert_close(interpolate_hidden(seen), image[0, 0, 0, 0, 0].expand(1, 1, 64, 64, 64))


def test_baselines_on_the_normalised_target(task, batch):
    seen = task.look(batch, 0)["vit"]
    found = reconstruction_health(task.term("reconstruct_hidden"), seen)
    assert found.error == pytest.approx(task.losses(batch, 0)["reconstruct_hidden"].item(), rel=1e-5)
    # Zero against 30 voxels of unit unbiased variance: 29/30. A window that clips a patch flat would lower it.
    target = normalise_patches(seen.view.hidden_patches(), 2)
    assert found.patch_mean_error == pytest.approx(target.square().mean().item(), rel=1e-5)
    assert 0.9 < found.patch_mean_error <= 29 / 30 + 1e-6
    # On noise an interpolation knows nothing, and must not look worse than the mean for it.
    assert 0.95 * found.patch_mean_error < found.interpolation_error <= found.patch_mean_error


def test_interpolation_beats_the_mean_where_the_image_is_smooth_and_is_as_good_as_it_can_be():
    seen = looked(smooth_image(), ratio=0.5)
    found = reconstruction_health(ReconstructHidden(CONFIG.windows_hu, TermSettings()), guessing_nothing(seen))
    assert found.interpolation_error < 0.6 * found.patch_mean_error
    target = normalise_patches(take_tokens(seen.patches, seen.hidden), 1)
    guess = normalise_patches(take_tokens(patchify(interpolate_hidden(seen), CONFIG.patch), seen.hidden), 1)
    tried = [(factor * guess - target).square().mean().item() for factor in torch.linspace(0, 1.5, 31)]
    assert min(tried) >= found.interpolation_error - 1e-6
    assert min(tried) == pytest.approx(found.interpolation_error, rel=5e-3)


def test_baselines_of_voxels_by_hand():
    """Nothing is normalised: the mean of a patch leaves its variance, an interpolation its plain error."""
    seen = looked(smooth_image(), ratio=0.5)
    found = reconstruction_health(ReconstructVoxels(CONFIG.windows_hu, TermSettings()), guessing_nothing(seen))
    hidden = seen.hidden_patches()
    assert found.error == pytest.approx(hidden.square().mean().item(), rel=1e-5)
    assert found.patch_mean_error == pytest.approx(hidden.var(dim=2, unbiased=False).mean().item(), rel=1e-4)
    guess = take_tokens(patchify(interpolate_hidden(seen), CONFIG.patch), seen.hidden)
    assert found.interpolation_error == pytest.approx((guess - hidden).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("dim", [2, 7, 20])
def test_rank_of_an_identity_covariance_is_the_width(dim):
    features = torch.cat([torch.eye(dim), -torch.eye(dim)]) * 3 + 100
    assert effective_rank(features) == pytest.approx(dim, rel=1e-4)


def test_rank_of_one_direction_is_one():
    torch.manual_seed(0)
    assert effective_rank(torch.randn(50, 1) * torch.randn(1, 9) + 5) == pytest.approx(1, abs=1e-3)


def test_rank_of_two_unequal_directions_by_hand():
    """Singular values 3 and 1: shares 3/4 and 1/4, so exp(3/4·ln(4/3) + 1/4·ln 4) = 4 / 3^0.75."""
    features = torch.zeros(4, 5)
    features[0, 0], features[1, 0], features[2, 3], features[3, 3] = 3, -3, 1, -1
    assert effective_rank(features) == pytest.approx(4 / 3**0.75, rel=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_collapsed_features_have_rank_one(noise):
    """Equal up to rounding: the rounding spans every direction, and must not be taken for richness."""
    torch.manual_seed(0)
    features = torch.randn(1, 32).repeat(200, 1)
    assert effective_rank(features + noise * torch.randn_like(features)) == pytest.approx(1)


def test_spread_of_features_by_hand():
    """Two pairs at a right angle: a mean of length 1/√2 leaves √(1 - 1/2), whatever the lengths."""
    features = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 5.0]])
    assert feature_spread(features) == pytest.approx(0.5**0.5)
    assert feature_spread(torch.tensor([[2.0, 2.0]] * 3)) == pytest.approx(0, abs=1e-7)
    assert feature_spread(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])) == pytest.approx(1)


def one_hot(*chosen: int, prototypes: int = 8) -> Target:
    """Rows that are each one of the prototypes, told apart so sharply that nothing is left for the others."""
    eye = torch.eye(prototypes)
    return Target(
        projected=Projected(points=eye[list(chosen)], prototypes=eye), offset=torch.zeros(prototypes), temperature=0.01
    )


def test_numbers_of_a_teacher_are_those_of_the_cells_that_are_asked_about():
    """Of six cells three are hidden: prototypes 1, 1 and 4; what it says of the others would be a third prototype."""
    is_hidden = torch.tensor([[True, False, True], [False, True, False]])
    row = teacher_numbers(Taught(cells=one_hot(1, 7, 1, 7, 4, 7), views=one_hot(3, 3)), is_hidden)
    assert row["cells_teacher_entropy"] == pytest.approx(0, abs=1e-6)
    assert row["cells_mean_entropy"] == pytest.approx(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3))
    assert row["cells_used_prototypes"] == pytest.approx(2 / 8)
    assert row["cells_largest_share"] == pytest.approx(2 / 3)
    assert row["views_mean_entropy"] == pytest.approx(0, abs=1e-6)
    assert row["views_largest_share"] == pytest.approx(1)


def test_a_teacher_that_is_asked_nothing_has_no_numbers():
    assert teacher_numbers(Taught(), torch.zeros(2, 3, dtype=torch.bool)) == {}
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert set(teacher_numbers(Taught(cells=one_hot(0, 1), views=one_hot(0)), nothing)) == {
        "views_teacher_entropy",
        "views_mean_entropy",
        "views_used_prototypes",
        "views_largest_share",
    }


def test_pictures_show_what_was_seen_and_only_the_pattern_is_the_networks(task, batch):
    looked_at, config = task.look(batch, 0)["vit"], task.encoder.config
    term, seen = task.term("reconstruct_hidden"), looked_at.view
    original, visible, made = (patchify(picture, config.patch) for picture in reconstruction_pictures(term, looked_at))
    torch.testing.assert_close(unpatchify(original, config.tokens, config.patch), task.encoder.windows(batch.images_hu))
    assert torch.isnan(take_tokens(visible, seen.hidden)).all()
    assert torch.equal(take_tokens(visible, seen.visible), take_tokens(seen.patches, seen.visible))
    assert torch.equal(take_tokens(made, seen.visible), take_tokens(seen.patches, seen.visible))
    drawn, true = (take_tokens(rows, seen.hidden).unflatten(2, (30, 2)) for rows in (made, seen.patches))
    pattern = (drawn - true.mean(2, keepdim=True)) / torch.sqrt(true.var(2, keepdim=True) + 1e-6)
    torch.testing.assert_close(pattern.flatten(2), looked_at.made_patches(), rtol=1e-3, atol=1e-4)
