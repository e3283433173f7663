import pytest
import torch

from apatite.nn.attention import AttentionKernel
from apatite.nn.swin import attention as attention_file
from apatite.nn.swin import attention_cpu
from apatite.nn.swin.attention import WindowAttention


def _attention(*, qkv_bias: bool = True) -> WindowAttention:
    torch.manual_seed(0)
    attention = WindowAttention(
        dim=6, heads=2, window=(2, 3, 2), kernel=AttentionKernel(), qkv_bias=qkv_bias, counts_from_first=False
    )
    torch.nn.init.normal_(attention.relative_position_bias_table)
    return attention


def _by_hand(attention, tokens, window, sides):
    """Token by token, the bias looked up by offset."""
    q, k, v = attention.qkv(tokens).view(len(tokens), -1, 3, 2, 3).unbind(2)
    places = torch.cartesian_prod(*map(torch.arange, window))
    table = attention.relative_position_bias_table.view(3, 5, 3, 2)
    out = torch.zeros(*tokens.shape[:2], 2, 3)
    for w in range(len(tokens)):
        for i in range(tokens.shape[1]):
            z, y, x = (places[i] - places + torch.tensor([1, 2, 1])).unbind(-1)
            scores = torch.einsum("hd,nhd->nh", q[w, i], k[w]) * 3**-0.5 + table[z, y, x]
            if sides is not None:
                scores[sides[w % len(sides), i] != sides[w % len(sides)]] = -torch.inf
            out[w, i] = (scores.softmax(0)[..., None] * v[w]).sum(0)
    return attention.proj(out.flatten(2))


@pytest.fixture(params=["on a CPU", "at once"])
def way(request, monkeypatch):
    """Either way of computing, both on the CPU: the second is what other devices use."""
    if request.param == "at once":
        monkeypatch.setattr(attention_file, "attend_in_windows", attention_file._attend_at_once)


@pytest.fixture
def few_at_once(monkeypatch):
    """Chunks of two windows: 2 heads of 12 tokens in fp64."""
    monkeypatch.setattr(attention_cpu, "SCORES_BYTES", 2 * 2 * 12**2 * 8)


@pytest.mark.usefixtures("way", "few_at_once")
@pytest.mark.parametrize("has_sides", [True, False])
@pytest.mark.parametrize("window", [(2, 3, 2), (2, 2, 1)])
def test_attention_is_the_formula(window, has_sides):
    attention = _attention()
    inside = window[0] * window[1] * window[2]
    tokens = torch.randn(6, inside, 6)
    sides = None
    if has_sides:
        sides = torch.randint(0, 2, (3, inside))
    mixed = attention(tokens, window, sides)
    torch.testing.assert_close(mixed, _by_hand(attention, tokens, window, sides), atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(attention(tokens, window, sides), mixed.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("way", "few_at_once")
def test_gradients_are_the_formulas():
    attention = _attention(qkv_bias=False).double()
    tokens = torch.randn(6, 12, 6, dtype=torch.float64, requires_grad=True)
    sides = torch.randint(0, 2, (3, 12))
    sides[0] = 0  # a window in which all may see each other
    weights = torch.randn(6, 12, 6, dtype=torch.float64)
    inputs = (tokens, attention.relative_position_bias_table, attention.qkv.weight)
    ours = torch.autograd.grad((attention(tokens, (2, 3, 2), sides) * weights).sum(), inputs)
    torch.set_default_dtype(torch.float64)
    try:
        oracle = torch.autograd.grad((_by_hand(attention, tokens, (2, 3, 2), sides) * weights).sum(), inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, by_hand in zip(ours, oracle, strict=True):
        torch.testing.assert_close(mine, by_hand, atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("way")
def test_what_may_not_be_seen_is_not_seen_at_all():
    attention = _attention()
    tokens = torch.randn(1, 12, 6, requires_grad=True)
    sides = (torch.arange(12) < 5).int()[None]
    mixed = attention(tokens, (2, 3, 2), sides)
    (gradient,) = torch.autograd.grad(mixed[:, :5].sum(), tokens)
    assert torch.equal(gradient[:, 5:], torch.zeros(1, 7, 6))
    assert gradient[:, :5].abs().min() > 0


def test_no_scores_are_kept_for_the_gradient():
    """What the linear layers need is, and q, k, v and what was mixed: no number for each pair of tokens."""
    attention = WindowAttention(
        dim=4, heads=4, window=(4, 4, 4), kernel=AttentionKernel(), qkv_bias=False, counts_from_first=False
    )
    tokens = torch.randn(20, 64, 4, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = max(kept.get(tensor.data_ptr(), 0), tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        attention(tokens, (4, 4, 4), None)
    assert sum(kept.values()) < 20 * 4 * 64**2 / 4


def test_under_autocast_scores_are_those_of_fp32():
    attention = _attention()
    tokens = torch.randn(6, 12, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = attention(tokens, (2, 3, 2), None)
    mixed.float().sum().backward()
    assert mixed.dtype == torch.bfloat16
    assert attention.relative_position_bias_table.grad is not None
    torch.testing.assert_close(mixed.float(), attention(tokens, (2, 3, 2), None), atol=0.03, rtol=0.03)


def test_a_fresh_table_is_drawn_narrowly_and_never_decayed():
    torch.manual_seed(0)
    attention = WindowAttention(
        dim=4, heads=4, window=(4, 4, 4), kernel=AttentionKernel(), qkv_bias=False, counts_from_first=False
    )
    table = attention.relative_position_bias_table
    assert table.shape == (343, 4)
    assert table.std().item() == pytest.approx(0.02, rel=0.1)
    assert attention.undecayed == ("relative_position_bias_table",)
    assert attention.qkv.bias is None
