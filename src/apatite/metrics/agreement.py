"""How far two readings of the same quantity agree: Bland–Altman, Lin's concordance, ICC, quadratic kappa.

Source: Bland and Altman 1999 (standard error of the limits); Lin 1989; Shrout and Fleiss 1979 (ICC(2,1), ICC(3,1));
Cohen 1968 (weighted kappa).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from apatite.core.errors import ConfigError

Scale = Literal["raw", "log"]
_NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True)
class BlandAltman:
    """Bias and 95 % limits of agreement.

    Attributes:
        bias: Mean difference, prediction minus reference.
        low_limit: bias − 1.96 sd.
        high_limit: bias + 1.96 sd.
        sd: Standard deviation of the differences (n − 1); nan for fewer than two cases.
        n: Cases.
        scale: `raw` (the unit of the readings) or `log`: differences are ln((prediction + 1) / (reference + 1)).
        bias_se: Standard error of the bias.
        limit_se: Standard error of either limit, sd·√(1/n + 1.96²/(2(n − 1))).
    """

    bias: float
    low_limit: float
    high_limit: float
    sd: float
    n: int
    scale: Scale
    bias_se: float
    limit_se: float

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Bias and limits as ratios (prediction + 1) / (reference + 1); only on the log scale.

        Raises:
            ValueError: the differences are on the raw scale.
        """
        if self.scale != "log":
            raise ValueError("ratios exist on the log scale only")
        return math.exp(self.bias), math.exp(self.low_limit), math.exp(self.high_limit)


def bland_altman(
    predicted: Float[np.ndarray, "n"], reference: Float[np.ndarray, "n"], scale: Scale = "raw"
) -> BlandAltman:
    """Bias and limits of agreement of two readings.

    Args:
        predicted: One reading per case, for example mm³.
        reference: The other.
        scale: `log` where the error grows with the quantity, as it does for calcium; needs readings ≥ 0.

    Raises:
        ConfigError: an unknown scale.
        ValueError: the numbers of readings differ, there is none, or one is negative on the log scale.
    """
    _, difference = bland_altman_points(predicted, reference, scale)
    n = len(difference)
    if n == 0:
        raise ValueError("no cases to compare")
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if n > 1 else math.nan
    return BlandAltman(
        bias=bias,
        low_limit=bias - _NORMAL_95 * sd,
        high_limit=bias + _NORMAL_95 * sd,
        sd=sd,
        n=n,
        scale=scale,
        bias_se=sd / math.sqrt(n),
        limit_se=sd * math.sqrt(1 / n + _NORMAL_95**2 / (2 * (n - 1))) if n > 1 else math.nan,
    )


def bland_altman_points(
    predicted: Float[np.ndarray, "n"], reference: Float[np.ndarray, "n"], scale: Scale = "raw"
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Mean and difference of each pair, on the chosen scale: the points of the plot.

    Raises:
        ConfigError, ValueError: as `bland_altman`.
    """
    if len(predicted) != len(reference):
        raise ValueError(f"{len(predicted)} predictions for {len(reference)} references")
    if scale not in ("raw", "log"):
        raise ConfigError(f"unknown scale {scale!r}", fix="choose raw or log")
    if scale == "log":
        if len(predicted) and min(predicted.min(), reference.min()) < 0:
            raise ValueError("a negative reading has no place on the log scale")
        predicted, reference = np.log1p(predicted), np.log1p(reference)
    return (predicted + reference) / 2, predicted - reference


def lin_ccc(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    """Lin's concordance: 2·cov / (var_a + var_b + (mean_a − mean_b)²), moments over n; nan when all are equal."""
    covariance = float(np.mean((a - a.mean()) * (b - b.mean())))
    spread = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return 2 * covariance / spread if spread > 0 else math.nan


def icc_2_1(ratings: Float[np.ndarray, "subjects raters"]) -> float:
    """ICC(2,1): absolute agreement of one random rater; a rater's bias counts against it.

    (MSR − MSE) / (MSR + (k − 1)·MSE + k·(MSC − MSE) / n); nan for fewer than two subjects or raters, or no spread.
    """
    n, k = ratings.shape
    rows, columns, error = _mean_squares(ratings)
    whole = rows + (k - 1) * error + k * (columns - error) / n
    return (rows - error) / whole if whole > 0 else math.nan


def icc_3_1(ratings: Float[np.ndarray, "subjects raters"]) -> float:
    """ICC(3,1): consistency of one fixed rater; a rater's constant bias is forgiven.

    (MSR − MSE) / (MSR + (k − 1)·MSE); nan as `icc_2_1`.
    """
    rows, _, error = _mean_squares(ratings)
    whole = rows + (ratings.shape[1] - 1) * error
    return (rows - error) / whole if whole > 0 else math.nan


def confusion(
    reference: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"], groups: Sequence[int]
) -> Int[np.ndarray, "groups groups"]:
    """Cases per (reference group, predicted group).

    Args:
        reference: Group of each case in the reference: the rows.
        predicted: Group in the prediction: the columns.
        groups: All groups, in order.

    Raises:
        ValueError: a case lies in a group that is not listed.
    """
    place = {group: index for index, group in enumerate(groups)}
    if unknown := (set(reference.tolist()) | set(predicted.tolist())) - set(place):
        raise ValueError(f"groups {sorted(unknown)} are not among {list(groups)}")
    table = np.zeros((len(groups), len(groups)), dtype=np.int64)
    for row, column in zip(reference.tolist(), predicted.tolist(), strict=True):
        table[place[row], place[column]] += 1
    return table


def quadratic_kappa(a: Int[np.ndarray, "n"], b: Int[np.ndarray, "n"], num_groups: int) -> float:
    """Cohen's kappa with weights (i − j)²: a miss by two groups counts four times a miss by one.

    Args:
        a: Group of each case, of `num_groups` consecutive integers (from 0 or from 1, for example).
        b: The other reading.
        num_groups: How many groups there are.

    Returns:
        1 for perfect agreement, 0 for chance; nan without cases, or when both put every case into one same group.

    Raises:
        ValueError: the groups span more than `num_groups`.
    """
    if len(a) == 0:
        return math.nan
    both = np.concatenate([a, b]).astype(np.int64)
    if both.max() - both.min() >= num_groups:
        raise ValueError(f"groups from {both.min()} to {both.max()} are more than {num_groups}")
    observed = np.mean((a.astype(float) - b) ** 2)
    by_chance = np.mean((a.astype(float)[:, None] - b[None, :]) ** 2)
    return float(1 - observed / by_chance) if by_chance > 0 else math.nan


def _mean_squares(ratings: np.ndarray) -> tuple[float, float, float]:
    """Mean squares between subjects, between raters and of the rest (two-way analysis of variance)."""
    n, k = ratings.shape
    if min(n, k) < 2:
        return math.nan, math.nan, math.nan
    grand, subjects, raters = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    rest = ratings - subjects[:, None] - raters[None, :] + grand
    rows = k * np.sum((subjects - grand) ** 2) / (n - 1)
    columns = n * np.sum((raters - grand) ** 2) / (k - 1)
    return float(rows), float(columns), float(np.sum(rest**2) / ((n - 1) * (k - 1)))
