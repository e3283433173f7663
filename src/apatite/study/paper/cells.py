"""What the drawings say alike: a place that no run fills, how many runs a figure rests on, and what was looked at."""

from collections.abc import Mapping, Sequence

import numpy as np

from apatite.core.volume import Estimate
from apatite.report.html import Table
from apatite.report.numbers import Cell, number_text
from apatite.study.paper.contrasts import RIGHT_QUARTILE, contrast, estimate, means_of_runs
from apatite.study.paper.results import Arm, Results
from apatite.study.quantities import QUANTITIES
from apatite.study.sweep.record import Record

NOT_RUN = "not run"
"""What stands where no finished row gives a figure."""

_METHODS = {"bca": "BCa", "percentile": "percentile"}


def shown(found: Estimate | None) -> Cell:
    """An estimate, or that it was not run."""
    return NOT_RUN if found is None else found


def estimates(results: Results, arm: Arm, quantities: Sequence[str]) -> list[Cell]:
    """Cells of one arm, one per quantity."""
    return [shown(estimate(results, arm, name)) for name in quantities]


def heading(quantity: str) -> str:
    """Name and unit of a quantity."""
    return "share in the right quartile" if quantity == RIGHT_QUARTILE else QUANTITIES[quantity].heading


def spread(results: Results, arm: Arm, quantity: str) -> float | None:
    """Standard deviation of the runs' means; None for fewer than two runs."""
    means = means_of_runs(results, arm, quantity)
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def difference_table(
    results: Results, pairs: Mapping[str, tuple[Arm, Arm]], quantities: Sequence[str], caption: str = ""
) -> Table:
    """First arm minus second, on the same cases and the same runs; one row per pair.

    Args:
        results: The study.
        pairs: Both sides in words → first and second.
        quantities: Names as in `contrasts.sample`; the runs' own differences are shown for the first.
        caption: What stands before the words about intervals.
    """
    rows: list[list[Cell]] = []
    for title, (first, second) in pairs.items():
        terms = ((1.0, first), (-1.0, second))
        found = [contrast(results, terms, name) for name in quantities]
        by_run = list(found[0].by_run.values()) if found[0] else []
        cells = [shown(one.estimate if one else None) for one in found]
        rows.append([title, len(by_run), *cells, " ".join(signed(value) for value in by_run) or NOT_RUN])
    columns = ("difference", "runs", *map(heading, quantities), f"{heading(quantities[0])} by run")
    words = f"Paired on the same cases; {about(results)} Not corrected for multiple comparisons."
    return Table(columns=columns, rows=rows, caption=f"{caption} {words}".strip())


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{'+' if value > 0 else ''}{number_text(value)}"


def about(results: Results) -> str:
    """What was looked at, for a caption."""
    view = results.view
    gate = "ungated" if view.hu_gate is None else f"predictions gated at {view.hu_gate:g} HU"
    intervals = view.intervals
    return (
        f"{view.split} split, {gate}, {100 * intervals.coverage:g} % intervals ({_METHODS[intervals.method]}, "
        f"{intervals.resamples:,} resamples of patients), runs averaged case by case."
    )


def num_positive(results: Results) -> int:
    """Cases with the label, in the first row that was judged; 0 without rows."""
    for record in results.records:
        if rows := results.rows(record, "raw"):
            return len({o.case_id for o in rows if o.is_positive})
    return 0


def label_counts(results: Results) -> list[str | int]:
    """Numbers of labels that were run, the most last; what the study is held at, where nothing was."""
    return results.values("labels") or [str(results.reference.get("labels", NOT_RUN))]


def short_model(model: str | int | None) -> str:
    """A model's name without the family's."""
    return str(model).removeprefix("vitiac-").removeprefix("swin-").upper()


def patch_words(record: Record) -> str:
    """A patch in voxels and millimetres, for example `4 (1.76 × 1.76 × 4 mm)`."""
    name = record.axes.get("patch")
    if record.patch_mm is None:
        return str(name)
    return f"{name} ({' × '.join(f'{edge:.3g}' for edge in record.patch_mm)} mm)"
