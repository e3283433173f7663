"""A small card and a module of unequal edges, for packages."""

import pytest
import torch
from torch import nn

from apatite.segment.card import InputSpec, ModelCard, Provenance


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        kind="segmenter",
        architecture={"patch": 4, "dim": 24, "crop": [8, 16, 24]},
        recipe="tiny",
        input=InputSpec(shape=(8, 16, 24), spacing_mm=(0.44, 0.5, 2.0), window_hu=(-200.0, 1000.0)),
        label_names={1: "calcium"},
        domains={"pretraining": ["phantom"], "training": ["phantom", "real"], "calibration": [], "reference": []},
        provenance=Provenance(apatite_version="0.1.0", seed=7, citation="Jin et al. 2025"),
    )


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv3d(1, 3, (1, 2, 3)), nn.BatchNorm3d(3), nn.Conv3d(3, 2, 1))
