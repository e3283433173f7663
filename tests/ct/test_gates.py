"""Gates: each limit by hand, from both sides."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from apatite.ct.gates import broken_gates
from apatite.ct.pose import HeadPose


def pose(scales: tuple[float, float, float], turn_deg: float = 0.0) -> HeadPose:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("y", turn_deg, degrees=True).as_matrix() @ np.diag(scales)
    matrix[:3, 3] = (30.0, -200.0, 7.0)
    return HeadPose(mni_to_ras=matrix)


@pytest.mark.parametrize(
    ("scales", "turn_deg", "broken"),
    [
        ((1.02, 0.93, 0.84), 18.0, ()),
        ((0.93, 0.93, 0.93), 44.9, ()),
        ((0.93, 0.93, 0.93), -45.1, ("turn",)),
        ((1.0, 0.9, 0.74), 0.0, ("scale", "ratio")),
        ((1.0, 0.9, 0.76), 0.0, ()),
        ((1.16, 1.0, 1.0), 0.0, ("scale",)),
        ((1.149, 0.851, 0.95), 0.0, ("ratio",)),
        ((0.80, 0.82, 0.83), 0.0, ("volume",)),
        ((1.1, 1.1, 1.0), 0.0, ("volume",)),
        ((0.98, 0.95, 0.39), 0.0, ("scale", "ratio", "volume")),
    ],
)
def test_every_limit(scales, turn_deg, broken):
    assert broken_gates(pose(scales, turn_deg)) == broken
