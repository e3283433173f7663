"""The records of runs as studies: rows that were judged on the same cases, and how to find those of one arm.

An arm is what is the same in rows that differ in their seed (or draw of labels) only. Whatever an arm does not name is
at the study's reference: the paper's encoder where it was run, the smallest patch, the MAE decoder, all labels by the
perfect reader. So a table of decoders does not mix in runs with few labels; and a row whose block changed a recipe,
which its name tells, is only in arms that ask for that block.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from apatite.core.errors import DataError
from apatite.study.intervals import IntervalConfig
from apatite.study.outcomes import CaseOutcome
from apatite.study.sweep.record import ROWS, Record, outcomes_of, read_records
from apatite.study.sweep.rows import AXES, NNUNET, VIT, Point

Reading = Literal["raw", "calibrated"]
Split = Literal["development", "test"]
Axes = Mapping[str, str | int | None]
Run = tuple[int, int]
"""Draw of labels and seed: what tells the runs of one arm from each other."""

_FIRST: Final[Mapping[str, tuple[str | int, ...]]] = {
    "model": ("vitiac-s", "vitiac-xs"),
    "decoder": ("mae",),
    "upsampling": ("nearest",),
    "take": ("encoder",),
    "labels": ("all",),
    "reader": ("perfect",),
}
"""What an axis is held at where it was run there."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What of the outcomes is looked at.

    Attributes:
        split: `test`, or `development`.
        label: Label value; None for the mean over all labels.
        hu_gate: Reading of the predictions: None for ungated, 130 for gated.
        intervals: Bootstrap settings.
    """

    split: Split = "test"
    label: int | None = 1
    hu_gate: float | None = None
    intervals: IntervalConfig = field(default_factory=IntervalConfig)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Rows that differ in seed or draw only, read in one way.

    Attributes:
        title: In tables and legends.
        axes: Axis → the value it must have. An axis that is not named is free.
        reading: `raw` (threshold 0.5) or `calibrated`.
        block: The block of a grid that changed the recipe of its rows; mostly none.
    """

    title: str
    axes: Mapping[str, str | int]
    reading: Reading = "raw"
    block: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """One study.

    Attributes:
        title: Tier, and what tells it from another study of the same tier.
        tier: Of its rows; empty without rows.
        records: Its rows; pre-training rows of the same tier are among them.
        view: What is looked at.
    """

    title: str
    tier: str
    records: tuple[Record, ...]
    view: View
    _found: dict[tuple[str, Path | None], Mapping[str, Sequence[CaseOutcome]]] = field(default_factory=dict, repr=False)

    def arm(self, title: str, reading: Reading = "raw", **axes: str | int | None) -> Arm:
        """An arm at the study's reference but for some axes; an axis given as None is free."""
        wanted = {"arm": VIT, "network": VIT, **self.reference, **axes}
        if wanted["arm"] == NNUNET:
            # It has no encoder, no patch and no start; it shares the labels alone.
            wanted = {name: value for name, value in wanted.items() if name in ("arm", "labels", "draw", "reader")}
        named = {name: value for name, value in wanted.items() if value is not None}
        return Arm(title=title, axes=named, reading=reading)

    def runs(self, arm: Arm) -> dict[Run, Record]:
        """The finished rows of an arm, by draw and seed.

        Raises:
            DataError: two rows are the same run of one arm (`ROWS_ALIKE`).
        """
        found: dict[Run, Record] = {}
        for record in self.records:
            if not _belongs(record, arm) or not self.rows(record, arm.reading):
                continue
            run = (_number(record.axes.get("draw")), _number(record.axes.get("seed")))
            if run in found:
                raise DataError(
                    f"is the same run as {found[run].name}, by every axis",
                    where=record.name,
                    fix="draw from one sweep at a time, or give them different axes",
                    code="ROWS_ALIKE",
                )
            found[run] = record
        return dict(sorted(found.items()))

    def rows(self, record: Record, reading: Reading) -> list[CaseOutcome]:
        """The outcomes of a row in this view, by case, then label; empty where there are none."""
        key = (record.name, record.source)
        if key not in self._found:
            self._found[key] = outcomes_of(record, self.view.split)
        label, gate = self.view.label, self.view.hu_gate
        found = (o for o in self._found[key].get(reading, ()) if o.hu_gate == gate and label in (None, o.label))
        return sorted(found, key=lambda o: (o.case_id, o.label))

    @property
    def over_labels(self) -> "Results":
        """The same study, read as means over labels."""
        return replace(self, view=replace(self.view, label=None))

    @cached_property
    def encoders(self) -> dict[str, Record]:
        """The pre-trainings, by the digest of the package that each made."""
        made = (record for record in self.records if record.kind == "pretrain")
        return {digest: record for record in made if (digest := record.digests.get("model"))}

    @cached_property
    def reference(self) -> dict[str, str | int]:
        """The value that each axis has where nothing else is asked for; axes that no row has are left out."""
        fixed: dict[str, str | int] = {}
        for axis in ("model", "decoder", "upsampling", "take", "labels", "reader", "draw"):
            values = self.values(axis)
            wanted = [value for value in _FIRST.get(axis, ()) if value in values]
            if values:
                # Without all labels, the most; of draws the first.
                fixed[axis] = wanted[0] if wanted else values[-1 if axis == "labels" else 0]
        if patches := self.values("patch"):
            fixed["patch"] = patches[0]
        return fixed

    def beginnings(self, is_meant: Callable[[Record], bool]) -> set[tuple[str, str]]:
        """Network and beginning of every finished row that is meant."""
        meant = (record.axes for record in self.records if is_meant(record))
        return {(str(axes.get("network")), str(axes.get("init"))) for axes in meant}

    @property
    def domains(self) -> list[str]:
        """Where the scans come from that its rows were judged on; empty without rows."""
        return sorted({name for record in self.records if record.kind != "pretrain" for name in record.domains})

    def values(self, axis: str) -> list[str | int]:
        """What an axis takes among the rows that segment, in order: patches by their size, labels with `all` last."""
        rows = [record for record in self.records if record.kind != "pretrain" and not changed_by(record)]
        found = {value: record for record in rows if (value := record.axes.get(axis)) is not None}
        if axis == "patch":
            # Of equal sizes the cube comes first.
            return sorted(found, key=lambda value: (patch_voxels(value), isinstance(value, str), str(value)))
        return sorted(
            found, key=lambda value: (isinstance(value, str), value if isinstance(value, int) else 0, str(value))
        )


