from dataclasses import replace

import pytest

from apatite.core.config import dump, load, write_yaml
from apatite.core.errors import ConfigError
from apatite.nn.decoders.registry import DECODERS
from apatite.pretrain.config import PretrainConfig
from apatite.segment.config import FinetuneConfig
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import Grid, grid_of, packaged_grids, read_grid
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import EQUAL_TIME, UPSAMPLED, patch_edges, patch_text
from apatite.study.sweep.settings import finetune_config, network_key, pretrain_config, row_config, settings_digest


def grid(*blocks: dict, **values: object) -> Grid:
    return grid_of({"blocks": list(blocks)} | values, "made")


def test_the_product_of_the_axes_are_the_rows_and_each_pretraining_stands_once_before_its_rows():
    rows = rows_of(grid({"axes": {"patch": [4, 8], "labels": [5, 20], "init": ["scratch", "mae"]}}))
    assert list(rows) == [
        "vit-xs-p4-mae-scratch-n5-d0-s0-perfect",
        "pretrain-mae-xs-p4-s0",
        "vit-xs-p4-mae-mae-n5-d0-s0-perfect",
        "vit-xs-p4-mae-scratch-n20-d0-s0-perfect",
        "vit-xs-p4-mae-mae-n20-d0-s0-perfect",
        "vit-xs-p8-mae-scratch-n5-d0-s0-perfect",
        "pretrain-mae-xs-p8-s0",
        "vit-xs-p8-mae-mae-n5-d0-s0-perfect",
        "vit-xs-p8-mae-scratch-n20-d0-s0-perfect",
        "vit-xs-p8-mae-mae-n20-d0-s0-perfect",
    ]
    tuned = rows["vit-xs-p8-mae-mae-n20-d0-s0-perfect"]
    assert (tuned.needs, tuned.encoder) == (("pretrain-mae-xs-p8-s0",), "pretrain-mae-xs-p8-s0")
    assert rows["vit-xs-p8-mae-scratch-n20-d0-s0-perfect"].needs == ()
    assert tuned.axes == {
        "arm": "vit", "network": "vit", "model": "vitiac-xs", "patch": 8, "decoder": "mae", "upsampling": None,
        "init": "mae", "take": "encoder", "labels": 20, "draw": 0, "seed": 0, "reader": "perfect",
    }  # fmt: skip


def test_what_makes_no_difference_makes_no_row():
    """A decoder without upsampling, scratch with `take`, all labels with another draw, nnU-Net with a patch."""
    axes = {
        "arm": ["vit", "nnunet"], "patch": [4, 8], "upsampling": ["nearest", "transposed"], "draw": [0, 1],
        "take": ["encoder", "embedding"],
    }  # fmt: skip
    rows = rows_of(grid({"axes": axes}))
    assert list(rows) == [
        "vit-xs-p4-mae-scratch-nall-s0-perfect",
        "vit-xs-p8-mae-scratch-nall-s0-perfect",
        "nnunet-nall-s0-perfect",
    ]
    assert rows["nnunet-nall-s0-perfect"].axes["patch"] is None


def test_patches_may_have_unequal_edges():
    (row,) = rows_of(grid({"axes": {"patch": [[2, 4, 8]]}})).values()
    assert row.name == "vit-xs-p2x4x8-mae-scratch-nall-s0-perfect"
    assert finetune_config(grid({}), row).patch == (2, 4, 8)
    assert patch_edges(patch_text((2, 4, 8))) == (2, 4, 8) and patch_edges(4) == (4, 4, 4) and patch_text((8,) * 3) == 8


def test_two_blocks_share_rows_and_a_block_that_changes_a_recipe_has_its_own():
    long = {"name": "long", "pretrain": ["epochs=99"], "axes": {"init": ["scratch", "mae"]}}
    made = grid({"axes": {"init": ["scratch", "mae"]}}, long)
    rows = rows_of(made)
    assert list(rows) == [
        "vit-xs-p4-mae-scratch-nall-s0-perfect",
        "pretrain-mae-xs-p4-s0",
        "vit-xs-p4-mae-mae-nall-s0-perfect",
        "pretrain-mae-xs-p4-s0-long",
        "vit-xs-p4-mae-mae-nall-s0-perfect-long",
    ]
    assert pretrain_config(made, rows["pretrain-mae-xs-p4-s0-long"]).epochs == 99
    assert rows["vit-xs-p4-mae-mae-nall-s0-perfect-long"].needs == ("pretrain-mae-xs-p4-s0-long",)


