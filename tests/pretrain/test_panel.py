"""The panel looks at fixed cases of the pre-training splits, and changes nothing by looking."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load

from apatite.data.hiding import HidingLaw
from apatite.io.store import Prepared
from apatite.nn.attention import AttentionKernel
from apatite.pretrain import panel as panel_module
from apatite.pretrain.methods import METHODS
from apatite.pretrain.panel import HealthPanel
from apatite.pretrain.shapes import shapes_of
from apatite.pretrain.task import PretrainTask


@pytest.fixture
def prepared(prepared_folder) -> Prepared:
    return Prepared.open(prepared_folder)


@pytest.fixture
def xs(config, prepared) -> PretrainTask:
    torch.manual_seed(0)
    method = replace(METHODS["mae"], hiding=HidingLaw(ratio=0.75))
    return PretrainTask(method, shapes_of(config, prepared), AttentionKernel(), 0, steps=7)


@pytest.fixture
def panel(xs, config, prepared) -> HealthPanel:
    return HealthPanel(xs, prepared, config)


def test_development_and_test_are_never_looked_at(panel):
    assert set(panel.shown.case_ids) == {"c0", "c1", "c2", "c3", "c5", "c6", "c8"}
    assert panel.shown.targets is None
    assert panel.probed is not None
    assert set(panel.probed.case_ids) == {"c1", "c3", "c5", "c8"}


def test_a_row_of_numbers_that_can_be_compared_along_a_run(panel):
    row = panel.check(3)
    assert set(row) == {"reconstruction", "patch_mean", "interpolation", "effective_rank", "probe_dice"}
    assert panel.check(7) == row
    assert 0.9 < row["patch_mean"] < 1
    assert row["interpolation"] > 0
    assert 1 <= row["effective_rank"] <= 96
    assert 0 <= row["probe_dice"] <= 1


def test_another_network_gives_another_row(panel):
    before = panel.check(0)
    with torch.no_grad():
        for parameter in panel.task.parameters():
            parameter.mul_(1.2)
    assert panel.check(0)["reconstruction"] != before["reconstruction"]


def test_features_and_targets_of_the_probe_lie_at_the_same_places(panel, monkeypatch):
    """An image made of the targets, and an encoder that gives back its patches: features must equal targets."""
    given = []
    monkeypatch.setattr(panel_module, "probe_dice", lambda features, targets: given.append((features, targets)) or 0.5)
    monkeypatch.setattr(panel.task.encoder, "forward", lambda patches, visible=None: (patches[..., 1::2] + 1) / 2)
    assert panel.probed is not None
    assert panel.probed.targets is not None
    # The second window runs from 0 to 300 HU.
    panel.probed = replace(panel.probed, images_hu=300 * panel.probed.targets)
    assert panel._probe() == {"probe_dice": 0.5}
    features, targets = given[0]
    assert targets.shape == (4, 12, 128)
    assert 0 < targets.mean() < 0.5
    torch.testing.assert_close(features, targets)


def test_without_labels_there_is_no_probe(xs, config, prepared):
    cases = tuple(replace(case, label="") if case.split == "finetune" else case for case in prepared.cases)
    blind = replace(prepared, manifest=replace(prepared.manifest, cases=cases))
    assert "probe_dice" not in HealthPanel(xs, blind, config).check(0)


def test_a_probe_that_means_nothing_is_left_out(panel):
    assert panel.probed is not None
    panel.probed = replace(panel.probed, targets=torch.zeros_like(panel.probed.targets))
    assert "probe_dice" not in panel.check(0)


def test_pictures(panel):
    pictures = load(panel.pictures())
    assert set(pictures) == {"original", "visible", "reconstruction"}
    assert {tuple(picture.shape) for picture in pictures.values()} == {(4, 2, 8, 12, 16)}
    is_visible = torch.isfinite(pictures["visible"])
    assert is_visible.float().mean().item() == pytest.approx(0.25)
    assert torch.equal(pictures["visible"][is_visible], pictures["original"][is_visible])
    assert torch.equal(pictures["reconstruction"][is_visible], pictures["original"][is_visible])
