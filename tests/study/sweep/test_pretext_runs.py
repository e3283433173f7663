"""A Swin from pre-training to its record, what its packages say of reuse, and the tables of both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apatite.core.errors import DataError, ModelError
from apatite.data.prepare import PrepareConfig, prepare
from apatite.io.manifest import read_manifest
from apatite.io.model_package import read_package
from apatite.io.store import Prepared
from apatite.study.cka import linear_cka
from apatite.study.intervals import IntervalConfig
from apatite.study.layers import NUM_CROPS, ROWS_OF_CROP, fixed_crops, layers_of
from apatite.study.paper.draw import DRAWINGS, draw_records
from apatite.study.paper.results import Results, View, gather, studies
from apatite.study.paper.reuse import KINDS, Setting, pairs_of, settings_of
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import Grid, grid_of
from apatite.study.sweep.record import Record, read_records
from apatite.study.sweep.run import run_sweep
from apatite.study.sweep.settings import network_key, pretrain_config

CROP = (16, 16, 32)
CHANGE = [f"crop={list(CROP)}", "batch=2"]
VIEW = View(intervals=IntervalConfig(resamples=20))
FEW, MANY = "swin-xs-smit-n2-d0-s0-openkbp", "swin-xs-smit-n4-d0-s0-openkbp"
AGAIN = "swin-xs-pretrain-smit-swin-xs-s0-n2-d0-s1-openkbp"


@pytest.fixture(scope="module")
def bodies(body_study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bodies with room for a parent of two views."""
    folder = tmp_path_factory.mktemp("large") / "prepared"
    config = PrepareConfig(kind="volume", spacing_mm=(3.0, 3.0, 3.0), least_shape=(32, 32, 48))
    prepare(read_manifest(body_study.manifest), folder, config)
    return folder


@pytest.fixture(scope="module")
def done(bodies: Path, in_process, precision_change, tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, Path]:
    """Few and many labels from one pre-training; made once."""
    small = "projection={prototypes: 16, hidden: 12, dim: 8}"
    values = {
        "pretrain": {
            "recipe": "smit_small",
            "change": [*CHANGE, "epochs=1", "check_epochs=1", "hidden_ratio=0.5", small, precision_change],
        },
        "finetune": {
            "recipe": "smit_small",
            "change": [*CHANGE, "steps=2", "check_every=2", "augment.mirror_pairs=[[2, 5]]", precision_change],
        },
        "resamples": 20, "defaults": {"network": "swin", "model": "swin-xs", "reader": "openkbp"},
        "blocks": [{"axes": {"init": ["smit"], "labels": [2, 4]}}],
    }  # fmt: skip
    grid, out = grid_of(values, "swins"), tmp_path_factory.mktemp("swins") / "sweep"
    state = run_sweep(grid, {"openkbp": bodies}, out, do_row=in_process)
    assert [(row.row.name, row.error) for row in state.of("failed", "blocked")] == []
    return grid, out


@pytest.fixture(scope="module")
def results(done: tuple[Grid, Path]) -> Results:
    """With a second seed from the same pre-training, whose network is the first one's once more."""
    records = gather([done[1]])
    (few,) = [record for record in records if record.name == FEW]
    (done[1] / "runs" / AGAIN).symlink_to(done[1] / "runs" / FEW)
    axes = few.axes | {"init": "pretrain-smit-swin-xs-s0", "seed": 1}
    (found,) = studies([*records, replace(few, name=AGAIN, axes=axes)], VIEW)
    return found


def test_a_swin_leaves_records(done: tuple[Grid, Path]):
    records = {record.name: record for record in read_records(done[1])}
    assert set(records) == set(rows_of(done[0])) == {"pretrain-smit-swin-xs-s0", FEW, MANY}
    encoder, few = records["pretrain-smit-swin-xs-s0"], records[FEW]
    assert (few.config["network"], few.config["model"], few.crop, few.patch_mm) == ("swin", "swin-xs", CROP, None)
    assert few.digests["encoder"] == encoder.digests["model"] and few.seconds["pretrain"] > 0
    assert {"mip", "mpd", "itd"} <= set(encoder.health)
    assert few.num_parameters > encoder.num_parameters > 0
    # The patch that was written down is the model's own: a twin finds the precision that was measured for the first.
    grid, rows = done[0], rows_of(done[0])
    assert tuple(encoder.config["patch"]) == (2, 2, 2)
    config = pretrain_config(grid, rows[encoder.name])
    assert config.patch is None and network_key(replace(config, patch=(2, 2, 2))) == network_key(config)


