"""A prediction lies where the scan says it does: on the original slices, inside the region, at the right voxels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError, ModelError
from apatite.core.scan import Scan, SliceStack, stack_from_grid
from apatite.core.volume import Grid
from apatite.ct.region import RegionConfig, is_inside_region
from apatite.data.prepare import RECIPES as PREPARE
from apatite.io.model_package import read_package
from apatite.io.nifti import read_scan, viewer_grid
from apatite.segment.predict import BODY_HU, Predictor, decide, open_predictor, package_of


def stack_of(affine: np.ndarray, shape: tuple[int, int, int]) -> SliceStack:
    return stack_from_grid(Grid(shape=shape, ijk_to_ras=affine))


REGION = RegionConfig(shape=(8, 16, 24), spacing_mm=(1.0, 1.25, 2.5))


def test_on_the_networks_own_grid_nothing_is_interpolated(tuned, sees_hu):
    """A scan that is the region, alike in every slice so that averaging over a slice's thickness changes nothing."""
    grid = REGION.grid(np.array([3.0, -4.0, 5.0]))
    stack = stack_from_grid(grid)
    voxels = np.tile(np.random.default_rng(0).integers(0, 600, (1, 16, 24)).astype(np.int16), (8, 1, 1))
    found = open_predictor(tuned).predict(Scan(voxels_hu=voxels, stack=stack))
    assert found.is_counted.all()
    assert found.label_values == (1,)
    inner = found.probability[0][1:-1]
    np.testing.assert_allclose(inner, sees_hu(voxels[1:-1].astype(float)), atol=1e-4)


def test_a_ramp_comes_back_to_every_tilted_uneven_slice(tuned, monkeypatch):
    """The network says where in the patient a voxel lies; carried back, each original pixel reads its own place."""
    predictor = open_predictor(tuned)
    slices = 11
    step = np.array([2.0] * 5 + [3.0] * 5)
    heights = np.concatenate([[0.0], np.cumsum(step)])
    tilt = np.deg2rad(15)
    stack = SliceStack(
        shape=(slices, 26, 31),
        origins_ras_mm=np.array([-14.0, -14.0, -10.0]) + heights[:, None] * np.array([0.0, 0.05, 1.0]),
        column_step_ras_mm=np.array([0.95, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 1.05 * np.cos(tilt), 1.05 * np.sin(tilt)]),
        thickness_mm=np.full(slices, 1.0),
    )
    centre = np.array([0.5, -1.0, 2.0])
    grid = REGION.grid(centre)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)[..., ::-1].astype(float)
    weights = np.array([0.01, 0.013, 0.017])
    ramp = 0.5 + (grid.to_ras(index) - centre) @ weights
    monkeypatch.setattr(
        type(predictor.network), "probability", lambda self, hu: torch.from_numpy(ramp)[None, None].float()
    )
    found = predictor.predict(Scan(voxels_hu=np.zeros(stack.shape, np.int16), stack=stack), tuple(centre))
    rows, columns = np.meshgrid(np.arange(26), np.arange(31), indexing="ij")
    points = np.stack([stack.to_ras(k, np.stack([rows, columns], -1).astype(float)) for k in range(slices)])
    inside = is_inside_region(stack, grid)
    np.testing.assert_array_equal(found.is_counted, inside)
    assert (found.probability[0][~inside] == 0).all()
    # Half a voxel from the border trilinear reading is flat; deeper inside the ramp is exact.
    ijk = grid.to_ijk(points)
    deep = np.all((ijk > 0.5) & (ijk < np.array(grid.shape[::-1]) - 1.5), axis=-1)
    assert deep.sum() > 1000
    np.testing.assert_allclose(found.probability[0][deep], (0.5 + (points - centre) @ weights)[deep], atol=1e-4)


def test_what_the_network_is_given(tuned, head_study, monkeypatch):
    """The very region that training saw: the prepared array of the case."""
    prepared = head_study.open()
    predictor = open_predictor(tuned)
    seen = []
    monkeypatch.setattr(
        type(predictor.network), "probability", lambda self, hu: seen.append(hu) or torch.zeros(1, 1, 8, 16, 24)
    )
    for row in (6, 9):
        case = prepared.cases[row]
        predictor.predict(read_scan(prepared.manifest.image_path(case)), case.region_centre_ras_mm)
        np.testing.assert_allclose(np.rint(seen[-1][0, 0].numpy()), prepared.images[row])


@pytest.mark.parametrize("outside_mm", [(40.0, 0, 0), (0, 0, -25.0), (17.0, 0, 0)])
def test_a_centre_outside_the_scan_is_refused(tuned, head_study, outside_mm):
    """17 mm beyond the middle the region would still touch the scan, but most of it would be padding."""
    prepared = head_study.open()
    scan = read_scan(prepared.manifest.image_path(prepared.cases[6]))
    centre = viewer_grid(scan.stack).centre_ras_mm + np.array(outside_mm)
    with pytest.raises(DataError) as caught:
        open_predictor(tuned).predict(scan, tuple(centre))
    assert caught.value.code == "ROI_ABSENT"
    assert "centre" in caught.value.what


