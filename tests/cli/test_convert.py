"""The verb `convert`: from a file of another program to a package that `inspect` shows; a hostile one is refused."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apatite.cli import main
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.monai_names import from_monai
from apatite.nn.swin.presets import SWINS
from apatite.segment.foreign_layouts import LAYOUTS

SHAPE = SwinConfig(
    crop=(32, 16, 48), windows_hu=((0.0, 1.0),), dim=6, depths=(1, 1, 2, 1), heads=(1, 2, 3, 3), window=(2, 2, 2)
)


class Harm:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """An encoder's weights under SMIT's names."""
    monkeypatch.setitem(SWINS, "swin-smit", replace(SWINS["swin-smit"], shape=SHAPE))
    torch.manual_seed(1)
    ours = SHAPE.build().state_dict()
    parts = ("norm1", "norm2", "mlp.fc1", "mlp.fc2", "attn.proj", "attn.qkv")
    names = [f"patch_embed.{part}.{kind}" for part in ("proj", "norm") for kind in ("weight", "bias")]
    for stage, depth in enumerate(SHAPE.depths):
        names += [f"norm{stage}.weight", f"norm{stage}.bias"]
        names += [f"layers.{stage}.downsample.{part}" for part in ("norm.weight", "norm.bias", "reduction.weight")]
        for block in range(depth):
            begin = f"layers.{stage}.blocks.{block}"
            names += [f"{begin}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
            names.append(f"{begin}.attn.relative_position_bias_table")
    found = {name: ours.get(str(from_monai(name, SHAPE.depths))) for name in names}
    state = {f"module.{name}": tensor for name, tensor in found.items() if tensor is not None}
    assert len(state) == len(ours)
    return state


def test_from_a_file_to_a_package(published, tmp_path, capsys):
    content = {"epoch": 1, "state_dict": {**published, "module.mask_token": torch.zeros(1, 1, 6)}, "optimizer": {}}
    torch.save(content, tmp_path / "pre_train_model.pt")
    arguments = ["convert", str(tmp_path / "pre_train_model.pt"), "-o", str(tmp_path / "package"), "--layout", "smit"]
    assert main.run([*arguments, "--licence", "CC-BY-4.0"]) == 0
    shown = capsys.readouterr().out
    assert "100.0% of the encoder's parameters were found" in shown
    assert "left out: module.mask_token (the hidden token of pre-training" in shown
    assert "not checked: names as the released script saves them" in shown
    assert "keep their owner's licence" in shown
    assert main.run(["inspect", "-m", str(tmp_path / "package"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)["card"]
    assert (card["kind"], card["architecture"]["convention"]) == ("swin", "smit")
    assert card["input"]["windows_hu"] == [[-175.0, 250.0]]
    assert card["provenance"]["licence"] == "CC-BY-4.0"
    assert main.run(arguments) == 3
    assert "exists already" in capsys.readouterr().err


def test_a_hostile_file_is_refused_and_nothing_is_written(published, tmp_path, capsys):
    torch.save({"state_dict": published, "args": Harm(tmp_path / "harmed")}, tmp_path / "model.pt")
    arguments = ["convert", str(tmp_path / "model.pt"), "-o", str(tmp_path / "package"), "--layout", "smit", "--json"]
    assert main.run(arguments) == 3
    error = json.loads(capsys.readouterr().out)
    assert error["code"] == "FOREIGN_CODE"
    assert "posix.system" in error["what"]
    assert not (tmp_path / "package").exists()
    assert not (tmp_path / "harmed").exists()


def test_what_no_layout_says_must_be_given(tmp_path, capsys):
    arguments = ["convert", str(tmp_path / "model.pth"), "-o", str(tmp_path / "package"), "--layout", "smit-heart"]
    assert main.run(arguments) == 2
    assert "--window-hu" in capsys.readouterr().err


def test_list_names_every_layout(capsys):
    assert main.run(["list", "layouts"]) == 0
    shown = capsys.readouterr().out
    for name, layout in LAYOUTS.items():
        assert f"convert --layout {name}" in shown
        assert layout.note in shown
