"""One row of each network and each kind of pre-training to its record, on bodies with two organs, partly annotated."""

import math
from pathlib import Path

import numpy as np
import pytest

from apatite.io.model_package import read_summary
from apatite.study.intervals import IntervalConfig
from apatite.study.paper.draw import draw_records
from apatite.study.paper.results import View
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import Grid, grid_of
from apatite.study.sweep.process import Ended
from apatite.study.sweep.record import Record, outcomes_of, read_records
from apatite.study.sweep.run import list_sweep, run_sweep

CHANGE = ["crop=[8, 16, 24]", "batch=2", "unetrpp.preset=tiny"]
SUFFIX = "nall-s0-openkbp"


@pytest.fixture(scope="module")
def done(body_study, in_process, precision_change, tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, Path]:
    """A sweep with every network; made once."""
    values = {
        "pretrain": {"recipe": "openkbp", "change": [*CHANGE, "epochs=2", "check_epochs=2", precision_change]},
        "finetune": {
            "recipe": "openkbp",
            "change": [*CHANGE, "steps=2", "check_every=1", "augment.mirror_pairs=[[2, 5]]", precision_change],
        },
        "resamples": 20, "defaults": {"patch": [4, 8, 8], "reader": "openkbp"},
        "blocks": [
            {"axes": {"init": ["mae_euler-as-long-as-mae_topology"]}},
            {"axes": {"network": ["hybrid", "hybrid_decoder"], "init": ["topo_mae_hybrid"]}},
            {"axes": {"network": ["unetrpp"], "init": ["scratch"]}},
        ],
    }  # fmt: skip
    grid, out = grid_of(values, "bodies"), tmp_path_factory.mktemp("bodies") / "sweep"
    state = run_sweep(grid, {"openkbp": body_study.prepared}, out, do_row=in_process)
    assert [(row.row.name, row.error) for row in state.of("failed", "blocked")] == []
    return grid, out


@pytest.fixture
def records(done: tuple[Grid, Path]) -> dict[str, Record]:
    return {record.name: record for record in read_records(done[1])}


def test_every_network_leaves_a_record(done: tuple[Grid, Path], records: dict[str, Record]):
    assert set(records) == set(rows_of(done[0])) and len(records) == 8
    hybrid, scratch = records[f"hybrid-xs-p4x8x8-topo_mae_hybrid-{SUFFIX}"], records[f"unetrpp-scratch-{SUFFIX}"]
    assert hybrid.config["network"] == "hybrid" and scratch.config["network"] == "unetrpp"
    assert hybrid.num_parameters > scratch.num_parameters > 0
    assert (hybrid.patch_mm, scratch.patch_mm) == ((24.0, 24.0, 12.0), None)
    encoder = records["pretrain-topo_mae_hybrid-xs-p4x8x8-s0"]
    assert hybrid.digests["encoder"] == encoder.digests["model"]
    assert hybrid.seconds["pretrain"] == encoder.seconds["pretrain"] > 0
    assert read_summary(done[1] / "runs" / encoder.name / "model").card.kind == "hybrid"


def test_a_pretraining_says_what_it_reached(records: dict[str, Record]):
    health = records["pretrain-topo_mae_hybrid-xs-p4x8x8-s0"].health
    for branch in ("vit", "unetrpp"):
        assert health[f"{branch}.reconstruction"] > 0 and health[f"{branch}_point_error_mm"] > 0
    assert health["guess_point_error_mm"] > 0 and not {"step", "lr"} & set(health)
    one = records["pretrain-mae_topology-xs-p4x8x8-s0"]
    assert one.health["reconstruction"] > 0 and one.step_s > 0


def test_a_pretraining_in_the_time_of_another_has_the_epochs_that_fit(records: dict[str, Record]):
    whole, pace, timed = (
        records[f"pretrain-{init}-xs-p4x8x8-s0"]
        for init in ("mae_topology", "mae_euler-pace", "mae_euler-as-long-as-mae_topology")
    )
    assert (whole.config["epochs"], pace.config["epochs"], pace.config["method"]) == (2, 1, "mae_euler")
    look_s = pace.seconds["pretrain"] - pace.steps * pace.step_s
    fitting = (whole.seconds["pretrain"] - look_s) / pace.step_s / pace.steps
    assert timed.config["epochs"] == max(1, round(fitting))
    assert timed.steps == timed.config["epochs"] * pace.steps


def test_an_organ_counts_where_it_was_looked_for(records: dict[str, Record]):
    found = records[f"unetrpp-scratch-{SUFFIX}"]
    assert found.label_names == {"2": "left organ", "5": "right organ"} and found.domains == ["real"]
    rows = outcomes_of(found, "development")["raw"]
    by_label = {label: [row for row in rows if row.label == label] for label in (2, 5)}
    assert [len(of) for of in by_label.values()] == [6, 3] and {row.hu_gate for row in rows} == {None}
    assert all(row.betti_error is not None for row in rows)
    means = {label: np.mean([row.hd95_mm or math.nan for row in of]) for label, of in by_label.items()}
    summary = {entry["label"]: entry["estimates"] for entry in found.summary["development"]["raw"]}
    for label, mean in means.items():
        assert summary[label]["hd95_mm"]["value"] == pytest.approx(mean)
        assert math.isfinite(summary[label]["betti_error"]["value"])
    (entry,) = found.label_means["development"]["raw"]
    assert entry["labels"] == [2, 5]
    assert entry["estimates"]["hd95_mm"]["value"] == pytest.approx(np.mean(list(means.values())))
    assert found.calibration is not None and set(found.calibration["labels"]) <= {"2", "5"}


def test_what_was_run_is_drawn(done: tuple[Grid, Path], tmp_path: Path):
    view = View(intervals=IntervalConfig(resamples=20))
    made = draw_records("topology", [done[1]], view, out=tmp_path)
    text = (tmp_path / "topology.csv").read_text(encoding="utf-8")
    assert made.num_records == 8 and text.count("not run") > 0
    start = '"hybrid, pre-trained: all three, both networks'
    without, with_consistency = [line for line in text.splitlines() if line.startswith(start)]
    assert "not run" in without and "not run" not in with_consistency
    assert "left organ" in (tmp_path / "topology-3.csv").read_text(encoding="utf-8")


def test_a_finished_sweep_is_known_again(done: tuple[Grid, Path], body_study):
    state = list_sweep(done[0], {}, done[1])
    assert {row.state for row in state.rows} == {"done"}
    assert run_sweep(done[0], {"openkbp": body_study.prepared}, done[1], do_row=_never).exit_code == 0


def _never(*_: object) -> Ended:
    raise AssertionError("a finished row was begun")
