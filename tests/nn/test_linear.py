"""oneDNN's linear layer against torch's in float64."""

import pytest
import torch
from torch import nn

from apatite.nn.linear import Linear, has_onednn

needs_onednn = pytest.mark.skipif(not has_onednn(), reason="this torch was built without oneDNN")


@needs_onednn
@pytest.mark.parametrize(
    ("shape", "outputs"), [((3, 5, 24), 40), ((2, 300, 24), 40), ((2, 300, 40), 24), ((7, 12), 12), ((0, 24), 40)]
)
def test_forward_and_gradients_are_those_of_torch(shape, outputs):
    torch.manual_seed(0)
    ours, exact = Linear(shape[-1], outputs, by_onednn=True), nn.Linear(shape[-1], outputs).double()
    exact.load_state_dict(ours.state_dict())
    rows, upstream = torch.randn(shape), torch.randn(*shape[:-1], outputs)
    found, expected = rows.clone().requires_grad_(), rows.double().requires_grad_()
    ours(found).backward(upstream)
    exact(expected).backward(upstream.double())
    assert torch.allclose(ours(rows).double(), exact(rows.double()), atol=1e-5)
    for a, b in [(found, expected), (ours.weight, exact.weight), (ours.bias, exact.bias)]:
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.is_contiguous()
        assert torch.allclose(a.grad.double(), b.grad, atol=1e-4)


@needs_onednn
def test_the_same_bits_in_every_run():
    torch.manual_seed(0)
    layer, rows = Linear(120, 480, by_onednn=True), torch.randn(2, 301, 120)
    found = []
    for _ in range(3):
        layer.zero_grad()
        layer(rows).square().sum().backward()
        found.append((layer.weight.grad, layer.bias.grad))
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one, found[0], strict=True))


@needs_onednn
def test_what_is_not_fp32_is_left_to_torch():
    torch.manual_seed(0)
    layer, rows = Linear(12, 8, by_onednn=True), torch.randn(3, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(rows).dtype == torch.bfloat16
    assert layer.double()(rows.double()).dtype == torch.float64
