"""Every fine-tuning recipe fits the data it is meant for."""

import pytest

from apatite.ct.region import REGIONS
from apatite.nn.models import model_size
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
