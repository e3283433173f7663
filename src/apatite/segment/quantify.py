"""The one place where a model meets a head CT: from original slices to cubic millimetres on either side.

The network looks at the whole box of the artery, in overlapping windows, on its own grid; its probability goes back to
the original pixels, averaged over the thickness of each slice; there the threshold, the 130 HU rule and the true
distances between slices make a volume of it. Left and right come from the template, never from halves of an array.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from apatite.calcium.measure import volume_mm3
from apatite.calcium.measurement import Measurement, measure
from apatite.calcium.rule import CALCIUM_HU, RULES, count_calcium
from apatite.calibrate.bounds import NOTHING, Bounds, bounds_of
from apatite.calibrate.calibration import calibration_of, thresholds_of
from apatite.calibrate.readings import GATED, calcium_label
from apatite.core.errors import ModelError
from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.ct.boxes import BOXES, Box
from apatite.ct.cover import Coverage, box_grid, coverage, is_inside_box
from apatite.ct.kernel_check import measured_kernel
from apatite.ct.localise import Localisation, localise
from apatite.ct.metal import metal
from apatite.ct.motion import motion
from apatite.ct.pose import HeadPose
from apatite.ct.region import RegionConfig, carry_back, cut_region
from apatite.ct.side import sides
from apatite.ct.template import Template, choose_template
from apatite.segment.predict import Predictor
from apatite.segment.validity import OUT_OF_VALIDATED_RANGE, banner_for, outside_validated


@dataclass(frozen=True, kw_only=True)
class QuantifyConfig:
    """How a scan is quantified.

    Attributes:
        box: The artery's box, one of `ct.boxes.BOXES`.
        accepts_phantom_model: Run a model that learnt from phantoms on a real scan, and say so everywhere.
        seed: Of the registration.
        threads: Of the registration.
    """

    box: str = "ica"
    accepts_phantom_model: bool = False
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a scan besides its slices.

    Attributes:
        domain: `real` or `phantom`.
        age_years: Chooses the template; unknown takes the younger one.
        kvp: Tube voltage, for the standing of the Agatston score.
        kernel_class: `soft`, `bone`, or empty; checked against what the scan looks like.
        thickness_mm: Nominal thickness of its slices, by which the interval is chosen; unknown gives none.
    """

    domain: str
    age_years: float | None = None
    kvp: float | None = None
    kernel_class: str = ""
    thickness_mm: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantity:
    """What was found in one scan.

    Attributes:
        measurement: Volumes and scores per side and in total.
        label: 1 right, 2 left, 0 elsewhere, on the original slices.
        probability: Of calcium, on the original slices; 0 outside the box.
        localisation: How the head lies.
        coverage: How much of the box the scan shows.
        threshold: At which probability a pixel counts.
        is_calibrated: Whether that threshold was chosen on development cases.
        burden_group: By the model's frozen cut-points; `None` where it has none, or they do not apply.
        bounds: Limits of the total volume, and the burden groups that they allow.
        flags: Codes of `core.reasons.REASONS`.
        banner: What must stand over every artefact; mostly empty.
    """

    measurement: Measurement
    label: UInt8[np.ndarray, "slices rows columns"]
    probability: Float32[np.ndarray, "slices rows columns"]
    localisation: Localisation
    coverage: Coverage
    threshold: float
    is_calibrated: bool
    burden_group: int | None
    bounds: Bounds
    flags: tuple[str, ...]
    banner: str


