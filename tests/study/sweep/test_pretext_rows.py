"""A Swin on the axes: its names, what it can begin from, what of a grid's settings a method reads, and digests."""

from dataclasses import fields, replace

import numpy as np
import pytest

from apatite.core.config import dump
from apatite.core.errors import ConfigError
from apatite.nn.models import MODELS, model_size
from apatite.nn.swin.presets import SWINS
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.methods import METHODS
from apatite.pretrain.teaching import TeachingChanges
from apatite.segment.config import FinetuneConfig
from apatite.study.paper.words import METHODS as WORDS
from apatite.study.sweep.begins import PARTS, STUDENT, parts_made
from apatite.study.sweep.estimate import START_S
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import Grid, grid_of, read_grid
from apatite.study.sweep.rows import is_swin
from apatite.study.sweep.settings import (
    _FROM_THE_START,
    finetune_config,
    network_key,
    pretrain_config,
    row_config,
    row_digest,
    settings_digest,
)

SWIN = {"network": ["swin"], "model": ["swin-xs"]}


def grid(*blocks: dict, **values: object) -> Grid:
    values = {"pretrain": {"recipe": "smit_small"}, "finetune": {"recipe": "openkbp"}} | values
    return grid_of({"blocks": list(blocks)} | values, "made")


def test_a_swin_is_named_by_its_model_and_has_no_patch():
    axes = SWIN | {"patch": [8, 4], "decoder": ["upscale", "mae"], "init": ["scratch", "smit"], "labels": [10]}
    rows = rows_of(grid({"axes": axes}, defaults={"reader": "openkbp"}))
    assert list(rows) == [
        "swin-xs-scratch-n10-d0-s0-openkbp",
        "pretrain-smit-swin-xs-s0",
        "swin-xs-smit-n10-d0-s0-openkbp",
    ]
    tuned, encoder = rows["swin-xs-smit-n10-d0-s0-openkbp"], rows["pretrain-smit-swin-xs-s0"]
    assert [tuned.axes[name] for name in ("network", "model", "patch", "decoder", "upsampling")] == [
        "swin", "swin-xs", None, None, None,
    ]  # fmt: skip
    assert (encoder.axes["patch"], encoder.axes["model"], tuned.encoder) == (None, "swin-xs", encoder.name)
    assert len({row.cost_key for row in rows.values()}) == 2


def test_a_vit_may_be_a_student_too_and_its_name_says_that_it_is_one():
    axes = {"patch": [[4, 8, 8]], "init": ["smit", "mae"]}
    rows = rows_of(grid({"axes": axes}, {"axes": SWIN | {"init": ["smit"]}}))
    assert {name for name, row in rows.items() if row.kind == "pretrain"} == {
        "pretrain-smit-xs-p4x8x8-s0", "pretrain-mae-xs-p4x8x8-s0", "pretrain-smit-swin-xs-s0",
    }  # fmt: skip


def test_models_are_told_apart_by_name():
    assert {name for name in MODELS if is_swin(name)} == set(SWINS)
    assert not is_swin(None) and not is_swin("vitiac-xs")


@pytest.mark.parametrize(
    ("axes", "message", "fix"),
    [
        ({"network": ["swin"]}, "the network swin is not made of vitiac-xs", "swin-"),
        ({"model": ["swin-xs"]}, "the network vit is not made of swin-xs", "network swin"),
        ({"network": ["hybrid"], "model": ["swin-xs"]}, "the network hybrid is not made of swin-xs", "network swin"),
        (SWIN | {"init": ["mae"]}, "mae leaves hidden patches out, which a Swin cannot", "smit"),
        (SWIN | {"init": ["topo_mae_hybrid"]}, "leaves hidden patches out", "simmim"),
        (SWIN | {"init": ["topo_mae_unetrpp"]}, "pre-trains no swin", "smit"),
        (SWIN | {"init": ["mae-as-long-as-smit"]}, "leaves hidden patches out", "ibot"),
        ({"network": ["hybrid"], "init": ["smit"]}, "pre-trains no unetrpp", "topo_mae_hybrid"),
    ],
)
def test_what_does_not_fit_a_swin_is_refused(axes: dict, message: str, fix: str):
    with pytest.raises(ConfigError, match=message) as caught:
        rows_of(grid({"axes": axes}))
    assert fix in caught.value.fix


def test_a_pretraining_of_the_other_kind_of_encoder_is_no_beginning():
    blocks = ({"axes": {"init": ["smit"]}}, {"axes": SWIN | {"init": ["pretrain-smit-xs-p4-s0"]}})
    with pytest.raises(ConfigError, match="pre-trains no swin"):
        rows_of(grid(*blocks))


