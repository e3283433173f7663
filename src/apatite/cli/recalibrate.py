"""The verb `recalibrate`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, ModelPath, OutputPath, PreparedPath
from apatite.core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Recalibrate(CommonFlags):
    """Fit threshold, temperature and interval to a new site with 20 to 40 of its cases, and say whether it helps.

    The weights stay. What is reported comes from fits that did not see the patient.

    Example: apatite recalibrate -m models/calibrated -d site/prepared -o models/site
    """

    model: ModelPath
    """Model package, or the fine-tuning run that holds one. It is not changed."""
    data: PreparedPath
    """Prepared folder of the site; its original scans and labels must still be there."""
    out: OutputPath
    """Folder for model/, recalibration.html, recalibration.json and cases.csv; must not exist."""
    split: Literal["development", "test", "all"] = "development"
    """Which of the site's labelled cases; all, where nothing at the site is to be evaluated afterwards."""
    objective: Literal["mae", "bias0", "log_mae"] = "mae"
    """What the threshold makes small: mean absolute, signed, or absolute log volume difference."""
    keep_threshold: FlagCreatePairsOff[bool] = False
    """Leave the threshold as it is; fit only temperature, interval and bias line."""

    def run(self) -> Outcome:
        """Fit, judge, write."""
        from apatite.io.run_folder import RunFolder
        from apatite.io.store import Prepared
        from apatite.segment.predict import package_of
        from apatite.study.contestants import open_model
        from apatite.study.recalibrate import recalibrate, site_cases
        from apatite.study.recalibrate_files import write_recalibration
        from apatite.study.site_fit import RecalibrateConfig

        # Found now, not after every case was predicted.
        if self.out.exists():
            raise DataError("the folder exists already", where=str(self.out), fix="name a new one with -o")
        prepared = Prepared.open(self.data)
        model = open_model(self.model, self.model.name)
        model.refuse_other_labels(prepared)
        cases = site_cases(prepared, self.split)
        config = RecalibrateConfig(objective=self.objective, keeps_threshold=self.keep_threshold)
        found = recalibrate(
            model.predictor, model.calibration, prepared.manifest, cases, config, model_digest=model.digest, watch=bar
        )
        made = write_recalibration(found, package_of(self.model), prepared, self.out, bar)
        RunFolder(path=self.out).log_look(self.split, "recalibrate", model.digest)
        return Outcome(
            values={"package": str(made.package), "report": str(made.report), **made.values},
            lines=[*made.lines, f"recalibrated model: {made.package}", f"report: {made.report}"],
        )
