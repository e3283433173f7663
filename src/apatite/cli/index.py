"""The verb `index`: one manifest from a folder, nnU-Net raw, a decathlon list, BIDS or a table, split by patient."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, InputPath, OutputPath
from apatite.core.errors import EXIT_OK, EXIT_PARTIAL, ConfigError


@dataclass(frozen=True, kw_only=True)
class Index(CommonFlags):
    """List all cases in one manifest, check every file, and split by patient.

    Example: apatite index -i scans/ -o study/manifest.csv --labelled 40
    """

    input: InputPath
    """A folder of images, `images/` beside `labels/`, nnU-Net raw, a decathlon JSON, BIDS, or a CSV."""
    out: OutputPath
    """The manifest to write (.csv)."""
    layout: Literal["auto", "folder", "nnunet", "decathlon", "bids", "csv"] = "auto"
    """How the input is laid out."""
    patient_pattern: str = ""
    """Regular expression; its first group, searched in the file name, is the patient. Without it each image is one."""
    label_names: tuple[str, ...] = ()
    """Names of the label values, such as 1=calcium 2=bone."""
    domain: Literal["", "phantom", "real"] = ""
    """Set the domain of every case; empty keeps what the input says, or `real`."""
    development: float = 0.1
    """Fraction of the labelled patients for development."""
    test: float = 0.1
    """Fraction of the labelled patients for test."""
    labelled_fraction: float = 0.1
    """Fraction of the labelled training patients that is fine-tuned on, one series each."""
    labelled: int | None = None
    """That number of cases instead of a fraction."""
    folds: int = 0
    """Divide the patients outside test into so many folds; 0 for none."""
    fold: int = 0
    """The fold that is development when there are folds."""
    keep_splits: FlagCreatePairsOff[bool] = False
    """Keep the splits of the input; only choose the labelled cases among the training cases."""
    seed: int = 0
    """Seed of every draw."""
    to_nnunet: Path | None = None
    """Also write the labelled cases as nnU-Net raw (symbolic links) to this folder."""

    def run(self) -> Outcome:
        """Index, survey, split, check for leaks, write."""
        from dataclasses import replace

        from apatite.io.layouts import read_layout
        from apatite.io.leaks import refuse_leaks
        from apatite.io.manifest import SPLITS, write_manifest
        from apatite.io.nnunet_raw import write_nnunet_raw
        from apatite.io.splits import SplitConfig, split_manifest
        from apatite.io.survey import completed, survey

        if self.out.suffix != ".csv":
            raise ConfigError(f"the manifest {self.out.name!r} does not end in .csv", fix="name it so with -o")
        config = SplitConfig(
            development=self.development,
            test=self.test,
            labelled_fraction=self.labelled_fraction,
            labelled=self.labelled,
            folds=self.folds,
            fold=self.fold,
            keep_splits=self.keep_splits,
            seed=self.seed,
        )
        listed = read_layout(self.input, self.layout, self.patient_pattern)
        listed = replace(listed, label_names=listed.label_names | _parse_names(self.label_names))
        if self.domain:
            listed = replace(listed, cases=tuple(replace(case, domain=self.domain) for case in listed.cases))
        found = survey(listed, bar)
        manifest = split_manifest(completed(listed, found), config)
        refuse_leaks(manifest.cases, found.digests)
        write_manifest(self.out, manifest)
        exported = write_nnunet_raw(manifest, self.to_nnunet) if self.to_nnunet is not None else {}
        counts = {split: len(manifest.of_split(split)) for split in SPLITS if split}
        values = {
            "manifest": str(self.out),
            "cases": len(manifest.cases),
            "patients": len({case.patient_id for case in manifest.cases}),
            "splits": counts,
            "label_names": manifest.label_names,
            "ignored_columns": manifest.ignored_columns,
            "failures": found.failures,
            "nnunet": exported,
        }
        lines = [f"{values['cases']} cases of {values['patients']} patients"]
        lines += [f"  {split:<12} {count:>6}" for split, count in counts.items()]
        lines += [f"ignored column: {name}" for name in manifest.ignored_columns]
        lines += [f"left out {bad['case_id']}: {bad['what']} ({bad['code']})" for bad in found.failures]
        lines.append(f"wrote {self.out}; next: apatite prepare -i {self.out} -o PREPARED")
        return Outcome(values=values, lines=lines, exit_code=EXIT_PARTIAL if found.failures else EXIT_OK)


def _parse_names(assignments: tuple[str, ...]) -> dict[int, str]:
    names = {}
    for assignment in assignments:
        value, equals, name = assignment.partition("=")
        if not equals or not value.isdigit() or not name:
            raise ConfigError(f"{assignment!r} names no label", fix="write value=name, for example 1=calcium")
        names[int(value)] = name
    return names
