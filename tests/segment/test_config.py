"""A fine-tuning configuration refuses nonsense and survives YAML."""

import pytest

from apatite.core.config import load, override, read_yaml, write_yaml
from apatite.core.errors import ConfigError
from apatite.engine.precision import Precision
from apatite.segment.config import FinetuneConfig


@pytest.mark.parametrize("key", ["steps", "batch", "check_every"])
def test_counts_begin_at_one(key):
    with pytest.raises(ConfigError, match="at least 1"):
        FinetuneConfig(**{key: 0})


def test_yaml_gives_the_same_run_back(tmp_path):
    config = FinetuneConfig(crop=(8, 16, 24), precision=Precision(format="bf16", head_multiple=16))
    write_yaml(tmp_path / "config.yaml", config)
    assert load(FinetuneConfig, read_yaml(tmp_path / "config.yaml")) == config


def test_a_patch_may_be_left_to_the_model():
    assert FinetuneConfig().patch is None
    given = override(FinetuneConfig(), ["patch=[2,4,8]"])
    assert given.patch == (2, 4, 8)
    assert override(given, ["patch=null", "network=swin", "model=swin-xs"]).patch is None


def test_nested_overrides_and_the_nearest_name():
    config = override(FinetuneConfig(), ["decoder.name=upscale", "augment.mirror_pairs=[[2, 5]]", "optim.lr=3e-4"])
    assert (config.decoder.name, config.augment.mirror_pairs, config.optim.lr) == ("upscale", ((2, 5),), 3e-4)
    with pytest.raises(ConfigError) as caught:
        override(FinetuneConfig(), ["optim.lerning_rate=1"])
    assert caught.value.where == "optim.lerning_rate"
    with pytest.raises(ConfigError, match="step") as caught:
        override(FinetuneConfig(), ["stepz=3"])
    assert caught.value.fix == "did you mean 'steps'?"
