"""What pre-training reached: errors of reconstruction and position beside guesses without learning, and seconds."""

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.results import Results
from apatite.study.paper.words import start_words
from apatite.study.sweep.record import Record

_BRANCHES = {"vit": "ViT", "unetrpp": "UNETR++"}
_ERRORS = ("reconstruction", "interpolation", "patch_mean")


def pretraining_section(results: Results) -> Section:
    """One row per pre-training and network in it."""
    rows = [row for record in results.records if record.kind == "pretrain" for row in _rows(record)]
    return Section(
        title="Pre-training",
        text=(
            "The error of reconstruction is a mean square over hidden patches, in the unit of the method's own target: "
            "it can be compared with the two guesses beside it, and between methods of one target only. The error of "
            "position is the mean distance of nine points in mm, on development scans, none of them learned from. The "
            "guess is the mean place of all crops. Seconds are wall seconds of the whole run, both networks together.",
        ),
        tables=(
            Table(
                columns=(
                    "pre-training", "network", "model", "patch", "seed", "steps", "seconds", "error of reconstruction",
                    "of interpolation", "of each patch's mean", "error of position (mm)", "of the guess (mm)",
                    "effective rank", "probe Dice",
                ),
                rows=rows,
                caption="One row per network; as the last look found it." if rows else "Not run.",
            ),
        ),
    )  # fmt: skip


def _rows(record: Record) -> list[list[Cell]]:
    """A method of two networks prefixes what is about one of them by its name."""
    branches = [name for name in _BRANCHES if any(key.startswith(f"{name}.") for key in record.health)]
    if not branches:
        branches = [next((name for name in _BRANCHES if f"{name}_point_error_mm" in record.health), "")]
    axes = record.axes
    shared: list[Cell] = [axes.get("model"), axes.get("patch"), axes.get("seed"), record.steps]
    return [
        [
            start_words(str(axes.get("init"))),
            _BRANCHES.get(branch),
            *shared,
            record.seconds.get("pretrain"),
            *(_of(record, branch, name) for name in _ERRORS),
            record.health.get(f"{branch}_point_error_mm"),
            record.health.get("guess_point_error_mm"),
            _of(record, branch, "effective_rank"),
            record.health.get("probe_dice") if branch != "unetrpp" else None,
        ]
        for branch in branches
    ]


def _of(record: Record, branch: str, name: str) -> float | None:
    return record.health.get(f"{branch}.{name}", record.health.get(name))
