import pytest
import torch

from apatite.nn.decoders.prior import PRIOR
from apatite.nn.decoders.registry import DECODERS, DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import Encoded, ViTConfig


@pytest.mark.parametrize("name", DECODERS)
def test_a_fresh_decoder_says_that_labels_are_rare(name):
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(8, 16, 16), patch=(4, 4, 4), dim=48, depth=1, heads=2)
    decoder = DecoderConfig(name=name, mae=TokenDecoderConfig(dim=48, depth=1, heads=2)).build(encoder, 2)
    tokens = torch.randn(4, encoder.num_tokens, 48)
    given = Encoded(tokens=tokens, states=(tokens,) * len(decoder.taps), image=torch.randn(4, 2, *encoder.crop))
    probability = decoder(given).sigmoid()
    assert PRIOR / 2 < probability.median().item() < 2 * PRIOR
