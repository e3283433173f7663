"""From a tree of files to judged series: every file ends in one row, every series in one verdict with its codes.

The order: images are grouped and laid out, what is no plain head CT is set aside, blocks of one scan are joined, and of
each study one series is chosen.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from apatite.core.reasons import REASONS
from apatite.io.dicom.blocks import join_blocks
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.choice import Candidate, Choice, choose_series
from apatite.io.dicom.header import Refusal
from apatite.io.dicom.kernels import kernel_class
from apatite.io.dicom.opaque import PatientKey, series_case_id
from apatite.io.dicom.reading import is_rest_of, lay_out_read, may_belong
from apatite.io.dicom.series import Series, group_images, lay_out
from apatite.io.dicom.tree import Tree
from apatite.io.dicom.triage import set_aside_code

SET_ASIDE, REFUSED = "set aside", "refused"
_BETTER = ("", SET_ASIDE, REFUSED)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """One series and what became of it.

    Attributes:
        case_id, patient_id, study: Opaque names.
        series: Its images.
        verdict: Empty where it is the one to score, else `set aside` or `refused`.
        codes: The reason first where there is one, then the flags.
        kernel_class: `soft`, `bone`, or empty.
    """

    case_id: str
    patient_id: str
    study: str
    series: Series
    verdict: str
    codes: tuple[str, ...]
    kernel_class: str


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """What became of one file.

    Attributes:
        path: The file.
        case_id: Of the series it belongs to; empty where it belongs to none.
        verdict: As of a series.
        code: Why; empty where the file is a slice of a series to score.
    """

    path: Path
    case_id: str
    verdict: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What became of a tree.

    Attributes:
        series: Every series, in the order of their names.
        files: Every file, in the order of the tree.
        choices: The choice of each study that has a series to score.
    """

    series: tuple[Judged, ...]
    files: tuple[FileRow, ...]
    choices: Mapping[str, Choice]


def judge(tree: Tree, key: PatientKey, decoder: Decoder, *, keeps_all: bool = False) -> Intake:
    """Judge everything in a tree.

    Args:
        tree: What was read.
        key: For the names of patients and studies.
        decoder: Decodes images that share a position, and nothing else: they are copies of each other, or not.
        keeps_all: Every measurable series of a study may be used, as pre-training wants, not only the one to score.
    """
    judged: list[Judged] = []
    laid_out: list[Series] = []
    for images in group_images(tree.headers):
        if code := set_aside_code(images):
            judged.append(_judged(lay_out(images), key, SET_ASIDE, code))
        else:
            laid_out.append(lay_out_read(images, decoder))
    measurable: dict[str, list[Series]] = defaultdict(list)
    refused = [series for series in laid_out if series.refusal is not None]
    for series in laid_out:
        if refusal := series.refusal or _lost(series, tree.refusals, refused):
            judged.append(_judged(series, key, REFUSED, refusal.code))
        else:
            measurable[key.study(series.headers[0])].append(series)
    choices: dict[str, Choice] = {}
    for study, of_study in measurable.items():
        candidates = [_judged(series, key, "", "") for series in join_blocks(of_study)]
        choices[study] = choose_series([_candidate(one) for one in candidates])
        judged += candidates if keeps_all else [_settled(one, choices[study]) for one in candidates]
    judged.sort(key=lambda one: one.case_id)
    return Intake(series=tuple(judged), files=_file_rows(tree, judged), choices=choices)


def _lost(series: Series, of_files: Iterable[Refusal], refused: Iterable[Series]) -> Refusal | None:
    """Why a series may lack slices, without which it would be measured as if it were whole; `None` where it may not."""
    lost = [refusal for refusal in of_files if may_belong(refusal, series)]
    lost += [rest.refusal for rest in refused if rest.refusal is not None and is_rest_of(rest, series)]
    return lost[0] if lost else None


def _judged(series: Series, key: PatientKey, verdict: str, code: str) -> Judged:
    first = series.headers[0]
    kind = kernel_class(first.vendor, first.kernel)
    flags = series.flags if verdict else (*series.flags, *_kernel_flag(kind))
    return Judged(
        case_id=series_case_id(series.headers),
        patient_id=key.patient_id(first),
        study=key.study(first),
        series=series,
        verdict=verdict,
        codes=tuple(dict.fromkeys((code, *flags) if code else flags)),
        kernel_class=kind,
    )


def _kernel_flag(kind: str) -> tuple[str, ...]:
    return {"soft": (), "bone": ("KERNEL_BONE",)}.get(kind, ("KERNEL_UNKNOWN",))


def _candidate(one: Judged) -> Candidate:
    return Candidate(case_id=one.case_id, series=one.series, kernel_class=one.kernel_class)


def _settled(one: Judged, choice: Choice) -> Judged:
    if one.case_id == choice.case_id:
        return one
    return replace(one, verdict=SET_ASIDE, codes=("NOT_BEST", *one.codes))


def _file_rows(tree: Tree, judged: Iterable[Judged]) -> tuple[FileRow, ...]:
    """One row per file; a file with images of several series has the row of the best of them."""
    rows: dict[Path, FileRow] = {}

    def note(row: FileRow) -> None:
        known = rows.get(row.path)
        if known is None or _BETTER.index(row.verdict) < _BETTER.index(known.verdict):
            rows[row.path] = row

    for refusal in tree.refusals:
        note(FileRow(path=refusal.path, case_id="", verdict=REASONS[refusal.code][0], code=refusal.code))
    for one in judged:
        code = one.codes[0] if one.verdict else ""
        for header in one.series.headers:
            note(FileRow(path=header.path, case_id=one.case_id, verdict=one.verdict, code=code))
        for left in one.series.left_out:
            kind = REASONS[left.code][0]
            note(FileRow(path=left.path, case_id=one.case_id, verdict=kind, code=left.code))
    # A file that nobody accounted for would vanish here; it is shown instead.
    lost = (FileRow(path=path, case_id="", verdict=REFUSED, code="INTERNAL") for path in tree.files)
    return tuple(rows.get(row.path, row) for row in lost)
