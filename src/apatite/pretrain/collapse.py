"""Has it collapsed? Rules that look at one row of the health panel, each with its reason in words.

A method that compares a network with itself has worthless solutions: features that are the same for every cell or every
crop, a teacher that gives all of them one prototype, or all prototypes alike. Their losses fall as those of a run that
learns, so the features and the teacher are looked at instead. A rule says that a run should be looked at, not that it
must be stopped: rows go on, and a later one may be sound again.

Source: the two ways in which a teacher collapses are those of Caron et al. 2021 (arXiv 2104.14294), section 5.3, where
their signs are the entropy of its distributions and how it differs from row to row.
Differs: every threshold is ours. A rule holds for what cannot be of use, not for what is worse than usual.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

BEGINS: Final = 0.1
"""Share of a run before which no rule holds: a network that has learned nothing looks as if it had collapsed."""
FEW_DIRECTIONS: Final = 2.0
"""Effective rank below which features are a line."""
LEAST_SPREAD: Final = 0.01
"""How far the features of crops lie from their mean, as a share of their length."""
FEW_PROTOTYPES: Final = 2.0
"""Effective number of prototypes that all rows together use."""
LEAST_SAID: Final = 0.02
"""In nats: how far a row's distribution is from all prototypes alike."""
LEAST_TOLD: Final = 0.01
"""In nats: what knowing the row tells of its prototype."""

ROWS: Final = ("cells", "views")
"""What a teacher gives distributions to."""


def collapse_reasons(row: Mapping[str, Any], prototypes: int) -> tuple[str, ...]:
    """Why a student's features or its teacher are of no use; nothing where they may be.

    Args:
        row: Numbers of the panel by name, with the student's name before them or without; others, and what the
            journal holds as null, are not looked at.
        prototypes: K of the teacher's heads.
    """
    own = {name.removeprefix("student."): value for name, value in row.items() if value is not None}
    found = [*_of_features(own)]
    for what in ROWS:
        if f"{what}_teacher_entropy" in own:
            found += _of_teacher(own, what, prototypes)
    return tuple(found)


def _of_features(row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("effective_rank", math.inf) < FEW_DIRECTIONS:
        yield f"features span {row['effective_rank']:.1f} directions"
    if row.get("feature_spread", math.inf) < LEAST_SPREAD:
        yield f"features of all crops are the same within {row['feature_spread']:.1g} of their length"


def _of_teacher(row: Mapping[str, Any], what: str, prototypes: int) -> Iterator[str]:
    entropy, mean_entropy = row[f"{what}_teacher_entropy"], row[f"{what}_mean_entropy"]
    if math.log(prototypes) - entropy < LEAST_SAID:
        yield f"the teacher gives {what} all {prototypes} prototypes alike"
    elif math.exp(mean_entropy) < FEW_PROTOTYPES:
        yield f"the teacher gives all {what} {math.exp(mean_entropy):.1f} of {prototypes} prototypes"
    elif mean_entropy - entropy < LEAST_TOLD:
        yield f"the teacher says the same of all {what}"


def collapse_warning(rows: Sequence[Mapping[str, Any]], prototypes: int) -> str | None:
    """One line for people where the newest checked row of a journal has collapsed; `None` where it has not.

    Args:
        rows: Of the journal, in their order.
        prototypes: K of the teacher's heads.
    """
    checked = [row for row in rows if "is_collapsed" in row]
    if not checked or not checked[-1]["is_collapsed"]:
        return None
    since = checked[-1]
    for row in reversed(checked):
        if not row["is_collapsed"]:
            break
        since = row
    reasons = "; ".join(collapse_reasons(checked[-1], prototypes))
    return f"it has collapsed, at the latest since step {since['step']}: {reasons}"
