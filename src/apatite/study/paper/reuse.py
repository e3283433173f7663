"""How much of a pre-training is still there after fine-tuning, and how alike few and many labels make a network: CKA.

Seeds of one setting differ as well, and how much is the ceiling: few and many labels cannot be told apart where they
are as alike as two seeds are.

Source: that SMIT reuses its features most consistently is claimed in arXiv 2605.18491, whose figures are not known.
Differs: layers, places and the estimate are ours; the ceiling is not in what could be read of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from apatite.core.errors import DataError
from apatite.io.run_folder import RunFolder
from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.cka import unbiased_cka
from apatite.study.paper.cells import short_model
from apatite.study.paper.results import Results, changed_by
from apatite.study.paper.words import NETWORKS, start_words
from apatite.study.sweep.data import TRUTH, remembered
from apatite.study.sweep.folder import SweepFolder
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import ALL, EQUAL_TIME, SWIN, VIT, Value

if TYPE_CHECKING:
    from apatite.study.layers import Layers

KINDS: Final = (
    "pre-trained – few labels",
    "pre-trained – many labels",
    "few – many labels",
    "ceiling: two seeds, few",
    "ceiling: two seeds, many",
    "two beginnings, few",
    "two beginnings, many",
)
"""Pairs of networks that are compared. Two seeds begin from one pre-training; two beginnings are two pre-trainings of
one method, or two draws of first weights."""
Pair = tuple[Record, Record]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Rows that differ in labels and seed only.

    Attributes:
        title: In the table.
        rows: Number of labels → its rows.
        encoders: The pre-trainings that they began from, by digest.
    """

    title: str
    rows: Mapping[Value, list[Record]]
    encoders: Mapping[str, Record] = field(default_factory=dict)


def reuse_section(results: Results) -> Section:
    """One row per setting and layer; only rows whose packages are still there take part."""
    return Section(
        title="What fine-tuning keeps",
        text=(
            "Linear CKA, unbiased, of what two networks make of the same places of the same development crops: 1 where "
            "they see alike, 0 on average where they have nothing in common. Means over pairs, whose numbers stand in "
            "the last column, in the order of the others. Read a column about labels against its ceiling. Two "
            "beginnings are two pre-trainings of one method, or two draws of first weights.",
        ),
        tables=(
            Table(
                columns=("model", "layer", *KINDS, "pairs"),
                rows=[row for setting in settings_of(results) for row in _rows(setting)],
                caption="From the packages in the sweeps' folders `runs`; what has none there is not run.",
            ),
        ),
    )


def settings_of(results: Results) -> list[Setting]:
    """What can be compared: networks with an encoder, the same draw of labels, packages that are there."""
    found: dict[str, dict[Value, list[Record]]] = {}
    for record in results.records:
        if _takes_part(record):
            by_labels = found.setdefault(_title(record, results.encoders), {})
            by_labels.setdefault(record.axes["labels"], []).append(record)
    return [
        Setting(title=title, rows=by_labels, encoders=results.encoders) for title, by_labels in sorted(found.items())
    ]


def pairs_of(setting: Setting) -> dict[str, list[Pair]]:
    """The pairs of each of `KINDS`."""
    counts = sorted(setting.rows, key=lambda count: (count == ALL, count if isinstance(count, int) else 0))
    few, many = setting.rows[counts[0]], setting.rows[counts[-1]]
    if few is many:
        few = []
    both = {"few": few, "many": many}
    found: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    for words, rows in both.items():
        began = [(setting.encoders[key], row) for row in rows if (key := _began(row)) in setting.encoders]
        found[f"pre-trained – {words} labels"] = [pair for pair in began if _has_package(pair[0])]
        for one, other in combinations(rows, 2):
            is_one_beginning = _began(one) == _began(other) != ""
            found[f"ceiling: two seeds, {words}" if is_one_beginning else f"two beginnings, {words}"].append(
                (one, other)
            )
    found["few – many labels"] = [
        (one, other) for one in few for other in many if (_began(one), _seed(one)) == (_began(other), _seed(other))
    ]
    # Networks of other crops would look at other places, or could not look at the same: so it is for views of regions.
    return {kind: [(one, other) for one, other in pairs if one.crop == other.crop] for kind, pairs in found.items()}


def _rows(setting: Setting) -> Iterator[list[Cell]]:
    """Networks pass the crops once each; then every pair is compared layer by layer."""
    pairs = pairs_of(setting)
    records = {record.name: record for of_kind in pairs.values() for pair in of_kind for record in pair}
    layers = _layers_by_name(list(records.values()))
    numbers = " ".join(str(len(pairs[kind])) for kind in KINDS)
    for layer in next(iter(layers.values()), {}):
        means: list[Cell] = []
        for kind in KINDS:
            values = [unbiased_cka(layers[one.name][layer], layers[other.name][layer]) for one, other in pairs[kind]]
            means.append(float(np.mean(values)) if values else None)
        yield [setting.title, layer, *means, numbers]


def _layers_by_name(records: Sequence[Record]) -> dict[str, "Layers"]:
    # torch waits until there is something to compare.
    from apatite.io.model_package import read_package
    from apatite.io.store import Prepared
    from apatite.study.layers import fixed_crops, layers_of

    crops: dict[object, np.ndarray] = {}
    found = {}
    for record in records:
        place = (_data(record), record.crop)
        if place not in crops:
            crops[place] = fixed_crops(Prepared.open(place[0]), record.crop)
        found[record.name] = layers_of(read_package(_package(record)), crops[place])
    return found


def _takes_part(record: Record) -> bool:
    is_first_draw = record.axes.get("draw") in (0, None)
    has_encoder = record.kind == "vit" and record.axes.get("network") in (SWIN, VIT, None)
    has_own_steps = record.axes.get("init") != EQUAL_TIME
    return has_encoder and has_own_steps and is_first_draw and not changed_by(record) and _has_package(record)


def _title(record: Record, encoders: Mapping[str, Record]) -> str:
    """A row that begins from another row's pre-training, by its name, is one of that row's method."""
    axes = record.axes
    encoder = encoders.get(_began(record))
    init = str((encoder or record).axes["init"])
    patch = f"patch {axes['patch']}" if axes.get("patch") else ""
    parts = [NETWORKS[str(axes.get("network") or VIT)], short_model(axes["model"]), patch, axes.get("decoder")]
    return ", ".join([*(str(part) for part in parts if part), start_words(init)])


def _began(record: Record) -> str:
    """The digest of the pre-training that a row began from; empty from scratch."""
    return record.digests.get("encoder", "")


def _seed(record: Record) -> Value:
    return record.axes.get("seed")


def _has_package(record: Record) -> bool:
    return record.source is not None and _package(record).is_dir()


def _package(record: Record) -> Path:
    assert record.source is not None, "it was read from a folder"
    return RunFolder(path=SweepFolder(path=record.source).run(record.name)).model


def _data(record: Record) -> Path:
    """A prepared folder of the sweep; images are the same in all of them.

    Raises:
        DataError: the folder of the sweep does not say which.
    """
    assert record.source is not None, "it was read from a folder"
    folders = remembered(SweepFolder(path=record.source))
    if not folders:
        raise DataError(
            "does not say on which data it worked",
            where=str(record.source),
            fix="put its data.json back",
            code="MISSING_FILE",
        )
    return folders.get(TRUTH) or next(iter(folders.values()))