def test_layers_are_the_same_places_of_any_network(done: tuple[Grid, Path], bodies: Path):
    prepared = Prepared.open(bodies)
    crops = fixed_crops(prepared, CROP, count=7)
    assert crops.shape == (7, *CROP) and np.array_equal(crops, fixed_crops(prepared, CROP, count=7))
    assert len({crop.tobytes() for crop in crops}) > 1
    packages = [read_package(done[1] / "runs" / name / "model") for name in ("pretrain-smit-swin-xs-s0", FEW)]
    first, second = (layers_of(package, crops) for package in packages)
    shapes = {name: rows.shape for name, rows in first.items()}
    assert shapes == {name: rows.shape for name, rows in second.items()} and list(shapes) == [
        f"map {number} of 5" for number in range(1, 6)
    ]
    # From 8×8×16 places to 1×1×2 cells, and one element of the last map, which is padded.
    assert [shape[1] for shape in shapes.values()] == [24, 48, 96, 192, 384]
    assert [shape[0] for shape in shapes.values()] == [7 * min(ROWS_OF_CROP, n) for n in (1024, 128, 16, 2, 1)]
    again = layers_of(packages[0], crops)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert linear_cka(first["map 1 of 5"], second["map 1 of 5"]) > 0.9  # two steps change little


def test_which_networks_are_compared(results: Results):
    (setting,) = settings_of(results)
    assert setting.title == "Swin, XS, pre-trained: SMIT"
    pairs = {kind: [(one.name, other.name) for one, other in found] for kind, found in pairs_of(setting).items()}
    assert pairs == {
        "pre-trained – few labels": [("pretrain-smit-swin-xs-s0", name) for name in (AGAIN, FEW)],
        "pre-trained – many labels": [("pretrain-smit-swin-xs-s0", MANY)],
        "few – many labels": [(FEW, MANY)],
        "ceiling: two seeds, few": [(AGAIN, FEW)],
        "ceiling: two seeds, many": [],
        "two beginnings, few": [],
        "two beginnings, many": [],
    }


def test_two_draws_of_first_weights_are_no_two_seeds_of_one_beginning(results: Results):
    (row,) = [record for record in results.records if record.name == MANY]
    alone, again = (
        replace(row, name=f"scratch-{seed}", axes=row.axes | {"init": "scratch", "seed": seed}, digests={})
        for seed in (0, 1)
    )
    setting = Setting(title="Swin, from scratch", rows={4: [alone, again]})
    found = {kind: len(pairs) for kind, pairs in pairs_of(setting).items() if pairs}
    assert found == {"two beginnings, many": 1}
    # A seed is compared with itself, and crops of one size only.
    few = [replace(row, name=f"few-{seed}", axes=row.axes | {"seed": seed}) for seed in (0, 1)]
    both = Setting(title="", rows={2: few, 4: [row]})
    assert [(one.name, other.name) for one, other in pairs_of(both)["few – many labels"]] == [("few-0", MANY)]
    small = Setting(title="", rows={2: [replace(few[0], crop=(16, 16, 16))], 4: [row]})
    assert pairs_of(small)["few – many labels"] == []


def test_reuse_is_drawn_and_lies_between_0_and_1(results: Results):
    (table,) = DRAWINGS["reuse"].make(results).tables
    assert len(table.rows) == 5 and {row[-1] for row in table.rows} == {"2 1 1 1 0 0 0"}
    for row in table.rows:
        known = [value for value in row[2:-1] if value is not None]
        assert len(known) == 4 and all(isinstance(value, float) and -0.5 <= value <= 1.0 + 1e-9 for value in known)
        assert dict(zip(table.columns, row, strict=True))["ceiling: two seeds, few"] == pytest.approx(1.0)
    assert [row[1] for row in table.rows] == [f"map {number} of 5" for number in range(1, 6)]


def test_without_packages_nothing_is_compared(done: tuple[Grid, Path], results: Results, tmp_path: Path):
    def elsewhere(record: Record) -> Record:
        return replace(record, source=tmp_path)

    moved = replace(results, records=tuple(map(elsewhere, results.records)))
    assert settings_of(moved) == [] and not DRAWINGS["reuse"].make(moved).tables[0].rows
    for record in results.records:
        (tmp_path / "runs" / record.name).mkdir(parents=True)
        (tmp_path / "runs" / record.name / "model").symlink_to(done[1] / "runs" / record.name / "model")
    with pytest.raises(DataError, match="data"):
        DRAWINGS["reuse"].make(moved)


def test_what_was_run_is_drawn(done: tuple[Grid, Path], tmp_path: Path):
    made = draw_records("pretexts", [done[1]], VIEW, out=tmp_path)
    text = (tmp_path / "pretexts.csv").read_text(encoding="utf-8")
    assert made.num_records == 3 and "(poster, unverified)" in text
    (few, many) = [line for line in text.splitlines() if line.startswith('"Swin, pre-trained: SMIT"')]
    assert "0.848,0.875" in many and "0.848" not in few
    assert len(KINDS) == 7 and NUM_CROPS > 0


def test_a_hybrid_has_no_one_encoder(done: tuple[Grid, Path], bodies: Path):
    package = read_package(done[1] / "runs" / FEW / "model")
    other = replace(package, card=replace(package.card, kind="hybrid", label_names={}))
    with pytest.raises(ModelError, match="without one encoder"):
        layers_of(other, fixed_crops(Prepared.open(bodies), CROP, count=1))
