"""A template made ready for matching: windowed cubes of a given edge, with room on every side.

Below, the template's last level goes on, since a neck does; at the other sides there is air, since a head ends there.
"""

import numpy as np
from jaxtyping import Float

from apatite.core.scan import PADDING_HU, Scan, stack_from_grid
from apatite.ct.isotropic import Cubes, isotropic
from apatite.ct.matching import Target, windowed
from apatite.ct.subject import find_subject
from apatite.ct.template import Template

BELOW_MM = 80.0
"""How far the neck goes on; farther down the last level stands for everything."""


def targets(template: Template, step_mm: float = 2.0, levels: int = 3) -> list[Target]:
    """The template in cubes of `step_mm`, twice that, and so on."""
    voxels = template.volume.voxels.astype(np.float32)
    cubes = isotropic(Scan(voxels_hu=voxels, stack=stack_from_grid(template.volume.grid)), step_mm)
    middle_mm = find_subject(cubes.halved()).centre_ras_mm
    result = []
    for _ in range(levels):
        result.append(_target(cubes, middle_mm))
        cubes = cubes.halved()
    return result


def _target(cubes: Cubes, middle_mm: Float[np.ndarray, "3"]) -> Target:
    below = round(BELOW_MM / cubes.step_mm)
    voxels = np.pad(cubes.volume.voxels, ((below, 0), (0, 0), (0, 0)), mode="edge")
    voxels = np.pad(voxels, ((0, 1), (1, 1), (1, 1)), constant_values=np.float32(PADDING_HU))
    origin = cubes.volume.grid.ijk_to_ras[:3, 3] - cubes.step_mm * np.array([1, 1, below])
    return Target(voxels=windowed(voxels), origin_mm=origin, step_mm=cubes.step_mm, middle_mm=middle_mm)
