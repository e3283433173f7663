"""Whole runs with a teacher: resumed bit for bit, refused at once, and packed as what was asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apatite.core.config import load, read_yaml
from apatite.core.errors import ConfigError
from apatite.engine.checkpoint import load_state
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.projection import ProjectionConfig
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.stage import pretrain
from apatite.pretrain.teaching import TeachingChanges


class KilledError(Exception):
    """The end of a process, seen from inside."""


def killed_after(steps: int):
    def watch(items, name, total=None):
        for done, item in enumerate(items, 1):
            yield item
            if done == steps:
                raise KilledError

    return watch


@pytest.fixture
def short() -> PretrainConfig:
    """Views of 4×8×8 voxels out of regions of 8×12×16, in six steps."""
    return PretrainConfig(
        method="smit",
        model="vitiac-xs",
        patch=(2, 4, 4),
        crop=(4, 8, 8),
        drop_path=0.2,
        projection=ProjectionConfig(prototypes=16, hidden=12, dim=8),
        contrast=ContrastConfig(hidden=12, dim=8),
        epochs=3,
        batch=3,
        check_epochs=1,
        device="cpu",
        save_every_s=0.0,
        optim=OptimConfig(lr=1e-3, weight_decay=0.04, weight_decay_end=0.4),
        precision=Precision(),
    )


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return load_state(RunFolder(path=run).last)[0]


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["smit", "dinov3", "smit_balanced"])
def test_a_killed_run_goes_on_to_the_same_end(short, method, prepared_folder, tmp_path):
    config = replace(short, method=method)
    pretrain(config, prepared_folder, tmp_path / "whole")
    with pytest.raises(KilledError):
        pretrain(config, prepared_folder, tmp_path / "killed", watch=killed_after(4))
    pretrain(config, prepared_folder, tmp_path / "killed", resume=True)
    whole, resumed = state_of(tmp_path / "whole"), state_of(tmp_path / "killed")
    assert any(name.startswith("model.teacher.branch.") for name in whole)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")
    packages = [(tmp_path / run / "model" / "weights.safetensors").read_bytes() for run in ("whole", "killed")]
    assert packages[0] == packages[1]


def test_the_student_is_kept_or_the_teacher_where_that_is_said(short, prepared_folder, tmp_path):
    for keeps, prefix in (("student", "model.branches.student.encoder."), ("teacher", "model.teacher.branch.encoder.")):
        run = tmp_path / keeps
        pretrain(replace(short, teaching=TeachingChanges(keeps=keeps)), prepared_folder, run)
        package, state = read_package(run / "model"), state_of(run)
        assert package.card.kind == "encoder"
        assert package.card.recipe == "smit"
        assert package.card.input.shape == (4, 8, 8)
        assert all(np.array_equal(array, state[prefix + name].numpy()) for name, array in package.weights.items())


def test_a_swin_is_packed_as_one(short, prepared_folder, tmp_path):
    # Patches of one voxel: a cell of a Swin is eight patches wide.
    config = replace(short, model="swin-xs", patch=(1, 1, 1), crop=(8, 8, 16), hidden_ratio=0.5, epochs=1)
    pretrain(config, prepared_folder, tmp_path / "run")
    package = read_package(tmp_path / "run" / "model")
    assert package.card.kind == "swin"
    assert not any(name.startswith(("hidden_token", "norm.", "project")) for name in package.weights)
    written = load(PretrainConfig, read_yaml(tmp_path / "run" / "config.yaml"))
    assert written.patch == (1, 1, 1)


def test_weights_are_decayed_more_and_more(short, prepared_folder, tmp_path):
    pretrain(replace(short, epochs=2), prepared_folder, tmp_path / "run")
    _, values = load_state(RunFolder(path=tmp_path / "run").last)
    decays = sorted(group["weight_decay"] for group in values["optimizer"]["groups"])
    # After the last of five steps, 4/5 of the way along half a cosine; norms and biases stay at nothing.
    assert decays == pytest.approx([0.0, 0.04 + 0.36 * (1 - np.cos(np.pi * 4 / 5)) / 2])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crop": None}, "crop"),
        ({"crop": (4, 8, 32)}, "no longer than the region"),
        ({"crop": (4, 8, 9)}, "patch"),
        ({"parent": (8, 12, 16)}, "leave it out"),
        ({"hidden_ratio": 0.99}, "visible"),
        ({"method": "mae", "crop": None, "teaching": TeachingChanges(momentum=0.9)}, "no teacher"),
        ({"method": "mae", "model": "swin-xs", "patch": (1, 1, 1), "crop": None}, "cell"),
        ({"method": "rotation", "crop": (4, 8, 12)}, "turn"),
        ({"weights": {"idt": 1.0}}, "itd"),
        ({"method": "dino", "hidden_ratio": 0.5}, "hides nothing"),
        ({"method": "simmim"}, "leave the crop out"),
        ({"method": "simmim", "crop": None, "local_views": 2}, "local views"),
        ({"crop": (8, 12, 16)}, "the same"),
        ({"method": "smit_twins", "crop": (8, 8, 16), "patch": (8, 8, 8), "hidden_ratio": 0.5}, "the same"),
    ],
)
def test_what_cannot_be_is_refused_before_the_run_begins(short, prepared_folder, tmp_path, changes, says):
    with pytest.raises(ConfigError) as refusal:
        pretrain(replace(short, **changes), prepared_folder, tmp_path / "run")
    assert says in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_masked_autoencoder_of_a_swin_is_refused_with_what_would_do(short, head_study, tmp_path):
    config = replace(short, method="mae", model="swin-xs", patch=(1, 1, 1), crop=None, hidden_ratio=0.5)
    with pytest.raises(ConfigError, match="simmim"):
        pretrain(config, head_study.prepared, tmp_path / "run")


def test_views_of_volumes_are_cut_from_a_larger_crop(short, body_study, tmp_path):
    config = replace(short, crop=(8, 8, 8), parent=(8, 12, 12), local_views=1, method="dino", epochs=1)
    pretrain(config, body_study.prepared, tmp_path / "run")
    package = read_package(tmp_path / "run" / "model")
    assert package.card.input.shape == (8, 8, 8)
    with pytest.raises(ConfigError, match="parent"):
        pretrain(replace(config, parent=(4, 12, 12)), body_study.prepared, tmp_path / "other")
