"""The head of the four turns reads all elements alike."""

import torch

from apatite.nn.turn_head import TurnHead


def made() -> TurnHead:
    torch.manual_seed(0)
    return TurnHead(6)


def test_all_elements_count_alike_whatever_their_order():
    """The public code it follows reads the first element alone."""
    head, elements = made(), torch.randn(2, 5, 6)
    torch.testing.assert_close(head(elements), head(elements.flip(1)))
    for element in range(5):
        changed = elements.clone()
        changed[:, element] = torch.randn(2, 6)
        assert not torch.allclose(head(changed), head(elements))


def test_logits_by_hand():
    head = made()
    elements = torch.randn(3, 4, 6)
    normal = (elements - elements.mean(2, keepdim=True)) / torch.sqrt(
        elements.var(2, keepdim=True, unbiased=False) + 1e-5
    )
    torch.testing.assert_close(head(elements), normal.mean(1) @ head.linear.weight.T)


def test_logits_are_in_fp32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made()(torch.randn(2, 5, 6).bfloat16()).dtype == torch.float32
