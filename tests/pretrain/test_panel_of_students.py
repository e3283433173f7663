"""The panel of a student: features and teacher beside the rest, nothing changed by looking, collapse said aloud."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from apatite.engine.checkpoint import load_state
from apatite.engine.journal import Journal
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.nn.attention import AttentionKernel
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.projection import ProjectionConfig
from apatite.pretrain import panel as panel_module
from apatite.pretrain.collapse import collapse_warning
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.health import effective_rank, feature_spread
from apatite.pretrain.panel import FIXED_STEP, HealthPanel
from apatite.pretrain.shapes import method_of, shapes_of
from apatite.pretrain.stage import pretrain
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.teaching import TeachingChanges

PROTOTYPES = 16
OF_FEATURES = {"effective_rank", "feature_spread", "is_collapsed", "probe_dice"}
OF_RECONSTRUCTION = {"reconstruction", "patch_mean", "interpolation"}
OF_A_TEACHER = {"teacher_entropy", "mean_entropy", "used_prototypes", "largest_share"}


@pytest.fixture
def prepared(prepared_folder) -> Prepared:
    return Prepared.open(prepared_folder)


@pytest.fixture
def small(config) -> PretrainConfig:
    """Views of 8³ voxels of regions of 8×12×16, four cells each."""
    return replace(
        config,
        method="smit",
        crop=(8, 8, 8),
        projection=ProjectionConfig(prototypes=PROTOTYPES, hidden=16, dim=8),
        contrast=ContrastConfig(hidden=16, dim=8),
    )


def panel_of(config: PretrainConfig, prepared: Prepared) -> HealthPanel:
    torch.manual_seed(0)
    task = PretrainTask(method_of(config), shapes_of(config, prepared), AttentionKernel(), 0, steps=100)
    return HealthPanel(task.eval(), prepared, config)


def rows_of(*names: str) -> set[str]:
    return {f"{what}_{number}" for what in names for number in OF_A_TEACHER}


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("smit", OF_RECONSTRUCTION | rows_of("cells", "views")),
        ("ibot", rows_of("cells", "views")),
        ("dino", rows_of("views")),
        ("simmim", OF_RECONSTRUCTION),
        ("mocov3", set()),
    ],
)
def test_a_row_has_what_the_method_makes(small, prepared, method, wanted):
    hidden_ratio = None if method in ("dino", "mocov3") else small.hidden_ratio
    crop = None if method == "simmim" else small.crop
    panel = panel_of(replace(small, method=method, hidden_ratio=hidden_ratio, crop=crop), prepared)
    row = panel.check(3)
    assert set(row) == OF_FEATURES | wanted
    assert panel.check(3) == row


def test_a_swin_is_looked_at_as_a_vit_is(small, prepared):
    """Cells of 8³ voxels, eight patches of one; a deep map that is coarser than the cells."""
    swin = replace(small, model="swin-xs", patch=(1, 1, 1), crop=(8, 8, 16), hidden_ratio=0.5)
    panel = panel_of(swin, prepared)
    row = panel.check(3)
    assert set(row) == OF_FEATURES | OF_RECONSTRUCTION | rows_of("cells", "views")
    assert panel.check(3) == row
    pictures = load(panel.pictures())
    assert torch.isfinite(pictures["visible"]).float().mean().item() == pytest.approx(0.5)


def test_features_are_those_of_clean_views_at_the_tap(small, prepared):
    panel = panel_of(small, prepared)
    view = panel.task.view(panel.shown, FIXED_STEP)
    assert view.is_hidden.any()
    assert len(view.patches) == 2 * 7
    student = panel.task.branches["student"]
    with torch.no_grad():
        tokens = student.norm(student.encoder.taps(view.image()).stage4)
    row = panel.check(3)
    assert row["effective_rank"] == pytest.approx(effective_rank(tokens.flatten(0, 1)))
    assert row["feature_spread"] == pytest.approx(feature_spread(tokens.mean(dim=1)))


def test_the_probe_reads_one_row_per_cell_of_whole_regions(small, prepared, monkeypatch):
    """Of 8×12×16 voxels the middle 8×8×16 are whole cells of 4×8×8."""
    given = []
    monkeypatch.setattr(panel_module, "probe_dice", lambda features, targets: given.append((features, targets)) or 0.5)
    panel = panel_of(replace(small, patch=(4, 8, 8), crop=(8, 8, 16)), prepared)
    panel.check(3)
    features, targets = given[0]
    assert features.shape == (4, 4, 96)
    assert panel.probed is not None
    assert panel.probed.targets is not None
    middle = panel.probed.targets[:, 0, :, 2:10]
    torch.testing.assert_close(targets[:, 3], middle[:, 4:, :, 8:].flatten(1))


def test_pictures_of_both_views(small, prepared):
    pictures = load(panel_of(small, prepared).pictures())
    assert {tuple(picture.shape) for picture in pictures.values()} == {(4, 2, 8, 8, 8)}
    is_visible = torch.isfinite(pictures["visible"])
    assert is_visible.float().mean().item() == pytest.approx(0.25)
    assert torch.equal(pictures["reconstruction"][is_visible], pictures["original"][is_visible])


def test_nothing_is_called_collapsed_in_the_first_tenth(small, prepared):
    flat = replace(small, teaching=TeachingChanges(temperature=(5.0, 5.0)))
    panel = panel_of(flat, prepared)
    assert panel.check(9)["is_collapsed"] == 0
    assert panel.check(10)["is_collapsed"] == 1


@pytest.mark.parametrize("method", ["smit", "dinov3", "mocov3"])
def test_a_run_that_is_looked_at_is_the_run_that_is_not(small, prepared_folder, tmp_path, method):
    """Teacher, centres, anchor, draws: every tensor of the last state, and every loss, bit by bit."""
    config = replace(small, method=method, hidden_ratio=None)
    runs = {}
    for name, check_epochs in (("looked", 1), ("left", 1000)):
        pretrain(replace(config, check_epochs=check_epochs), prepared_folder, tmp_path / name)
        folder = RunFolder(path=tmp_path / name)
        runs[name] = load_state(folder.last)[0], Journal(folder.metrics).rows()
    looked, left = runs["looked"], runs["left"]
    assert looked[0].keys() == left[0].keys()
    assert any(name.startswith("model.teacher.") for name in left[0])
    for name, tensor in left[0].items():
        assert torch.equal(tensor, looked[0][name]), name
    assert sum("is_collapsed" in row for row in looked[1]) > sum("is_collapsed" in row for row in left[1])
    assert looked[1][-1]["loss"] == left[1][-1]["loss"]


def test_a_run_that_collapses_says_so_and_goes_on(small, prepared_folder, tmp_path):
    flat = replace(small, teaching=TeachingChanges(temperature=(5.0, 5.0)))
    made = pretrain(flat, prepared_folder, tmp_path / "run")
    assert made.last_row["step"] == 6
    assert made.last_row["is_collapsed"] == 1
    rows = Journal(RunFolder(path=tmp_path / "run").metrics).rows()
    said = collapse_warning(rows, PROTOTYPES)
    assert said is not None
    assert made.warning == said
    assert said.startswith("it has collapsed, at the latest since step ")
    assert "the teacher gives cells all 16 prototypes alike" in said
    assert Path(made.package).exists()
