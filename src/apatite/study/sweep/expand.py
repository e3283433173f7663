"""From a grid to its rows: the product of axes of each block, every run once and after the runs that it needs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from apatite.core.errors import ConfigError
from apatite.core.registry import choose, nearest
from apatite.nn.decoders.registry import DECODERS
from apatite.nn.models import model_size
from apatite.pretrain.methods import METHODS
from apatite.study.sweep.begins import refuse_strange_beginnings
from apatite.study.sweep.grid import Block, Grid, Patch
from apatite.study.sweep.rows import (
    AXES,
    EQUAL_TIME,
    NNUNET,
    PACE,
    PACE_SHARE,
    SCRATCH,
    Point,
    SweepRow,
    Value,
    is_swin,
    method_of,
    patch_text,
)

_PRETRAINED = {"arm": "pretrain"} | dict.fromkeys(("network", "decoder", "upsampling", "take", "labels", "draw"))
"""What pre-training does not know of; it sees no labels, so no reader either."""


def rows_of(grid: Grid) -> dict[str, SweepRow]:
    """Every row of a grid by its name, in an order in which each follows what it needs.

    Raises:
        ConfigError: a value of an axis is unknown, or two blocks give one name to different runs.
    """
    rows: dict[str, SweepRow] = {}
    for block in grid.blocks:
        for values in _points(grid, block):
            for row in _rows_at(grid, block, values):
                _add(rows, row)
    unknown = [(row, need) for row in rows.values() for need in row.needs if need not in rows]
    if unknown:
        row, need = unknown[0]
        names = [*METHODS, SCRATCH, EQUAL_TIME, *(other.name for other in rows.values() if other.kind == "pretrain")]
        raise ConfigError(f"begins from {need!r}, which is no row", where=row.name, fix=nearest(need, names))
    refuse_strange_beginnings(rows)
    return {row.name: row for row in _ordered(rows)}


def readers_of(rows: Mapping[str, SweepRow]) -> list[str]:
    """Whose labels the rows learn from."""
    return sorted({row.reader for row in rows.values() if row.reader})


def _points(grid: Grid, block: Block) -> Iterator[dict[str, Value]]:
    # What is compared first of all stands side by side, so that a sweep cut short has pairs.
    order = [*(name for name in AXES if name != "init"), "init"]
    named = [getattr(block.axes, name) or (getattr(grid.defaults, name),) for name in order]
    for combination in product(*named):
        values = dict(zip(order, combination, strict=True))
        patch: Patch = values["patch"]
        yield values | {"patch": patch_text(patch)}


def _rows_at(grid: Grid, block: Block, values: Mapping[str, Value]) -> Iterator[SweepRow]:
    """The row at a point, after the pre-training that it shares with others."""
    init = str(values["init"])
    if values["arm"] == NNUNET:
        point = Point(values=values)
        yield SweepRow(name=point.named(), kind="nnunet", axes=point.axes, minutes=grid.minutes.nnunet)
        return
    model_size(str(values["model"]))
    choose(DECODERS, str(values["decoder"]), "decoder")
    is_touched = bool(block.finetune or (block.pretrain and init != SCRATCH))
    point = Point(values=values, tag=block.name if is_touched else "")
    method = grid.method if init == EQUAL_TIME else init
    encoder = ""
    if method_of(method)[0] in METHODS:
        *before, shared = _pretrainings(grid, block, values, method)
        encoder = shared.name
        yield from (*before, shared)
    elif init == EQUAL_TIME:
        choose(METHODS, method, "method")
    elif init != SCRATCH:
        encoder = init
    needs = (encoder,) if encoder else ()
    if init == EQUAL_TIME:
        scratch = Point(values=dict(values) | {"init": SCRATCH}, tag=block.name if block.finetune else "")
        needs, encoder = (*needs, scratch.named()), ""
        yield _fine_tuning(grid, block, scratch, ())
    yield replace(_fine_tuning(grid, block, point, needs), encoder=encoder)


def _fine_tuning(grid: Grid, block: Block, point: Point, needs: tuple[str, ...]) -> SweepRow:
    minutes = grid.minutes.vit if block.minutes is None else block.minutes
    return SweepRow(
        name=point.named(), kind="vit", axes=point.axes, needs=needs, minutes=minutes, finetune=block.finetune
    )


def _pretrainings(grid: Grid, block: Block, values: Mapping[str, Value], init: str) -> Iterator[SweepRow]:
    """The pre-training that a row begins from, after those that say how long it may take."""
    method, reference = method_of(init)
    needs: tuple[str, ...] = ()
    if reference:
        choose(METHODS, reference, "method")
        of_time = [_pretraining(grid, block, values, name) for name in (reference, method + PACE)]
        needs = tuple(row.name for row in of_time)
        yield from of_time
    yield replace(_pretraining(grid, block, values, init), needs=needs)


def _pretraining(grid: Grid, block: Block, values: Mapping[str, Value], init: str) -> SweepRow:
    point = Point(values=values, tag=block.name if block.pretrain else "")
    patch = None if is_swin(values["model"]) else values["patch"]
    axes: dict[str, Value] = dict(values) | _PRETRAINED | {"init": init, "reader": None, "patch": patch}
    minutes = grid.minutes.pretrain if block.pretrain_minutes is None else block.pretrain_minutes
    return SweepRow(
        name=point.encoder_name(init),
        kind="pretrain",
        axes=axes,
        minutes=PACE_SHARE * minutes if init.endswith(PACE) else minutes,
        pretrain=block.pretrain,
    )


def _add(rows: dict[str, SweepRow], row: SweepRow) -> None:
    """Keep a row at its first place."""
    known = rows.setdefault(row.name, row)
    if replace(known, minutes=row.minutes) != row:
        raise ConfigError("two blocks mean different runs by one name", where=row.name, fix="give one block a name")


def _ordered(rows: Mapping[str, SweepRow]) -> Iterator[SweepRow]:
    """In their order, but each after what it needs; a pre-training may be named before the block that makes it."""
    done: set[str] = set()

    def after_needs(row: SweepRow) -> Iterator[SweepRow]:
        for need in row.needs:
            if need not in done:
                yield from after_needs(rows[need])
        if row.name not in done:
            done.add(row.name)
            yield row

    for row in rows.values():
        yield from after_needs(row)
