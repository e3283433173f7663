"""What the encoder gives, what hiding means, and what learns."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from apatite.core.errors import ConfigError
from apatite.core.share import Share
from apatite.engine.optim import OptimConfig, build_optimizer, layer_of
from apatite.nn.drop_path import share_draws
from apatite.nn.patches import patchify
from apatite.nn.swin.config import CONVENTIONS, SwinConfig
from apatite.nn.swin.network import Swin

WINDOWS = ((-1000.0, 1000.0), (0.0, 300.0))
SMALL = SwinConfig(crop=(16, 32, 48), windows_hu=WINDOWS, dim=6, depths=(2, 2, 2, 2), heads=(1, 2, 3, 3))
SMALLEST = SwinConfig(crop=(16, 16, 32), windows_hu=((0.0, 1.0),), dim=4, depths=(2, 1, 1, 1), heads=(1, 1, 2, 2))


def _normed(swin: Swin, image: torch.Tensor) -> list[torch.Tensor]:
    """The maps as a decoder takes them, of an image that is windowed already."""
    return [norm(grid.movedim(1, -1)).movedim(-1, 1) for norm, grid in zip(swin.norms, swin.maps(image), strict=True)]


def test_merging_puts_neighbours_side_by_side_in_the_order_of_the_convention():
    for name in CONVENTIONS:
        merge = replace(SMALLEST, convention=name).build().blocks[1].merge
        assert merge is not None
        tokens = torch.randn(2, 3, 4, 2, 4)  # an odd depth: a row of zeros follows
        padded = torch.cat([tokens, torch.zeros(2, 1, 4, 2, 4)], 1)
        merged = merge(tokens)
        assert merged.shape == (2, 2, 2, 1, 8)
        corner = torch.cat([padded[1, 2 + z, 0 + y, 0 + x] for z, y, x in CONVENTIONS[name].neighbours])
        torch.testing.assert_close(merged[1, 1, 0, 0], merge.reduction(merge.norm(corner)))


def test_taps_are_rows_of_the_last_stages_in_the_order_of_patchify():
    torch.manual_seed(0)
    swin = SMALL.build().eval()
    image = torch.randn(2, 2, 32, 16, 48)
    taps, maps = swin.taps(image), swin.maps(image)
    assert taps.merged3.shape == taps.stage4.shape == (2, 2 * 1 * 3, 48)
    assert taps.deep.shape == (2, 1 * 1 * 2, 96)
    assert torch.equal(taps.stage4, patchify(maps[3], (1, 1, 1)))
    assert torch.equal(taps.deep, patchify(maps[4], (1, 1, 1)))
    starts = replace(SMALL, convention="monai").build().eval()
    starts.load_state_dict(swin.state_dict(), strict=False)
    taps, maps = starts.taps(image), starts.maps(image)
    assert torch.equal(taps.merged3, patchify(maps[3], (1, 1, 1)))


@pytest.mark.parametrize("convention", ["smit", "monai"])
def test_encoding_windows_and_normalises(convention):
    torch.manual_seed(0)
    swin = replace(SMALL, convention=convention).build().eval()
    for norm in swin.norms:
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
    image_hu = torch.randn(1, 1, 16, 32, 48) * 500
    encoded = swin.encode(image_hu, keeps_image=True)
    assert encoded.image is not None
    assert torch.equal(encoded.image, swin.windows(image_hu))
    assert [tuple(grid.shape[1:]) for grid in encoded.maps] == [
        (6, 8, 16, 24),
        (12, 4, 8, 12),
        (24, 2, 4, 6),
        (48, 1, 2, 3),
        (96, 1, 1, 2),
    ]
    for mine, wanted in zip(encoded.maps, _normed(swin, encoded.image), strict=True):
        assert torch.equal(mine, wanted)
    assert torch.equal(encoded.tokens, patchify(encoded.maps[-1], (1, 1, 1)))
    assert swin.encode(image_hu).image is None
    if convention == "smit":
        assert torch.equal(encoded.maps[4], swin.maps(encoded.image)[4])


def test_hidden_cells_are_precisely_those_whose_embeddings_are_the_token():
    torch.manual_seed(0)
    swin = SMALL.build()
    token = torch.randn(6)
    is_hidden = torch.tensor([[True, False, False, True, False, False], [False, False, True, False, True, True]])
    seen: list[torch.Tensor] = []
    swin.blocks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    image = torch.randn(2, 2, 16, 32, 48)
    swin.maps(image, is_hidden, token)
    is_token = (seen[0] == token).all(-1)
    for sample in range(2):
        for cell, hidden in enumerate(is_hidden[sample].tolist()):
            y, x = divmod(cell, 3)
            assert is_token[sample, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].all() == hidden
            assert is_token[sample, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].any() == hidden
    swin.maps(image)
    assert torch.equal(seen[0][~is_token], seen[1][~is_token])


def test_nothing_of_a_hidden_voxel_gets_further():
    torch.manual_seed(0)
    swin = SMALL.build()
    is_hidden = torch.tensor([[True, False, False, True, True, False]])
    image = torch.randn(1, 2, 16, 32, 48, requires_grad=True)
    token = torch.zeros(6, requires_grad=True)
    taps = swin.taps(image, is_hidden, token)
    total = sum((part * torch.randn_like(part)).sum() for part in (taps.merged3, taps.stage4, taps.deep))
    by_image, by_token = torch.autograd.grad(total, (image, token))  # type: ignore[arg-type]
    cells = patchify(by_image, (16, 16, 16))[0]
    assert torch.equal(cells[is_hidden[0]], torch.zeros(3, 16**3 * 2))
    assert (cells[~is_hidden[0]] != 0).any(1).all()
    assert (by_token != 0).all()


def test_every_weight_learns_from_the_taps_but_the_norms_of_maps():
    """And from the map after stage 3 none of stage 4 does: what SMIT's distillation never trains."""
    torch.manual_seed(0)
    swin = SMALL.build()
    taps = swin.taps(torch.randn(2, 2, 16, 32, 48))
    parameters = dict(swin.named_parameters())

    def untouched(part: torch.Tensor) -> set[str]:
        total = (part * torch.randn_like(part)).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), retain_graph=True, allow_unused=True)
        return {
            name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None or not gradient.any()
        }

    norms = {name for name in parameters if name.startswith("norms.")}
    assert untouched(taps.deep) == norms
    stage4 = {name for name in parameters if name.startswith(("blocks.6.", "blocks.7."))}
    assert untouched(taps.merged3) == norms | stage4
    assert untouched(taps.stage4) == norms | {name for name in stage4 if ".merge." in name}


