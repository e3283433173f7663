"""Which labelled cases a fine-tuning run learns from: all of its split, or a stated number of them.

A smaller number is a subset of a larger one under the same draw, so that a curve over the number of labels changes one
thing at a time.
"""

import numpy as np

from apatite.core.errors import DataError
from apatite.core.rng import generator
from apatite.io.hold_out import is_held_out, refuse_strangers
from apatite.io.store import Prepared
from apatite.segment.config import FinetuneConfig


def labelled_rows(prepared: Prepared, config: FinetuneConfig) -> list[int]:
    """The cases to learn from, ascending: those of the split `finetune` for which some label was looked for.

    Raises:
        ConfigError: a rule of `hold_out` fits no case.
        DataError: there are none (`EMPTY_SPLIT`), fewer than asked for (`TOO_FEW_CASES`), or none of them holds any
            label (`BAD_LABEL`).
    """
    refuse_strangers(prepared.cases, config.hold_out)
    rows = [
        row
        for row in prepared.case_index("finetune").tolist()
        if prepared.is_annotated[row].any() and not is_held_out(prepared.cases[row], config.hold_out)
    ]
    if not rows:
        raise DataError(
            "no labelled case is marked for fine-tuning",
            where=str(prepared.folder),
            fix="index with labels and a split, and hold fewer out",
            code="EMPTY_SPLIT",
        )
    positive = [row for row in rows if _has_label(prepared, row)]
    if not positive:
        raise DataError(
            "no fine-tuning case holds any label",
            where=str(prepared.folder),
            fix="check the label files",
            code="BAD_LABEL",
        )
    candidates = positive if config.drop_empty_cases else rows
    return candidates if config.num_labelled is None else _drawn(prepared, candidates, config.num_labelled, config.draw)


def _drawn(prepared: Prepared, rows: list[int], count: int, draw: int) -> list[int]:
    """The first `count` cases in an order that depends on the draw and on each case's name alone."""
    if count > len(rows):
        raise DataError(
            f"{len(rows)} labelled cases, {count} were asked for",
            where=str(prepared.folder),
            fix="lower num_labelled, or label more cases",
            code="TOO_FEW_CASES",
        )
    ordered = sorted(rows, key=lambda row: float(generator(draw, "labelled", prepared.cases[row].case_id).random()))
    return sorted(ordered[:count])


def _has_label(prepared: Prepared, row: int) -> bool:
    if prepared.kind == "region":
        return bool(prepared.fractions[row].any())
    labels = prepared.volume(prepared.cases[row].case_id).labels
    return labels is not None and bool(np.asarray(labels[:]).any())
