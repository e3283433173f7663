"""How a head lies in a scan: the affine map between MNI space and the patient.

Left and right, an artery's box and the way back all come from this map, never from the halves of an array.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apatite.core.volume import Affine, Points


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadPose:
    """The affine from MNI millimetres to RAS millimetres of one scan.

    Attributes:
        mni_to_ras: 4×4. Its linear part turns, scales and perhaps shears; its determinant is positive, since a head
            is never mirrored.
    """

    mni_to_ras: Affine

    def __post_init__(self) -> None:
        if self.mni_to_ras.shape != (4, 4) or not np.linalg.det(self.mni_to_ras[:3, :3]) > 0:
            raise ValueError("a pose is a 4×4 affine that does not mirror")

    def to_ras(self, points_mni_mm: Points) -> Points:
        """From MNI to the patient."""
        return points_mni_mm @ self.mni_to_ras[:3, :3].T + self.mni_to_ras[:3, 3]

    def to_mni(self, points_ras_mm: Points) -> Points:
        """From the patient to MNI."""
        return (points_ras_mm - self.mni_to_ras[:3, 3]) @ np.linalg.inv(self.mni_to_ras[:3, :3]).T

    @property
    def scales(self) -> Float[np.ndarray, "3"]:
        """Singular values of the linear part, largest first; below 1 where the head is smaller than MNI's."""
        return np.linalg.svd(self.mni_to_ras[:3, :3], compute_uv=False)

    @property
    def turn_deg(self) -> float:
        """Angle of the rotation nearest to the linear part."""
        left, _, right = np.linalg.svd(self.mni_to_ras[:3, :3])
        return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1.0, 1.0))))