def gather(folders: Sequence[Path]) -> list[Record]:
    """All records of some sweeps.

    Args:
        folders: Each a sweep's folder, its folder `rows`, or a folder of sweeps' folders.

    Raises:
        DataError: a folder is missing (`MISSING_FILE`), or a file is no record.
    """
    records: list[Record] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(
                "is no folder of records", where=str(folder), fix="give the folder of a sweep", code="MISSING_FILE"
            )
        is_sweep = folder.name == ROWS or (folder / ROWS).is_dir()
        sweeps = [folder] if is_sweep else sorted(path.parent for path in folder.glob(f"*/{ROWS}"))
        if not sweeps and any(path.suffix not in ("", ".md") for path in folder.iterdir()):
            raise DataError(
                "holds other files, and no records",
                where=str(folder),
                fix="give the folder of a sweep",
                code="NO_CASES",
            )
        for sweep in sweeps:
            records += read_records(sweep)
    return records


def studies(records: Iterable[Record], view: View) -> list[Results]:
    """The records by tier and by what they were judged by; one empty study where there is none.

    Pre-training rows are judged by nothing: they are part of every study of their tier.
    """
    rows = list(records)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in rows:
        if record.kind != "pretrain":
            groups.setdefault((record.tier, record.digests.get("truth", "")), []).append(record)
    found = []
    for tier, truth in sorted(groups):
        is_only = sum(other == tier for other, _ in groups) == 1
        title = f"tier {tier}" if is_only else f"tier {tier}, judged by {truth[:8] or 'unknown'}"
        encoders = [record for record in rows if record.kind == "pretrain" and record.tier == tier]
        members = tuple(sorted([*groups[tier, truth], *encoders], key=lambda record: record.name))
        found.append(Results(title=title, tier=tier, records=members, view=view))
    return found or [Results(title="no rows", tier="", records=(), view=view)]


def patch_voxels(patch: str | int) -> int:
    """How many voxels a patch holds: 64 for `4`, 32 for `2x4x4`."""
    if isinstance(patch, int):
        return patch**3
    product = 1
    for edge in patch.split("x"):
        product *= int(edge)
    return product


def changed_by(record: Record) -> str:
    """The block that changed a row's recipe, by what its name has beyond that of its axes; empty where none did."""
    if record.kind == "pretrain":
        return ""
    return record.name.removeprefix(Point(values=dict.fromkeys(AXES) | record.axes).named()).removeprefix("-")


def _belongs(record: Record, arm: Arm) -> bool:
    """Whether a row is of an arm; an axis that means nothing for the row is no obstacle."""
    if record.kind == "pretrain" or changed_by(record) != arm.block:
        return False
    return all(record.axes.get(name) in (None, value) for name, value in arm.axes.items())


def _number(value: str | int | None) -> int:
    return value if isinstance(value, int) else 0
