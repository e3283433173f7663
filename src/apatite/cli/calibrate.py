"""The verb `calibrate`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, ModelPath, OutputPath, PreparedPath
from apatite.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Calibrate(CommonFlags):
    """Choose the decision threshold on the development split so that volumes agree, and freeze the burden groups.

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
    """Leave out cases without the label, as Jin et al. 2025 do."""

    def run(self) -> Outcome:
        """Calibrate and write the copy."""
        from apatite.io.model_package import copy_calibrated
        from apatite.io.store import Prepared
        from apatite.segment.predict import package_of
        from apatite.study.calibrate import CalibrateConfig, calibrate
        from apatite.study.contestants import open_model

        # Found now, not after every case was predicted.
        if self.out.exists():
            raise DataError("the folder exists already", where=str(self.out), fix="name a new one with -o")
        prepared = Prepared.open(self.data)
        model = open_model(self.model, self.model.name)
        model.refuse_other_labels(prepared)
        cases = tuple(case for case in prepared.manifest.of_split("development") if case.label)
        config = CalibrateConfig(objective=self.objective, drop_empty_cases=self.drop_empty)
        found = calibrate(model.predictor, prepared.manifest, cases, config, bar)
        copy_calibrated(package_of(self.model), self.out, found.to_dict(), found.domains, found.burden_dict())
        lines = [f"{found.num_cases} development cases ({', '.join(found.domains)})"]
        for label, readings in found.fits.items():
            for reading, fit in readings.items():
                lines.append(
                    f"label {label}, {reading}: threshold {fit.threshold:.3f} [{fit.low:.3f}; {fit.high:.3f}], "
                    f"mean |ΔV| {fit.error_before_mm3:.3g} -> {fit.error_after_mm3:.3g} mm³ "
                    "on the cases it was chosen on"
                )
        names = prepared.manifest.label_names
        lines += [
            f"label {label}: too few development cases, its threshold stays at 0.5"
            for label in sorted(set(names) - set(found.fits))
        ]
        if "calcium" in names.values() and not found.burden:
            lines.append("no burden groups: too few development cases with detectable calcium")
        values = {"package": str(self.out), "calibration": found.to_dict(), "burden": found.burden_dict()}
        return Outcome(values=values, lines=[*lines, f"calibrated model: {self.out}"])
