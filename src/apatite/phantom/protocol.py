"""How a series is acquired: vendor, kernel, slices, pose; drawn per series.

Five invented vendors stand for the heterogeneity of a multi-centre trial. A vendor changes kernel, noise, pixel size,
slices and HU offset, never anatomy. Shares and ranges are assumptions except where docs/explanation/phantom.md says
"measured".
"""

from dataclasses import dataclass

import numpy as np

from apatite.core.errors import ConfigError

Turn = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """What a vendor's scanners have in common.

    Attributes:
        share: Fraction of patients.
        pixel_mm: Range of pixel sizes.
        soft_fwhm_mm: Range of the soft kernel's width.
        bone_fwhm_mm: Range of the bone kernel's width.
        overshoot: Edge enhancement of the bone kernel.
        noise_hu: Range of noise SD of the soft kernel at 5 mm.
        grain_mm: Correlation length of the noise.
        offset_hu: HU offset.
        thin_share: Fraction of helical thin-slice series.
    """

    share: float
    pixel_mm: tuple[float, float]
    soft_fwhm_mm: tuple[float, float]
    bone_fwhm_mm: tuple[float, float]
    overshoot: float
    noise_hu: tuple[float, float]
    grain_mm: float
    offset_hu: float
    thin_share: float


VENDORS: dict[str, Vendor] = {
    "Aldan": Vendor(
        share=0.33,
        pixel_mm=(0.43, 0.49),
        soft_fwhm_mm=(0.95, 1.15),
        bone_fwhm_mm=(0.55, 0.65),
        overshoot=0.45,
        noise_hu=(3.5, 5.5),
        grain_mm=0.45,
        offset_hu=2.0,
        thin_share=0.30,
    ),
    "Borgo": Vendor(
        share=0.27,
        pixel_mm=(0.41, 0.50),
        soft_fwhm_mm=(0.90, 1.05),
        bone_fwhm_mm=(0.50, 0.60),
        overshoot=0.35,
        noise_hu=(3.0, 5.0),
        grain_mm=0.38,
        offset_hu=-3.0,
        thin_share=0.35,
    ),
    "Cobre": Vendor(
        share=0.19,
        pixel_mm=(0.44, 0.53),
        soft_fwhm_mm=(1.00, 1.20),
        bone_fwhm_mm=(0.60, 0.70),
        overshoot=0.25,
        noise_hu=(4.0, 6.5),
        grain_mm=0.55,
        offset_hu=6.0,
        thin_share=0.30,
    ),
    "Dorn": Vendor(
        share=0.15,
        pixel_mm=(0.42, 0.55),
        soft_fwhm_mm=(1.00, 1.20),
        bone_fwhm_mm=(0.55, 0.70),
        overshoot=0.30,
        noise_hu=(4.5, 8.0),
        grain_mm=0.50,
        offset_hu=-8.0,
        thin_share=0.22,
    ),
    "Elmet": Vendor(
        share=0.06,
        pixel_mm=(0.40, 0.48),
        soft_fwhm_mm=(0.95, 1.10),
        bone_fwhm_mm=(0.50, 0.60),
        overshoot=0.60,
        noise_hu=(3.5, 6.0),
        grain_mm=0.35,
        offset_hu=9.0,
        thin_share=0.25,
    ),
}

