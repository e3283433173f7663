"""How resampling changes a volume of at least 130 HU: lone ellipsoids on slices of 1 to 10 mm.

Each cell is measured over true volume, counted on the slices / after resampling to 0.44×0.44×1.0 mm, the mean of 12
placements. Makes the table of docs/explanation/why-native-slices.md.
"""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from apatite.calcium.measure import volume_mm3
from apatite.calcium.rule import CALCIUM_HU
from apatite.core.rng import generator
from apatite.core.scan import Scan, SliceStack
from apatite.ct.region import RegionConfig, cut_region
from harness import Benchmark

LESIONS = ((5, 300), (20, 300), (20, 700), (150, 300), (150, 700))
THICKNESSES_MM = (1.0, 2.5, 5.0, 10.0)
OFFSETS = 12
BACKGROUND_HU, NOISE_HU, FWHM_MM = 40.0, 5.0, 1.0
HALF_WIDTH_MM, HALF_LENGTH_MM, PIXEL_MM, FINE_MM = 12.0, 24.0, 0.5, 0.125
GRID = RegionConfig(shape=(40, 44, 44), spacing_mm=(0.44, 0.44, 1.0)).grid(np.zeros(3))


def scan_ellipsoid(size_mm3: float, density_hu: float, thickness_mm: float, draw: np.random.Generator) -> Scan:
    """An ellipsoid, twice as long along the normal, on contiguous box slices."""
    radius = (size_mm3 * 3 / (8 * np.pi)) ** (1 / 3)
    centre = draw.uniform(-0.5, 0.5, 3) * (PIXEL_MM, PIXEL_MM, thickness_mm)
    num_slices = int(2 * HALF_LENGTH_MM // thickness_mm)
    middles = (np.arange(num_slices) - (num_slices - 1) / 2) * thickness_mm
    share = np.stack([_share(radius, centre, middle, thickness_mm) for middle in middles])
    voxels = BACKGROUND_HU + (density_hu - BACKGROUND_HU) * share + draw.normal(0, NOISE_HU, share.shape)
    edge = -HALF_WIDTH_MM + PIXEL_MM / 2
    stack = SliceStack(
        shape=share.shape,
        origins_ras_mm=np.array([[edge, edge, middle] for middle in middles]),
        column_step_ras_mm=np.array([PIXEL_MM, 0, 0]),
        row_step_ras_mm=np.array([0, PIXEL_MM, 0]),
        thickness_mm=np.full(num_slices, thickness_mm),
    )
    return Scan(voxels_hu=np.rint(voxels).astype(np.int16), stack=stack)


def _share(
    radius: float, centre: Float[np.ndarray, "3"], middle: float, thickness_mm: float
) -> Float[np.ndarray, "rows columns"]:
    """How much of each pixel of a slice is calcium: chords along the normal, exact; then the point spread in plane."""
    axis = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM, FINE_MM) + FINE_MM / 2
    x, y = np.meshgrid(axis, axis)
    reach = 2 * radius * np.sqrt(np.clip(1 - ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2, 0, None))
    upper = np.minimum(middle + thickness_mm / 2, centre[2] + reach)
    lower = np.maximum(middle - thickness_mm / 2, centre[2] - reach)
    blurred = gaussian_filter(np.clip(upper - lower, 0, None) / thickness_mm, FWHM_MM / 2.3548 / FINE_MM)
    fine = round(PIXEL_MM / FINE_MM)
    pixels = len(axis) // fine
    return blurred.reshape(pixels, fine, pixels, fine).mean(axis=(1, 3))


def ratios(size_mm3: float, density_hu: float, thickness_mm: float) -> tuple[float, float]:
    """Mean measured over true volume: on the slices, and after resampling."""
    native, resampled = [], []
    for number in range(OFFSETS):
        draw = generator(0, f"{size_mm3:g} mm3, {density_hu:g} HU, {thickness_mm:g} mm", number)
        scan = scan_ellipsoid(size_mm3, density_hu, thickness_mm, draw)
        volume = cut_region(scan, GRID)
        native.append(volume_mm3(scan.voxels_hu >= CALCIUM_HU, scan.stack))
        resampled.append((volume.voxels >= CALCIUM_HU).sum() * volume.grid.voxel_mm3)
    return float(np.mean(native)) / size_mm3, float(np.mean(resampled)) / size_mm3


def main(arguments: list[str] | None = None) -> None:
    """One row per lesion; each cell is the ratio on the slices / after resampling."""
    bench = Benchmark.start(__doc__, __file__, packages=("numpy", "scipy"), arguments=arguments)
    for size, density in LESIONS[:1] if bench.quick else LESIONS:
        found = {thickness: ratios(size, density, thickness) for thickness in THICKNESSES_MM}
        cells = {f"{thickness:g}_mm": f"{a:.2f} / {b:.2f}" for thickness, (a, b) in found.items()}
        bench.row(mm3=size, HU=density, **cells)
    bench.finish()


if __name__ == "__main__":
    main()