def large_scan(affine: np.ndarray, shape: tuple[int, int, int]) -> Scan:
    return Scan(
        voxels_hu=np.random.default_rng(1).integers(0, 600, shape).astype(np.int16), stack=stack_of(affine, shape)
    )


def test_without_a_centre_a_scan_much_larger_than_the_region_is_slid_over(tuned, sees_hu):
    scan = large_scan(np.diag([1.0, 1.25, 2.5, 1.0]), (20, 40, 50))
    found = open_predictor(tuned).predict(scan)
    assert found.is_counted.all()
    deep = (slice(2, -2), slice(2, -2), slice(2, -2))
    assert (found.probability[0][deep] > 0).all()
    smooth = Scan(voxels_hu=np.full(scan.stack.shape, 380, np.int16), stack=scan.stack)
    flat = open_predictor(tuned).predict(smooth)
    np.testing.assert_allclose(flat.probability[0][deep], sees_hu(np.array(380.0)), atol=1e-3)


def test_without_a_centre_a_scan_of_the_regions_size_is_looked_at_in_its_middle(tuned, sees_hu):
    scan = large_scan(np.diag([1.0, 1.25, 2.5, 1.0]), (9, 20, 30))
    found = open_predictor(tuned).predict(scan)
    np.testing.assert_array_equal(
        found.is_counted, is_inside_region(scan.stack, REGION.grid(viewer_grid(scan.stack).centre_ras_mm))
    )
    assert not found.is_counted.all()


def test_the_size_of_a_scan_is_compared_along_the_patients_axes(tuned, sees_hu):
    """Sagittal slices: columns run backwards to forwards, rows upwards, slices from left to right."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1.0], [1.25, 0, 0], [0, 2.5, 0]])
    scan = large_scan(affine, (24 + 8, 8, 16))
    found = open_predictor(tuned).predict(scan)
    assert not found.is_counted.all()
    found = open_predictor(tuned).predict(large_scan(affine, (24, 16, 16)))
    assert found.is_counted.all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_labels_exclude_each_other_by_how_far_they_exceed_their_threshold(seed):
    draw = np.random.default_rng(seed)
    probability = draw.random((3, 4, 3, 2)).astype(np.float32)
    thresholds = draw.uniform(0.05, 0.95, 3).tolist()
    label = decide(probability, (2, 5, 7), thresholds)
    assert label.dtype == np.uint8
    for place in np.ndindex(label.shape):
        ratio = {
            value: probability[(plane, *place)] / threshold
            for plane, (value, threshold) in enumerate(zip((2, 5, 7), thresholds, strict=True))
            if probability[(plane, *place)] >= threshold
        }
        assert label[place] == (max(ratio, key=lambda value: ratio[value]) if ratio else 0)


def test_a_probability_equal_to_its_threshold_counts():
    probability = np.array([0.5, 0.25], np.float32).reshape(1, 1, 1, 2)
    assert decide(probability, (3,), (0.5,)).tolist() == [[[3, 0]]]


def test_one_threshold_per_label():
    with pytest.raises(ValueError, match="zip"):
        decide(np.zeros((2, 1, 1, 1), np.float32), (1, 2), (0.5,))


def test_a_package_is_found_in_its_run_folder(tuned):
    assert package_of(tuned) == package_of(tuned / "model") == tuned / "model"


def test_an_encoder_cannot_predict(make_encoder):
    folder = make_encoder()
    with pytest.raises(ModelError, match="not a segmenter") as caught:
        open_predictor(folder)
    assert str(folder) in caught.value.where


def test_a_card_that_does_not_fit_its_weights_is_a_model_error(tuned):
    package = read_package(tuned / "model")
    encoder = package.card.architecture["encoder"]
    changed = {
        "width": {"encoder": {**encoder, "dim": 192}},
        "unknown": {"encoder": {**encoder, "registers": 4}},
        "impossible": {"encoder": {**encoder, "patch": [5, 5, 5]}},
        "labels": {"num_labels": 2},
    }
    for name, change in changed.items():
        card = replace(package.card, architecture={**package.card.architecture, **change})
        with pytest.raises(ModelError) as caught:
            Predictor(replace(package, card=card))
        assert (caught.value.code, caught.value.exit_code) == ("MODEL_SHAPE", 3), name
        assert caught.value.fix


@pytest.mark.parametrize("name", PREPARE)
def test_a_prediction_sees_as_much_of_a_scan_as_was_prepared(name):
    recipe = PREPARE[name]()
    if recipe.kind == "volume":
        assert BODY_HU[recipe.intensity] <= recipe.body_hu
