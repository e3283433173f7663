"""What the image says of its kernel: against known noise and blur, phantoms of both classes, and one real head."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from apatite.core.scan import Scan, SliceStack
from apatite.ct.kernel_check import KernelCheck, measured_kernel
from apatite.io.dicom.reading import read_folder
from apatite.phantom.cohort import CohortConfig, make_patient

GE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "head_ct_ge" / "dicom"
PIXEL_MM = (0.5, 0.4)


def skull(sigma_mm: float, noise_hu: float, thickness_mm: float = 5.0, brain_hu: float = 35.0) -> Scan:
    """A ring of bone round brain, in air, on pixels of unequal edges; blurred by a Gaussian, with white noise."""
    rows, columns = np.meshgrid(np.arange(200) - 99.5, np.arange(240) - 119.5, indexing="ij")
    radius = np.hypot(rows * PIXEL_MM[0], columns * PIXEL_MM[1])
    image = np.where(radius < 34, brain_hu, np.where(radius < 42, 1000.0, -1000.0))
    image = ndimage.gaussian_filter(image, [sigma_mm / pixel for pixel in PIXEL_MM])
    noise = np.random.default_rng(1).normal(0, noise_hu, (4, *image.shape))
    stack = SliceStack(
        shape=(4, 200, 240),
        origins_ras_mm=np.arange(4)[:, None] * np.array([0.0, 0.0, thickness_mm]),
        column_step_ras_mm=np.array([-PIXEL_MM[1], 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, -PIXEL_MM[0], 0.0]),
        thickness_mm=np.full(4, thickness_mm),
    )
    return Scan(voxels_hu=np.rint(image + noise).astype(np.int16), stack=stack)


@pytest.mark.parametrize("noise_hu", [3.0, 20.0, 45.0])
def test_noise_is_that_of_the_brain(noise_hu):
    found = measured_kernel(skull(0.6, noise_hu)).noise_hu
    assert found == pytest.approx(noise_hu, rel=0.05)


@pytest.mark.parametrize("sigma_mm", [0.45, 0.6, 0.8])
def test_edges_are_as_wide_as_the_blur(sigma_mm):
    """10 to 90 % of a Gaussian edge is 2.563 sigma; the steepest fifth of noisy ones lies a little below."""
    found = measured_kernel(skull(sigma_mm, 3.0)).edge_mm
    assert found == pytest.approx(2.563 * sigma_mm, rel=0.12)


def test_a_verdict_needs_both():
    assert measured_kernel(skull(0.5, 4.0)).verdict == "soft"
    assert measured_kernel(skull(0.3, 25.0)).verdict == "bone"
    assert measured_kernel(skull(0.8, 25.0)).verdict == ""  # noisy, but smooth: a low dose
    assert measured_kernel(skull(0.2, 4.0)).verdict == ""  # steep, but quiet
    # The same noise is soft in a slice of 1 mm.
    assert measured_kernel(skull(0.5, 15.0, thickness_mm=1.0)).verdict == "soft"
    no_brain = measured_kernel(skull(0.5, 4.0, brain_hu=-1000.0))
    assert (no_brain.noise_hu, no_brain.verdict) == (None, "")


def test_doubt_needs_a_verdict_and_a_name():
    check = KernelCheck(noise_hu=25.0, edge_mm=0.8, verdict="bone")
    assert [check.contradicts(name) for name in ("soft", "bone", "")] == [True, False, False]
    assert not KernelCheck(noise_hu=25.0, edge_mm=2.0, verdict="").contradicts("soft")


def test_phantoms_of_both_classes_are_told_apart():
    found = [
        (series.protocol.kernel_class, measured_kernel(series.acquisition.scan).verdict)
        for number in range(3)
        for series in make_patient(CohortConfig(patients=3, seed=5), number)
    ]
    assert {kind for kind, _ in found} == {"soft", "bone"}
    assert [pair for pair in found if pair[1] not in (pair[0], "")] == []
    assert sum(verdict == "" for _, verdict in found) <= 1


def test_the_real_head_is_soft_as_its_name_says():
    if not GE.exists():
        pytest.skip("the real head is not here")
    check = measured_kernel(read_folder(GE).scan)
    assert check.verdict == "soft"
    assert check.noise_hu == pytest.approx(3.7, abs=0.3)
