import torch

from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import FillingDecoder, TokenDecoderConfig
from apatite.nn.vit import ViTConfig

ENCODER = ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=1, heads=2)
CONFIG = TokenDecoderConfig(dim=12, depth=2, heads=2)


def test_filling_decoder_predicts_hidden_patches_in_their_places():
    torch.manual_seed(0)
    decoder = FillingDecoder(ENCODER, CONFIG, 2, AttentionKernel())
    tokens = torch.randn(1, 3, 12)
    visible, hidden = torch.tensor([[0, 3, 5]]), torch.tensor([[1, 2, 4, 6, 7]])
    made = decoder(tokens, visible, hidden)
    assert made.shape == (1, 5, 2 * 3 * 5 * 2)
    # The same by hand: one row per token, in place, then the whole decoder.
    rows = decoder.hidden_token.expand(1, 8, -1).clone()
    rows[0, [0, 3, 5]] = decoder.decoder.narrow(tokens)[0]
    everything = decoder.decoder.head(decoder.decoder.transformer(rows + decoder.positions))
    assert torch.allclose(made[0], everything[0, [1, 2, 4, 6, 7]], atol=1e-6)


def test_where_a_token_was_visible_matters():
    torch.manual_seed(0)
    decoder = FillingDecoder(ENCODER, CONFIG, 1, AttentionKernel())
    tokens = torch.randn(1, 2, 12)
    hidden = torch.tensor([[2, 3, 4, 5, 6]])
    a = decoder(tokens, torch.tensor([[0, 1]]), hidden)
    b = decoder(tokens, torch.tensor([[1, 7]]), hidden)
    assert not torch.allclose(a, b)
