"""What a record says besides outcomes: how many cases, which curve, which digests, which machine."""

from collections.abc import Mapping, Sequence

import numpy as np

from apatite.core.types import Edges
from apatite.engine.journal import Journal
from apatite.io.run_folder import RunFolder, environment
from apatite.io.store import Prepared
from apatite.study.sweep.judging import Titled
from apatite.study.sweep.record import RAW

Curve = tuple[tuple[int, float], ...]
_OF_A_STEP = ("step", "lr", "gradient_norm")


def counted(prepared: Prepared, rows: Sequence[int], *, labelled: bool) -> dict[str, int]:
    """Series and patients among some rows of a prepared folder; with labels also the series that hold one."""
    found = {"series": len(rows), "patients": len({prepared.cases[row].patient_id for row in rows})}
    return found | ({"positive": sum(_has_label(prepared, row) for row in rows)} if labelled else {})


def counted_outcomes(outcomes: Mapping[str, Titled]) -> dict[str, dict[str, int]]:
    """The same for the splits that were judged."""
    found = {}
    for split, titles in outcomes.items():
        rows = titles[RAW]
        found[split] = {
            "series": len({row.case_id for row in rows}),
            "patients": len({row.patient_id for row in rows}),
            "positive": len({row.case_id for row in rows if row.is_positive}),
        }
    return found


def domains_of(prepared: Prepared, *splits: str) -> list[str]:
    """Where the cases of some splits come from."""
    return sorted({case.domain for case in prepared.manifest.of_split(*splits)})


def curve_of(run: RunFolder) -> Curve:
    """Step and Dice on development of every look that a fine-tuning run had."""
    rows = Journal(run.metrics).rows()
    return tuple(
        (int(row["step"]) + 1, float(row["development_dice"]))
        for row in rows
        if row.get("development_dice") is not None
    )


def health_of(run: RunFolder) -> dict[str, float]:
    """The numbers of the last row of a pre-training's journal, at which the run was looked at: terms, errors, ranks."""
    rows = Journal(run.metrics).rows()
    last = rows[-1] if rows else {}
    return {key: float(value) for key, value in last.items() if key not in _OF_A_STEP and value is not None}


def patch_mm(patch: Edges, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """Edges of a patch in mm along i (width), j (height), k (depth), as spacings are given."""
    depth, height, width = patch
    i_mm, j_mm, k_mm = spacing_mm
    return width * i_mm, height * j_mm, depth * k_mm


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that a run records."""
    found = environment()
    return {"python": found["python"], **found["packages"]}


def _has_label(prepared: Prepared, row: int) -> bool:
    if prepared.kind == "region":
        return bool(prepared.fractions[row].any())
    labels = prepared.volume(prepared.cases[row].case_id).labels
    return labels is not None and bool(np.asarray(labels[:]).any())
