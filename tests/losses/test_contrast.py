"""The contrastive loss against MoCo v3's algorithm written plainly, by hand, and over several processes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from apatite.core.errors import ConfigError
from apatite.core.share import Share
from apatite.losses.contrast import contrastive_loss, gathered


def plain(queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> float:
    """Algorithm 1 of MoCo v3 for two views, sample by sample: loss = ctr(q1, k2) + ctr(q2, k1)."""

    def ctr(asking: list, answering: list) -> float:
        total = 0.0
        for place, query in enumerate(asking):
            cosines = [F.cosine_similarity(query, key, dim=0).item() / temperature for key in answering]
            total += math.log(sum(math.exp(cosine) for cosine in cosines)) - cosines[place]
        return 2 * temperature * total / len(asking)

    return ctr(list(queries[0]), list(keys[1])) + ctr(list(queries[1]), list(keys[0]))


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(batch=st.integers(2, 5), dim=st.integers(2, 6), temperature=st.floats(0.1, 2.0), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_two_views_are_the_papers_algorithm(batch, dim, temperature, seed):
    queries, keys = rows(2, batch, dim, seed=seed), rows(2, batch, dim, seed=seed + 100)
    found = contrastive_loss(queries, keys, temperature).item()
    assert found == pytest.approx(plain(queries, keys, temperature), rel=1e-9)


def test_keys_that_are_all_alike_leave_chance():
    """4 τ ln B: the pair cannot be told from the negatives."""
    keys = torch.ones(2, 7, 3)
    assert contrastive_loss(rows(2, 7, 3).float(), keys, 0.3).item() == pytest.approx(4 * 0.3 * math.log(7), rel=1e-6)


def test_only_the_other_views_keys_count():
    """Each query equals its own view's key, which is orthogonal to every key of the other view: worth nothing."""
    queries = torch.zeros(2, 3, 12)
    for view in range(2):
        for sample in range(3):
            queries[view, sample, 3 * view + sample] = 5.0
    assert contrastive_loss(queries, queries, 0.2).item() == pytest.approx(4 * 0.2 * math.log(3), rel=1e-6)
    # Keys of the views exchanged are exactly what is asked for.
    assert contrastive_loss(queries, queries.flip(0), 0.2).item() == pytest.approx(
        4 * 0.2 * math.log(1 + 2 * math.exp(-5)), rel=1e-4
    )


def test_three_views_are_the_mean_of_all_ordered_pairs():
    queries, keys = rows(3, 4, 5), rows(3, 4, 5, seed=1)
    pairs = [[0, 1], [0, 2], [1, 2]]
    wanted = sum(plain(queries[pair], keys[pair], 0.4) for pair in pairs) / 3
    assert contrastive_loss(queries, keys, 0.4).item() == pytest.approx(wanted, rel=1e-9)


def test_lengths_mean_nothing_and_a_row_of_zeros_is_finite():
    queries, keys = rows(2, 3, 4), rows(2, 3, 4, seed=1)
    assert contrastive_loss(7 * queries, 0.1 * keys, 0.2).item() == pytest.approx(
        contrastive_loss(queries, keys, 0.2).item(), rel=1e-12
    )
    queries[0, 1] = 0
    queries.requires_grad_()
    contrastive_loss(queries, keys, 0.2).backward()
    assert torch.isfinite(queries.grad).all()


def test_gradient_against_finite_differences():
    queries, keys = rows(2, 3, 4).requires_grad_(), rows(2, 3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda value: contrastive_loss(value, keys, 0.3), (queries,))


def test_half_precision_is_computed_in_full_under_autocast_too():
    queries, keys = (rows(2, 4, 64, seed=seed).bfloat16() for seed in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive_loss(queries, keys, 0.05)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(contrastive_loss(queries.double(), keys.double(), 0.05).item(), rel=1e-5)


@pytest.mark.parametrize(("views", "batch"), [(1, 4), (2, 1)])
def test_nothing_to_contrast_with_is_refused(views, batch):
    with pytest.raises(ConfigError, match="nothing to compare"):
        contrastive_loss(torch.ones(views, batch, 3), torch.ones(views, batch, 3), 0.2)


def test_rows_are_gathered_in_the_order_of_shares():
    whole = rows(2, 6, 4)
    parts = [
        gathered(whole[:, 2 * index : 2 * index + 2], Share(index=index, of=3), lambda value: value)
        for index in range(3)
    ]
    assert all(part.shape == whole.shape for part in parts)
    assert torch.equal(sum(parts), whole)


def test_each_process_computes_the_loss_of_the_whole_batch():
    """One sample in each of two processes: alone it would have nothing to compare with."""
    queries, keys = rows(2, 2, 5), rows(2, 2, 5, seed=1)

    def with_the_other(index):
        others = [
            gathered(part[:, [1 - index]], Share(index=1 - index, of=2), lambda value: value)
            for part in (queries, keys)
        ]
        return lambda value: value + others.pop(0)

    for index in range(2):
        mine = queries[:, [index]].clone().requires_grad_()
        found = contrastive_loss(mine, keys[:, [index]], 0.2, Share(index=index, of=2), with_the_other(index))
        assert found.item() == pytest.approx(contrastive_loss(queries, keys, 0.2).item(), rel=1e-12)
        found.backward()
        whole = queries.clone().requires_grad_()
        contrastive_loss(whole, keys, 0.2).backward()
        torch.testing.assert_close(mine.grad, whole.grad[:, [index]])
