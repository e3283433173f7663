"""The verb `calibrate`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, ModelPath, OutputPath, PreparedPath
from apatite.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apatite.calibrate.calibration import Calibration
    from apatite.study.calibrate import CalibrateConfig


@dataclass(frozen=True, kw_only=True)
class Calibrate(CommonFlags):
    """Choose the decision threshold on the development split so that volumes agree, and freeze the burden groups.

    Probabilities get a temperature, and part of the patients is kept apart for an interval on the volume of calcium.

    Example: apatite calibrate -m runs/tuned -d prepared -o models/calibrated
    """

    model: ModelPath
    """Model package, or the fine-tuning run that holds one. It is not changed."""
    data: PreparedPath
    """Prepared folder whose development split is used; its original scans must still be there."""
    out: OutputPath
    """The calibrated copy of the model package; must not exist."""
    objective: Literal["mae", "bias0", "log_mae"] = "mae"
    """What to make small on development: mean absolute, signed, or absolute log volume difference."""
    drop_empty: FlagCreatePairsOff[bool] = False
    """Leave out cases without the label when the threshold is chosen, as Jin et al. 2025 do."""
    no_temperature: FlagCreatePairsOff[bool] = False
    """Leave probabilities as they are."""
    interval_share: float = 0.5
    """Share of the patients that is kept apart for the interval; 0 for none. Fewer than 18 patients give none."""

    def run(self) -> Outcome:
        """Calibrate and write the copy."""
        from apatite.io.hold_out import is_held_out
        from apatite.io.model_package import copy_calibrated
        from apatite.io.store import Prepared
        from apatite.segment.predict import package_of
        from apatite.study.calibrate import CalibrateConfig, calibrate
        from apatite.study.contestants import open_model

        # Found now, not after every case was predicted.
        config = CalibrateConfig(
            objective=self.objective,
            drop_empty_cases=self.drop_empty,
            fits_temperature=not self.no_temperature,
            interval_share=self.interval_share,
        )
        if self.out.exists():
            raise DataError("the folder exists already", where=str(self.out), fix="name a new one with -o")
        prepared = Prepared.open(self.data)
        model = open_model(self.model, self.model.name)
        model.refuse_other_labels(prepared)
        development = prepared.manifest.of_split("development")
        cases = tuple(case for case in development if case.label and not is_held_out(case, model.held_out))
        found = calibrate(model.predictor, prepared.manifest, cases, config, bar, model.digest)
        copy_calibrated(package_of(self.model), self.out, found.to_dict(), found.domains, found.burden_dict())
        lines = [
            f"{found.num_cases} development cases ({', '.join(found.domains)})",
            *_decisions(found, prepared.manifest.label_names),
            *_probabilities(found),
            *_intervals(found, prepared.manifest.label_names, config),
        ]
        values = {"package": str(self.out), "calibration": found.to_dict(), "burden": found.burden_dict()}
        return Outcome(values=values, lines=[*lines, f"calibrated model: {self.out}"])


def _decisions(found: "Calibration", names: dict[int, str]) -> "Iterator[str]":
    """What was chosen for the decision."""
    for label, readings in found.fits.items():
        for reading, fit in readings.items():
            yield (
                f"label {label}, {reading}: threshold {fit.threshold:.3f} [{fit.low:.3f}; {fit.high:.3f}], "
                f"mean |ΔV| {fit.error_before_mm3:.3g} -> {fit.error_after_mm3:.3g} mm³ "
                f"on the {fit.num_cases} cases it was chosen on"
            )
    for label in sorted(set(names) - set(found.fits)):
        yield f"label {label}: too few development cases, its threshold stays at 0.5"
    if "calcium" in names.values() and not found.burden:
        yield "no burden groups: too few development cases with detectable calcium"


def _probabilities(found: "Calibration") -> "Iterator[str]":
    """What became of the probabilities."""
    for label, fit in found.temperatures.items():
        slope = f" × (thickness / 3 mm)^{fit.slope:.2f}" if fit.slope else ""
        yield (
            f"label {label}: temperature {fit.temperature:.3f} [{fit.low:.3f}; {fit.high:.3f}]{slope}, "
            f"offset {fit.offset:.3f}, "
            f"ECE {fit.ece_before:.3g} -> {fit.ece_after:.3g} on the {fit.num_cases} cases it was fitted on"
        )


def _intervals(found: "Calibration", names: dict[int, str], config: "CalibrateConfig") -> "Iterator[str]":
    """What can be promised about a volume, or why nothing can."""
    for reading, fit in found.intervals.items():
        yield from (f"interval, {reading}: {line}" for line in fit.sentences())
    if "calcium" in names.values() and not found.intervals and config.interval_share > 0:
        yield (
            f"no interval on the volume: {config.least_patients} patients of one group of slice thickness are needed "
            "for it, beside those that choose the threshold; all of them chose the threshold"
        )
