"""Does an image look like its kernel's name says: how noisy brain is, and how steep the steepest edges are.

A bone kernel triples the noise and narrows edges. Both are measured where nothing else plays a part, noise in
homogeneous brain and edges at bone, and only where neither contradicts the other is there a verdict. Names can be
wrong: tables age, sites rename kernels, and post-processing is not in the name at all.

Source: the limits were set on phantom scans of five vendors and looked at on one real head (docs/explanation/dicom.md).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from apatite.core.scan import Scan

BRAIN_HU: Final = (0.0, 75.0)
"""Mean of a neighbourhood that counts as brain."""
WINDOW: Final = 7
"""Pixels along each side of a neighbourhood."""
LEAST_PIXELS: Final = 500
LEAST_EDGES: Final = 50
LEAST_STEP_HU: Final = 500.0
"""Of an edge that is looked at: from soft tissue or air to bone."""
EDGE_REACH_MM: Final = 2.0
STEEPEST: Final = 0.2
"""Share of the edges that count: thick slices cut most edges obliquely, and those look wide with any kernel."""
BONE_NOISE_HU: Final = 11.0
"""Noise at 5 mm thickness from which on a kernel is bone by noise."""
BONE_EDGE_MM: Final = 1.15
SOFT_EDGE_MM: Final = 0.95
"""Widest edges of a bone kernel, steepest of a soft one: between the two, edges contradict neither."""
MOST_SLICES: Final = 24


@dataclass(frozen=True, kw_only=True)
class KernelCheck:
    """What an image says of its kernel.

    Attributes:
        noise_hu: SD of the noise in brain; `None` where no homogeneous brain is in view.
        edge_mm: Width of the steepest bone edges, 10 to 90 % of a Gaussian edge; `None` where there are too few.
        verdict: `soft` or `bone` where neither noise nor edges speak against it, else empty.
    """

    noise_hu: float | None
    edge_mm: float | None
    verdict: str

    def contradicts(self, kernel_class: str) -> bool:
        """Whether the image is clearly of the other class than the name (`KERNEL_DOUBT`)."""
        return bool(self.verdict and kernel_class and self.verdict != kernel_class)


def measured_kernel(scan: Scan) -> KernelCheck:
    """Look at up to `MOST_SLICES` slices of a scan, evenly spread."""
    depth = scan.stack.shape[0]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, MOST_SLICES)).round().astype(int))
    pixel_mm = (scan.stack.row_spacing_mm, scan.stack.column_spacing_mm)
    residuals, widths = [], []
    for index in chosen:
        image = scan.voxels_hu[index].astype(np.float64)
        residuals.append(_noise_of(image))
        widths += [_edge_widths_mm(image, pixel_mm[0]), _edge_widths_mm(image.T, pixel_mm[1])]
    noise_hu = _spread(np.concatenate(residuals))
    edge_mm = _steepest(np.concatenate(widths))
    thickness_mm = float(np.median(scan.stack.thickness_mm))
    return KernelCheck(noise_hu=noise_hu, edge_mm=edge_mm, verdict=_verdict(noise_hu, edge_mm, thickness_mm))


def _verdict(noise_hu: float | None, edge_mm: float | None, thickness_mm: float) -> str:
    if noise_hu is None or edge_mm is None:
        return ""
    # Photons of a slice grow with its thickness; so the limit is stated for one of 5 mm.
    is_noisy = noise_hu * (thickness_mm / 5.0) ** 0.5 >= BONE_NOISE_HU
    if is_noisy:
        return "bone" if edge_mm <= BONE_EDGE_MM else ""
    return "soft" if edge_mm >= SOFT_EDGE_MM else ""


def _noise_of(image: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "pixels"]:
    """What is left of homogeneous brain after its local mean is taken away."""
    mean = ndimage.uniform_filter(image, WINDOW)
    is_brain = (mean > BRAIN_HU[0]) & (mean < BRAIN_HU[1])
    is_inside = ndimage.minimum_filter(is_brain, WINDOW) & ~_near_step(mean)
    # The mean holds a 49th of the pixel itself.
    return (image - mean)[is_inside] / np.sqrt(1 - 1 / WINDOW**2)


def _near_step(mean: Float[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Where the local mean changes by more than between grey and white matter."""
    return ndimage.maximum_filter(mean, WINDOW) - ndimage.minimum_filter(mean, WINDOW) > 25.0


def _spread(values: Float[np.ndarray, "pixels"]) -> float | None:
    """SD of a normal distribution with the same median deviation."""
    if len(values) < LEAST_PIXELS:
        return None
    return round(float(1.4826 * np.median(np.abs(values - np.median(values)))), 2)


def _edge_widths_mm(image: Float[np.ndarray, "rows columns"], pixel_mm: float) -> Float[np.ndarray, "edges"]:
    """Step over slope at every steepest point along the columns of pixels, as the 10 to 90 % width of a Gaussian."""
    slope = np.abs(np.diff(image, axis=0))
    is_steepest = slope >= ndimage.maximum_filter1d(slope, 3, axis=0)
    reach = 2 * max(1, round(EDGE_REACH_MM / pixel_mm)) // 2
    step = _range_along(image, reach)[:-1]
    found = is_steepest & (step >= LEAST_STEP_HU) & (slope >= LEAST_STEP_HU / 4)
    return 1.0225 * pixel_mm * step[found] / slope[found]


def _range_along(image: Float[np.ndarray, "rows columns"], reach: int) -> Float[np.ndarray, "rows columns"]:
    """Highest minus lowest within `reach` pixels on both sides, along the columns of pixels."""
    size = 2 * reach + 1
    return ndimage.maximum_filter1d(image, size, axis=0) - ndimage.minimum_filter1d(image, size, axis=0)


def _steepest(widths_mm: Shaped[np.ndarray, "edges"]) -> float | None:
    if len(widths_mm) < LEAST_EDGES:
        return None
    return round(float(np.quantile(widths_mm, STEEPEST)), 3)
