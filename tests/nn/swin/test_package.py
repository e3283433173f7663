"""A Swin goes through a model package and back, built without memory first."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apatite.core.config import dump, load
from apatite.core.errors import ModelError
from apatite.engine.weights import build_with_weights, weights_of
from apatite.io.model_card import ModelCard
from apatite.io.model_package import Package, read_package, write_package
from apatite.nn.swin.config import SwinConfig

CONFIG = SwinConfig(crop=(16, 32, 16), windows_hu=((0.0, 300.0),), dim=4, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4))


@pytest.fixture
def package(tmp_path: Path, card: ModelCard) -> tuple[torch.nn.Module, Package]:
    torch.manual_seed(1)
    swin = CONFIG.build()
    described = replace(card, kind="swin", architecture=dump(CONFIG), label_names={})
    write_package(tmp_path / "model", described, weights_of(swin))
    return swin, read_package(tmp_path / "model")


def test_it_computes_the_same_after_the_way_through_a_package(package) -> None:
    swin, written = package
    devices = []

    def build() -> torch.nn.Module:
        made = load(SwinConfig, dict(written.card.architecture), "model.json").build()
        devices.append({parameter.device.type for parameter in made.parameters()})
        return made

    again = build_with_weights(build, written)
    assert devices == [{"meta"}, {"cpu"}]
    image_hu = torch.randn(1, 1, 16, 32, 16) * 200
    for mine, theirs in zip(again.eval().encode(image_hu).maps, swin.eval().encode(image_hu).maps, strict=True):
        assert torch.equal(mine, theirs)


def test_a_card_that_asks_for_a_huge_window_is_refused_before_any_table_is_made(package) -> None:
    """The table of a window of 2^20 would take all memory there is, and its places far more."""
    _, written = package
    huge = replace(CONFIG, window=(2**20, 2**20, 2**20))
    card = replace(written.card, architecture=dump(huge))
    with pytest.raises(ModelError) as caught:
        build_with_weights(huge.build, replace(written, card=card))
    assert caught.value.code == "MODEL_SHAPE"