def test_processes_together_drop_what_one_alone_would():
    torch.manual_seed(0)
    swin = replace(SMALLEST, drop_path=0.5).build().train()
    image = torch.randn(4, 1, 16, 16, 32)
    torch.manual_seed(7)
    alone = swin.taps(image).deep
    for index in range(2):
        share_draws(swin, Share(index=index, of=2))
        torch.manual_seed(7)
        part = swin.taps(image[2 * index : 2 * index + 2]).deep
        torch.testing.assert_close(part, alone[2 * index : 2 * index + 2])
    share_draws(swin, Share())
    assert not torch.allclose(swin.taps(image).deep, swin.eval().taps(image).deep)


def test_half_precision_gives_about_the_same():
    torch.manual_seed(0)
    swin = SMALL.build()
    image, is_hidden = torch.randn(1, 2, 16, 32, 48), torch.tensor([[True, False, True, False, False, False]])
    full = swin.taps(image, is_hidden, torch.zeros(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = swin.taps(image, is_hidden, torch.zeros(6))
    half.deep.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in swin.parameters() if p.grad is not None)
    similarity = nn.functional.cosine_similarity(half.deep.float(), full.deep, dim=-1)
    assert similarity.min() > 0.99


def test_layers_are_told_by_name_and_tables_are_not_decayed():
    whole = nn.ModuleDict({"encoder": SMALL.build()})
    layers = {name: layer_of(name, SMALL.depth) for name, _ in whole.named_parameters()}
    assert layers["encoder.embed.project.weight"] == layers["encoder.embed.norm.weight"] == 0
    assert layers["encoder.blocks.0.mlp.0.weight"] == 1
    assert layers["encoder.blocks.3.merge.reduction.weight"] == layers["encoder.blocks.3.mlp.0.weight"] == 4
    assert layers["encoder.norms.3.weight"] == SMALL.depth + 1
    optimizer = build_optimizer(whole, OptimConfig(weight_decay=0.1, layer_decay=0.5), SMALL.depth)
    tables = {id(p) for name, p in whole.named_parameters() if name.endswith("table")}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(tables) == SMALL.depth
    assert {decays[table] for table in tables} == {0.0}
    assert {decays[id(p)] for p in whole.parameters() if p.ndim > 1 and id(p) not in tables} == {0.1}


def test_edges_that_are_no_cells_are_refused():
    with pytest.raises(ConfigError, match="whole cells"):
        SMALL.build().taps(torch.zeros(1, 2, 16, 24, 48))


def test_only_weights_are_stored():
    """No table of places, no table of what may not be seen: they follow from the config."""
    swin = SMALL.build()
    swin.maps(torch.zeros(1, 2, 16, 32, 48))
    assert set(swin.state_dict()) == {name for name, _ in swin.named_parameters()}


def test_gradients_are_the_same_bit_for_bit_however_many_threads_share_the_work():
    """The tables of eight heads are large enough for torch to add up into them from several threads at once."""
    torch.manual_seed(0)
    config = SwinConfig(crop=(32, 48, 64), dim=16, heads=(8, 8, 8, 8), depths=(1, 1, 1, 1), windows_hu=((-1.0, 1.0),))
    swin, image = config.build(), torch.randn(1, 1, 32, 48, 64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    found = []
    try:
        for _ in range(3):
            swin.zero_grad()
            swin.taps(image).deep.square().sum().backward()
            found.append([parameter.grad.clone() for parameter in swin.parameters() if parameter.grad is not None])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for again in found[1:] for one, other in zip(found[0], again, strict=True))
