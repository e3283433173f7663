"""Whole runs with UNETR++ and with diagrams: resumed bit for bit, refused at once, stopped where they diverge."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apatite.core.config import load, read_yaml
from apatite.core.errors import ConfigError, TrainingError
from apatite.data.hiding import HidingLaw
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.losses.critical import CriticalVoxelLossConfig
from apatite.losses.euler import EulerLossConfig
from apatite.losses.topology import TopologyLossConfig
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.pretrain import stage
from apatite.pretrain.branches import PointHead, ViTBranch
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.methods import METHODS, RECONSTRUCTION, TOPOLOGY, Method, Weight
from apatite.pretrain.stage import pretrain
from apatite.topology import backends
from apatite.topology.diagrams import DiagramConfig

BOTH = Method(
    branches={"vit": {**RECONSTRUCTION, "topology": Weight(begin=0.2)}, "unetrpp": RECONSTRUCTION},
    between={"reconstruction_consistency": Weight(value=0.1)},
    hiding=HidingLaw(ratio=0.5),
    paper="of these tests, 2026",
)
"""Regions have no places to ask for, so the methods of the table that have a UNETR++ are not for them."""


@pytest.fixture(autouse=True)
def both_on_regions(monkeypatch):
    monkeypatch.setitem(METHODS, "both_on_regions", BOTH)


@pytest.fixture
def short() -> PretrainConfig:
    return PretrainConfig(
        method="both_on_regions",
        model="vitiac-xs",
        patch=(4, 8, 8),
        unetrpp=UNETRPPShape(preset="tiny", stem=(1, 2, 1)),
        epochs=2,
        batch=4,
        check_epochs=1,
        device="cpu",
        save_every_s=0.0,
        optim=OptimConfig(lr=1e-3),
        precision=Precision(),
    )


def files_of(run: Path) -> dict[str, bytes]:
    names = ("model/weights.safetensors", "model/model.json", "reconstructions.safetensors", "metrics.jsonl")
    return {name: (run / name).read_bytes() for name in names}


def test_a_finished_run_is_the_same_after_a_resume_and_so_is_one_that_lost_its_package(short, head_study, tmp_path):
    out = tmp_path / "run"
    pretrain(short, head_study.prepared, out)
    before = files_of(out)
    pretrain(short, head_study.prepared, out, resume=True)
    assert files_of(out) == before
    shutil.rmtree(out / "model")
    pretrain(short, head_study.prepared, out, resume=True)
    assert files_of(out) == before


def test_the_library_that_finds_the_diagrams_is_written_down(short, head_study, tmp_path):
    auto = TopologyLossConfig(diagram=DiagramConfig(backend="auto", least_persistence=0.05))
    pretrain(replace(short, epochs=1, topology=auto), head_study.prepared, tmp_path / "run")
    config = load(PretrainConfig, read_yaml(tmp_path / "run" / "config.yaml"))
    assert config.topology.diagram == replace(auto.diagram, backend=backends.settled("auto"))
    assert config.critical.diagram.backend == "gudhi"


@pytest.mark.parametrize(
    "changes",
    [
        {"topology": TopologyLossConfig(pool=3)},
        {"method": "mae_euler", "euler": EulerLossConfig(pool=3)},
        {"method": "mae_critical", "critical": CriticalVoxelLossConfig(pool=3)},
        {"topology": TopologyLossConfig(diagram=DiagramConfig(backend="cripser"))},
        {"unetrpp": UNETRPPShape(preset="tiny", stem=(4, 4, 4))},
        {"weights": {"vit.topolgy": 1.0}},
    ],
)
def test_what_would_fail_once_a_term_counts_is_refused_at_the_start(short, head_study, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(ConfigError):
        pretrain(replace(short, **changes), head_study.prepared, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_diverged_is_not_called_a_bad_case(short, head_study, tmp_path, monkeypatch):
    look, calls = ViTBranch.look, []

    def diverging(self, view):
        calls.append(1)
        seen = look(self, view)
        return replace(seen, reconstruction=seen.reconstruction * float("nan")) if len(calls) > 3 else seen

    monkeypatch.setattr(ViTBranch, "look", diverging)
    monkeypatch.setattr(stage, "HealthPanel", lambda *_: None)
    method = Method(
        branches={"vit": {**RECONSTRUCTION, **TOPOLOGY}}, hiding=HidingLaw(ratio=0.5), paper="of these tests, 2026"
    )
    monkeypatch.setitem(METHODS, "diverging", method)
    config = replace(short, method="diverging", epochs=4, weights={"reconstruct_voxels": 1e-30})
    with pytest.raises(TrainingError, match="step 3, cases"):
        pretrain(config, head_study.prepared, tmp_path / "run")


def test_places_are_not_rounded_under_autocast():
    head = PointHead(8)
    features = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = head(features.bfloat16())
    torch.testing.assert_close(rounded, head(features.bfloat16().float()), rtol=0, atol=1e-6)
