"""Our attention for CPUs against torch's in float64, and that its bits depend on nothing but its input."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional as F

from apatite.nn import attention_cpu, torch_threads
from apatite.nn.attention_cpu import attend

CASES = [(2, 3, 70, 4), (1, 5, 131, 10), (3, 2, 64, 16), (2, 1, 57, 20), (1, 3, 90, 40), (2, 2, 1, 10)]
"""Samples, heads, tokens, width."""


@pytest.fixture
def draw():
    def make(samples: int, heads: int, tokens: int, width: int, spread: float = 1.0):
        generator = torch.Generator().manual_seed(tokens)
        qkv = spread * torch.randn(samples, tokens, 3, heads, width, generator=generator)
        return qkv.requires_grad_(), torch.randn(samples, tokens, heads, width, generator=generator)

    return make


def by_torch(qkv: torch.Tensor, upstream: torch.Tensor, scale: float, dtype: torch.dtype = torch.float64):
    """Torch's plain attention, and the gradient of its input."""
    leaf = qkv.detach().to(dtype).requires_grad_()
    q, k, v = leaf.permute(2, 0, 3, 1, 4)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        mixed = F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)
    return mixed.detach(), torch.autograd.grad(mixed, leaf, upstream.to(dtype))[0]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_as_close_to_float64_as_torch_in_fp32(draw, case, spread):
    qkv, upstream = draw(*case, spread)
    scale = case[-1] ** -0.5
    mixed = attend(qkv, scale)
    (gradient,) = torch.autograd.grad(mixed, qkv, upstream)
    exact, fp32 = by_torch(qkv, upstream, scale), by_torch(qkv, upstream, scale, torch.float32)
    for ours, theirs, expected in zip((mixed.detach(), gradient), fp32, exact, strict=True):
        rounding = 4e-6 * expected.abs().max() + 3 * (theirs - expected).abs().max()
        assert (ours - expected).abs().max() < rounding


def test_gradients_are_those_of_finite_differences(draw):
    qkv, upstream = draw(1, 2, 7, 4)
    (gradient,) = torch.autograd.grad(attend(qkv, 0.5), qkv, upstream)
    flat, step = qkv.detach().flatten(), 1e-2
    for place in range(0, flat.numel(), 5):
        values = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[place] += sign * step
            values.append((attend(moved.view_as(qkv), 0.5).double() * upstream).sum())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient.flatten()[place]), abs=2e-3)


def test_huge_scores_do_not_overflow_and_pick_one_value(draw):
    qkv, upstream = draw(1, 2, 65, 10, spread=300.0)
    mixed = attend(qkv, 1.0)
    (gradient,) = torch.autograd.grad(mixed, qkv, upstream)
    assert torch.isfinite(mixed).all()
    assert torch.isfinite(gradient).all()
    expected, _ = by_torch(qkv, upstream, 1.0)
    assert torch.allclose(mixed.double(), expected, rtol=1e-3, atol=1e-2)


def test_equal_scores_average_all_values(draw):
    qkv, _ = draw(2, 3, 67, 10)
    with torch.no_grad():
        qkv[:, :, 0] = 0
        expected = qkv[:, :, 2].double().mean(dim=1, keepdim=True).expand(-1, 67, -1, -1)
        assert torch.allclose(attend(qkv, 1.0).double(), expected, atol=1e-6)


@pytest.mark.parametrize("whose", ["torch's threads", "our own"])
def test_the_same_bits_in_every_run_and_with_any_number_of_threads(draw, monkeypatch, whose):
    monkeypatch.setattr(attention_cpu, "FEW_SCORES", 0)
    if whose == "our own":
        monkeypatch.setattr(torch_threads, "_torch_parallel", lambda: None)
    qkv, upstream = draw(2, 5, 131, 10)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            mixed = attend(qkv, 0.3)
            found.append((mixed, torch.autograd.grad(mixed, qkv, upstream)[0]))
    finally:
        torch.set_num_threads(before)
    for mixed, gradient in found[1:]:
        assert torch.equal(mixed, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_two_callers_at_once_do_not_disturb_each_other(draw, monkeypatch):
    monkeypatch.setattr(attention_cpu, "FEW_SCORES", 0)
    inputs = [draw(1, 4, tokens, 10)[0].detach() for tokens in (65, 131) * 4]
    alone = [attend(qkv, 0.3) for qkv in inputs]
    with ThreadPoolExecutor(2) as callers:
        together = list(callers.map(lambda qkv: attend(qkv, 0.3), inputs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_input_that_is_not_contiguous(draw):
    qkv, upstream = draw(2, 3, 70, 4)
    turned = qkv.detach().transpose(1, 3).contiguous().transpose(1, 3).requires_grad_()
    assert not turned.is_contiguous()
    for one in (qkv, turned):
        mixed = attend(one, 0.5)
        mixed.backward(upstream.transpose(1, 2).contiguous().transpose(1, 2))
    assert qkv.grad is not None
    assert turned.grad is not None
    assert torch.equal(qkv.grad, turned.grad)


def test_under_autocast_scores_stay_fp32(draw):
    qkv, _ = draw(1, 5, 131, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = attend(qkv.bfloat16(), 0.3)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, attend(qkv.bfloat16().float(), 0.3))
