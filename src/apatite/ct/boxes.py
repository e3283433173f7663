"""Where the arteries lie in template space: one box of MNI millimetres per artery.

Source: the region masks of Jin et al. 2024 (DEMI@MICCAI), whose voxel bounds stand in public code of the same group.
Differs: that code states voxels of a 1 mm template; that this template lies on the FSL-MNI grid is inferred (its
midline boxes are symmetric about that grid's x = 0, and the others land on textbook positions), not known.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float

from apatite.core.volume import Points


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box along the axes of MNI space.

    Attributes:
        name: Of the artery.
        low_mni_mm, high_mni_mm: Its corners; x runs to the patient's right.
    """

    name: str
    low_mni_mm: tuple[float, float, float]
    high_mni_mm: tuple[float, float, float]

    @property
    def centre_mni_mm(self) -> Float[np.ndarray, "3"]:
        """Its middle."""
        return (np.array(self.low_mni_mm) + np.array(self.high_mni_mm)) / 2

    @property
    def corners_mni_mm(self) -> Float[np.ndarray, "8 3"]:
        """All eight corners."""
        return np.array(list(product(*zip(self.low_mni_mm, self.high_mni_mm, strict=True))), dtype=np.float64)

    def holds(self, points_mni_mm: Points) -> Bool[np.ndarray, "*points"]:
        """True for the points inside, the surface included."""
        low, high = np.array(self.low_mni_mm), np.array(self.high_mni_mm)
        return np.all((points_mni_mm >= low) & (points_mni_mm <= high), axis=-1)


BOXES: dict[str, Box] = {
    box.name: box
    for box in (
        Box(name="ica", low_mni_mm=(-23.0, -13.0, -44.0), high_mni_mm=(23.0, 21.0, -11.0)),
        Box(name="vertebral", low_mni_mm=(-32.0, -57.0, -72.0), high_mni_mm=(32.0, -2.0, -48.0)),
        Box(name="basilar", low_mni_mm=(-24.0, -39.0, -47.0), high_mni_mm=(24.0, 3.0, -11.0)),
        Box(name="mca_left", low_mni_mm=(-66.0, -12.0, -31.0), high_mni_mm=(-22.0, 28.0, -8.0)),
        Box(name="mca_right", low_mni_mm=(22.0, -12.0, -31.0), high_mni_mm=(65.0, 28.0, -8.0)),
    )
}
"""Every artery box by name; `ica` holds the cavernous carotids of both sides."""
