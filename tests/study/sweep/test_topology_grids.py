"""Networks and methods as axes: names, what a network can begin from, and pre-training for an equal time."""

from dataclasses import replace

import pytest

from apatite.core.config import dump
from apatite.core.errors import ConfigError
from apatite.pretrain.methods import METHODS
from apatite.segment.networks import NETWORKS
from apatite.study.sweep.begins import PARTS, parts_made
from apatite.study.sweep.estimate import START_S, expected_s
from apatite.study.sweep.expand import readers_of, rows_of
from apatite.study.sweep.grid import READERS, Grid, grid_of, read_grid
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import PACE_SHARE, method_of
from apatite.study.sweep.settings import (
    epochs_as_long_as,
    finetune_config,
    network_key,
    pretrain_config,
    row_config,
    row_digest,
    settings_digest,
)

OPENKBP = ("topo-small", "topo-consistency", "topo-beyond")
BEFORE = {
    "vit-xs-p4-mae-scratch-nall-s0-perfect": (
        "6da1f5dbdad79215dcb7804cdd7ff41371192f20b1de4f00fef69476c69ff39a", "finetune-65ca0dd4f90694e9",
    ),
    "pretrain-mae-xs-p4-s0": (
        "2cabd7ba1254afd2e6494d70cf9e88a97ab940b1da8105134f5b4bc8605011d3", "pretrain-9481003553e42b4f",
    ),
    "nnunet-nall-s0-perfect": ("f46d8bc91018d57d939e897fc5a629238a00e9957965687a7ed91d705f9c81a6", ""),
}  # fmt: skip
"""Digest of the settings, and key of the network, of rows that were done before there were other networks."""


def grid(*blocks: dict, **values: object) -> Grid:
    return grid_of({"blocks": list(blocks)} | values, "made")


def record(name: str, *, steps: int, seconds: float, step_s: float = 0.0, epochs: int = 1) -> Record:
    return Record(
        name=name, kind="pretrain", tier="own", axes={}, steps=steps, seconds={"pretrain": seconds}, num_parameters=1,
        step_s=step_s, config={"epochs": epochs},
    )  # fmt: skip


def test_a_network_is_part_of_the_name_and_the_first_one_is_not():
    axes = {"network": ["vit", "unetrpp", "hybrid", "hybrid_decoder"], "init": ["scratch", "topo_mae_hybrid"]}
    rows = rows_of(grid({"axes": axes}, defaults={"patch": [4, 8, 8], "decoder": "unetr", "reader": "openkbp"}))
    assert list(rows) == [
        "vit-xs-p4x8x8-unetr-nearest-scratch-nall-s0-openkbp",
        "pretrain-topo_mae_hybrid-xs-p4x8x8-s0",
        "vit-xs-p4x8x8-unetr-nearest-topo_mae_hybrid-nall-s0-openkbp",
        "unetrpp-scratch-nall-s0-openkbp",
        "unetrpp-xs-p4x8x8-topo_mae_hybrid-nall-s0-openkbp",
        "hybrid-xs-p4x8x8-scratch-nall-s0-openkbp",
        "hybrid-xs-p4x8x8-topo_mae_hybrid-nall-s0-openkbp",
        "hybrid_decoder-xs-p4x8x8-scratch-nall-s0-openkbp",
        "hybrid_decoder-xs-p4x8x8-topo_mae_hybrid-nall-s0-openkbp",
    ]
    scratch, tuned = (rows[f"unetrpp-{part}-nall-s0-openkbp"] for part in ("scratch", "xs-p4x8x8-topo_mae_hybrid"))
    assert [scratch.axes[name] for name in ("model", "patch", "decoder", "take")] == [None] * 4
    assert (tuned.axes["model"], tuned.axes["patch"], tuned.axes["decoder"]) == ("vitiac-xs", "4x8x8", None)
    assert {row.kind for row in rows.values()} == {"vit", "pretrain"}
    assert readers_of(rows) == ["openkbp"]
    assert len({row.cost_key for row in rows.values()}) == 5  # one per network, and pre-training


def test_what_makes_no_difference_to_a_network_makes_no_row():
    axes = {"network": ["unetrpp"], "patch": [4, 8], "model": ["vitiac-xs", "vitiac-s"], "decoder": ["mae", "sfpn"]}
    assert list(rows_of(grid({"axes": axes}))) == ["unetrpp-scratch-nall-s0-perfect"]
    hybrids = rows_of(grid({"axes": axes | {"network": ["hybrid"], "upsampling": ["nearest", "transposed"]}}))
    assert len(hybrids) == 4


