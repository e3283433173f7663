"""Judged series as a manifest: one case per series, one listing per case, one row per file of the input.

Of a header's texts only vendor, model and kernel are written, cut to printable characters; never a description, a date
or a name. Paths of files stand in the listings and in `<manifest>.inputs.csv`, and may hold what a site put into them.
"""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json, commit_text
from apatite.core.watch import Watch, unwatched
from apatite.io.case import Case
from apatite.io.dicom.choice import thickness_of
from apatite.io.dicom.header import SIMULATED
from apatite.io.dicom.intake import FileRow, Intake, Judged
from apatite.io.dicom.listing import SUFFIX, images_digest, write_listing
from apatite.io.dicom.opaque import safe_uid
from apatite.io.manifest import Manifest, plain_cell

_MAX_TEXT = 64
_SEXES = ("F", "M", "O")


def listing_folder(manifest: Path) -> Path:
    """Where the listings of a manifest lie."""
    return manifest.with_name(f"{manifest.stem}.series")


def inputs_path(manifest: Path) -> Path:
    """The table of the files that were indexed."""
    return manifest.with_name(f"{manifest.stem}.inputs.csv")


def choices_path(manifest: Path) -> Path:
    """Why which series of each study was chosen."""
    return manifest.with_name(f"{manifest.stem}.choices.json")


def key_path(manifest: Path) -> Path:
    """The patient key that a first indexing makes."""
    return manifest.with_name(f"{manifest.stem}.patient-key")


def to_manifest(intake: Intake, path: Path, domain: str = "") -> Manifest:
    """The cases of an intake, seen from where the manifest will lie; nothing is written.

    Args:
        intake: What was judged.
        path: The manifest.
        domain: Of all cases; empty takes what this package simulated for phantoms, and everything else for real.
    """
    folder = listing_folder(path).name
    cases = tuple(_case(one, f"{folder}/{one.case_id}{SUFFIX}", domain) for one in intake.series)
    return Manifest(root=path.parent, cases=cases, label_names={})


def digests_of(intake: Intake) -> dict[str, str]:
    """For `io.leaks`: equal where two usable cases are made of the same images."""
    return {one.case_id: images_digest(one.series.headers) for one in intake.series if not one.verdict}


def write_parts(intake: Intake, root: Path, path: Path, watch: Watch = unwatched) -> None:
    """Write what belongs to a manifest: the listings, the table of inputs, the reasons of each choice.

    Args:
        intake: What was judged.
        root: The folder that was indexed; the paths of the table start there.
        path: The manifest, which is written last, by `write_manifest`.
        watch: Shows the progress.

    Raises:
        StorageError: as `core.commit.committed`.
    """
    for one in watch(intake.series, "writing listings"):
        write_listing(listing_folder(path) / f"{one.case_id}{SUFFIX}", one.series)
    commit_text(inputs_path(path), _inputs_csv(intake.files, root))
    choices = {
        study: {"case_id": choice.case_id, "why": choice.why, "others": dict(choice.others)}
        for study, choice in sorted(intake.choices.items())
    }
    commit_json(choices_path(path), choices)


def counts_by_code(intake: Intake) -> list[dict[str, Any]]:
    """For a summary: verdict and code, with the number of series and files that ended there; usable ones first."""
    series = Counter((one.verdict, one.codes[0] if one.verdict else "") for one in intake.series)
    files = Counter((row.verdict, row.code) for row in intake.files)
    order = {"": 0, "set aside": 1, "refused": 2}
    keys = sorted(series.keys() | files.keys(), key=lambda key: (order[key[0]], key[1]))
    return [
        {"verdict": verdict, "code": code, "series": series[verdict, code], "files": files[verdict, code]}
        for verdict, code in keys
    ]


def flag_counts(intake: Intake) -> dict[str, int]:
    """How many usable series have each flag."""
    found = Counter(code for one in intake.series if not one.verdict for code in one.codes)
    return dict(sorted(found.items()))


def _is_simulated(one: Judged) -> bool:
    return all(header.vendor.endswith(SIMULATED) for header in one.series.headers)


def _case(one: Judged, image: str, domain: str) -> Case:
    first, stack = one.series.headers[0], one.series.stack
    stated_mm = _positive(first.thickness_mm)
    return Case(
        case_id=one.case_id,
        patient_id=one.patient_id,
        image=image,
        split="unused" if one.verdict else "",
        domain=domain or ("phantom" if _is_simulated(one) else "real"),
        vendor=_text(first.vendor),
        scanner_model=_text(first.scanner_model),
        kernel=_text(first.kernel),
        kernel_class=one.kernel_class,
        slice_thickness_mm=stated_mm if stack is None else thickness_of(stack),
        age=first.age_years,
        sex=first.sex if first.sex in _SEXES else "",
        series_uid=safe_uid(first.series_uid),
        study=one.study,
        verdict=one.verdict,
        codes=one.codes,
        kvp=_positive(first.kvp),
    )


def _text(value: str) -> str:
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return plain[:_MAX_TEXT].strip()


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _inputs_csv(rows: Iterable[FileRow], root: Path) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("path", "case_id", "verdict", "code"))
    for row in rows:
        # A name may hold bytes that are no UTF-8; they are written as escapes.
        name = os.fsencode(row.path.relative_to(root)).decode("utf-8", "backslashreplace")
        writer.writerow([plain_cell(cell) for cell in (name, row.case_id, row.verdict, row.code)])
    return out.getvalue()
