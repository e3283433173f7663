"""Our overlap, recall and lesion counts against MONAI and SciPy, and two human readers of objects of 25 voxels."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from apatite.metrics.lesion import count_lesions
from apatite.metrics.overlap import Overlap, overlap

SHAPE = (7, 12, 19)
READERS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "inter_reader"


def readings_of(organ: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per patient and side: (radiographer, oncologist)."""
    if not READERS.is_dir():
        pytest.skip(f"the two readers' contours are not at {READERS}")
    import SimpleITK

    pairs = {}
    for first in sorted((READERS / "oncologist").rglob(f"{organ}*.nrrd")):
        name = first.relative_to(READERS / "oncologist")
        images = [SimpleITK.ReadImage(str(READERS / reader / name)) for reader in ("radiographer", "oncologist")]
        # Grids that differ would make any overlap meaningless.
        assert images[0].GetOrigin() == images[1].GetOrigin()
        assert images[0].GetSpacing() == images[1].GetSpacing()
        pairs[str(name)] = tuple(SimpleITK.GetArrayFromImage(image) > 0 for image in images)
    return pairs


@pytest.fixture(scope="module")
def cochleas() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return readings_of("Cochlea")


def monai_overlap(is_predicted: np.ndarray, is_reference: np.ndarray) -> tuple[float, float, float]:
    """Dice, precision and recall as MONAI counts them."""
    import torch
    from monai.metrics import ConfusionMatrixMetric, DiceMetric

    predicted, reference = (torch.from_numpy(a.astype(np.float32))[None, None] for a in (is_predicted, is_reference))
    dice = DiceMetric(include_background=True)(predicted, reference)
    ratios = ConfusionMatrixMetric(include_background=True, metric_name=("precision", "recall"))
    ratios(predicted, reference)
    precision, recall = ratios.aggregate()
    return float(dice), float(precision), float(recall)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("density", [0.01, 0.2, 0.7])
def test_random_sets_as_monai(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    is_predicted, is_reference = rng.random(SHAPE) < density, rng.random(SHAPE) < density
    is_predicted[0, 0, 0] = is_reference[0, 0, 0] = True  # MONAI reads an undefined ratio as 0 or nan
    ours = overlap(is_predicted, is_reference)
    assert (ours.dice, ours.precision, ours.recall) == pytest.approx(
        monai_overlap(is_predicted, is_reference), abs=1e-6
    )


@pytest.mark.parametrize("seed", range(4))
def test_lesions_as_scipy_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_predicted, is_reference = rng.random(SHAPE) < 0.03, rng.random(SHAPE) < 0.03
    counts = count_lesions(is_predicted, is_reference)
    labels, number = ndimage.label(is_reference, np.ones((3, 3, 3)))
    assert counts.reference == number
    assert counts.found == sum(bool((is_predicted & (labels == lesion)).any()) for lesion in range(1, number + 1))
    labels, number = ndimage.label(is_predicted, np.ones((3, 3, 3)))
    assert counts.predicted == number
    assert counts.true == sum(bool((is_reference & (labels == lesion)).any()) for lesion in range(1, number + 1))


def test_cochleas_have_some_25_voxels_and_agree_to_about_three_quarters(cochleas) -> None:
    found = {name: overlap(*pair) for name, pair in cochleas.items()}
    assert len(found) == 12
    assert np.median([np.count_nonzero(oncologist) for _, oncologist in cochleas.values()]) == 24.5
    dice = sorted(o.dice for o in found.values())
    # In one patient the two readers placed the right cochlea in different slices: no voxel in common.
    assert dice[0] == 0
    assert np.median(dice) == pytest.approx(0.742, abs=0.001)
    left = [o.dice for name, o in found.items() if name.endswith("Lt.nrrd")]
    assert np.median(left) == pytest.approx(0.750, abs=0.001)
    assert sorted(left)[3] == pytest.approx(0.757, abs=0.001)  # the upper of the two middle ones


def test_the_first_cochlea_by_hand(cochleas) -> None:
    counted = overlap(*cochleas["0522c0017/Cochlea-Lt.nrrd"])
    assert counted == Overlap(true_positive=17, false_positive=0, false_negative=9)
    assert counted.dice == pytest.approx(34 / 43)


def test_cochleas_as_monai(cochleas) -> None:
    for is_predicted, is_reference in cochleas.values():
        # The box of both contours: MONAI takes long for a whole head, and what lies outside counts for nothing.
        box = ndimage.find_objects((is_predicted | is_reference).astype(np.uint8))[0]
        ours = overlap(is_predicted, is_reference)
        dice, precision, recall = monai_overlap(is_predicted[box], is_reference[box])
        assert (ours.dice, ours.precision, ours.recall) == pytest.approx((dice, precision, recall), abs=1e-6)


def test_cochlea_is_one_lesion_to_either_reader(cochleas) -> None:
    counts = [count_lesions(*pair) for pair in cochleas.values()]
    assert {c.reference for c in counts} == {1}
    assert sum(c.found for c in counts) == 11