@pytest.mark.parametrize(
    ("network", "init", "missing"),
    [
        ("hybrid", "mae_voxels", "unetrpp"),
        ("hybrid", "topo_mae_unetrpp", "vit"),
        ("hybrid_decoder", "topo_mae", "unetrpp"),
        ("unetrpp", "mae", "unetrpp"),
        ("vit", "topo_mae_unetrpp", "vit"),
        ("hybrid", "mae_euler-as-long-as-topo_mae_hybrid", "unetrpp"),
    ],
)
def test_a_network_begins_from_a_pretraining_of_all_its_parts(network: str, init: str, missing: str):
    with pytest.raises(ConfigError, match=f"pre-trains no {missing}") as caught:
        rows_of(grid({"axes": {"network": [network], "init": [init]}}))
    assert "topo_mae_hybrid" in caught.value.fix


def test_a_named_pretraining_is_looked_at_too():
    blocks = (
        {"axes": {"init": ["mae_voxels"]}},
        {"axes": {"network": ["hybrid"], "init": ["pretrain-mae_voxels-xs-p4-s0"]}},
    )
    with pytest.raises(ConfigError, match="pre-trains no unetrpp"):
        rows_of(grid(*blocks))


def test_every_network_is_known_to_have_its_parts():
    assert set(PARTS) == set(NETWORKS)
    made = {part for name in METHODS for model in ("vitiac-xs", "swin-xs") for part in parts_made(name, model)}
    assert made == set().union(*PARTS.values())


def test_axes_become_the_configuration_of_any_network():
    made = grid(
        {"axes": {"network": ["vit", "unetrpp", "hybrid"], "seed": [3]}},
        finetune={"recipe": "openkbp", "change": ["unetrpp.stem=[2, 4, 4]", "steps=30"]},
        defaults={"patch": [4, 8, 16]},
    )
    vit, unetrpp, hybrid = (finetune_config(made, row) for row in rows_of(made).values())
    assert [config.network for config in (vit, unetrpp, hybrid)] == ["vit", "unetrpp", "hybrid"]
    assert vit.decoder.name == "mae" and vit.decoder.mae.dim == 48
    assert vit.patch == hybrid.patch == (4, 8, 16) and {c.seed for c in (vit, unetrpp, hybrid)} == {3}
    assert unetrpp.unetrpp.stem == (2, 4, 4) and unetrpp.steps == 30
    with pytest.raises(ConfigError, match="set by an axis"):
        grid({"name": "x", "finetune": ["network=hybrid"]})


def test_methods_become_configurations():
    made = grid(
        {"axes": {"init": ["mae_topology"]}}, pretrain={"recipe": "openkbp", "change": ["weights={topology: 0.3}"]}
    )
    config = pretrain_config(made, rows_of(made)["pretrain-mae_topology-xs-p4-s0"])
    assert (config.method, config.weights) == ("mae_topology", {"topology": 0.3})


def test_a_pretraining_as_long_as_another_needs_it_and_a_short_run_of_its_own():
    init = "mae_euler-as-long-as-mae_topology"
    made = grid({"axes": {"init": [init]}}, pretrain={"recipe": "sweep", "change": ["epochs=20", "check_epochs=10"]})
    rows = rows_of(made)
    whole, pace, timed, tuned = rows.values()
    assert [row.name for row in rows.values()] == [
        "pretrain-mae_topology-xs-p4-s0",
        "pretrain-mae_euler-pace-xs-p4-s0",
        f"pretrain-{init}-xs-p4-s0",
        f"vit-xs-p4-mae-{init}-nall-s0-perfect",
    ]
    assert timed.needs == (whole.name, pace.name) and timed.is_timed and not (pace.is_timed or tuned.is_timed)
    assert (tuned.encoder, tuned.axes["init"]) == (timed.name, init)
    assert pace.minutes == pytest.approx(PACE_SHARE * whole.minutes)
    assert (pretrain_config(made, pace).epochs, pretrain_config(made, whole).epochs) == (4, 20)
    # 4 epochs of 10 steps at 0.5 s, and a look of 3 s; the other took 103 s: 100 s are 200 steps, 20 epochs.
    done = {
        whole.name: record(whole.name, steps=200, seconds=103.0),
        pace.name: record(pace.name, steps=40, seconds=23.0, step_s=0.5, epochs=4),
    }
    config = pretrain_config(made, timed, done)
    assert (config.method, config.epochs, config.check_epochs) == ("mae_euler", 20, 10)
    slow = replace(done[whole.name], seconds={"pretrain": 8.1})
    assert epochs_as_long_as(slow, done[pace.name]) == 1
    assert epochs_as_long_as(replace(slow, seconds={"pretrain": 303.0}), done[pace.name]) == 60
    assert expected_s(timed, rows, done) == START_S + 103.0
    assert method_of(init) == ("mae_euler", "mae_topology") and method_of("mae_euler-pace") == ("mae_euler", "")
    with pytest.raises(ConfigError, match="mae_topologie"):
        rows_of(grid({"axes": {"init": ["mae_euler-as-long-as-mae_topologie"]}}))


