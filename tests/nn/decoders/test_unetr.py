"""UNETR is MONAI's where that is defined, and at smaller patches each state lies where the page says."""

import pytest
import torch
from monai.networks.nets import UNETR
from torch import nn

from apatite.core.errors import ConfigError
from apatite.nn.decoders.blocks import MapNorm
from apatite.nn.decoders.unetr import UNETRConfig, UNETRDecoder, quarter_depths
from apatite.nn.vit import Encoded, ViTConfig

BLOCK = {
    "smooth.0": "conv1.conv",
    "smooth.1": "norm1",
    "again.0": "conv2.conv",
    "again.1": "norm2",
    "across.0": "conv3.conv",
    "across.1": "norm3",
}
"""Our names of a residual block's parts, and MONAI's."""


def monais_name(name: str) -> str:
    """Where MONAI's UNETR keeps a weight of ours."""
    module, _, kind = name.rpartition(".")
    if module == "head":
        return f"out.conv.conv.{kind}"
    parent, number, *rest = module.split(".")
    part = BLOCK.get(".".join(rest[-2:]), "")
    if parent == "image_block":
        return f"encoder1.layer.{BLOCK['.'.join([number, *rest])]}.{kind}"
    if parent == "steps":
        return f"decoder{5 - int(number)}.{'transp_conv.conv' if rest == ['up'] else f'conv_block.{part}'}.{kind}"
    # rises: a doubling, then pairs of doubling and block
    place = int(rest[0])
    encoder = f"encoder{4 - int(number)}"
    if place == 0:
        return f"{encoder}.transp_conv_init.conv.{kind}"
    inner = "0.conv" if len(rest) == 1 else f"1.{part}"
    return f"{encoder}.blocks.{(place - 1) // 2}.{inner}.{kind}"


def test_at_patches_of_16_it_is_monais():
    torch.manual_seed(0)
    crop = (32, 16, 48)
    encoder = ViTConfig(crop=crop, patch=(16, 16, 16), dim=24, depth=12, heads=2)
    ours = UNETRDecoder(encoder, UNETRConfig(width=4), 3, "transposed")
    theirs = UNETR(2, 3, crop, 4, 24, 48, 2, norm_name=("instance", {"affine": True})).eval()
    for norm in (module for module in ours.modules() if isinstance(module, MapNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    weights = {monais_name(name): value for name, value in ours.state_dict().items()}
    assert set(weights) == {name for name in theirs.state_dict() if not name.startswith("vit.")}
    theirs.load_state_dict(weights, strict=False)
    image = torch.randn(2, 2, *crop)
    with torch.no_grad():
        tokens, states = theirs.vit(image)
        given = Encoded(tokens=tokens, states=(states[9], states[6], states[3]), image=image)
        torch.testing.assert_close(ours(given), theirs(image), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("depth", "taps"), [(12, (9, 6, 3)), (4, (3, 2, 1)), (1, (1, 1, 1)), (6, (5, 3, 2))])
def test_quarter_depths(depth, taps):
    assert quarter_depths(depth) == taps
    encoder = ViTConfig(crop=(4, 4, 8), patch=(4, 4, 4), dim=12, depth=depth, heads=2)
    assert UNETRDecoder(encoder, UNETRConfig(width=2), 1, "nearest").taps == taps


@pytest.mark.parametrize(
    ("patch", "strides", "skips"),
    [
        (16, [16, 8, 4, 2, 1], [1, 1, 1, 1]),
        (8, [8, 4, 2, 1], [1, 1, 2]),
        (4, [8, 4, 2, 1], [1, 1, 2]),
        (2, [8, 4, 2, 1], [1, 1, 2]),
        (32, [32, 16, 8, 4, 2, 1], [1, 1, 1, 0, 1]),
    ],
)
def test_states_lie_on_strides_that_double(patch, strides, skips):
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(patch, patch, 2 * patch), patch=(patch,) * 3, dim=12, depth=4, heads=2)
    decoder = UNETRDecoder(encoder, UNETRConfig(width=2), 1, "nearest").eval()
    tokens = torch.randn(1, 2, 12)
    given = Encoded(tokens=tokens, states=(tokens,) * 3, image=torch.zeros(1, 2, *encoder.crop))
    maps = list(decoder.feature_maps(given))
    assert [found.stride for found in maps] == [(stride,) * 3 for stride in strides]
    assert [found.values.shape[1] for found in maps] == [12, *(2 * stride for stride in strides[1:])]
    joined = [step.block.smooth[0].in_channels // step.up.out_channels - 1 for step in decoder.steps]  # pyright: ignore
    assert joined == skips


def test_a_state_enters_at_its_own_step_and_the_image_at_the_last():
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(8, 8, 16), patch=(4, 4, 4), dim=12, depth=4, heads=2)
    decoder = UNETRDecoder(encoder, UNETRConfig(width=2), 1, "nearest").eval()
    whole = torch.randn(5, 1, 16, 12)
    image = torch.randn(1, 2, *encoder.crop)

    def maps(changed: int) -> list[torch.Tensor]:
        tokens = [state + 1.5 * (place == changed) * torch.randn(1, 16, 12) for place, state in enumerate(whole[:4])]
        seen = image + 1.0 * (changed == 4) * torch.randn(1, 2, *encoder.crop)
        given = Encoded(tokens=tokens[0], states=tuple(tokens[1:]), image=seen)
        return [found.values for found in decoder.feature_maps(given)]

    before = maps(-1)
    for changed, first in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 3)):
        is_same = [torch.equal(a, b) for a, b in zip(before, maps(changed), strict=True)]
        assert is_same == [step < first for step in range(4)]


def test_what_makes_no_sense_is_refused():
    encoder = ViTConfig(crop=(6, 4, 4), patch=(3, 4, 4), dim=12, depth=1, heads=2)
    with pytest.raises(ConfigError, match="powers of two"):
        UNETRDecoder(encoder, UNETRConfig(), 1, "nearest")
    with pytest.raises(ConfigError, match="width is 1"):
        UNETRConfig(width=1)