def test_a_row_may_begin_from_a_pretraining_of_another_block():
    named = {"axes": {"init": ["pretrain-mae-xs-p4-s1"], "seed": [0, 2]}}
    rows = rows_of(grid(named, {"axes": {"init": ["mae"], "seed": [1]}}))
    assert list(rows)[:2] == ["pretrain-mae-xs-p4-s1", "vit-xs-p4-mae-pretrain-mae-xs-p4-s1-nall-s0-perfect"]
    assert rows["vit-xs-p4-mae-pretrain-mae-xs-p4-s1-nall-s2-perfect"].encoder == "pretrain-mae-xs-p4-s1"
    with pytest.raises(ConfigError, match="no row") as caught:
        rows_of(grid({"axes": {"init": ["mea"]}}))
    assert "'mae'" in caught.value.fix


def test_two_different_runs_of_one_name_are_refused():
    blocks = [{"name": "b", "finetune": [f"steps={steps}"]} for steps in (7, 9)]
    with pytest.raises(ConfigError, match="one name"):
        rows_of(grid(*blocks))


@pytest.mark.parametrize(
    ("values", "message", "fix"),
    [
        ({"blocks": [{"axes": {"decodr": ["mae"]}}]}, "unknown key 'decodr'", "decoder"),
        ({"blocks": [{}], "tire": "small"}, "unknown key 'tire'", "tier"),
        ({"blocks": [{"axes": {"reader": ["human"]}}]}, "perfect", ""),
        ({"blocks": []}, "no blocks", "block"),
        ({"blocks": [{"finetune": ["steps=3"]}]}, "no name", "name"),
        ({"blocks": [{"name": "a/b", "finetune": ["steps=3"]}]}, "file name", "letters"),
        ({"blocks": [{"name": "p", "finetune": ["patch=[2, 2, 2]"]}]}, "set by an axis", "axes"),
        ({"blocks": [{}], "finetune": {"change": ["seed=3"]}}, "set by an axis", "axes"),
        ({"blocks": [{"axes": {"labels": [0]}}]}, "too small", ""),
        ({"blocks": [{}], "nnunet": {"minutes": 0}}, "cannot train", ""),
    ],
)
def test_nonsense_in_a_grid_is_refused(values, message, fix):
    with pytest.raises(ConfigError, match=message) as caught:
        grid_of(values, "made")
    assert fix in caught.value.fix


@pytest.mark.parametrize("axis", [{"decoder": ["upscael"]}, {"model": ["vitiac-xxs"]}])
def test_an_unknown_network_is_refused_with_the_nearest(axis):
    with pytest.raises(ConfigError, match="unknown") as caught:
        rows_of(grid({"axes": axis}))
    assert "did you mean" in caught.value.fix


def test_an_unknown_key_of_a_recipe_is_refused():
    made = grid({"name": "x", "finetune": ["stpes=3"]})
    with pytest.raises(ConfigError, match="stpes"):
        row_config(made, next(iter(rows_of(made).values())))


def test_axes_recipes_and_changes_become_configurations():
    made = grid(
        {
            "name": "few",
            "finetune": ["optim.lr=0.002"],
            "axes": {
                "decoder": ["sfpn"], "upsampling": ["transposed"], "labels": [7], "draw": [3], "seed": [5],
                "take": ["embedding"], "init": ["mae"],
            },
        },
        finetune={"recipe": "demo", "change": ["steps=33"]},
    )  # fmt: skip
    rows = rows_of(made)
    assert list(rows) == [
        "pretrain-mae-xs-p4-s5",
        "vit-xs-p4-sfpn-transposed-mae-embedding-n7-d3-s5-perfect-few",
    ]
    config = finetune_config(made, rows["vit-xs-p4-sfpn-transposed-mae-embedding-n7-d3-s5-perfect-few"])
    assert (config.decoder.name, config.decoder.upsampling, config.decoder.mae.dim) == ("sfpn", "transposed", 48)
    assert (config.num_labelled, config.draw, config.seed, config.take) == (7, 3, 5, "embedding")
    assert (config.steps, config.optim.lr, config.check_every) == (33, 0.002, 50)
    assert pretrain_config(made, rows["pretrain-mae-xs-p4-s5"]).seed == 5


