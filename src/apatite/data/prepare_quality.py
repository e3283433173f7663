"""Figures of every localised scan, from which reviewers choose what to look at: quality.csv in the prepared folder.

They come with the case as flags and do not decide on it.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any, get_args

from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.ct.boxes import Box
from apatite.ct.completeness import Completeness
from apatite.ct.confidence import JUDGED, on_judged
from apatite.ct.pose import HeadPose
from apatite.ct.quality import Quality, quality
from apatite.ct.template import Template
from apatite.ct.triage import TriageRow, triage


def quality_of(scan: Scan, pose: HeadPose, box: Box, template: Template) -> Quality:
    """The figures of one scan; on a grid of 2 mm, whatever the template's own.

    Args:
        scan: Original slices.
        pose: How the head lies.
        box: The artery's box, for what is judged near it.
        template: What the scan was registered to.
    """
    return quality(scan, pose, Volume(voxels=on_judged(template.volume), grid=JUDGED), box)


def quality_csv(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all localised cases: figures, figures of trust in the registration, and whom to look at.

    Args:
        found: By case, as `prepare_piece` keeps it.
    """
    looked_at = set(triage([_triage_row(case_id, about) for case_id, about in found.items()]))
    figures = _names(about["quality"] for about in found.values())
    trust = _names(about["confidence"] for about in found.values())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["case_id", "template", "look", "flags", *figures, *trust])
    for case_id, about in found.items():
        look = "yes" if case_id in looked_at or about["flags"] else "no"
        cells = [about["quality"].get(name) for name in figures] + [about["confidence"].get(name) for name in trust]
        first = [case_id, about["template"], look, " ".join(about["flags"])]
        writer.writerow([*first, *("" if cell is None else cell for cell in cells)])
    return out.getvalue()


def _names(rows: Any) -> list[str]:
    """Every figure that a row has, in the order of the rows; all flags together have a column of their own."""
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name != "flags"]


def _triage_row(case_id: str, about: Mapping[str, Any]) -> TriageRow:
    figures = about["quality"]
    group = next(name for name in get_args(Completeness) if name == figures["completeness"])
    similar = float("nan") if figures["similarity"] is None else figures["similarity"]
    return TriageRow(case_id=case_id, template=about["template"], completeness=group, similarity=similar)