class Quantifier:
    """A segmenter of calcium, its calibration and a template, ready for scans.

    Args:
        predictor: The model.
        templates: One, or several by age.
        config: How to quantify.

    Raises:
        ModelError: the model knows no calcium, was not trained on regions, or not in HU (`MODEL_SHAPE`).
    """

    def __init__(self, predictor: Predictor, templates: tuple[Template, ...], config: QuantifyConfig) -> None:
        label = calcium_label(predictor.card.label_names)
        wanted = predictor.card.input
        if label is None or wanted.kind != "region" or wanted.intensity != "hu":
            raise ModelError(
                "does not segment calcium in an artery's region",
                where="model card",
                fix="use `apatite predict` for other models",
                code="MODEL_SHAPE",
            )
        self.predictor, self.templates, self.config, self.label = predictor, templates, config, label
        card = predictor.card
        self.calibration = calibration_of(card.calibration, card.burden, card.domains["calibration"])

    def banner(self, domain: str) -> str:
        """What must stand over results on scans of a domain; as `validity.banner_for`."""
        accepts = self.config.accepts_phantom_model
        return banner_for(self.predictor.card, domain, accepts_phantom_model=accepts)

    def domain_flags(self, domain: str) -> tuple[str, ...]:
        """`DOMAIN` where no scan of this domain chose the threshold."""
        domains = self.predictor.card.domains
        return () if domain in (domains["calibration"] or domains["training"]) else ("DOMAIN",)

    def quantify(self, scan: Scan, about: About) -> Quantity:
        """Quantify one scan.

        Args:
            scan: Original slices of a head CT.
            about: What is known of it besides.

        Raises:
            ModelError: a model that learnt from phantoms on a real scan (`PHANTOM_MODEL`).
            DataError: the head cannot be found (`REG_FAIL`) or does not show the artery (`ROI_ABSENT`).
        """
        banner = self.banner(about.domain)
        box = BOXES[self.config.box]
        found = localise(
            scan, choose_template(self.templates, about.age_years), seed=self.config.seed, threads=self.config.threads
        )
        covered = coverage(scan, found.pose, box)
        covered.require()
        probability = self._probability(scan, found.pose, box)
        threshold = thresholds_of(self.calibration, (self.label,), GATED)[0]
        # The rule itself (130 HU, no single voxels, no padding) is applied where calcium is measured.
        is_marked = probability >= threshold
        label = sides(count_calcium(scan, is_marked, RULES["paper"]), scan.stack, found.pose)
        measurement = measure(scan, is_marked, label, kvp=about.kvp)
        # As calibrated: at least 130 HU, but with the lone voxels that the rule drops.
        read_mm3 = volume_mm3(is_marked & (scan.voxels_hu >= CALCIUM_HU), scan.stack)
        bounds = self._bounds(read_mm3, covered, about)
        bounds = replace(bounds, groups=()) if banner else bounds
        return Quantity(
            measurement=measurement,
            label=label,
            probability=probability,
            localisation=found,
            coverage=covered,
            threshold=threshold,
            is_calibrated=self.calibration is not None and self.calibration.chose(self.label, GATED),
            burden_group=None if banner else self._burden_group(measurement.total.volume_mm3, covered),
            bounds=bounds,
            flags=(
                *found.flags,
                *covered.flags,
                *self._quality_flags(scan, found.pose, box, about),
                *bounds.flags,
            ),
            banner=banner,
        )

    def _probability(self, scan: Scan, pose: HeadPose, box: Box) -> Float32[np.ndarray, "slices rows columns"]:
        """The probability of calcium on the original slices, 0 outside the box."""
        wanted = self.predictor.card.input
        grid = box_grid(pose, box, RegionConfig(shape=wanted.shape, spacing_mm=wanted.spacing_mm))
        planes = self.predictor.predict_on_grid(cut_region(scan, grid))
        plane = planes[self.predictor.label_values.index(self.label)]
        on_slices = carry_back(Volume(voxels=plane, grid=grid), scan.stack)
        return on_slices * is_inside_box(scan.stack, pose, box)

    def _burden_group(self, volume_mm3: float, covered: Coverage) -> int | None:
        """The group of a volume; none where the volume is a lower bound, since the group would be one too."""
        cuts = None if self.calibration is None else self.calibration.burden.get(GATED)
        return None if cuts is None or covered.flags else cuts.assign(volume_mm3)

    def _bounds(self, volume_mm3: float, covered: Coverage, about: About) -> Bounds:
        """Limits of a volume; of one that is a lower bound there is no upper one."""
        if self.calibration is None:
            return NOTHING
        return bounds_of(
            volume_mm3,
            about.thickness_mm,
            self.calibration.intervals.get(GATED),
            self.calibration.burden.get(GATED),
            is_lower_bound=bool(covered.flags),
            is_like_calibration=about.domain in self.calibration.domains,
        )

    def _quality_flags(self, scan: Scan, pose: HeadPose, box: Box, about: About) -> tuple[str, ...]:
        """What makes a number doubtful although it can be measured."""
        kernel = measured_kernel(scan)
        found = {
            "METAL": metal(scan, pose, box).num_pieces > 0,
            "MOTION": motion(scan, pose, box).is_moved,
            "KERNEL_DOUBT": kernel.contradicts(about.kernel_class),
            OUT_OF_VALIDATED_RANGE: outside_validated(
                self.predictor.card, thickness_mm=float(scan.stack.thickness_mm.max()), noise_hu=kernel.noise_hu
            ),
        }
        return tuple(code for code, is_so in found.items() if is_so)
