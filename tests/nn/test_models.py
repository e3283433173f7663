import pytest

from apatite.core.errors import ConfigError
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import FillingDecoder
from apatite.nn.models import model_size

ONE_WINDOW = ((-1024.0, 3071.0),)


@pytest.mark.parametrize(
    ("name", "trainable_millions", "with_positions_millions"),
    [("vitiac-s", 9.94, 10.15), ("vitiac-m", 39.29, 39.71), ("vitiac-l", 156.23, 157.06)],
)
def test_parameters_at_patch_8_are_the_papers(name, trainable_millions, with_positions_millions):
    """Jin et al. 2025 state 10, 40 and 157 M; the closed form of a standard MAE gives these."""
    size = model_size(name)
    config = size.encoder(windows_hu=ONE_WINDOW, patch=(8, 8, 8), crop=(32, 96, 96))
    encoder, decoder = config.build(), FillingDecoder(config, size.decoder, 1, AttentionKernel())
    trainable = sum(p.numel() for module in (encoder, decoder) for p in module.parameters())
    assert round(trainable / 1e6, 2) == trainable_millions
    tables = encoder.positions.numel() + decoder.positions.numel()
    assert round((trainable + tables) / 1e6, 2) == with_positions_millions


def test_an_unknown_model_suggests_the_nearest():
    with pytest.raises(ConfigError, match="vitiac-s"):
        model_size("vitiac_s")