def test_equal_time_counts_the_whole_of_a_pretraining_of_two_networks():
    """UNETR++ from scratch at its own pace, for all the seconds in which both networks were pre-trained."""
    made = grid(
        {"axes": {"network": ["unetrpp"], "init": ["scratch-equal-time"]}}, method="topo_mae_hybrid",
        finetune={"recipe": "openkbp", "change": ["steps=100", "check_every=10"]},
    )  # fmt: skip
    rows = rows_of(made)
    row = rows["unetrpp-xs-p4-scratch-equal-time-nall-s0-perfect"]
    encoder, scratch = row.needs
    assert (encoder, scratch) == ("pretrain-topo_mae_hybrid-xs-p4-s0", "unetrpp-scratch-nall-s0-perfect")
    done = {
        encoder: record(encoder, steps=60, seconds=250.0),
        scratch: replace(record(scratch, steps=100, seconds=0.0), kind="vit", seconds={"finetune": 200.0}),
    }
    config = finetune_config(made, row, done)
    assert (config.network, config.steps, config.check_every) == ("unetrpp", 225, 22)
    assert expected_s(row, rows, done) == START_S + 450.0


def test_rows_that_were_done_before_are_still_known():
    made = read_grid("small-decoders")
    rows = rows_of(made)
    for name, (digest, key) in BEFORE.items():
        assert row_digest(made, rows[name]) == digest
        assert rows[name].kind == "nnunet" or network_key(row_config(made, rows[name])) == key
    config = finetune_config(made, rows["vit-xs-p4-mae-scratch-nall-s0-perfect"])
    for change in ({"network": "hybrid"}, {"deep_supervision": False}):
        assert settings_digest(replace(config, **change)) != settings_digest(config)
        assert network_key(replace(config, **change)) != network_key(config)


def test_the_packaged_grids_hold_what_they_are_for():
    small = rows_of(read_grid("topo-small"))
    tuned = {
        (r.axes["network"], r.axes["init"], r.axes["labels"], r.axes["seed"]) for r in small.values() if r.kind == "vit"
    }
    arms = [("vit", m) for m in ("scratch", "mae_voxels", "mae_topology", "mae_position", "topo_mae")]
    arms += [("unetrpp", "scratch"), ("hybrid", "topo_mae_hybrid")]
    assert tuned == {(*arm, labels, seed) for arm in arms for labels in (10, 40) for seed in (0, 1)}
    assert sum(row.kind == "pretrain" for row in small.values()) == 10
    assert sum(row.minutes + START_S / 60 for row in small.values()) < 45
    consistency = {(r.axes["network"], r.axes["init"]) for r in rows_of(read_grid("topo-consistency")).values()}
    assert {
        ("hybrid", "topo_mae_parallel"),
        ("hybrid", "topo_mae_hybrid"),
        ("hybrid_decoder", "topo_mae_hybrid"),
    } <= consistency
    phantom = [row for row in rows_of(read_grid("topo-phantom")).values() if row.kind == "pretrain"]
    terms = {
        term for row in phantom for weights in METHODS[str(row.axes["init"])].branches.values() for term in weights
    }
    assert "topology" in terms and "position" not in terms  # regions come whole
    paper = {(r.axes["network"], r.axes["init"]) for r in rows_of(read_grid("topo-paper")).values()}
    assert {("hybrid", "topo_mae_hybrid"), ("unetrpp", "scratch"), ("vit", "mae_voxels")} <= paper


def test_the_grids_on_one_data_set_share_their_rows():
    made = [read_grid(name) for name in OPENKBP]
    assert len({(str(dump(grid.pretrain)), str(dump(grid.finetune)), grid.defaults.reader) for grid in made}) == 1
    names = [set(rows_of(grid)) for grid in made]
    assert names[0] & names[1] and names[0] & names[2]
    assert {grid.defaults.reader for grid in made} <= set(READERS)
