"""Crops are shown as the plan says: cut where they say, view by view, the rest of the batch untouched."""

from dataclasses import replace

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch
from apatite.data.hiding import HidingLaw
from apatite.data.photometric import PhotometricConfig
from apatite.data.places import CropPlaces
from apatite.data.views import ViewPlan
from apatite.nn.intensity import Windows
from apatite.nn.vit import ViTConfig
from apatite.pretrain.showing import Showing

ENCODER = ViTConfig(
    crop=(4, 8, 12), patch=(2, 4, 2), dim=12, depth=1, heads=2, windows_hu=((-500.0, 500.0), (0.0, 9.0))
)
WINDOWS = Windows(ENCODER.windows_hu)
TWO = Showing(plan=ViewPlan(count=2), hiding=HidingLaw(ratio=0.7), encoder=ENCODER, seed=3)


def batch_of(edges: tuple[int, int, int], first: int = 0, count: int = 3) -> Batch:
    images = torch.stack(
        [torch.randn(1, *edges, generator=torch.Generator().manual_seed(first + n)) for n in range(count)]
    )
    return Batch(case_ids=tuple("abc"[:count]), images_hu=300 * images, first_sample=first)


def test_views_are_the_parts_of_the_crop_that_their_starts_name():
    batch = batch_of((6, 12, 16))
    view = TWO.views(batch, WINDOWS, step=5)
    assert view.num_views == 2
    assert view.image().shape == (6, 2, 4, 8, 12)
    assert view.starts is not None
    for row, image in enumerate(view.image()):
        z, y, x = view.starts[row // 3, row % 3].tolist()
        cut = batch.images_hu[row % 3, :, z : z + 4, y : y + 8, x : x + 12]
        assert torch.equal(image, WINDOWS(cut[None])[0])
    assert view.is_hidden.sum(1).tolist() == [17] * 6  # of 24 cells 70 %, rounded up
    assert view.hidden_voxels().mean() == pytest.approx(17 / 24)


def test_processes_that_share_a_batch_show_what_one_would():
    whole = TWO.views(batch_of((6, 12, 16)), WINDOWS, step=5)
    part = TWO.views(batch_of((6, 12, 16), first=1, count=2), WINDOWS, step=5)
    rows = [1, 2, 4, 5]
    assert torch.equal(part.patches, whole.patches[rows])
    assert torch.equal(part.is_hidden, whole.is_hidden[rows])


def test_a_whole_crop_keeps_its_places():
    places = CropPlaces(points=torch.rand(3, 9, 3), extent_mm=torch.full((3, 3), 90.0))
    batch = replace(batch_of(ENCODER.crop), places=places)
    view = replace(TWO, plan=ViewPlan()).views(batch, WINDOWS, step=0)
    assert view.places is places
    assert view.starts is None
    assert torch.equal(view.image(), WINDOWS(batch.images_hu))


def test_local_views_are_smaller_and_nothing_of_them_is_hidden():
    view = replace(TWO, plan=ViewPlan(count=2, local_count=3)).views(batch_of((6, 12, 16)), WINDOWS, step=1)
    assert view.local is not None
    assert view.local.num_views == 3
    assert view.local.image().shape == (9, 2, 2, 4, 6)
    assert not view.local.is_hidden.any()


def test_a_teacher_is_shown_the_same_views_with_nothing_hidden():
    view = replace(TWO, plan=ViewPlan(count=2, local_count=1)).views(batch_of((6, 12, 16)), WINDOWS, step=1)
    clean = view.clean()
    assert torch.equal(clean.patches, view.patches)
    assert not clean.is_hidden.any()
    assert clean.local is None


def test_turned_views_say_how_far():
    encoder = replace(ENCODER, crop=(4, 8, 8))
    showing = Showing(plan=ViewPlan(turns=True), hiding=HidingLaw(ratio=None), encoder=encoder, seed=0)
    batch = batch_of((4, 8, 8))
    view = showing.views(batch, WINDOWS, step=2)
    assert view.turns is not None
    for image, turned, quarter in zip(WINDOWS(batch.images_hu), view.image(), view.turns.tolist(), strict=True):
        assert torch.equal(turned, image.rot90(quarter, (-2, -1)))
    with pytest.raises(ConfigError):
        replace(showing, encoder=ENCODER).refuse_impossible()


def test_each_view_is_varied_by_its_own_draws():
    noisy = replace(TWO, photometric=PhotometricConfig(offset_hu=50.0), plan=ViewPlan(count=2, local_count=1))
    plain = replace(noisy, photometric=PhotometricConfig())
    batch = batch_of((6, 12, 16))
    shift = noisy.views(batch, WINDOWS, 0).image()[:, 0] - plain.views(batch, WINDOWS, 0).image()[:, 0]
    means = shift.flatten(1).median(1).values
    assert len(set(means.round(decimals=4).tolist())) == 6


def test_what_would_leave_nothing_to_see_is_refused():
    with pytest.raises(ConfigError):
        replace(TWO, hiding=HidingLaw(ratio=0.99)).refuse_impossible()
