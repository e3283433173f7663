"""A run's settings and its data make a segmenter of the parts that its network has, and of no others."""

from dataclasses import replace

import pytest

from apatite.core.errors import ConfigError
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.segment.config import FinetuneConfig
from apatite.segment.networks import NETWORKS
from apatite.segment.shape import segmenter_config

RUN = FinetuneConfig(
    model="vitiac-xs", patch=(4, 8, 8), drop_path=0.25, unetrpp=UNETRPPShape(preset="tiny", stem=(1, 2, 1))
)
SWIN = {"network": "swin", "model": "swin-xs", "patch": (1, 1, 1)}


def run_of(network: str, **changes: object) -> FinetuneConfig:
    return replace(RUN, **({"network": network} | (SWIN if network == "swin" else {}) | changes))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_are_those_of_the_network_and_see_the_data(head_study, name):
    shape = segmenter_config(run_of(name), head_study.open())
    network = NETWORKS[name]
    found = [part is not None for part in (shape.encoder, shape.unetrpp, shape.swin)]
    assert found == [network.has_encoder, network.unetrpp is not None, network.has_swin]
    assert (shape.crop, shape.windows_hu, shape.num_labels) == ((8, 16, 24), RUN.windows_hu, 1)
    assert shape.deep_supervision == (network.unetrpp is not None)
    if shape.transformer is not None:
        assert shape.transformer.drop_path == 0.25
        assert shape.transformer.patch == ((1, 1, 1) if name == "swin" else (4, 8, 8))
        assert shape.encoder_depth == shape.transformer.depth > 0


def test_crops_of_whole_volumes_are_the_runs(body_study):
    prepared = body_study.open()
    shape = segmenter_config(run_of("swin", crop=(16, 8, 24)), prepared)
    assert (shape.crop, shape.num_labels) == ((16, 8, 24), 2)
    assert shape.swin is not None
    assert shape.swin.tokens == (2, 1, 3)
    with pytest.raises(ConfigError, match="whole cells") as caught:
        segmenter_config(run_of("swin", crop=(16, 12, 24)), prepared)
    assert "(8, 8, 8)" in caught.value.fix


@pytest.mark.parametrize(("network", "model"), [("swin", "vitiac-xs"), ("vit", "swin-xs"), ("hybrid", "swin-smit")])
def test_a_model_that_the_network_has_not_names_those_it_has(head_study, network, model):
    with pytest.raises(ConfigError, match=f"network={network} has none") as caught:
        segmenter_config(run_of(network, model=model), head_study.open())
    assert ("swin-smit" in caught.value.fix) == (network == "swin")
    assert ("vitiac-s" in caught.value.fix) == (network != "swin")


def test_a_network_without_a_transformer_does_not_read_the_model(head_study):
    shape = segmenter_config(run_of("unetrpp", model="swin-xs"), head_study.open())
    assert (shape.transformer, shape.encoder_depth) == (None, 0)
