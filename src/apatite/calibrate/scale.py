"""The scales on which a predicted and an annotated volume are compared, so that errors of small and large ones match.

`root` is √V: a volume is a count of voxels, and what a reader and a model disagree about grows with it like that of a
count, slower than the volume. `log` is ln(V + 1): errors as ratios. It suits models that never miss and never invent;
where 0 is predicted for 40 mm³, or 40 mm³ for 0, the ratio is 41, and the interval of every other case pays for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64, Num

ScaleName = Literal["root", "log"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """There and back.

    Attributes:
        words: How it is written.
        of_volume: From mm³ to the scale; ascending.
        to_volume: Back, for points that lie on the scale of some volume.
        most: No two volumes of a body lie further apart.
    """

    words: str
    of_volume: Callable[[np.ndarray], np.ndarray]
    to_volume: Callable[[np.ndarray], np.ndarray]
    most: float

    def difference(
        self, a_mm3: Num[np.ndarray, "cases"], b_mm3: Num[np.ndarray, "cases"]
    ) -> Float64[np.ndarray, "cases"]:
        """How far the first volumes lie above the second."""
        return np.asarray(self.of_volume(a_mm3.astype(np.float64)) - self.of_volume(b_mm3.astype(np.float64)))

    def around(self, volume_mm3: float, below: float, above: float) -> tuple[float, float]:
        """The volumes so far below and above one; never less than 0."""
        nothing, at = self.of_volume(np.array([0.0, volume_mm3]))
        low, high = self.to_volume(np.array([max(at - below, nothing), at + above]))
        # There and back again may be a rounding error past the volume itself.
        return min(float(low), volume_mm3), max(float(high), volume_mm3)


SCALES: Final[dict[str, Scale]] = {
    "root": Scale(words="√V", of_volume=np.sqrt, to_volume=np.square, most=1e4),
    "log": Scale(words="ln(V + 1)", of_volume=np.log1p, to_volume=np.expm1, most=50.0),
}
