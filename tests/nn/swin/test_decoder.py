"""The decoder is that of MONAI's Swin UNETR, fed with MONAI's own maps; each map joins at its own step."""

from dataclasses import replace

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from apatite.nn.decoders.blocks import MapNorm
from apatite.nn.decoders.prior import PRIOR
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.decoder import SwinDecoder
from apatite.nn.swin.monai_names import from_monai
from apatite.nn.swin.presets import SWINS
from apatite.nn.vit import Encoded
from apatite.segment.model import SegmenterConfig

NUM_MAPS = 5
WINDOWS = ((-175.0, 250.0), (0.0, 300.0))
BLOCK = {
    "smooth.0": "conv1.conv",
    "smooth.1": "norm1",
    "again.0": "conv2.conv",
    "again.1": "norm2",
    "across.0": "conv3.conv",
    "across.1": "norm3",
}
"""Our names of a residual block's parts, and MONAI's."""
ENTRIES = {"image_block": 1, "map_blocks.0": 2, "map_blocks.1": 3, "map_blocks.2": 4, "map_blocks.4": 10}
"""Numbers of MONAI's encoders of what is skipped."""


def monais_name(name: str) -> str:
    """Where MONAI's Swin UNETR keeps a weight of our decoder."""
    module, _, kind = name.rpartition(".")
    if module == "head":
        return f"out.conv.conv.{kind}"
    if module.startswith("steps."):
        _, number, *rest = module.split(".")
        part = "transp_conv.conv" if rest == ["up"] else f"conv_block.{BLOCK['.'.join(rest[1:])]}"
        return f"decoder{5 - int(number)}.{part}.{kind}"
    parent, part = next((p, module.removeprefix(f"{p}.")) for p in ENTRIES if module.startswith(f"{p}."))
    return f"encoder{ENTRIES[parent]}.layer.{BLOCK[part]}.{kind}"


def shape_of(crop, dim=12, patch=(2, 2, 2)) -> SwinConfig:
    return SwinConfig(crop=crop, patch=patch, windows_hu=WINDOWS, dim=dim, heads=(2, 2, 2, 2))


