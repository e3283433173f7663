"""Weights come back bit-equal, or not at all."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from apatite.core.errors import ModelError
from apatite.engine.weights import build_with_weights, load_weights, weights_of
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


@pytest.mark.parametrize("stored", [np.int32, np.float64, np.float16])
def test_weights_of_another_type_are_not_converted(card: ModelCard, module: nn.Module, stored: type) -> None:
    weights = weights_of(module)
    weights["2.bias"] = weights["2.bias"].astype(stored)
    with pytest.raises(ModelError, match=r"2\.bias holds torch\.") as caught:
        load_weights(module, Package(card=card, weights=weights, digest=""))
    assert caught.value.code == "MODEL_SHAPE"


def test_a_module_is_built_without_memory_then_filled(card: ModelCard, module: nn.Module) -> None:
    devices = []

    def build() -> nn.Module:
        made = nn.Sequential(nn.Conv3d(1, 3, (1, 2, 3)), nn.BatchNorm3d(3), nn.Conv3d(3, 2, 1))
        devices.append({parameter.device.type for parameter in made.parameters()})
        return made

    made = build_with_weights(build, Package(card=card, weights=weights_of(module), digest=""))
    assert devices == [{"meta"}, {"cpu"}]
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in made.state_dict().items())


def _endless() -> nn.Module:
    return nn.Sequential(*(nn.Linear(1, 1) for _ in itertools.count()))


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(2**20, 2**20),
        lambda: nn.Linear(2**40, 2**40),
        lambda: nn.Linear(-1, 3),
        lambda: {}["key"],
        _endless,
    ],
    ids=["4 TiB", "overflow", "negative", "bug", "endless"],
)
def test_what_cannot_be_built_takes_no_memory(
    card: ModelCard, module: nn.Module, build: Callable[[], nn.Module]
) -> None:
    with pytest.raises(ModelError) as caught:
        build_with_weights(build, Package(card=card, weights=weights_of(module), digest=""))
    assert caught.value.code == "MODEL_SHAPE"
    # Nothing of the watch is left behind.
    assert nn.Linear(2, 3).weight.device.type == "cpu"
    assert len(list(nn.Sequential(*(nn.Linear(1, 1) for _ in range(20))).parameters())) == 40


def test_a_setting_out_of_all_proportion_is_refused(card: ModelCard, module: nn.Module) -> None:
    large = replace(card, architecture={"encoder": {"crop": [8, 16, 10**4000]}})
    with pytest.raises(ModelError, match="asks for a size over"):
        build_with_weights(lambda: module, Package(card=large, weights=weights_of(module), digest=""))