def test_every_method_makes_parts_of_some_network():
    parts = set().union(*PARTS.values())
    for name, method in METHODS.items():
        assert parts_made(name, "vitiac-xs") <= parts and parts_made(name, "swin-xs") <= parts
        assert (parts_made(name, "swin-xs") == {"swin"}) == (set(method.branches) == {STUDENT})
    assert set(WORDS) == set(METHODS) - {"mae"}


def test_axes_become_configurations_of_a_swin():
    made = grid({"axes": SWIN | {"init": ["smit"], "labels": [10], "seed": [3]}})
    encoder, tuned = rows_of(made).values()
    pretrain, finetune = pretrain_config(made, encoder), finetune_config(made, tuned)
    assert (pretrain.model, pretrain.patch, pretrain.method, pretrain.seed) == ("swin-xs", None, "smit", 3)
    assert (finetune.network, finetune.model, finetune.patch) == ("swin", "swin-xs", None)
    assert finetune.num_labelled == 10


def test_methods_read_what_they_have_of_the_settings_of_a_grid():
    change = ["teaching.momentum=0.9", "local_views=1", "parent=[64, 64, 64]", "hidden_ratio=0.5"]
    made = grid(
        {"axes": SWIN | {"init": ["simmim", "smit", "dino", "rotation"]}},
        {"name": "local", "pretrain": ["local_views=3"], "axes": SWIN | {"init": ["smit"]}},
        {"name": "taught", "pretrain": ["teaching.momentum=0.8"], "axes": SWIN | {"init": ["simmim"]}},
        pretrain={"recipe": "smit_small", "change": change},
    )
    rows = rows_of(made)
    configs = {name: pretrain_config(made, row) for name, row in rows.items() if row.kind == "pretrain"}
    of = {name.removeprefix("pretrain-").partition("-")[0]: config for name, config in configs.items()}
    assert of["dino"].teaching.momentum == 0.9 and of["dino"].local_views == 1 and of["dino"].parent == (64, 64, 64)
    simmim = configs["pretrain-simmim-swin-xs-s0"]
    assert (simmim.teaching, simmim.local_views, simmim.parent) == (TeachingChanges(), None, None)
    assert of["rotation"].teaching == TeachingChanges()
    assert (of["rotation"].hidden_ratio, of["dino"].hidden_ratio, simmim.hidden_ratio) == (None, None, 0.5)
    smit = configs["pretrain-smit-swin-xs-s0"]
    assert (smit.teaching.momentum, smit.local_views, smit.parent) == (0.9, None, (64, 64, 64))
    # A block says what it means: it is taken at its word, and what makes no sense is refused when the row is run.
    assert configs["pretrain-smit-swin-xs-s0-local"].local_views == 3
    assert configs["pretrain-simmim-swin-xs-s0-taught"].teaching.momentum == 0.8


def test_a_patch_that_is_the_models_own_is_the_same_run_as_none():
    made = grid({"axes": SWIN | {"init": ["smit"]}}, {"axes": {"init": ["mae"]}})
    for row in rows_of(made).values():
        config = row_config(made, row)
        assert isinstance(config, PretrainConfig | FinetuneConfig)
        own = replace(config, patch=model_size(str(row.axes["model"])).encoder().patch)
        free = replace(config, patch=None)
        assert settings_digest(own) == settings_digest(free) and network_key(own) == network_key(free)
        assert settings_digest(replace(config, patch=(16, 16, 16))) != settings_digest(own)


def test_what_came_later_counts_once_it_is_set():
    made = grid({"axes": SWIN | {"init": ["smit"]}})
    encoder, tuned = rows_of(made).values()
    config = pretrain_config(made, encoder)
    assert row_digest(made, encoder) == settings_digest(config)
    assert row_digest(made, tuned) == settings_digest(finetune_config(made, tuned))
    changes = (
        {"drop_path": 0.3}, {"local_views": 2}, {"parent": (64, 64, 80)}, {"teaching": TeachingChanges(momentum=0.9)},
        {"projection": replace(config.projection, prototypes=77)}, {"contrast": replace(config.contrast, hidden=77)},
        {"photometric": replace(config.photometric, noise_hu=9.0)},
        {"optim": replace(config.optim, weight_decay_end=0.4)}, {"optim": replace(config.optim, decays_all=True)},
    )  # fmt: skip
    digests = {settings_digest(replace(config, **change)) for change in changes}
    assert len(digests | {settings_digest(config)}) == len(changes) + 1


def test_the_first_settings_are_still_there():
    """One that is renamed would drop out of every digest in silence."""
    for kind, first in _FROM_THE_START.items():
        assert first <= {item.name for item in fields(kind)}


SHARED = (
    "smit-small",
    "smit-terms",
    "smit-masks",
    "smit-tap",
    "smit-teacher",
    "smit-labels",
    "smit-reuse",
    "smit-beyond",
)


