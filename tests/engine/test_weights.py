"""Weights come back bit-equal, or not at all."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from apatite.core.errors import ModelError
from apatite.engine.weights import load_weights, weights_of
from apatite.io.model_card import ModelCard
from apatite.io.model_package import Package, read_package, write_package


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv3d(1, 3, (1, 2, 3)), nn.BatchNorm3d(3), nn.Conv3d(3, 2, 1))


def test_a_module_computes_the_same_after_the_way_through_a_package(
    tmp_path: Path, card: ModelCard, module: nn.Module
) -> None:
    image = torch.randn(2, 1, 3, 4, 5)
    module(image)  # moves the running mean, a buffer
    expected = module.eval()(image)
    write_package(tmp_path / "model", card, weights_of(module))
    other = nn.Sequential(nn.Conv3d(1, 3, (1, 2, 3)), nn.BatchNorm3d(3), nn.Conv3d(3, 2, 1)).eval()
    load_weights(other, read_package(tmp_path / "model"))
    assert torch.equal(other(image), expected)


def test_bfloat16_is_kept_exactly(card: ModelCard, module: nn.Module) -> None:
    half = copy.deepcopy(module).to(torch.bfloat16)
    load_weights(module.to(torch.bfloat16), Package(card=card, weights=weights_of(half), digest=""))
    assert all(torch.equal(a, b) for a, b in zip(half.parameters(), module.parameters(), strict=True))


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_weights_of_another_architecture_change_nothing(card: ModelCard, module: nn.Module, damage: str) -> None:
    weights = weights_of(copy.deepcopy(module))
    weights["0.weight"] = weights["0.weight"] + 1
    if damage == "missing":
        del weights["2.bias"]
    elif damage == "unknown":
        weights["3.bias"] = weights["2.bias"]
    else:
        weights["2.bias"] = weights["2.bias"].reshape(1, 2)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ModelError, match=r"[23]\.bias") as caught:
        load_weights(module, Package(card=card, weights=weights, digest=""))
    assert caught.value.code == "MODEL_SHAPE"
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
