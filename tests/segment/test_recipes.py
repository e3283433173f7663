"""Every fine-tuning recipe fits the data it is meant for."""

from dataclasses import replace

import pytest
import torch

from apatite.ct.region import REGIONS
from apatite.io.layouts import LAYOUTS, PUBLISHED
from apatite.io.layouts.abdomen import ORGANS
from apatite.nn.models import model_size
from apatite.nn.swin.decoder import SwinDecoder
from apatite.segment.model import SegmenterConfig
from apatite.segment.recipes import RECIPES


@pytest.mark.parametrize(("name", "shape"), [("jin2025", REGIONS["paper"].shape), ("small", REGIONS["small"].shape)])
def test_fits_its_regions(name, shape):
    config = RECIPES[name]()
    encoder = model_size(config.model).encoder(crop=shape, patch=config.patch, windows_hu=config.windows_hu)
    assert encoder.num_tokens > 1


def test_only_the_paper_drops_empty_cases():
    assert [name for name, make in RECIPES.items() if make().drop_empty_cases] == ["jin2025"]
    assert RECIPES["jin2025"]().model == "vitiac-s"
    assert RECIPES["jin2025"]().decoder.mae.dim == model_size("vitiac-s").decoder.dim


def test_openkbp_builds_on_its_crop():
    config = RECIPES["openkbp"]()
    encoder = model_size(config.model).encoder(crop=config.crop, patch=config.patch, windows_hu=config.windows_hu)
    segmenter = SegmenterConfig(encoder=encoder, decoder=config.decoder, num_labels=7).build()
    assert sum(p.numel() for p in segmenter.parameters()) > 1e5


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_sets_build_on_their_crop(name):
    """With the grids of the recipe, narrow and shallow; grids are what may not fit."""
    config = RECIPES[name]()
    assert config.crop is not None
    encoder = model_size(config.model).encoder(crop=config.crop, patch=config.patch, windows_hu=config.windows_hu)
    narrow = replace(
        config.unetrpp,
        widths=(4, 8, 16, 32),
        num_blocks=1,
        base_width=4,
        projections=(4, 4, 4, 4),
        decoder_projection=4,
    )
    segmenter = SegmenterConfig(
        encoder=replace(encoder, dim=12, depth=4, heads=2),
        unetrpp=narrow.config(config.crop, config.windows_hu),
        network=config.network,
        num_labels=3,
        deep_supervision=config.deep_supervision,
    )
    assert sum(p.numel() for p in segmenter.build().parameters()) > 1e5


@pytest.mark.parametrize(("name", "labels"), [("smit", 13), ("smit_small", 7)])
def test_a_swin_builds_on_its_crop(name, labels):
    config = RECIPES[name]()
    swin = model_size(config.model).encoder(
        crop=config.crop, patch=config.patch, windows_hu=config.windows_hu, drop_path=config.drop_path, stem=config.stem
    )
    with torch.device("meta"):
        decoder = SwinDecoder(swin, labels)
    assert decoder.head.out_channels == labels
    assert config.network == "swin"
    assert swin.tokens == ((6, 6, 6) if name == "smit" else (3, 3, 3))


def test_smits_figures_are_those_of_its_release():
    config = RECIPES["smit"]()
    assert (config.model, config.crop, config.batch, config.drop_path) == ("swin-smit", (96, 96, 96), 4, 0.3)
    assert config.windows_hu == ((-175.0, 250.0),)
    assert (config.optim.lr, config.optim.weight_decay, config.optim.layer_decay) == (1e-4, 1e-5, 1.0)
    assert config.steps == 21 * 10_000
    assert round(config.optim.warmup_fraction * config.steps) == 21 * 50
    assert config.augment.flip_probability == 0


def test_published_batches_are_those_of_the_public_code():
    found = {name: (RECIPES[name]().batch, RECIPES[name]().crop) for name in PUBLISHED}
    assert found == {
        "synapse": (2, (64, 128, 128)),
        "btcv": (2, (96, 96, 96)),
        "acdc": (4, (16, 160, 160)),
        "msd_lung": (2, (32, 192, 192)),
        "msd_brats": (2, (128, 128, 128)),
    }
    assert {RECIPES[name]().steps for name in PUBLISHED} == {1000 * 250}
    assert {RECIPES[name]().network for name in PUBLISHED} == {"hybrid"}
    assert set(PUBLISHED) <= set(LAYOUTS)


def test_mirrored_organs_come_in_pairs():
    for name in ("synapse", "btcv", "smit"):
        for one, other in RECIPES[name]().augment.mirror_pairs:
            assert ORGANS[one].replace("right", "left") == ORGANS[other]
    paired = {value for pair in RECIPES["synapse"]().augment.mirror_pairs for value in pair}
    assert paired == {value for value, organ in ORGANS.items() if organ.startswith(("left", "right"))}
    for name in ("acdc", "msd_lung", "msd_brats"):
        assert RECIPES[name]().augment.mirror_pairs == (), "ventricles are told by what they are, not by their side"


def test_pretraining_and_fine_tuning_look_at_the_same():
    from apatite.pretrain.recipes import RECIPES as PRETRAIN

    for name in (*PUBLISHED, "smit", "smit_small"):
        before, after = PRETRAIN[name](), RECIPES[name]()
        for key in ("model", "patch", "crop", "windows_hu", "stem", "unetrpp"):
            assert getattr(before, key) == getattr(after, key), (name, key)