def test_an_equal_time_is_the_steps_that_fit_into_the_time_of_pretraining():
    made = grid(
        {"axes": {"init": [EQUAL_TIME]}}, finetune={"recipe": "sweep", "change": ["steps=100", "check_every=10"]}
    )
    rows = rows_of(made)
    row = rows["vit-xs-p4-mae-scratch-equal-time-nall-s0-perfect"]
    encoder, scratch = row.needs
    assert (encoder, scratch) == ("pretrain-mae-xs-p4-s0", "vit-xs-p4-mae-scratch-nall-s0-perfect")
    assert list(rows)[-1] == row.name and row.encoder == ""
    done = {
        encoder: _record(encoder, 60, pretrain=150.0),
        scratch: _record(scratch, 100, finetune=50.0, evaluate=999.0),
    }
    config = finetune_config(made, row, done)
    # 150 s of pre-training are 300 steps at 0.5 s; the number of looks stays ten.
    assert (config.steps, config.check_every) == (400, 40)


def test_only_settings_that_change_the_network_change_its_key():
    rows = rows_of(grid({"axes": {"init": ["scratch", "mae"], "seed": [0, 1], "patch": [4, 8], "labels": [3, 9]}}))
    made = grid({})
    keys = {name: network_key(row_config(made, row)) for name, row in rows.items() if row.kind != "nnunet"}
    by_patch = {patch: {key for name, key in keys.items() if f"-p{patch}-" in name} for patch in (4, 8)}
    assert all(len(found) == 2 for found in by_patch.values())  # one of pre-training, one of fine-tuning
    assert not by_patch[4] & by_patch[8]


def test_the_digest_of_settings_ignores_precision_alone():
    made = grid({})
    config = finetune_config(made, next(iter(rows_of(made).values())))
    from apatite.engine.precision import Precision

    assert settings_digest(config) == settings_digest(replace(config, precision=Precision(threads=2)))
    assert settings_digest(config) != settings_digest(replace(config, draw=1))


@pytest.mark.parametrize("name", sorted(packaged_grids()))
def test_packaged_grids_are_whole(name):
    made = read_grid(name)
    assert made.name == name and made.about and made.tier in ("small", "paper", "own")
    rows = rows_of(made)
    kinds = {"pretrain": PretrainConfig, "vit": FinetuneConfig, "nnunet": NnunetConfig}
    before: set[str] = set()
    for row in rows.values():
        assert set(row.needs) <= before, "a row stands before what it needs"
        before.add(row.name)
        assert len(row.name) < 100 and "/" not in row.name
        if not row.is_timed:
            assert isinstance(row_config(made, row), kinds[row.kind])
        if row.axes["network"] == "vit":
            assert row.axes["decoder"] in DECODERS
    assert load(Grid, dump(made), "again") == made


def test_the_packaged_grids_hold_what_they_are_for():
    decoders = rows_of(read_grid("small-decoders")).values()
    pairs = {(row.axes["decoder"], row.axes["patch"], row.axes["init"]) for row in decoders if row.kind == "vit"}
    assert {(d, p, i) for d in DECODERS for p in (4, 8) for i in ("scratch", "mae")} <= pairs
    assert any(row.kind == "nnunet" for row in decoders)
    labels = rows_of(read_grid("small-labels")).values()
    assert {row.label_count for row in labels if row.kind == "vit"} == {5, 10, 20, 40, 80, 158}
    assert {row.reader for row in labels if row.kind == "vit"} == {"perfect", "reader"}
    paper = {
        (row.axes["model"], row.axes["patch"], row.axes["decoder"]) for row in rows_of(read_grid("paper")).values()
    }
    assert {(f"vitiac-{m}", p, d) for m in "sml" for p in (4, 8, 16) for d in DECODERS} <= paper


def test_every_decoder_is_known_to_have_a_choice_of_upsampling_or_none():
    assert set(UPSAMPLED) == set(DECODERS) - {"mae"}


def test_a_file_is_read_by_its_path_and_values_are_changed(tmp_path):
    path = tmp_path / "mine.yaml"
    write_yaml(path, grid({"axes": {"seed": [1, 2]}}))
    made = read_grid(str(path), ["resamples=50", "defaults.patch=8"])
    assert (made.name, made.resamples) == ("mine", 50)
    assert next(iter(rows_of(made))) == "vit-xs-p8-mae-scratch-nall-s1-perfect"
    with pytest.raises(ConfigError, match="small-decoder") as caught:
        read_grid("small-decoder")
    assert "small-decoders" in caught.value.fix
    with pytest.raises(ConfigError, match="YAML"):
        read_grid(str(tmp_path / "none.yaml"))


def _record(name: str, steps: int, **seconds: float) -> Record:
    return Record(name=name, kind="vit", tier="own", axes={}, steps=steps, seconds=seconds, num_parameters=1)
