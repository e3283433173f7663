"""The presets have the sizes of the public code, and a shape changes what it says and nothing else."""

from dataclasses import fields, replace

import pytest
import torch

from apatite.core.config import dump, load
from apatite.core.errors import ConfigError
from apatite.nn.unetrpp.network import UNETRPPConfig
from apatite.nn.unetrpp.presets import PRESETS, UNETRPPShape

WINDOWS = ((-100.0, 300.0), (0.0, 100.0))


def num_weights(config: UNETRPPConfig, outputs: int) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in config.build(outputs, deep=True).parameters())


@pytest.mark.parametrize(
    ("name", "channels", "outputs", "num", "millions"),
    [
        ("synapse", 1, 14, 42_952_850, 42.953),
        ("acdc", 1, 4, 66_796_404, 66.8),
        ("lung", 1, 3, 121_174_913, 121.2),
        ("brats", 4, 4, 42_647_604, 42.6),
    ],
)
def test_the_published_networks_have_as_many_weights_as_the_public_code(name, channels, outputs, num, millions):
    config = replace(PRESETS[name], windows_hu=((-1.0, 1.0),) * channels)
    assert num_weights(config, outputs) == num
    assert abs(num / 1e6 - millions) < 0.05


@pytest.mark.parametrize(("stem", "millions"), [((4, 4, 4), 29.9), ((2, 4, 4), 39.4)])
def test_the_weights_grow_with_the_tokens_of_a_crop(stem, millions):
    config = UNETRPPShape(preset="synapse", stem=stem).config((96, 96, 96), WINDOWS[:1])
    assert abs(num_weights(config, 14) / 1e6 - millions) < 0.05


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("synapse", ((32, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4))),
        ("acdc", ((16, 40, 40), (8, 20, 20), (4, 10, 10), (2, 5, 5))),
        ("lung", ((32, 48, 48), (16, 24, 24), (8, 12, 12), (4, 6, 6))),
        ("brats", ((32, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4))),
        ("small", ((16, 16, 16), (8, 8, 8), (4, 4, 4), (2, 2, 2))),
        ("tiny", ((8, 16, 24), (4, 8, 12), (2, 4, 6), (1, 2, 3))),
    ],
)
def test_the_grids_of_the_presets(name, grids):
    assert PRESETS[name].stages == grids


def test_a_shape_keeps_the_presets_values_and_takes_the_runs_crop():
    found = UNETRPPShape(preset="acdc").config((8, 64, 96), WINDOWS)
    assert found == replace(PRESETS["acdc"], crop=(8, 64, 96), windows_hu=WINDOWS)


def test_every_field_of_a_shape_changes_the_field_of_its_name():
    changes = {
        "stem": (2, 2, 4),
        "widths": (8, 16, 24, 32),
        "num_blocks": 4,
        "heads": 2,
        "base_width": 6,
        "projections": (9, 8, 7, 6),
        "decoder_projection": 5,
        "attention_dropout": 0.0,
        "dropout": 0.0,
    }
    assert {"preset", *changes} == {field.name for field in fields(UNETRPPShape)}
    for name, value in changes.items():
        crop = (32, 32, 64)
        found = UNETRPPShape(preset="small", **{name: value}).config(crop, WINDOWS)
        assert found == replace(PRESETS["small"], crop=crop, windows_hu=WINDOWS, **{name: value})


def test_both_configs_survive_being_written():
    shape = UNETRPPShape(preset="tiny", stem=(1, 1, 2))
    assert load(UNETRPPShape, dump(shape)) == shape
    config = shape.config((8, 16, 32), WINDOWS)
    assert load(UNETRPPConfig, dump(config)) == config
    for name, value in (("fusion", "add"), ("num_residual", 3)):
        with pytest.raises(ConfigError, match=name):
            load(UNETRPPConfig, dump(config) | {name: value})


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'synapse'"):
        UNETRPPShape(preset="synaps")
