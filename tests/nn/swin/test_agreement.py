"""The encoder beside MONAI's with the same weights, in MONAI's convention and in SMIT's."""

from dataclasses import replace

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from apatite.nn.swin.config import CONVENTIONS, SwinConfig
from apatite.nn.swin.monai_names import from_monai
from apatite.nn.swin.network import Swin
from apatite.nn.swin.presets import SWINS

WINDOWS = ((-1000.0, 1000.0), (0.0, 300.0))
MONAI = {
    # The default of Swin UNETR: windows of 7 that all but the first stages make smaller; an odd deep grid.
    "default": (
        replace(SWINS["swin-unetr"].shape, windows_hu=((0.0, 1.0),), dim=12, heads=(3, 6, 6, 12)),
        (32, 16, 48),
    ),
    # Windows that need padding in every stage, shifts along some axes only, odd grids from stage 3 on.
    "uneven": (
        SwinConfig(
            windows_hu=WINDOWS,
            dim=6,
            depths=(2, 3, 2, 2),
            heads=(1, 2, 3, 3),
            window=(3, 5, 4),
            convention="monai",
        ),
        (48, 16, 80),
    ),
    "patch": (
        SwinConfig(
            windows_hu=WINDOWS,
            crop=(16, 32, 64),
            patch=(2, 2, 4),
            dim=6,
            heads=(1, 2, 3, 3),
            window=(4, 2, 3),
            qkv_bias=True,
            convention="monai",
        ),
        (16, 48, 96),
    ),
}


def _pair(config: SwinConfig) -> tuple[Swin, SwinTransformer]:
    """Ours and MONAI's, with MONAI's weights."""
    torch.manual_seed(0)
    theirs = SwinTransformer(
        in_chans=len(config.windows_hu),
        embed_dim=config.dim,
        window_size=config.window,
        patch_size=config.patch,
        depths=config.depths,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        qkv_bias=config.qkv_bias,
        patch_norm=config.normalises_embedding,
    )
    for name, parameter in theirs.named_parameters():
        if "table" in name or "norm" in name or "bias" in name:
            nn.init.normal_(parameter, std=0.5)  # so that what begins at 0 or 1 is seen as well
    ours = config.build()
    found = {from_monai(name, config.depths): tensor for name, tensor in theirs.state_dict().items()}
    found.pop(None)
    ours.load_state_dict(found, strict=True)  # type: ignore[arg-type]
    return ours, theirs


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", MONAI)
def test_maps_are_monais(name, dtype, atol):
    config, edges = MONAI[name]
    ours, theirs = (network.to(dtype).eval() for network in _pair(config))
    image = torch.randn(1, len(config.windows_hu), *edges, dtype=dtype)
    with torch.no_grad():
        for mine, monais in zip(ours.maps(image), theirs(image, False), strict=True):
            torch.testing.assert_close(mine, monais, atol=atol * (1 + monais.abs().max().item()), rtol=0)
        grids = [norm(grid.movedim(1, -1)) for norm, grid in zip(ours.norms, ours.maps(image), strict=True)]
        for mine, monais in zip(grids, theirs(image, True), strict=True):
            torch.testing.assert_close(mine.movedim(-1, 1), monais, atol=atol, rtol=0)


def test_gradients_are_monais():
    config = replace(MONAI["uneven"][0], crop=(16, 32, 48))
    ours, theirs = (network.double() for network in _pair(config))
    image = torch.randn(2, 2, 16, 32, 48, dtype=torch.float64)
    for network, maps in ((ours, ours.maps(image)), (theirs, theirs(image, False))):
        total = torch.stack([(grid.flatten() * torch.linspace(-1, 1, grid.numel()).to(grid)).sum() for grid in maps])
        total.sum().backward()
        assert all(p.grad is not None for p in network.parameters())
    mine = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        found = from_monai(name, config.depths)
        assert found is not None
        scale = 1 + parameter.grad.abs().max().item()
        torch.testing.assert_close(mine[found].grad, parameter.grad, atol=1e-10 * scale, rtol=0)


def test_smits_convention_is_monais_with_columns_in_another_order_and_maps_at_the_ends():
    """What the released code computes, from MONAI's stages: whole windows, so that no small window differs."""
    config = SwinConfig(crop=(32, 48, 64), windows_hu=WINDOWS, dim=4, heads=(1, 1, 2, 2), window=(2, 3, 2))
    ours, theirs = (network.eval() for network in _pair(replace(config, convention="monai")))
    smit = config.build().eval()
    smit.load_state_dict(ours.state_dict(), strict=False)
    order = [CONVENTIONS["monai"].neighbours.index(corner) for corner in CONVENTIONS["smit"].neighbours]
    for mine, monais in zip(smit.blocks, ours.blocks, strict=True):
        if mine.merge is not None:
            for to, by in ((mine.merge.norm, monais.merge.norm), (mine.merge.reduction, monais.merge.reduction)):
                columns = by.weight.detach().unflatten(-1, (8, -1))[..., order, :]
                to.weight.data.copy_(columns.flatten(-2))
            mine.merge.norm.bias.data.copy_(monais.merge.norm.bias.detach().view(8, -1)[order].flatten())
    image = torch.randn(1, 2, 32, 48, 64)
    with torch.no_grad():
        tokens, ends = theirs.patch_embed(image), []
        for (layer,) in (theirs.layers1, theirs.layers2, theirs.layers3, theirs.layers4):
            merge, layer.downsample = layer.downsample, None
            ends.append(layer(tokens))
            tokens = merge(ends[-1].movedim(1, -1)).movedim(-1, 1)
        for mine, monais in zip(smit.maps(image), [*ends, tokens], strict=True):
            torch.testing.assert_close(mine, monais, atol=2e-5, rtol=1e-5)
        verbatim = config.build().eval()
        verbatim.load_state_dict(ours.state_dict(), strict=False)
        assert not torch.allclose(verbatim.maps(image)[4], smit.maps(image)[4], atol=1e-3)
