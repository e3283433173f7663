"""CKA by its formula, by the definition of HSIC, and by what it must not see."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apatite.core.errors import DataError
from apatite.core.rng import generator
from apatite.study.cka import linear_cka, unbiased_cka, unbiased_hsic


def rows(count: int, dim: int, *key: int) -> np.ndarray:
    return generator(3, "rows", count, dim, *key).normal(size=(count, dim))


def rotation(dim: int, *key: int) -> np.ndarray:
    return np.linalg.qr(rows(dim, dim, 99, *key))[0]


def dense_cka(x: np.ndarray, y: np.ndarray) -> float:
    """The definition by kernels: tr(KHLH) over the norms, with the centring matrix written out."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n
    k, l = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring  # noqa: E741
    return float(np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l)))


def hsic_by_definition(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """The mean of k_ij (l_ij + l_qr − 2 l_iq) over all ordered choices of four different rows."""
    terms = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return float(np.mean(terms))


def test_a_formula_by_hand():
    # Centred, both are (-1, 0, 1) times a vector of length 1 and of length 2: the same up to scale.
    assert linear_cka(np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [4.0], [6.0]])) == pytest.approx(1.0)
    # (1, 1, -2) and (1, -1, 0) are at right angles: nothing in common.
    assert linear_cka(np.array([[1.0], [1.0], [-2.0]]), np.array([[1.0], [-1.0], [0.0]])) == pytest.approx(0.0)
    # One feature, or it and another of half its length at a right angle: Y'X = (2, 0), so 4 / (2 · √(4 + 1/4)).
    x = np.array([[1.0], [-1.0], [0.0], [0.0]])
    y = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    assert linear_cka(x, y) == pytest.approx(4 / (2 * np.sqrt(4 + 0.25)))


@pytest.mark.parametrize(("count", "first", "second"), [(40, 3, 7), (5, 9, 30), (12, 20, 4)])
def test_it_is_the_alignment_of_dense_kernels(count: int, first: int, second: int):
    x = rows(count, first)
    y = np.tanh(x @ rows(first, second, 1)) + 0.3 * rows(count, second, 2)
    assert linear_cka(x, y) == pytest.approx(dense_cka(x, y), rel=1e-10)
    assert linear_cka(y, x) == pytest.approx(linear_cka(x, y), rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50), key=st.integers(0, 1000))
def test_a_turn_a_scale_and_an_origin_are_not_seen(scale: float, shift: float, key: int):
    x, y = rows(24, 5, key), rows(24, 7, key)
    moved = scale * x @ rotation(5, key) + shift
    for cka in (linear_cka, unbiased_cka):
        assert cka(moved, y) == pytest.approx(cka(x, y), rel=1e-6, abs=1e-9)
        assert cka(moved, x) == pytest.approx(1.0, abs=1e-9)
    # What is no rotation is seen.
    bent = x * np.array([1.0, 1.0, 1.0, 1.0, 9.0])
    assert linear_cka(bent, x) < 0.99


@pytest.mark.parametrize("count", [4, 5, 7])
def test_unbiased_hsic_is_the_mean_over_four_different_rows(count: int):
    x, y = rows(count, 3), rows(count, 2, 5)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    assert unbiased_hsic(k, l) == pytest.approx(hsic_by_definition(k, l), rel=1e-9, abs=1e-12)
    # The diagonal, where the bias sits, is not looked at.
    assert unbiased_hsic(k + np.diag(rows(1, count, 8)[0]), l) == pytest.approx(unbiased_hsic(k, l))


def test_one_batch_is_the_ratio_of_estimates_and_several_are_their_sums():
    x, y = rows(18, 3), rows(18, 5, 5)
    kernels = {name: values @ values.T for name, values in (("x", x), ("y", y))}
    across, alone, other = (unbiased_hsic(kernels[a], kernels[b]) for a, b in ("xy", "xx", "yy"))
    assert unbiased_cka(x, y, batch_rows=18) == pytest.approx(across / np.sqrt(alone * other), rel=1e-9)
    order = generator(0, "cka").permutation(18)
    sums = np.zeros(3)
    for chosen in (order[:6], order[6:12], order[12:]):
        of_x, of_y = x[chosen] @ x[chosen].T, y[chosen] @ y[chosen].T
        sums += [unbiased_hsic(a, b) for a, b in ((of_x, of_y), (of_x, of_x), (of_y, of_y))]
    assert unbiased_cka(x, y, batch_rows=6) == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), rel=1e-9)


def test_few_rows_of_many_features_do_not_make_strangers_alike():
    """What the bias is: 48 rows of 384 features, drawn independently."""
    x, y = rows(48, 384), rows(48, 384, 1)
    assert linear_cka(x, y) > 0.85
    assert abs(unbiased_cka(x, y)) < 0.05
    many = [unbiased_cka(rows(48, 24, key), rows(48, 24, key, 1), batch_rows=16) for key in range(40)]
    assert abs(np.mean(many)) < 0.03


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match="TOO_FEW_PLACES"):
        unbiased_cka(rows(3, 2), rows(3, 2, 1))
    flat = np.ones((9, 4))
    assert np.isnan(linear_cka(flat, rows(9, 4))) and np.isnan(unbiased_cka(flat, rows(9, 4)))
    # The last batch is never too small for an estimate.
    assert np.isfinite(unbiased_cka(rows(9, 4), rows(9, 4, 1), batch_rows=4))
