"""Pictures of a prepared folder on which a person checks a batch: the sum of all heads, sheets of all, and the flow.

    superposition.png    all registered scans as bone or no bone, summed
    sheet-01.png, …      200 scans on each, flagged ones first, then the least alike their template
    flow.svg, flow.html  how many there were, how many are left, and why the others are not

They show patients and stay with the data.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apatite.core.commit import commit_bytes, commit_text
from apatite.core.errors import DataError
from apatite.core.volume import Volume
from apatite.core.watch import Watch, unwatched
from apatite.ct.boxes import BOXES
from apatite.data.prepare_join import LOOKS_FOLDER
from apatite.data.prepare_place import BOX
from apatite.data.prepare_quality import from_grey
from apatite.io.strict_json import parse_json
from apatite.report.flow import Flow, Stage, flow_figure, flow_table
from apatite.report.html import Section, render_report
from apatite.report.superposition import contact_sheets, superpose, superposition_figure, thumbnail

INDEXED = ("set aside", "refused")
"""Verdicts of `apatite index` in rows.csv; the others are of `apatite prepare`."""


@dataclass(frozen=True, kw_only=True)
class QualityPictures:
    """What was drawn.

    Attributes:
        files: The pictures and the page.
        look_at: Cases that a person should look at.
        flow: From how many series to how many cases.
    """

    files: tuple[Path, ...]
    look_at: tuple[str, ...]
    flow: Flow


def draw_quality(prepared: Path, out: Path, watch: Watch = unwatched) -> QualityPictures:
    """Draw the pictures of a prepared folder.

    Args:
        prepared: From `prepare`, with regions that were found by registration.
        out: Where the pictures go; older ones of the same name are replaced.
        watch: Shows progress.

    Raises:
        DataError: nothing in it was registered (`NO_INPUT`).
        StorageError: as `core.commit.committed`.
    """
    rows = _table(prepared / "rows.csv")
    judged = {row["case_id"]: row for row in _table(prepared / "quality.csv")}
    if not judged:
        raise DataError(
            "holds no case whose region was found by registration",
            where=str(prepared),
            fix="prepare whole heads with --template or --localise",
            code="NO_INPUT",
        )
    centre = BOXES[BOX].centre_mni_mm
    files = []
    summed = superpose(volume for _, volume in watch(_looks(prepared, judged), "summing", len(judged)))
    picture = superposition_figure(summed, centre, caption=f"{len(judged)} registered scans, bone above 100 HU.")
    files.append(_written(out / "superposition.png", picture.content))
    thumbnails = [
        thumbnail(
            volume,
            centre,
            case_id=case_id,
            similarity=float(judged[case_id]["similarity"] or "nan"),
            flags=tuple(judged[case_id]["flags"].split()),
        )
        for case_id, volume in watch(_looks(prepared, judged), "drawing sheets", len(judged))
    ]
    for number, sheet in enumerate(contact_sheets(thumbnails), start=1):
        files.append(_written(out / f"sheet-{number:02d}.png", sheet.content))
    flow = _flow(rows)
    files.append(_written(out / "flow.svg", flow_figure(flow).content))
    page = out / "flow.html"
    commit_text(page, _page(flow, parse_json((prepared / "prepared.json").read_bytes())))
    look_at = tuple(case_id for case_id, row in judged.items() if row["look"] == "yes")
    return QualityPictures(files=(*files, page), look_at=look_at, flow=flow)


def _flow(rows: list[dict[str, str]]) -> Flow:
    """From every series of the manifest to the prepared cases."""
    left = {
        "usable, of the series to score": Counter(_code(row) for row in rows if row["verdict"] in INDEXED),
        "kept by the reviewers": Counter("REJECTED" for row in rows if row["verdict"] == "rejected"),
        "in a split": Counter("no split wants it" for row in rows if row["verdict"] == "unused"),
        "prepared": Counter(_code(row) for row in rows if row["verdict"] == "failed"),
    }
    stages = [Stage(name=name, left_out=dict(counts)) for name, counts in left.items()]
    return Flow(unit="series", begin=len(rows), begin_name="in the manifest", stages=stages)


def _code(row: dict[str, str]) -> str:
    return row["code"] or "INTERNAL"


def _page(flow: Flow, about: dict[str, Any]) -> str:
    section = Section(title="Kept and left out", tables=[flow_table(flow)], figures=[flow_figure(flow)])
    made_of = {"manifest": about["manifest_sha256"], "prepared by": about["environment"]["packages"]["apatite"]}
    return render_report("From scans to cases", [section], made_of, domains=about["domains"])


def _looks(prepared: Path, judged: dict[str, Any]) -> Iterator[tuple[str, Volume]]:
    for case_id in judged:
        yield case_id, from_grey(np.load(prepared / LOOKS_FOLDER / f"{case_id}.npy", allow_pickle=False))


def _table(path: Path) -> list[dict[str, str]]:
    """A table of the prepared folder; empty where it has none."""
    if not path.exists():
        return []
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def _written(path: Path, content: bytes) -> Path:
    commit_bytes(path, content)
    return path
