"""The recipes say what the papers say."""

from apatite.pretrain.recipes import jin2025, openkbp, small


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
