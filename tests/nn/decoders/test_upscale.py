from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.nn.decoders.prior import start_rare
from apatite.nn.decoders.upscale import UpscaleConfig, UpscaleDecoder
from apatite.nn.vit import Encoded, ViTConfig


def test_a_token_reaches_the_voxels_of_its_own_patch():
    encoder = ViTConfig(crop=(16, 16, 32), patch=(2, 4, 8), dim=12, depth=1, heads=2)
    decoder = UpscaleDecoder(encoder, UpscaleConfig(first_dim=12), 3, "transposed")
    # With weights of 1 and no norm, an element is handed on to its children and to nobody else.
    decoder.stages = nn.ModuleList(stage[0] for stage in decoder.stages)  # pyright: ignore[reportIndexIssue]
    for parameter in decoder.stages.parameters():
        nn.init.constant_(parameter, float(parameter.ndim > 1))
    decoder.head = nn.Identity()
    tokens = torch.zeros(1, encoder.num_tokens, 12)
    tokens[0, 4 * 4 * 2 + 4 * 1 + 3] = 1  # token (2, 1, 3)
    lit = decoder(Encoded(tokens=tokens))[0, 0].nonzero()
    assert lit.min(dim=0).values.tolist() == [4, 4, 24]
    assert lit.max(dim=0).values.tolist() == [5, 7, 31]
    assert len(lit) == encoder.patch_voxels


def test_patch_edges_that_are_no_powers_of_two_are_refused():
    with pytest.raises(ConfigError, match="powers of two"):
        UpscaleDecoder(ViTConfig(crop=(6, 6, 6), patch=(3, 2, 2), dim=12, depth=1, heads=2), UpscaleConfig(), 1)


def test_the_nearest_decoder_draws_and_computes_what_it_always_did():
    """Written out with torch's own layers, in the order in which weights have been drawn since the first version."""
    encoder = ViTConfig(crop=(8, 8, 24), patch=(2, 4, 8), dim=48, depth=1, heads=2)
    factors, widths = [(1, 1, 2), (1, 2, 2), (2, 2, 2)], [48, 24, 16, 16]
    torch.manual_seed(4)
    stages = nn.ModuleList(
        nn.Sequential(nn.Conv3d(before, after, 3, padding=1), nn.InstanceNorm3d(after, affine=True), nn.LeakyReLU(0.01))
        for before, after in pairwise(widths)
    )
    head = nn.Conv3d(16, 2, 1)
    start_rare(head)
    tokens = torch.randn(2, encoder.num_tokens, 48)
    features = tokens.transpose(1, 2).reshape(2, 48, *encoder.tokens)
    for factor, stage in zip(factors, stages, strict=True):
        features = stage(F.interpolate(features, scale_factor=tuple(map(float, factor)), mode="nearest"))
    torch.manual_seed(4)
    decoder = UpscaleDecoder(encoder, UpscaleConfig(), 2)
    assert [*decoder.state_dict()] == [
        *(f"stages.{name}" for name in stages.state_dict()),
        *("head.weight", "head.bias"),
    ]
    assert torch.equal(decoder(Encoded(tokens=tokens)), head(features))
