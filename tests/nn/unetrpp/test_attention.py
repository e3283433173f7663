"""Paired attention is what its formula says, a token keeps its place, and neither emptiness nor bf16 harms it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from apatite.nn.unetrpp.attention import PairedAttention, PairedAttentionConfig

CONFIG = PairedAttentionConfig(
    tokens=7,
    dim=6,
    heads=3,
    projection=5,
    shares_projection=False,
    projection_bias=True,
    fusion="concat",
    dropout=0.0,
    scrambled=False,
)


def attention(**changes: object) -> PairedAttention:
    """With weights that let everything have a say, in double precision."""
    torch.manual_seed(0)
    made = PairedAttention(replace(CONFIG, **changes)).double()  # pyright: ignore[reportArgumentType]
    for weight in made.parameters():
        nn.init.normal_(weight)
    return made


def by_hand(module: PairedAttention, tokens: Tensor) -> Tensor:
    """One sample, head by head and row by row, from the formula."""
    config, weights = module.config, dict(module.named_parameters())
    width = config.dim // config.heads
    kinds = (tokens @ weights["queries_keys_values.weight"].T).split(config.dim, dim=1)
    of_values = "project_keys" if config.shares_projection else "project_values"

    def summaries(rows: Tensor, layer: str) -> Tensor:
        bias = weights[f"{layer}.bias"] if config.projection_bias else torch.zeros(config.projection).double()
        return rows @ weights[f"{layer}.weight"].T + bias

    by_channels, by_voxels = [], []
    for head in range(config.heads):
        queries, keys, channels, voxels = (kind[:, head * width : (head + 1) * width].T for kind in kinds)
        unit_queries = queries / queries.norm(dim=1, keepdim=True)
        unit_keys = keys / keys.norm(dim=1, keepdim=True)
        scores = unit_queries @ unit_keys.T * weights["temperature_channels"][head]
        by_channels.append(torch.softmax(scores, dim=1) @ channels)
        known, told = summaries(keys, "project_keys"), summaries(voxels, of_values)
        rows = [
            torch.softmax(unit_queries[:, token] @ known * weights["temperature_voxels"][head, 0], dim=0) @ told.T
            for token in range(config.tokens)
        ]
        by_voxels.append(torch.stack(rows))
    channels, voxels = torch.cat(by_channels).T, torch.cat(by_voxels, dim=1)
    if config.fusion == "sum":
        return voxels + channels
    halves = ((voxels, "out_voxels"), (channels, "out_channels"))
    return torch.cat([half @ weights[f"{out}.weight"].T + weights[f"{out}.bias"] for half, out in halves], dim=1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"shares_projection": True}, {"fusion": "sum"}, {"projection_bias": False, "shares_projection": True}],
    ids=["apart", "shared", "sum", "shared, no bias"],
)
def test_it_is_the_formula(changes):
    module = attention(**changes)
    tokens = torch.randn(2, 7, 6).double()
    wanted = torch.stack([by_hand(module, sample) for sample in tokens])
    torch.testing.assert_close(module(tokens), wanted, rtol=0, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    module = attention(fusion="sum", shares_projection=True)
    tokens = torch.randn(2, 7, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (tokens,))


@pytest.mark.parametrize("scrambled", [False, True])
def test_a_token_keeps_its_place_unless_the_public_order_is_asked_for(scrambled):
    module = attention(scrambled=scrambled)
    tokens, order = torch.randn(2, 7, 6).double(), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    before = module(tokens)
    with torch.no_grad():
        for layer in (module.project_keys, module.project_values):
            layer.weight.copy_(layer.weight[:, order])
    after = module(tokens[:, order])
    of_voxels, of_channels = slice(0, 3), slice(3, 6)
    torch.testing.assert_close(after[..., of_channels], before[:, order][..., of_channels])
    is_in_place = torch.allclose(after[..., of_voxels], before[:, order][..., of_voxels])
    assert is_in_place is not scrambled


def test_the_public_order_is_the_same_numbers_elsewhere():
    ours, public = attention(fusion="sum"), attention(fusion="sum", scrambled=True)
    tokens = torch.randn(1, 7, 6).double()
    hushed = torch.zeros_like(ours.queries_keys_values.weight[12:18])
    with torch.no_grad():
        for module in (ours, public):  # no values of channels: what is left is the voxels' result
            module.queries_keys_values.weight[12:18] = hushed
    found, wanted = public(tokens).flatten(), ours(tokens).flatten()
    assert not torch.allclose(found, wanted)
    torch.testing.assert_close(found.sort().values, wanted.sort().values)


def test_no_contrast_gives_gradients_of_ordinary_size():
    module = attention().float()
    tokens = torch.zeros(1, 7, 6, requires_grad=True)
    module(tokens).square().sum().backward()
    for weight in (tokens, *module.parameters()):
        assert weight.grad is not None
        assert weight.grad.abs().max() < 1e9


def test_bf16_is_near_single_precision():
    module = attention().float()
    tokens = 1e-3 * torch.randn(2, 7, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(tokens)
    torch.testing.assert_close(found.float(), module(tokens), rtol=0.05, atol=0.05)


def test_lengths_are_taken_in_single_precision():
    rows = torch.randn(2, 3, 2, 7).bfloat16()
    lengths = attention()._unit(rows).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-6)


def test_scores_are_dropped_in_training_only():
    module, tokens = attention(dropout=0.5), torch.randn(1, 7, 6).double()
    assert torch.equal(module.eval()(tokens), module(tokens))
    module.train()
    assert not torch.equal(module(tokens), module(tokens))


def test_temperatures_are_not_to_be_decayed():
    assert set(PairedAttention.undecayed) == {
        name for name, _ in PairedAttention(CONFIG).named_parameters() if "temperature" in name
    }
