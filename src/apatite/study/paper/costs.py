"""What a model costs: parameters, and wall seconds with and without pre-training."""

import math

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.results import Results, changed_by
from apatite.study.paper.titles import place, row_words
from apatite.study.sweep.record import Record

_STAGES = ("pretrain", "finetune", "calibrate", "evaluate")


def costs_section(results: Results) -> Section:
    """One row per arm, seconds averaged over its runs."""
    arms: dict[str, list[Record]] = {}
    for record in sorted(results.records, key=place):
        if record.kind != "pretrain":
            changed = f", recipe changed ({record.name})" if changed_by(record) else ""
            arms.setdefault(row_words(record) + changed, []).append(record)
    machines = sorted({_machine(record) for records in arms.values() for record in records})
    return Section(
        title="Costs",
        text=(
            "Pre-training is paid once and shared by every model that begins from it; it is counted in full for each "
            "here. Seconds are wall seconds of whole runs, so they hold for the machines below only.",
        ),
        tables=(
            Table(
                columns=(
                    "model", "runs", "steps", "parameters", "pre-training (s)", "fine-tuning (s)", "calibration (s)",
                    "evaluation (s)", "training without pre-training (s)", "training with it (s)",
                ),
                rows=[[title, len(records), *_numbers(records)] for title, records in arms.items()],
                caption=f"Means over runs. Machines: {'; '.join(machines)}." if arms else "Not run.",
            ),
        ),
    )  # fmt: skip


def _numbers(records: list[Record]) -> list[Cell]:
    stages = {stage: _mean([record.seconds.get(stage) for record in records]) for stage in _STAGES}
    training = stages["finetune"]
    whole = None if training is None else training + (stages["pretrain"] or 0.0)
    steps = sorted({record.steps for record in records})
    shown_steps: Cell = steps[0] if len(steps) == 1 else f"{steps[0]}–{steps[-1]}"
    return [shown_steps, records[0].num_parameters or None, *stages.values(), training, whole]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _machine(record: Record) -> str:
    parts = [f"{key} {value}" if key != "cpu" else str(value) for key, value in sorted(record.machine.items())]
    return ", ".join(parts) or "unknown"
