import pytest
import torch

from apatite.nn.decoders.prior import PRIOR
from apatite.nn.decoders.registry import DECODERS, DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig


@pytest.mark.parametrize("name", DECODERS)
def test_a_fresh_decoder_says_that_labels_are_rare(name):
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(8, 16, 16), patch=(4, 4, 4), dim=48, depth=1, heads=2)
    decoder = DecoderConfig(name=name, mae=TokenDecoderConfig(dim=48, depth=1, heads=2)).build(encoder, 2)
    probability = decoder(torch.randn(4, encoder.num_tokens, 48)).sigmoid()
    assert probability.median().item() == pytest.approx(PRIOR, rel=0.5)
