"""What an earlier `evaluate` or `compare` left, read back: its outcomes, label names and frozen burden groups.

cases.csv                       the outcomes; a bare table is enough to compare
summary.json or compare.json    beside it: what the labels are called, and each model's frozen cut-points
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from apatite.calcium.burden import BurdenCuts
from apatite.core.errors import ApatiteError, DataError
from apatite.io.regular_file import read_regular
from apatite.io.strict_json import parse_json
from apatite.study.outcome_table import read_outcomes
from apatite.study.outcomes import CaseOutcome

TABLES: Final = ("cases.csv", "cases.csv.gz")
ABOUT: Final = ("compare.json", "summary.json")
MAX_BYTES: Final = 2**26

Frozen = dict[str, dict[float | None, BurdenCuts]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Earlier:
    """An earlier evaluation.

    Attributes:
        outcomes: Title → rows.
        label_names: Label value → name; empty where only a table was found.
        deployed: Title → HU gate → frozen cut-points.
        domains: Where its data came from, where it says so.
    """

    outcomes: Mapping[str, Sequence[CaseOutcome]]
    label_names: Mapping[int, str]
    deployed: Frozen
    domains: tuple[str, ...]


def table_of(path: Path) -> Path | None:
    """The table that a path is, or that its folder holds; None where it is something else."""
    if path.is_file() and path.name.endswith((".csv", ".csv.gz")):
        return path
    return next((path / name for name in TABLES if (path / name).is_file()), None) if path.is_dir() else None


def read_earlier(table: Path) -> Earlier:
    """Read a table and what lies beside it.

    Raises:
        DataError: as `read_outcomes`, or the file beside it cannot be understood (`BAD_TABLE`).
    """
    outcomes = read_outcomes(table)
    about = next((table.parent / name for name in ABOUT if (table.parent / name).is_file()), None)
    if table.name not in TABLES or about is None:
        return Earlier(outcomes=outcomes, label_names={}, deployed={}, domains=())
    try:
        values = parse_json(read_regular(about, MAX_BYTES))
        values = values.get("apatite", values)
        names = {int(label): str(name) for label, name in values["label_names"].items()}
        domains = tuple(str(domain) for domain in values.get("domains", ()))
        deployed = _frozen(values)
    except (ValueError, KeyError, TypeError, AttributeError, ApatiteError) as error:
        raise DataError(
            "says what no evaluation says", where=str(about), fix="evaluate again, or remove it", code="BAD_TABLE"
        ) from error
    return Earlier(outcomes=outcomes, label_names=names, deployed=deployed, domains=domains)


def _frozen(values: Mapping[str, Any]) -> Frozen:
    """Cut-points from either file: a list of its own, or one per summary of all cases."""
    found: Frozen = {}
    entries = values.get("deployed") or [
        {"model": summary["model"], "hu_gate": summary["hu_gate"], "cuts": summary["burden_groups"]["deployed"]["cuts"]}
        for summary in values.get("summaries", ())
        if "deployed" in summary["burden_groups"]
    ]
    for entry in entries:
        gate = None if entry["hu_gate"] is None else float(entry["hu_gate"])
        found.setdefault(str(entry["model"]), {})[gate] = BurdenCuts.from_dict(entry["cuts"])
    return found
