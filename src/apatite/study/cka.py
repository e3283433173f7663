"""How alike two networks see the same places: linear centred kernel alignment (CKA), between 0 and 1.

Each network gives one row of features per place; the two may have different widths. CKA compares which places a network
holds to be alike, so it does not see a rotation of the features or their scale.

Source: Kornblith et al. 2019 (arXiv 1905.00414) for linear CKA; Song et al. 2012 (JMLR 13) for the unbiased estimator
of HSIC; Nguyen et al. 2021 (arXiv 2010.15327) for sums of it over small batches.
Differs: batches are of places drawn from all crops together, not of images.
"""

from typing import Final

import numpy as np
from jaxtyping import Float

from apatite.core.errors import DataError
from apatite.core.rng import generator

LEAST_ROWS: Final = 4
"""Of which an unbiased estimate can be made."""


def linear_cka(first: Float[np.ndarray, "rows dim_first"], second: Float[np.ndarray, "rows dim_second"]) -> float:
    """‖Y'X‖² / (‖X'X‖ ‖Y'Y‖) of centred columns; NaN where one of the two is the same everywhere.

    With fewer rows than features it comes out high, whatever the two networks do: then use `unbiased_cka`.

    Args:
        first: One row per place.
        second: The same places in the same order.
    """
    x, y = _centred(first), _centred(second)
    norms = np.linalg.norm(_small_gram(x)) * np.linalg.norm(_small_gram(y))
    if norms == 0:
        return float("nan")
    # Either product has the norm that is wanted; the smaller one is the cheaper.
    across = np.sum(_gram(x) * _gram(y)) if len(x) < min(x.shape[1], y.shape[1]) else np.sum((y.T @ x) ** 2)
    return float(across / norms)


def unbiased_cka(
    first: Float[np.ndarray, "rows dim_first"],
    second: Float[np.ndarray, "rows dim_second"],
    *,
    batch_rows: int = 256,
    seed: int = 0,
) -> float:
    """The same of unbiased estimates of HSIC, each added up over batches of rows; NaN as `linear_cka`.

    Of two networks that have nothing in common it is 0 on average, and so may come out below 0.

    Args:
        first: One row per place.
        second: The same places in the same order.
        batch_rows: At most so many rows are compared with each other at once.
        seed: Of the order in which rows are put into batches.

    Raises:
        DataError: there are fewer than four rows (`TOO_FEW_PLACES`).
    """
    if len(first) < LEAST_ROWS:
        raise DataError(
            f"{len(first)} places are too few to compare networks by",
            fix="compare on more or larger crops",
            code="TOO_FEW_PLACES",
        )
    sums = np.zeros(3)
    order = generator(seed, "cka").permutation(len(first))
    num_batches = max(1, min(-(-len(first) // max(batch_rows, LEAST_ROWS)), len(first) // LEAST_ROWS))
    for rows in np.array_split(order, num_batches):
        of_first, of_second = (_gram(_centred(values[rows])) for values in (first, second))
        pairs = ((of_first, of_second), (of_first, of_first), (of_second, of_second))
        sums += [unbiased_hsic(one, other) for one, other in pairs]
    across, alone, other_alone = sums
    return float(across / np.sqrt(alone * other_alone)) if min(alone, other_alone) > 0 else float("nan")


def unbiased_hsic(first: Float[np.ndarray, "rows rows"], second: Float[np.ndarray, "rows rows"]) -> float:
    """HSIC of two kernels of the same at least four rows, estimated without bias.

    Args:
        first: Symmetric; its diagonal is not looked at.
        second: Likewise.
    """
    n = len(first)
    k, l = (values - np.diag(np.diag(values)) for values in (first, second))  # noqa: E741 - the letters of the source
    of_k, of_l = k.sum(axis=0), l.sum(axis=0)
    trace = float(np.sum(k * l))
    total = float(of_k.sum() * of_l.sum()) / ((n - 1) * (n - 2))
    crossed = 2.0 * float(of_k @ of_l) / (n - 2)
    return (trace + total - crossed) / (n * (n - 3))


def _centred(values: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    # Unbiased HSIC does not depend on where the origin lies; numbers stay small, and so exact, around the mean.
    wide = values.astype(np.float64)
    return wide - wide.mean(axis=0)


def _gram(values: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows rows"]:
    return values @ values.T


def _small_gram(values: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "n n"]:
    """X X' or X' X, which have one norm: the smaller of the two."""
    return values @ values.T if len(values) < values.shape[1] else values.T @ values