_THICKNESS = {
    "thin": ((0.6, 0.28), (0.75, 0.17), (1.0, 0.35), (1.25, 0.20)),
    "middle": ((2.0, 0.4), (2.5, 0.3), (3.0, 0.3)),
    "thick": ((4.0, 0.35), (4.8, 0.15), (5.0, 0.50)),
    "coarse": ((6.0, 0.3), (7.0, 0.25), (8.0, 0.3), (10.0, 0.15)),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One series.

    Attributes:
        vendor: Name in `VENDORS`.
        scanner_model: Invented model name.
        kernel: Invented kernel name.
        kernel_class: "soft" or "bone".
        pixel_mm: Pixel edge.
        thickness_mm: Slice thickness (of the base, in a series of two blocks).
        spacing_mm: Distance between slices along their normal.
        vault_mm: Thickness and spacing of the upper block; 0 without one.
        vault_from_mm: Where the upper block starts, along the normal from the region's centre.
        fwhm_mm: In-plane width of the point spread.
        overshoot: Edge enhancement; 0 for none.
        noise_hu: Noise SD in brain.
        grain_mm: Correlation length of the noise.
        offset_hu: Added to every voxel.
        tilt_deg: Gantry tilt about x.
        turn_deg: Turn of the head about x, y, z.
        band_hu: Strength of the dark and bright bands between the petrous bones.
        streak_hu: Strength of streaks from dense bone (or metal).
        shift_mm: In-plane shift of a few slices by motion; 0 for none.
    """

    vendor: str = "Aldan"
    scanner_model: str = "Aldan 1"
    kernel: str = "soft"
    kernel_class: str = "soft"
    pixel_mm: float = 0.45
    thickness_mm: float = 1.0
    spacing_mm: float = 1.0
    vault_mm: float = 0.0
    vault_from_mm: float = 0.0
    fwhm_mm: float = 1.0
    overshoot: float = 0.0
    noise_hu: float = 5.0
    grain_mm: float = 0.45
    offset_hu: float = 0.0
    tilt_deg: float = 0.0
    turn_deg: Turn = (0.0, 0.0, 0.0)
    band_hu: float = 0.0
    streak_hu: float = 0.0
    shift_mm: float = 0.0

    def __post_init__(self) -> None:
        if (
            min(self.pixel_mm, self.thickness_mm, self.spacing_mm, self.fwhm_mm) <= 0
            or self.noise_hu < 0
            or abs(self.tilt_deg) > 45
        ):
            raise ConfigError(
                "a protocol needs positive sizes, noise of at least 0 and a tilt of at most 45 degrees",
                where=self.kernel,
            )


def draw_vendor(rng: np.random.Generator) -> str:
    """A vendor's name by its share."""
    shares = np.array([vendor.share for vendor in VENDORS.values()])
    return list(VENDORS)[rng.choice(len(VENDORS), p=shares / shares.sum())]


def draw_protocol(rng: np.random.Generator, vendor_name: str, pixel_factor: float) -> Protocol:
    """Draw one series of a vendor.

    Args:
        rng: Randomness of this series.
        vendor_name: Key of `VENDORS`.
        pixel_factor: Multiplies the pixel size (1 for the paper's preset, larger for quicker ones).
    """
    vendor = VENDORS[vendor_name]
    is_bone = rng.random() < 0.30
    thickness, is_helical = _draw_thickness(rng, vendor)
    block = _draw_two_blocks(rng, thickness, is_helical)
    fwhm = rng.uniform(*(vendor.bone_fwhm_mm if is_bone else vendor.soft_fwhm_mm))
    noise = rng.uniform(15, 32) if is_bone else rng.uniform(*vendor.noise_hu)
    kind, model = "bone" if is_bone else "soft", int(rng.integers(1, 5))
    return Protocol(
        vendor=vendor_name,
        scanner_model=f"{vendor_name} {model}",
        kernel=f"{vendor_name[0]}{kind[0]}{round(fwhm * 100):03d}",
        kernel_class=kind,
        pixel_mm=float(rng.uniform(*vendor.pixel_mm) * pixel_factor),
        thickness_mm=thickness,
        spacing_mm=block[0],
        vault_mm=block[1],
        vault_from_mm=block[2],
        fwhm_mm=float(fwhm),
        overshoot=vendor.overshoot if is_bone else 0.0,
        noise_hu=float(noise * min((5.0 / thickness) ** 0.5, 2.2)),
        grain_mm=vendor.grain_mm * (0.5 if is_bone else 1.0),
        offset_hu=float(vendor.offset_hu + rng.uniform(-2, 2)),
        tilt_deg=0.0 if is_helical or rng.random() < 0.35 else float(rng.uniform(-4, 20)),
        turn_deg=_draw_turn(rng),
        band_hu=float(rng.uniform(5, 40)),
        streak_hu=float(rng.uniform(40, 120) if rng.random() < 0.01 else rng.uniform(1, 12)),
        shift_mm=float(rng.uniform(0.7, 2.5)) if rng.random() < 0.03 else 0.0,
    )


def _draw_thickness(rng: np.random.Generator, vendor: Vendor) -> tuple[float, bool]:
    """Slice thickness, and whether the series is helical (never tilted)."""
    rest = 1 - vendor.thin_share
    shares = [vendor.thin_share, 0.21 * rest, 0.57 * rest, 0.22 * rest]
    group = list(_THICKNESS)[rng.choice(4, p=shares)]
    values, weights = zip(*_THICKNESS[group], strict=True)
    return float(values[rng.choice(len(values), p=weights)]), group == "thin" or bool(rng.random() < 0.3)


def _draw_two_blocks(rng: np.random.Generator, thickness: float, is_helical: bool) -> tuple[float, float, float]:
    """Spacing, thickness of the upper block (0 for none), and where it starts."""
    if not is_helical and 4.0 <= thickness <= 5.0 and rng.random() < 0.28:
        return thickness, float(rng.choice([7.0, 8.0])), float(rng.uniform(4, 18))
    draw = rng.random()
    if is_helical and draw < 0.35:
        return thickness * float(rng.choice([0.5, 0.6, 0.8])), 0.0, 0.0
    return thickness * (1.0 if draw < 0.93 else float(rng.uniform(1.05, 1.25))), 0.0, 0.0


def _draw_turn(rng: np.random.Generator) -> Turn:
    """Pose: about ±10°, and ±20° of nodding in one of ten."""
    nod = rng.uniform(-20, 20) if rng.random() < 0.1 else np.clip(rng.normal(0, 5), -10, 10)
    tip, turn = np.clip(rng.normal(0, 3.5, 2), -10, 10)
    return float(nod), float(tip), float(turn)
