import pytest
import torch
from torch import nn

from apatite.core.errors import ConfigError
from apatite.nn.attention import Attention, AttentionKernel

PLAIN, PADDED = AttentionKernel(), AttentionKernel(head_multiple=16)
COMPILED = AttentionKernel(compiled=True, by_onednn=True)


def test_matches_torch_multihead_attention_with_the_same_weights():
    torch.manual_seed(0)
    ours, theirs = Attention(24, 3, PLAIN), nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, 11, 24)
    assert torch.allclose(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)


@pytest.mark.parametrize(("dim", "heads"), [(120, 12), (240, 12), (480, 12), (48, 3)])
@pytest.mark.parametrize("kernel", [PADDED, COMPILED], ids=["padded", "compiled"])
def test_every_kernel_computes_the_same_function_and_learns_the_same(dim, heads, kernel):
    torch.manual_seed(0)
    plain, other = Attention(dim, heads, PLAIN), Attention(dim, heads, kernel)
    other.load_state_dict(plain.state_dict())
    x = torch.randn(2, 9, dim)
    assert torch.allclose(plain(x), other(x), atol=1e-6)
    for module in (plain, other):
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], atol=1e-5), name


def test_stored_padding_stays_zero_while_learning():
    module = Attention(30, 3, PADDED)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(3):
        module(torch.randn(2, 5, 30)).square().sum().backward()
        optimizer.step()
    assert module.stored_width == 16
    assert not module.qkv.weight.view(3, 3, 16, 30)[:, :, 10:].any()
    assert not module.out.weight.view(30, 3, 16)[:, :, 10:].any()


def test_weights_leave_unpadded_and_wrong_shapes_are_refused():
    module = Attention(30, 3, PADDED)
    assert module.state_dict()["qkv.weight"].shape == (90, 30)
    with pytest.raises(RuntimeError, match="size mismatch"):
        module.load_state_dict(Attention(36, 3, PLAIN).state_dict())


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="cannot be shared"):
        Attention(20, 3, PLAIN)


@pytest.mark.parametrize("kernel", [PLAIN, COMPILED], ids=["plain", "compiled"])
def test_scores_are_never_held(kernel):
    """At 20 000 tokens one matrix of scores alone would be 1.6 GB; the peak of saved tensors stays far below."""
    saved = 0

    def count(tensor):
        nonlocal saved
        saved = max(saved, tensor.numel())
        return tensor

    module = Attention(12, 1, kernel)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        module(torch.randn(1, 20_000, 12))
    assert saved <= 20_000 * 36


def test_scores_in_fp32_stay_in_fp32_under_autocast(monkeypatch):
    """Autocast casts what goes into the fused kernel; without a guard the choice would do nothing."""
    torch.manual_seed(0)
    real, formats = torch.nn.functional.scaled_dot_product_attention, []

    def spy(q, k, v, scale):
        mixed = real(q, k, v, scale=scale)
        formats.append(mixed.dtype)
        return mixed

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    x = torch.randn(2, 7, 24)
    for in_fp32 in (False, True):
        module = Attention(24, 3, AttentionKernel(in_fp32=in_fp32))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(x).dtype == torch.bfloat16
    assert formats == [torch.bfloat16, torch.float32]