def test_the_first_forty_minutes_hold_one_seed_of_every_main_task():
    rows = list(rows_of(read_grid("smit-small")).values())
    minutes = np.cumsum([row.minutes + START_S / 60 for row in rows])
    early = [row for row, end in zip(rows, minutes, strict=True) if end <= 40]
    tuned = [(row.axes["network"], row.axes["init"]) for row in early if row.kind == "vit"]
    assert tuned == [
        *(("swin", init) for init in ("scratch", "simmim", "smit", "ibot", "dino")), ("vit", "scratch"), ("vit", "mae"),
    ]  # fmt: skip
    assert {(row.axes["labels"], row.axes["seed"]) for row in early if row.kind == "vit"} == {(10, 0)}
    found = {(row.axes["init"], row.axes["labels"], row.axes["seed"]) for row in rows if row.axes["network"] == "swin"}
    tasks = ("scratch", "simmim", "smit", "ibot", "dino", "rotation", "mocov3")
    assert found == {(init, labels, seed) for init in tasks for labels in (10, 40) for seed in (0, 1)}


def test_the_grids_of_one_folder_mean_the_same_rows_by_one_name():
    made = {name: read_grid(name) for name in SHARED}
    assert len({(str(dump(one.pretrain)), str(dump(one.finetune)), str(one.defaults)) for one in made.values()}) == 1
    rows: dict[str, object] = {}
    for one in made.values():
        for row in rows_of(one).values():
            known = rows.setdefault(row.name, replace(row, minutes=1.0))
            assert known == replace(row, minutes=1.0), row.name
    speed = read_grid("smit-speed")
    assert finetune_config(speed, next(iter(rows_of(speed).values()))).steps == 500


def test_every_question_has_its_grid():
    def blocks(name: str) -> set[str]:
        return {block.name for block in read_grid(name).blocks if block.name}

    def inits(name: str) -> set[str]:
        return {str(row.axes["init"]) for row in rows_of(read_grid(name)).values()}

    assert blocks("smit-terms") >= {"mip-mpd", "mip-itd", "mip-alone", "mpd-alone"}
    assert {"smit", "smit_without_mip", "itd_only", "simmim"} <= inits("smit-terms")
    assert blocks("smit-masks") == {f"hidden-{share}" for share in (30, 50, 70, 80, 90)}
    assert blocks("smit-tap") == {"merged3"} and {"noisy-teacher", "noisy-student"} <= blocks("smit-teacher")
    assert {"simmim-as-long-as-smit", "scratch-equal-time", "smit_twins", "smit_balanced"} <= inits("smit-beyond")
    labels = rows_of(read_grid("smit-labels")).values()
    assert {(row.label_count, row.axes["draw"]) for row in labels if row.kind == "vit"} == {
        (count, draw) for count in (5, 10, 20, 40) for draw in (0, 1, 2)
    }
    # One pre-training, two seeds of fine-tuning.
    reuse = [row for row in rows_of(read_grid("smit-reuse")).values() if row.encoder == "pretrain-smit-swin-xs-s0"]
    assert {(row.label_count, row.axes["seed"]) for row in reuse} == {(10, 0), (40, 0), (10, 1), (40, 1)}
    paper = rows_of(read_grid("smit-paper")).values()
    assert {row.axes["model"] for row in paper} == {"swin-smit"}
    assert set(METHODS) & {"smit", "ibot", "dino", "simmim", "mocov3", "rotation"} <= inits("smit-paper")


def test_blocks_change_what_their_names_say():
    def changed(name: str, row: str) -> dict[str, object]:
        made = read_grid(name)
        rows = rows_of(made)
        first, second = (
            dump(pretrain_config(made, rows[f"pretrain-{part}"])) for part in (row, row.rpartition("-s0")[0] + "-s0")
        )
        return {key: first[key] for key in first if first[key] != second[key]}

    assert changed("smit-terms", "smit-swin-xs-s0-mip-mpd") == {"weights": {"itd": 0.0}}
    assert changed("smit-masks", "simmim-swin-xs-s0-hidden-80") == {"hidden_ratio": 0.8}
    assert changed("smit-tap", "dino-swin-xs-s0-merged3")["teaching"]["tap"] == "merged3"  # type: ignore[index]
    assert set(changed("smit-teacher", "smit-swin-xs-s0-noisy-teacher")) == {"teaching", "drop_path"}


def test_rows_with_other_networks_are_still_known():
    """As they were before there was a Swin; the recipe of the last one named no patch."""
    for name, row, digest in (
        ("topo-small", "pretrain-topo_mae_hybrid-xs-p8-s0", "53ba636582e9"),
        ("topo-small", "hybrid-xs-p8-topo_mae_hybrid-n10-d0-s0-openkbp", "7c725e38d7e2"),
        ("topo-phantom", "unetrpp-scratch-nall-s0-perfect", "697cad9ac33f"),
    ):
        made = read_grid(name)
        assert row_digest(made, rows_of(made)[row]).startswith(digest)
