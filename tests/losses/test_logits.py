"""Logits chunk by chunk are those of all rows at once."""

import pytest
import torch

from apatite.core.types import Projected
from apatite.losses.logits import Logits, exact


def drawn():
    generator = torch.Generator().manual_seed(0)
    points, prototypes = (torch.randn(count, 3, generator=generator, dtype=torch.float64) for count in (11, 7))
    return Projected(points=points, prototypes=prototypes)


@pytest.mark.parametrize("chunk_rows", [1, 4, 11, 100])
@pytest.mark.parametrize("offset", [None, torch.arange(7.0)])
def test_all_rows_in_order(chunk_rows, offset):
    projected = drawn()
    logits = Logits.of(projected, 0.2, offset)
    chunks = list(logits.chunks(chunk_rows))
    assert all(len(logits.rows(chunk)) <= chunk_rows for chunk in chunks)
    expected = projected.points @ projected.prototypes.t() / 0.2 + (0 if offset is None else offset)
    assert torch.allclose(torch.cat([logits.rows(chunk) for chunk in chunks]), expected, atol=1e-12)
    found = torch.cat([logits.distribution(chunk) for chunk in chunks])
    assert torch.allclose(found, expected.softmax(dim=1), atol=1e-12)


def test_formats():
    """Sixteen bits become 32, all in one format; nothing carries a gradient."""
    projected = Projected(
        points=drawn().points.bfloat16().requires_grad_(), prototypes=drawn().prototypes.requires_grad_()
    )
    logits = Logits.of(projected, 1.0, torch.zeros(7, dtype=torch.float64))
    made = logits.rows(slice(0, 2))
    assert (made.dtype, made.requires_grad) == (torch.float32, False)
    assert exact(torch.ones(1, dtype=torch.float16)).dtype == torch.float32
    assert exact(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
