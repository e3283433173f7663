"""The gradient of the weights is that of fp32, on two slices too, whatever lay in the memory before."""

import pytest
import torch
from torch.nn import functional as F

from apatite.nn.decoders.convolution import Conv


def leave_nonsense_in_memory() -> None:
    """What is freed here is what the next tensors are made of."""
    for size in (2**power * part for power in range(3, 14) for part in (2, 3)):
        held = [torch.full((size,), float("nan")) for _ in range(3)]
        del held


@pytest.mark.parametrize("edges", [(2, 4, 6), (2, 1, 1), (1, 4, 6), (3, 5, 7), (4, 2, 2)])
def test_the_bf16_gradient_of_the_weights_is_nearly_that_of_fp32(edges):
    torch.manual_seed(0)
    convolution = Conv(16, 8, bias=True)
    for _ in range(8):
        features = torch.randn(2, 16, *edges)
        weight = convolution.weight.detach().requires_grad_()
        exact = F.conv3d(features, weight, convolution.bias, padding=1)
        direction = torch.randn_like(exact)
        (exact * direction).sum().backward()
        convolution.weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = convolution(features)
        leave_nonsense_in_memory()
        (made.float() * direction).sum().backward()
        assert convolution.weight.grad is not None
        assert weight.grad is not None
        torch.testing.assert_close(made.float(), exact, rtol=0, atol=0.05)
        torch.testing.assert_close(convolution.weight.grad, weight.grad, rtol=0.05, atol=0.15)


def test_in_fp32_it_is_torchs_own():
    convolution, features = Conv(3, 4), torch.randn(2, 3, 2, 4, 6)
    assert torch.equal(convolution(features), F.conv3d(features, convolution.weight, padding=1))
