"""Figures of every localised scan, from which reviewers choose what to look at: quality.csv in the prepared folder.

They come with the case as flags and do not decide on it.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8

from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.ct.boxes import Box
from apatite.ct.completeness import Completeness, register
from apatite.ct.confidence import JUDGED, on_judged
from apatite.ct.pose import HeadPose
from apatite.ct.quality import Quality
from apatite.ct.quality import quality_of as judge_registered
from apatite.ct.template import Template
from apatite.ct.triage import TriageRow, triage

GREY_FROM_HU, GREY_STEP_HU = -200.0, 5.0
"""A registered scan is kept in 256 grey levels: enough to tell skin, brain and bone apart, at a third of a megabyte."""


def quality_of(scan: Scan, pose: HeadPose, box: Box, template: Template) -> tuple[Quality, UInt8[np.ndarray, "d h w"]]:
    """The figures of one scan on a grid of 2 mm, whatever the template's own; and what it looks like there.

    Args:
        scan: Original slices.
        pose: How the head lies.
        box: The artery's box, for what is judged near it.
        template: What the scan was registered to.
    """
    registered = register(scan, pose, JUDGED)
    found = judge_registered(scan, pose, registered, Volume(voxels=on_judged(template.volume), grid=JUDGED), box)
    return found, to_grey(registered)


def to_grey(registered: Volume) -> UInt8[np.ndarray, "d h w"]:
    """HU as grey levels; multiples of `GREY_STEP_HU` survive exactly."""
    return np.clip(np.floor((registered.voxels - GREY_FROM_HU) / GREY_STEP_HU), 0, 255).astype(np.uint8)


def from_grey(grey: UInt8[np.ndarray, "d h w"]) -> Volume:
    """The registered scan again, to within a grey level."""
    voxels = (grey * np.float32(GREY_STEP_HU) + np.float32(GREY_FROM_HU)).astype(np.float32)
    return Volume(voxels=voxels, grid=JUDGED)


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
