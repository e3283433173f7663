"""The verb `index`: one manifest from DICOM, images, nnU-Net raw, a decathlon list, BIDS or a table, split by patient.

Published data sets come with their division, which is kept. A DICOM tree is judged as well: which series are head CTs,
which one of each study is scored, and why not the others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, InputPath, OutputPath
from apatite.core.errors import EXIT_DATA, EXIT_OK, EXIT_PARTIAL, ConfigError

if TYPE_CHECKING:
    from apatite.io.dicom.intake import Intake
    from apatite.io.manifest import Manifest
    from apatite.io.splits import SplitConfig


@dataclass(frozen=True, kw_only=True)
class Index(CommonFlags):
    """List all cases in one manifest, check every file, and split by patient.

    Example: apatite index -i scans/ -o study/manifest.csv --labelled 40
    """

    input: InputPath
    """A folder of DICOM files or images, `images/` beside `labels/`, nnU-Net raw, a decathlon JSON, BIDS, a CSV."""
    out: OutputPath
    """The manifest to write (.csv)."""
    layout: Literal[
        "auto",
        "dicom",
        "folder",
        "nnunet",
        "decathlon",
        "bids",
        "csv",
        "synapse",
        "btcv",
        "acdc",
        "msd_lung",
        "msd_brats",
    ] = "auto"
    """How the input is laid out. The last five are published data sets, with the splits that papers use."""
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
    patient_key: Path | None = None
    """DICOM: the secret behind patient names, for the same names as elsewhere. Without it one is made beside -o."""
    all_series: FlagCreatePairsOff[bool] = False
    """DICOM: use every measurable series of a study, for pre-training, instead of the one to score."""
    channel: str = ""
    """Of images with several channels (msd_brats), the one to use, such as FLAIR; it is written beside -o."""
    to_nnunet: Path | None = None
    """Also write the labelled cases as nnU-Net raw (symbolic links) to this folder."""

    def run(self) -> Outcome:
        """Index, survey, split, check for leaks, write."""
        from apatite.io.layouts import DICOM, PUBLISHED, detect_layout
        from apatite.io.splits import SplitConfig

        if self.out.suffix != ".csv":
            raise ConfigError(f"the manifest {self.out.name!r} does not end in .csv", fix="name it so with -o")
        if self.layout in PUBLISHED:
            self._check_published()
        config = SplitConfig(
            development=self.development,
            test=self.test,
            labelled_fraction=self.labelled_fraction,
            labelled=self.labelled,
            folds=self.folds,
            fold=self.fold,
            keep_splits=self.keep_splits or self.layout in PUBLISHED,
            seed=self.seed,
        )
        is_dicom = self.layout == DICOM or (
            self.layout == "auto" and self.input.is_dir() and detect_layout(self.input) == DICOM
        )
        return self._run_dicom(config) if is_dicom else self._run_images(config)

    def _run_images(self, config: "SplitConfig") -> Outcome:
        from dataclasses import replace

        from apatite.io.layouts.published import PUBLISHED, refuse_damaged
        from apatite.io.leaks import refuse_leaks
        from apatite.io.manifest import write_manifest
        from apatite.io.nnunet_raw import write_nnunet_raw
        from apatite.io.splits import split_manifest
        from apatite.io.survey import completed, survey

        if self.patient_key is not None or self.all_series:
            raise ConfigError("that is for DICOM", fix="leave out --patient-key and --all-series")
        listed, notes = self._read_images()
        listed = replace(listed, label_names=listed.label_names | _parse_names(self.label_names))
        if self.domain:
            listed = replace(listed, cases=tuple(replace(case, domain=self.domain) for case in listed.cases))
        found = survey(listed, bar)
        if self.layout in PUBLISHED:
            refuse_damaged(found.failures, set(found.label_values) - set(listed.label_names), str(self.input))
        manifest = split_manifest(completed(listed, found), config)
        refuse_leaks(manifest.cases, found.digests)
        write_manifest(self.out, manifest)
        exported = write_nnunet_raw(manifest, self.to_nnunet) if self.to_nnunet is not None else {}
        values, lines = _summary(self.out, manifest)
        values |= {"failures": found.failures, "nnunet": exported, "notes": notes}
        lines += notes
        lines += [f"ignored column: {name}" for name in manifest.ignored_columns]
        lines += [f"left out {bad['case_id']}: {bad['what']} ({bad['code']})" for bad in found.failures]
        lines.append(_next(self.out))
        return Outcome(values=values, lines=lines, exit_code=EXIT_PARTIAL if found.failures else EXIT_OK)

    def _read_images(self) -> tuple["Manifest", list[Any]]:
        """What the input lists, and what had to be written anew to read it; one line for each."""
        from apatite.io.channels import with_channel
        from apatite.io.layouts import PUBLISHED, read_layout
        from apatite.io.voxel_sizes import sizes_folder, with_pixdim_sizes

        listed, lines = read_layout(self.input, self.layout, self.patient_pattern), list[Any]()
        published = PUBLISHED.get(self.layout)
        if published is not None and published.channels:
            listed = with_channel(listed, published.channels, self.channel, self.out, bar)
            lines.append(f"the images are the channel {self.channel} alone")
        elif self.channel:
            raise ConfigError("the images of this layout have one channel", fix="leave out --channel")
        if published is not None and published.trusts_pixdim:
            if self.out.resolve().is_relative_to(self.input.resolve()):
                raise ConfigError(
                    "what is written anew would lie among the patients", fix="name another folder with -o"
                )
            listed, count = with_pixdim_sizes(listed, self.out, bar)
            if count:
                lines.append(f"{count} files state two voxel sizes; those of pixdim: {sizes_folder(self.out)}")
        return listed, lines

    def _check_published(self) -> None:
        """A published data set has its division; what would change it is refused before anything is read."""
        plain = Index(input=self.input, out=self.out)
        for name in ("development", "test", "labelled_fraction", "labelled", "folds", "fold", "seed", "label_names"):
            if getattr(self, name) != getattr(plain, name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} would change what {self.layout} fixes",
                    fix="leave it out; `finetune num_labelled=` takes fewer labels, and --layout folder other splits",
                )

    def _run_dicom(self, config: "SplitConfig") -> Outcome:
        from apatite.io.dicom.cases import digests_of, key_path, to_manifest, write_parts
        from apatite.io.dicom.child import Decoder
        from apatite.io.dicom.intake import judge
        from apatite.io.dicom.opaque import read_or_make_key
        from apatite.io.dicom.tree import read_tree
        from apatite.io.leaks import refuse_leaks
        from apatite.io.manifest import write_manifest
        from apatite.io.splits import split_manifest

        self._check_dicom()
        with Decoder() as decoder:
            tree = read_tree(self.input, decoder, bar)
            key = read_or_make_key(self.patient_key or key_path(self.out), is_made=self.patient_key is None)
            intake = judge(tree, key, decoder, keeps_all=self.all_series)
        manifest = to_manifest(intake, self.out, self.domain)
        is_usable = any(not case.verdict for case in manifest.cases)
        if is_usable:
            manifest = split_manifest(manifest, config)
            refuse_leaks(manifest.cases, digests_of(intake))
        write_parts(intake, self.input, self.out, bar)
        write_manifest(self.out, manifest)
        values, lines = _summary(self.out, manifest)
        dicom_values, dicom_lines = _dicom_summary(self.out, intake)
        is_partial = any(row.verdict == "refused" for row in intake.files)
        return Outcome(
            values=values | dicom_values,
            lines=[*dicom_lines, *lines, _next(self.out) if is_usable else f"wrote {self.out}; no series can be used"],
            exit_code=EXIT_DATA if not is_usable else EXIT_PARTIAL if is_partial else EXIT_OK,
        )

    def _check_dicom(self) -> None:
        """Refuse what means nothing for DICOM, before anything is read."""
        for flag, is_given in (
            ("--patient-pattern", bool(self.patient_pattern)),
            ("--label-names", bool(self.label_names)),
            ("--to-nnunet", self.to_nnunet is not None),
            ("--keep-splits", self.keep_splits),
            ("--channel", bool(self.channel)),
        ):
            if is_given:
                raise ConfigError(f"{flag} has no meaning for a DICOM tree", fix="leave it out")
        if self.out.resolve().is_relative_to(self.input.resolve()):
            raise ConfigError(
                "the manifest would lie among the files that are indexed", fix="name another folder with -o"
            )


def _summary(out: Path, manifest: "Manifest") -> tuple[dict[str, Any], list[Any]]:
    from apatite.io.case import SPLITS

    counts = {split: len(manifest.of_split(split)) for split in SPLITS if split}
    values: dict[str, Any] = {
        "manifest": str(out),
        "cases": len(manifest.cases),
        "patients": len({case.patient_id for case in manifest.cases}),
        "splits": counts,
        "label_names": manifest.label_names,
        "ignored_columns": manifest.ignored_columns,
    }
    lines = [f"{values['cases']} cases of {values['patients']} patients"]
    return values, lines + [f"  {split:<12} {count:>6}" for split, count in counts.items()]


def _dicom_summary(out: Path, intake: "Intake") -> tuple[dict[str, Any], list[Any]]:
    """What became of files and series: one row per reason."""
    from apatite.core.reasons import REASONS
    from apatite.io.dicom.cases import choices_path, counts_by_code, flag_counts, inputs_path

    reasons, flags = counts_by_code(intake), flag_counts(intake)
    values = {
        "inputs": str(inputs_path(out)),
        "choices": str(choices_path(out)),
        "files": len(intake.files),
        "series": len(intake.series),
        "studies": len({one.study for one in intake.series}),
        "chosen": len(intake.choices),
        "reasons": reasons,
        "flags": flags,
    }
    lines: list[Any] = [
        f"{values['files']} files, {values['series']} series of {values['studies']} studies: "
        f"{sum(not one.verdict for one in intake.series)} series to use"
    ]
    lines.append(f"  {'verdict':<10} {'code':<18} {'series':>7} {'files':>8}")
    for row in reasons:
        sentence = REASONS[row["code"]][1] if row["code"] else "may be used"
        head = f"  {row['verdict'] or 'usable':<10} {row['code'] or '-':<18} {row['series']:>7} {row['files']:>8}"
        lines.append(f"{head}  {sentence}")
    lines += [f"  {count:>4} of the usable: {code}, {REASONS[code][1]}" for code, count in flags.items()]
    lines.append(f"one row per file in {values['inputs']}, the reason of every choice in {values['choices']}")
    return values, lines


def _next(out: Path) -> str:
    return f"wrote {out}; next: apatite prepare -i {out} -o PREPARED"


def _parse_names(assignments: tuple[str, ...]) -> dict[int, str]:
    names = {}
    for assignment in assignments:
        value, equals, name = assignment.partition("=")
        if not equals or not value.isdigit() or not name:
            raise ConfigError(f"{assignment!r} names no label", fix="write value=name, for example 1=calcium")
        names[int(value)] = name
    return names
