"""The verb `phantom`: make a cohort whose truth is known."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, OutputPath
from apatite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Phantom(CommonFlags):
    """Make scans of the skull base whose calcium is known exactly, with a manifest; or whole heads as DICOM.

    Example: apatite phantom -o cohort --patients 150 --preset small --seed 0 --workers 2
    """

    out: OutputPath
    """New or empty folder."""
    patients: int = 150
    """How many patients; each has one to six series."""
    preset: Literal["small", "paper"] = "small"
    """Size of the region the cohort is made for."""
    seed: int = 0
    """Another seed, another cohort; the same seed, the same bytes."""
    first: int = 0
    """Number of the first patient, to extend a cohort."""
    workers: int = 1
    """Processes; the bytes do not depend on it."""
    prevalence: Literal["trial", "screening"] = "trial"
    """How much calcium: like a stroke trial (11 % without) or a screening cohort (40 % without)."""
    labels: Literal["perfect", "reader"] = "perfect"
    """Label files of a reader who knows what is plaque, or of one who errs as people do; the scans are the same bytes.
    The truth lies beside them either way."""
    check: FlagCreatePairsOff[bool] = False
    """Also measure whether the cohort is hard and fair: checks.json and phantom_report.html."""

    dicom: FlagCreatePairsOff[bool] = False
    """Write whole heads as DICOM series with truth.csv instead, to try index, prepare and quantify on."""

    def run(self) -> Outcome:
        """Make the cohort, and check it when asked."""
        return self._heads() if self.dicom else self._regions()

    def _heads(self) -> Outcome:
        """Whole heads as DICOM."""
        from apatite.phantom.cohort import CohortConfig
        from apatite.phantom.head import VERSION
        from apatite.phantom.head_cohort import write_head_cohort

        if self.check:
            raise ConfigError("--check measures a cohort of regions, not DICOM heads", fix="leave one of the two out")
        if self.labels != "perfect":
            raise ConfigError("--labels is for a cohort of regions, not DICOM heads", fix="leave one of the two out")
        config = CohortConfig(
            patients=self.patients, preset=self.preset, seed=self.seed, first=self.first, prevalence=self.prevalence
        )
        rows = write_head_cohort(config, self.out, self.workers, bar)
        values = {
            "version": VERSION,
            "folder": str(self.out),
            "dicom": str(self.out / "dicom"),
            "truth": str(self.out / "truth.csv"),
            "patients": self.patients,
            "series": len(rows),
        }
        return Outcome(
            values=values,
            lines=[
                f"{len(rows)} DICOM series of {self.patients} patients ({VERSION})",
                f"dicom     {values['dicom']}",
                f"truth     {values['truth']}",
            ],
        )

    def _regions(self) -> Outcome:
        """The cohort of regions."""
        from apatite.phantom.cohort import VERSION, CohortConfig
        from apatite.phantom.folder import write_cohort

        config = CohortConfig(
            patients=self.patients, preset=self.preset, seed=self.seed, first=self.first, prevalence=self.prevalence
        )
        manifest = write_cohort(config, self.out, self.workers, bar, self.labels)
        values = {
            "version": VERSION,
            "folder": str(self.out),
            "manifest": str(self.out / "manifest.csv"),
            "patients": self.patients,
            "cases": len(manifest.cases),
            "labels": self.labels,
        }
        lines = [
            f"{len(manifest.cases)} series of {self.patients} patients ({VERSION}), {self.labels} labels",
            f"manifest  {values['manifest']}",
        ]
        if self.check:
            from apatite.report.phantom_report import write_phantom_report

            report = write_phantom_report(config, self.out, bar)
            values |= {"checks": str(self.out / "checks.json"), "report": str(report)}
            lines.append(f"report    {report}")
        return Outcome(values=values, lines=lines)
