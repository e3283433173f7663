import pytest

from apatite.core.errors import ConfigError
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import FillingDecoder
from apatite.nn.models import MODELS, VITS, ModelSize, model_size, vit_size
from apatite.nn.swin.presets import SWINS, SwinSize

ONE_WINDOW = ((-1024.0, 3071.0),)


@pytest.mark.parametrize(
    ("name", "trainable_millions", "with_positions_millions"),
    [("vitiac-s", 9.94, 10.15), ("vitiac-m", 39.29, 39.71), ("vitiac-l", 156.23, 157.06)],
)
def test_parameters_at_patch_8_are_the_papers(name, trainable_millions, with_positions_millions):
    """Jin et al. 2025 state 10, 40 and 157 M; the closed form of a standard MAE gives these."""
    size = vit_size(name)
    config = size.encoder(windows_hu=ONE_WINDOW, patch=(8, 8, 8), crop=(32, 96, 96))
    encoder, decoder = config.build(), FillingDecoder(config, size.decoder, 1, AttentionKernel())
    trainable = sum(p.numel() for module in (encoder, decoder) for p in module.parameters())
    assert round(trainable / 1e6, 2) == trainable_millions
    tables = encoder.positions.numel() + decoder.positions.numel()
    assert round((trainable + tables) / 1e6, 2) == with_positions_millions


def test_an_unknown_model_suggests_the_nearest():
    with pytest.raises(ConfigError, match="vitiac-s"):
        model_size("vitiac_s")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_an_encoder_for_a_crop(name):
    """One call serves a ViT and a Swin: what is not given is the model's own."""
    size = model_size(name)
    patch = (4, 4, 4) if isinstance(size, ModelSize) else (2, 2, 2)
    config = size.encoder(crop=(32, 64, 96), windows_hu=ONE_WINDOW, drop_path=0.2)
    assert (config.crop, config.patch, config.windows_hu, config.drop_path) == ((32, 64, 96), patch, ONE_WINDOW, 0.2)
    other = size.encoder(crop=(32, 64, 96), patch=(2, 4, 4))
    assert other.patch == (2, 4, 4)
    assert other.windows_hu == size.encoder().windows_hu
    assert size.note in size.summary


def test_all_models_have_one_list():
    assert list(MODELS) == [*VITS, *SWINS]
    assert all(isinstance(size, SwinSize) for size in SWINS.values())


def test_a_swin_is_refused_where_a_vit_is_needed():
    with pytest.raises(ConfigError, match="swin-smit is a Swin") as caught:
        vit_size("swin-smit")
    assert "vitiac-s" in str(caught.value.fix)


def test_a_swin_has_no_stem_to_choose():
    with pytest.raises(ConfigError, match="no conv stem"):
        model_size("swin-xs").encoder(stem="conv")
