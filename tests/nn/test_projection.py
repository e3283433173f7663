"""The head: unit points, unit prototypes, and DINO's released head with its weight norm as a peer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.nn.projection import ProjectionConfig

CONFIG = ProjectionConfig(prototypes=13, hidden=24, dim=6)


def made(seed=0, config=CONFIG, width=10):
    torch.manual_seed(seed)
    return config.build(width)


def test_points_and_prototypes_have_length_one_in_fp32():
    projected = made()(torch.randn(7, 10))
    assert projected.points.shape == (7, 6)
    assert projected.prototypes.shape == (13, 6)
    for rows in (projected.points, projected.prototypes):
        assert torch.allclose(rows.norm(dim=1), torch.ones(len(rows)), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = made()(torch.randn(7, 10))
    assert under.points.dtype == under.prototypes.dtype == torch.float32
    assert torch.allclose(under.points.norm(dim=1), torch.ones(7), atol=1e-6)


def test_logits_and_gradients_are_those_of_a_weight_norm_with_its_gain_at_one():
    head, tokens = made().double(), torch.randn(7, 10, dtype=torch.float64)
    last = nn.Linear(6, 13, bias=False).double()
    last.load_state_dict(head.prototypes.state_dict())
    last = nn.utils.parametrizations.weight_norm(last)
    last.parametrizations.weight.original0.data.fill_(1)
    expected = last(F.normalize(head.layers(tokens), dim=-1))
    projected = head(tokens)
    found = projected.points @ projected.prototypes.t()
    assert torch.allclose(found, expected, atol=1e-12)
    upstream = torch.randn_like(found)
    found.backward(upstream)
    (wanted,) = torch.autograd.grad(expected, last.parametrizations.weight.original1, upstream)
    assert torch.allclose(head.prototypes.weight.grad, wanted, atol=1e-12)


def test_the_layers_are_the_released_ones():
    """Widths 10, 24, 24, 6 with GELU between, none after; a truncated normal of 0.02 and no bias at first."""
    layers = made().layers
    assert [type(layer).__name__ for layer in layers] == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert [tuple(layer.weight.shape) for layer in layers[::2]] == [(24, 10), (24, 24), (6, 24)]
    wide = ProjectionConfig(prototypes=2, hidden=200, dim=300).build(200).layers
    assert all(layer.weight.std().item() == pytest.approx(0.02, rel=0.02) for layer in wide[::2])
    assert not any(layer.bias.any() for layer in wide[::2])
    assert sum(p.numel() for p in ProjectionConfig().build(384).parameters()) == 7_606_528
    assert [tuple(layer.weight.shape) for layer in ProjectionConfig(prototypes=3, dim=6, layers=1).build(5).layers] == [
        (6, 5)
    ]


def test_prototypes_that_do_not_learn_have_no_gradient_and_the_optimiser_leaves_them():
    head = made()
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.5)
    before = head.prototypes.weight.detach().clone()
    projected = head(torch.randn(7, 10), learns_prototypes=False)
    (projected.points @ projected.prototypes.t()).square().sum().backward()
    optimiser.step()
    assert head.prototypes.weight.grad is None
    assert torch.equal(head.prototypes.weight, before)
    assert all(layer.weight.grad.any() for layer in head.layers[::2])


def test_no_rows():
    assert made()(torch.randn(0, 10)).points.shape == (0, 6)


def test_one_seed_one_head():
    one, same, other = made(0).state_dict(), made(0).state_dict(), made(1).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["prototypes.weight"], other["prototypes.weight"])
    assert list(one) == [*[f"layers.{n}.{kind}" for n in (0, 2, 4) for kind in ("weight", "bias")], "prototypes.weight"]


@pytest.mark.parametrize("wrong", [{"prototypes": 1}, {"hidden": 0}, {"dim": 1}, {"layers": 0}])
def test_shapes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ProjectionConfig(**wrong)
