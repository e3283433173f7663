"""Dice over the size of a patch, one line per decoder; millimetres stand on the axis, because voxels are no size."""

from apatite.report.figures.trend import TrendPoint, trend_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.arms import DECODERS, PATCHES
from apatite.study.paper.cells import NOT_RUN, about, estimates, heading, num_positive, patch_words
from apatite.study.paper.contrasts import estimate, means_of_runs
from apatite.study.paper.results import Arm, Results
from apatite.study.sweep.record import Record

_QUANTITIES = ("dice", "precision", "recall", "volume_error_mm3")


def patch_sizes_section(results: Results) -> Section:
    """One row per decoder and patch, and the lines."""
    rows: list[list[Cell]] = []
    for decoder in DECODERS:
        for patch in _patches(results):
            arm = _arm(results, decoder, patch)
            edges = _edges_mm(results, patch)
            rows.append([decoder, str(patch), edges, len(results.runs(arm)), *estimates(results, arm, _QUANTITIES)])
    return Section(
        title="Patch sizes",
        text=("Pre-trained, threshold 0.5. A patch is named by its voxels; what it can see is its millimetres.",),
        tables=(
            Table(
                columns=("decoder", "patch", "edges (mm)", "runs", *map(heading, _QUANTITIES)),
                rows=rows,
                caption=f"Means over {num_positive(results)} cases with calcium; {about(results)}",
            ),
        ),
        figures=_picture(results),
    )


def _patches(results: Results) -> list[str | int]:
    """The paper's and whatever else was run."""
    found = results.values("patch")
    return [*found, *(patch for patch in PATCHES if patch not in found)]


def _arm(results: Results, decoder: str, patch: str | int) -> Arm:
    return results.arm(f"{decoder}, patch {patch}", init="mae", decoder=decoder, patch=patch)


def _record(results: Results, patch: str | int) -> Record | None:
    rows = (record for record in results.records if record.kind == "vit" and record.axes.get("patch") == patch)
    return next((record for record in rows if record.patch_mm is not None), None)


def _edges_mm(results: Results, patch: str | int) -> str:
    record = _record(results, patch)
    if record is None or record.patch_mm is None:
        return NOT_RUN
    return " × ".join(f"{edge:.3g}" for edge in record.patch_mm)


def _picture(results: Results) -> tuple[Picture, ...]:
    lines: dict[str, list[TrendPoint]] = {}
    ticks: dict[float, str] = {}
    for patch in results.values("patch"):
        record = _record(results, patch)
        if record is None or record.patch_mm is None:
            continue
        # The cube of the same volume gives patches of unequal edges one place.
        edge_mm = float(record.patch_mm[0] * record.patch_mm[1] * record.patch_mm[2]) ** (1 / 3)
        for decoder in DECODERS:
            arm = _arm(results, decoder, patch)
            found = estimate(results, arm, "dice")
            if found is not None:
                point = TrendPoint(x=edge_mm, estimate=found, runs=means_of_runs(results, arm, "dice"))
                lines.setdefault(decoder, []).append(point)
                ticks[edge_mm] = patch_words(record).replace(" (", "\n(")
    if not lines:
        return ()
    return (
        trend_figure(
            lines,
            ticks=ticks,
            x_label="patch (voxels, with its edges i × j × k), placed by the edge of the cube of equal volume",
            y_label="Dice",
            caption=f"Dice over the size of a patch, small dots for single runs; {about(results)}",
        ),
    )
