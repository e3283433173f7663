import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.phantom.fault_phantom import LESION_HU, fault_phantom, fault_stack

STACKS = {
    "default": fault_stack(),
    "tilted": fault_stack(tilt_deg=17.0),
    "fine": fault_stack(shape=(40, 90, 80), spacing_mm=(2.1, 2.6), step_mm=3.0),
}


def _centroid(is_marked, stack):
    points = [stack.to_ras(int(k), np.array([float(r), float(c)])) for k, r, c in np.argwhere(is_marked)]
    return np.mean(points, axis=0)


@pytest.mark.parametrize("name", STACKS)
def test_the_lesion_alone_reaches_130_hu_and_is_where_it_is_said_to_be(name):
    scan, truth = fault_phantom(STACKS[name], shift_mm=(4.0, -3.0, 2.0))
    is_lesion = scan.voxels_hu >= 130
    assert set(np.unique(scan.voxels_hu[is_lesion])) == {LESION_HU}
    np.testing.assert_allclose(_centroid(is_lesion, scan.stack), truth.centroid_ras_mm, atol=0.6)
    assert volume_mm3(is_lesion, scan.stack) == pytest.approx(truth.volume_mm3, rel=0.03)
    assert truth.side == "left" and truth.centroid_ras_mm[0] < 0


def test_every_direction_has_its_own_marker():
    scan, truth = fault_phantom()
    assert truth.markers_ras_mm["right"][0] > 40 and truth.markers_ras_mm["front"][1] > 40
    assert truth.markers_ras_mm["top"][2] > 30 and truth.markers_ras_mm["bottom"][2] < -30
    for name, place in truth.markers_ras_mm.items():
        k, r, c = np.rint(scan.stack.to_slice_row_column(np.array(place))).astype(int)
        assert scan.voxels_hu[k, r, c] == truth.markers_hu[name]
    for axis in range(3):
        assert not np.array_equal(np.flip(scan.voxels_hu, axis), scan.voxels_hu)
