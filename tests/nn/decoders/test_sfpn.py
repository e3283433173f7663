"""The pyramid and the U-Net over it against the same sums written out with torch's functions."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.nn.decoders.blocks import MapNorm
from apatite.nn.decoders.sfpn import SFPNConfig, SFPNDecoder
from apatite.nn.vit import Encoded, ViTConfig


def norm(features: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.instance_norm(features, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"])


def test_it_is_a_pyramid_of_the_last_map_and_a_u_net():
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(10, 24, 24), patch=(2, 4, 4), dim=12, depth=1, heads=2)
    decoder = SFPNDecoder(encoder, SFPNConfig(width=4), 2, "transposed")
    for module in decoder.modules():
        if isinstance(module, MapNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    w = decoder.state_dict()
    tokens = torch.randn(2, encoder.num_tokens, 12)
    last = tokens.transpose(1, 2).reshape(2, 12, 5, 6, 6)
    factors = [(1, 2, 2), (2, 2, 2)]

    def active(features: Tensor, name: str) -> Tensor:
        return F.leaky_relu(norm(features, w, name), 0.01)

    half = F.max_pool3d(F.pad(last, (0, 0, 0, 0, 0, 1), value=-9), 2)
    levels = [
        active(F.conv3d(half, w["pyramid.0.0.weight"]), "pyramid.0.1"),
        active(F.conv3d(last, w["pyramid.1.0.weight"]), "pyramid.1.1"),
        active(F.conv_transpose3d(last, w["pyramid.2.0.weight"], stride=factors[0]), "pyramid.2.1"),
    ]
    doubled = active(F.conv_transpose3d(last, w["pyramid.3.0.weight"], stride=factors[0]), "pyramid.3.1")
    levels.append(active(F.conv_transpose3d(doubled, w["pyramid.3.3.weight"], stride=factors[1]), "pyramid.3.4"))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (12, 3, 3, 3),
        (12, 5, 6, 6),
        (8, 5, 12, 12),
        (4, 10, 24, 24),
    ]
    features = levels[0]
    for step, factor in enumerate([(2, 2, 2), *factors]):
        up = F.conv_transpose3d(features, w[f"steps.{step}.up.weight"], stride=factor)
        depth, height, width = levels[step + 1].shape[2:]
        features = torch.cat([up[:, :, :depth, :height, :width], levels[step + 1]], dim=1)
        for number in (0, 1):
            name = f"steps.{step}.block.{number}"
            features = active(F.conv3d(features, w[f"{name}.0.weight"], padding=1), f"{name}.1")
    logits = F.conv3d(features, w["head.weight"], w["head.bias"])
    torch.testing.assert_close(decoder(Encoded(tokens=tokens)), logits)


@pytest.mark.parametrize(("patch", "strides"), [(16, [32, 16, 8, 4, 2, 1]), (8, [16, 8, 4, 2, 1]), (4, [8, 4, 2, 1])])
def test_strides_run_from_twice_the_patch_to_one_voxel(patch, strides):
    encoder = ViTConfig(crop=(patch, 2 * patch, patch), patch=(patch,) * 3, dim=48, depth=1, heads=2)
    decoder = SFPNDecoder(encoder, SFPNConfig(), 1, "nearest")
    maps = list(decoder.feature_maps(Encoded(tokens=torch.randn(1, 2, 48))))
    assert [found.stride for found in maps] == [(stride,) * 3 for stride in strides]
    assert [found.values.shape[1] for found in maps] == [min(48, 16 * stride) for stride in strides]


def test_it_needs_the_last_map_only():
    encoder = ViTConfig(crop=(4, 8, 4), patch=(4, 4, 4), dim=12, depth=4, heads=2)
    decoder = SFPNDecoder(encoder, SFPNConfig(), 1, "nearest")
    assert (decoder.taps, decoder.sees_image) == ((), False)
    # Narrower than the finest level would be.
    assert decoder(Encoded(tokens=torch.randn(1, 2, 12))).shape == (1, 1, 4, 8, 4)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="powers of two"):
        encoder = ViTConfig(crop=(6, 4, 4), patch=(3, 4, 4), dim=12, depth=1, heads=2)
        SFPNDecoder(encoder, SFPNConfig(), 1, "nearest")
    with pytest.raises(ConfigError, match="width is 0"):
        SFPNConfig(width=0)
