"""SMIT's recipes say what its released code says."""

import pytest

from apatite.nn.models import model_size
from apatite.nn.swin.config import SwinConfig
from apatite.pretrain.methods import METHODS
from apatite.pretrain.recipes import smit, smit_released, smit_small
from apatite.segment.recipes import RECIPES as FINETUNE


def test_smit_is_the_released_codes():
    config = smit()
    assert (config.method, config.model, config.crop, config.parent) == ("smit", "swin-smit", (96,) * 3, (128,) * 3)
    assert config.windows_hu == ((-175.0, 250.0),)
    assert (config.batch, config.epochs, config.drop_path, config.flip_probability) == (6, 500, 0.3, 0.0)
    optim = config.optim
    assert optim.lr == pytest.approx(6e-4) and optim.warmup_fraction * config.epochs == pytest.approx(20)
    assert (optim.betas, optim.weight_decay, optim.clip_norm) == ((0.9, 0.999), 0.01, 0.0)
    # As intended, norms and biases are spared; the release decays them.
    released = smit_released()
    assert (optim.decays_all, released.optim.decays_all, released.method) == (False, True, "smit_released")
    assert (config.projection.prototypes, config.projection.hidden, config.projection.dim) == (8192, 2048, 256)
    encoder = model_size(config.model).encoder(crop=config.crop, windows_hu=config.windows_hu)
    assert isinstance(encoder, SwinConfig) and encoder.tokens == (6, 6, 6) and encoder.depths == (2, 2, 4, 2)
    # 152 of 216 cells are hidden.
    assert METHODS["smit"].hiding.ratio == 0.7


def test_the_small_one_fits_two_cores_and_its_fine_tuning():
    config, tuned = smit_small(), FINETUNE["smit_small"]()
    encoder = model_size(config.model).encoder(crop=config.crop, windows_hu=config.windows_hu)
    assert isinstance(encoder, SwinConfig) and (encoder.dim, encoder.tokens) == (24, (3, 3, 3))
    assert METHODS[config.method].views.parent_of(encoder.crop, encoder.cell) == (64, 64, 64)
    assert (tuned.network, tuned.model, tuned.windows_hu) == ("swin", config.model, config.windows_hu)