def encoded(swin: SwinConfig, seed: int = 0, batch: int = 2) -> Encoded:
    """Random maps on the grids of a Swin, odd edges rounded up from one to the next."""
    draw = torch.Generator().manual_seed(seed)
    grid = [edge // size for edge, size in zip(swin.crop, swin.patch, strict=True)]
    maps = []
    for place in range(NUM_MAPS):
        maps.append(torch.randn(batch, swin.dim * 2**place, *grid, generator=draw))
        grid = [-(-edge // 2) for edge in grid]
    image = torch.randn(batch, len(swin.windows_hu), *swin.crop, generator=draw)
    return Encoded(tokens=torch.zeros(batch, 0, 0), image=image, maps=tuple(maps))


def with_random_norms(decoder: SwinDecoder) -> SwinDecoder:
    for norm in (module for module in decoder.modules() if isinstance(module, MapNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return decoder.eval()


def test_it_is_monais(monkeypatch):
    """On a last map of 1×1×2, each of whose channels MONAI normalises by itself; ours would share a norm."""
    monkeypatch.setattr("apatite.nn.decoders.blocks.FEWEST_VOXELS", 2)
    torch.manual_seed(0)
    swin = shape_of((32, 32, 64))
    ours = with_random_norms(SwinDecoder(swin, 3))
    theirs = SwinUNETR(
        2, 3, feature_size=12, num_heads=(2, 2, 2, 2), window_size=4, norm_name=("instance", {"affine": True})
    ).eval()
    weights = {monais_name(name): value for name, value in ours.state_dict().items()}
    assert set(weights) == {name for name in theirs.state_dict() if not name.startswith("swinViT.")}
    theirs.load_state_dict(weights, strict=False)
    given = encoded(swin, batch=1)
    theirs.swinViT.forward = lambda image, normalize: given.maps
    with torch.no_grad():
        torch.testing.assert_close(ours(given), theirs(given.image), rtol=0, atol=1e-5)


def test_with_its_encoder_it_is_monais_swin_unetr():
    """The whole segmenter, from Hounsfield units to logits; every weight of MONAI's network is one of ours."""
    torch.manual_seed(0)
    depths = (1, 2, 1, 1)
    shape = replace(
        SWINS["swin-unetr"].shape, crop=(64, 128, 32), windows_hu=WINDOWS, dim=12, depths=depths, heads=(1, 2, 3, 6)
    )
    ours = SegmenterConfig(encoder=None, network="swin", swin=shape, num_labels=3).build().eval()
    with_random_norms(ours.decoder)
    theirs = SwinUNETR(
        2,
        3,
        depths=depths,
        num_heads=shape.heads,
        window_size=shape.window,
        qkv_bias=True,
        feature_size=12,
        norm_name=("instance", {"affine": True}),
    ).eval()
    weights = {monais_name(name): value for name, value in ours.decoder.state_dict().items()}
    encoder, used = ours.encoder.state_dict(), set()
    for name in theirs.swinViT.state_dict():
        place = from_monai(name, depths)
        if place is not None:
            weights[f"swinViT.{name}"] = encoder[place]
            used.add(place)
    assert used == set(encoder)
    missing = theirs.load_state_dict(weights, strict=False).missing_keys
    assert all(name.endswith("relative_position_index") for name in missing)
    image_hu = 400 * torch.randn(1, 1, *shape.crop)
    with torch.no_grad():
        logits = theirs(ours.encoder.windows(image_hu))
        torch.testing.assert_close(ours(image_hu), logits, rtol=0, atol=1e-5)
    assert logits.std() > 0.1


def test_it_has_as_many_weights_as_monais_and_those_of_the_norms():
    """At the width of SMIT and of Swin UNETR, one channel, 14 outputs; MONAI's 62.19 million are counted here.

    Ours with SMIT's encoder has 62.90 million: the decoder is MONAI's but for the scales and offsets of the norms, and
    the encoder has two blocks more in stage 3, smaller windows and no biases of queries, keys and values.
    """
    swin = SwinConfig(crop=(96, 96, 96), windows_hu=((-175.0, 250.0),))
    with torch.device("meta"):
        ours = SwinDecoder(swin, 14)
    of_ours = [sum(p.numel() for p in part.parameters()) for part in (swin.build(), ours)]
    theirs = SwinUNETR(1, 14, feature_size=48)
    in_encoder = sum(p.numel() for p in theirs.swinViT.parameters())
    in_decoder = sum(p.numel() for p in theirs.parameters()) - in_encoder
    in_norms = sum(p.numel() for module in ours.modules() if isinstance(module, MapNorm) for p in module.parameters())
    assert (in_encoder, in_decoder) == (8_062_002, 54_125_294)
    assert of_ours == [8_763_784, in_decoder + in_norms]
    assert in_norms == 9_312
    assert sum(of_ours) == 62_898_390


@pytest.mark.parametrize(
    ("crop", "patch"),
    [
        ((16, 48, 80), (2, 2, 2)),  # 1×3×5 cells, a last grid of 1×2×3
        ((16, 16, 32), (2, 2, 2)),  # a last map of one element
        ((8, 16, 48), (1, 2, 2)),
        ((32, 64, 32), (4, 4, 2)),
    ],
)
def test_a_logit_per_voxel_on_any_crop_of_whole_cells(crop, patch):
    torch.manual_seed(0)
    swin = shape_of(crop, 4, patch)
    decoder = SwinDecoder(swin, 3)
    logits = decoder(encoded(swin))
    assert logits.shape == (2, 3, *crop)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in decoder.parameters())


def test_a_map_of_odd_edges_lies_where_its_voxels_do():
    """What is said of the first voxels does not depend on what the merging padded at the far end."""
    torch.manual_seed(0)
    swin = shape_of((48, 16, 16), 4)
    decoder = SwinDecoder(swin, 1).eval()
    step, given = decoder.steps[0], encoded(swin)
    doubled = step.up(given.maps[4])
    joined = torch.cat([doubled[:, :, :3, :1, :1], given.maps[3]], dim=1)
    assert torch.equal(step(given.maps[4], (given.maps[3],)), step.block(joined))


@pytest.mark.parametrize("place", range(NUM_MAPS + 1))
def test_each_map_and_the_image_enter_at_their_own_step(place):
    torch.manual_seed(0)
    swin = shape_of((32, 32, 64), 4)
    decoder = SwinDecoder(swin, 1).eval()
    seen: dict[int, list[torch.Tensor]] = {}
    for number, step in enumerate(decoder.steps):
        step.register_forward_hook(lambda *found, number=number: seen.setdefault(number, []).append(found[2]))
    given, other = encoded(swin), encoded(swin, seed=1)
    maps = [other.maps[n] if n == place else values for n, values in enumerate(given.maps)]
    image = other.image if place == NUM_MAPS else given.image
    with torch.no_grad():
        decoder(given)
        decoder(Encoded(tokens=given.tokens, image=image, maps=tuple(maps)))
    first = {4: 0, 3: 0, 2: 1, 1: 2, 0: 3, NUM_MAPS: 4}[place]
    assert [torch.equal(*seen[number]) for number in range(5)] == [number < first for number in range(5)]


def test_it_asks_for_the_image_and_begins_with_rare_labels():
    torch.manual_seed(0)
    swin = shape_of((16, 32, 16), 4)
    decoder = SwinDecoder(swin, 2)
    assert (decoder.taps, decoder.sees_image) == ((), True)
    nn.init.zeros_(decoder.head.weight)
    torch.testing.assert_close(decoder(encoded(swin)).sigmoid(), torch.full((2, 2, 16, 32, 16), PRIOR))
