"""The recipes say what the papers say."""

from math import ceil

import pytest

from apatite.data.prepare_config import RECIPES as PREPARE
from apatite.io.layouts import PUBLISHED
from apatite.nn.models import model_size
from apatite.pretrain.methods import METHODS
from apatite.pretrain.recipes import RECIPES, jin2025, openkbp, small


def test_jin2025_is_the_papers():
    config = jin2025()
    assert (config.method, config.model, config.patch, config.epochs) == ("mae", "vitiac-s", (4, 4, 4), 800)
    assert config.hidden_ratio is None, "the method's own, 0.9"
    # He et al. 2022: 1.5e-4 per 256 samples, 40 of 800 epochs of warm-up, no clipping.
    assert config.optim.lr == 1.5e-4 * config.batch / 256
    assert config.optim.warmup_fraction * config.epochs == 40
    assert (config.optim.betas, config.optim.weight_decay, config.optim.clip_norm) == ((0.9, 0.95), 0.05, 0.0)


def test_recipes_for_two_cores_use_the_small_model():
    assert {config.model for config in (small(), openkbp())} == {"vitiac-xs"}
    assert small().crop is None
    crop = openkbp().crop
    assert crop is not None
    assert all(edge % size == 0 for edge, size in zip(crop, openkbp().patch, strict=True))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_sets_fit_both_networks_and_what_is_prepared(name):
    config = RECIPES[name]()
    assert config.crop is not None
    vit = model_size(config.model).encoder(crop=config.crop, patch=config.patch, windows_hu=config.windows_hu)
    unetrpp = config.unetrpp.config(config.crop, config.windows_hu)
    assert (vit.dim, vit.depth, vit.heads) == (768, 12, 12)
    # Hidden patches end where tokens of the first stage end: no token sees half of one.
    assert all(patch % stem == 0 for patch, stem in zip(config.patch, unetrpp.stem, strict=True))
    assert PREPARE[name]().least_shape == config.crop
    assert set(METHODS[config.method].branches) == {"vit", "unetrpp"}
    assert config.flip_probability == 0, "a mirrored scan has no place that could be found"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_sets_are_trained_as_long_and_as_fast(name):
    config = RECIPES[name]()
    per_patient = 2 if name == "acdc" else 1
    cases = per_patient * list(PUBLISHED[name].splits().values()).count("finetune")
    assert 26_000 < ceil(config.epochs * cases / config.batch) < 31_000
    assert config.optim.lr == pytest.approx(1.5e-4)
    assert (config.optim.betas, config.optim.weight_decay) == ((0.9, 0.95), 0.05)


def test_windows_are_in_the_unit_of_what_is_prepared():
    for name in PUBLISHED:
        (low, high), *others = RECIPES[name]().windows_hu
        is_counted_in_deviations = PREPARE[name]().intensity == "zscore"
        assert is_counted_in_deviations == (name in ("acdc", "msd_brats"))
        assert ((low, high) == (-3 * 256, 4 * 256)) == is_counted_in_deviations
        assert others == []
