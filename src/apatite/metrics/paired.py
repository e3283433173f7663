"""Two models on the same patients: is there a difference, how large is it, and is it small enough not to matter?

Every function takes one number per patient, because the patients are what was sampled: two series of one patient say
nearly the same, and counted as two they would make every p-value too small. `per_patient` reduces cases to patients.

Source: Wilcoxon 1945 (signed ranks); Kerby 2014 (matched-pairs rank-biserial r); Cohen 1988 (d_z); Schuirmann 1987 (two
one-sided tests); McNemar 1947, in its exact conditional form; Holm 1979 (step-down correction).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from apatite.core.errors import ConfigError
from apatite.metrics.bootstrap import rows_by_patient

_DECIMALS = 12
"""Differences are rounded to this before they are ranked: equal ones must stay equal in floating point."""


@dataclass(frozen=True, kw_only=True)
class SignedRank:
    """Wilcoxon's signed-rank test of paired differences.

    Attributes:
        plus: Sum of the ranks of the positive differences, W₊.
        minus: Sum of the ranks of the negative ones, W₋.
        num_ranked: Patients whose difference is not zero; only these have a rank.
        p_value: Two-sided; 1 where no patient differs, nan where there is none.
    """

    plus: float
    minus: float
    num_ranked: int
    p_value: float

    @property
    def rank_biserial(self) -> float:
        """Effect size (W₊ − W₋) / (W₊ + W₋), from −1 (all lower) to 1 (all higher); nan where no patient differs."""
        whole = self.plus + self.minus
        return (self.plus - self.minus) / whole if whole else math.nan


@dataclass(frozen=True, kw_only=True)
class OneSided:
    """Two one-sided t-tests of a mean difference d̄ against a margin δ > 0.

    Attributes:
        p_above: Of the null hypothesis that the mean is −δ or less; small where it is surely above −δ.
        p_below: Of the null hypothesis that the mean is δ or more; small where it is surely below δ.
    """

    p_above: float
    p_below: float

    @property
    def p_equivalent(self) -> float:
        """The larger of both: small where the mean surely lies between −δ and δ."""
        return max(self.p_above, self.p_below)


def per_patient(
    a: Float[np.ndarray, "cases *columns"],
    b: Float[np.ndarray, "cases *columns"],
    statistic: Callable[[np.ndarray], float],
    patients: Sequence[str],
) -> tuple[Float[np.ndarray, "patients"], Float[np.ndarray, "patients"]]:
    """One number per patient on either side: the statistic over the patient's own cases.

    Args:
        a: One row per case, of the first model.
        b: The same cases, of the second.
        statistic: As over all cases: the mean, or a ratio of sums.
        patients: The patient of each row.

    Returns:
        Patients in order of first appearance; one for whom either side has no value is left out.

    Raises:
        ValueError: the numbers of rows and patients differ.
    """
    if not len(a) == len(b) == len(patients):
        raise ValueError(f"{len(patients)} patients for {len(a)} and {len(b)} rows")
    rows = rows_by_patient(patients)
    sides = [np.array([statistic(side[of_one]) for of_one in rows], dtype=np.float64) for side in (a, b)]
    is_known = ~np.isnan(sides[0]) & ~np.isnan(sides[1])
    return sides[0][is_known], sides[1][is_known]


def signed_rank(differences: Float[np.ndarray, "patients"]) -> SignedRank:
    """Wilcoxon's signed-rank test: are differences of either sign alike in number and size?

    Zeros are dropped and equal sizes share their mean rank. Up to 50 patients without ties and zeros, and up to 13 with
    them, p is exact; else it is that of the normal approximation with corrections for ties and continuity.

    Args:
        differences: One per patient, first model minus second.

    Raises:
        ValueError: a difference is not a number.
    """
    if np.isnan(differences).any():
        raise ValueError("a difference is not a number")
    rounded = np.round(differences, _DECIMALS)
    nonzero = rounded[rounded != 0]
    if not len(nonzero):
        return SignedRank(plus=0.0, minus=0.0, num_ranked=0, p_value=1.0 if len(differences) else math.nan)
    ranks = stats.rankdata(np.abs(nonzero))
    _, p_value = stats.wilcoxon(nonzero, alternative="two-sided", correction=True, method="auto")
    return SignedRank(
        plus=float(ranks[nonzero > 0].sum()),
        minus=float(ranks[nonzero < 0].sum()),
        num_ranked=len(nonzero),
        p_value=float(p_value),  # pyright: ignore[reportArgumentType],
    )


def cohen_dz(differences: Float[np.ndarray, "patients"]) -> float:
    """d_z = d̄ / s_d: the mean difference in units of its own spread over patients (n − 1).

    Returns:
        nan for fewer than two patients, or where all differences are equal.
    """
    if len(differences) < 2:
        return math.nan
    sd = float(np.round(differences, _DECIMALS).std(ddof=1))
    return float(differences.mean()) / sd if sd > 0 else math.nan


def one_sided(differences: Float[np.ndarray, "patients"], margin: float) -> OneSided:
    """Two one-sided paired t-tests against a margin.

    t₊ = (d̄ + δ) / (s_d/√n) with p₊ = P(T ≥ t₊), t₋ = (d̄ − δ) / (s_d/√n) with p₋ = P(T ≤ t₋), n − 1 degrees of
    freedom. Non-inferior is who is surely above −δ; equivalent is who is surely between −δ and δ. Where all differences
    are equal there is no spread to judge by: p is 0 or 1, as d̄ lies on either side of the margin.

    Args:
        differences: One per patient.
        margin: δ, in the unit of the differences.

    Returns:
        nan for fewer than two patients.

    Raises:
        ConfigError: the margin is not positive.
    """
    if not 0 < margin < math.inf:
        raise ConfigError(f"a margin of {margin} leaves nothing to be equal", fix="use a positive number")
    n = len(differences)
    if n < 2:
        return OneSided(p_above=math.nan, p_below=math.nan)
    mean = float(differences.mean())
    error = float(np.round(differences, _DECIMALS).std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return OneSided(p_above=float(mean <= -margin), p_below=float(mean >= margin))
    return OneSided(
        p_above=float(stats.t.sf((mean + margin) / error, n - 1)),
        p_below=float(stats.t.cdf((mean - margin) / error, n - 1)),
    )


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Who is right where only one of two is.

    Attributes:
        only_first: Patients in whom only the first model is right.
        only_second: Patients in whom only the second is.
        p_value: Two-sided, exact.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(is_first_right: Bool[np.ndarray, "patients"], is_second_right: Bool[np.ndarray, "patients"]) -> McNemar:
    """McNemar's exact test: of those in whom the models disagree, is each right in half?

    p = min(1, 2·P(X ≤ min(b, c))), X ~ Binomial(b + c, ½); 1 where they never disagree.

    Args:
        is_first_right: Per patient.
        is_second_right: The same patients.

    Raises:
        ValueError: the numbers of patients differ.
    """
    if len(is_first_right) != len(is_second_right):
        raise ValueError(f"{len(is_first_right)} and {len(is_second_right)} patients")
    b = int(np.count_nonzero(is_first_right & ~is_second_right))
    c = int(np.count_nonzero(is_second_right & ~is_first_right))
    p_value = min(1.0, 2 * float(stats.binom.cdf(min(b, c), b + c, 0.5))) if b + c else 1.0
    return McNemar(only_first=b, only_second=c, p_value=p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p-values.

    With p₍₁₎ ≤ … ≤ p₍ₘ₎, p̃₍ᵢ₎ = min(1, max over j ≤ i of (m − j + 1)·p₍ⱼ₎). Rejecting where p̃ ≤ α keeps the chance of
    any false rejection in the family at α or less, whatever the dependence.

    Args:
        p_values: Of all tests of the family. One that could not be made (nan) is not counted, and stays nan.

    Returns:
        In the same order.

    Raises:
        ValueError: a number outside 0 to 1.
    """
    p = np.array(p_values, dtype=np.float64)
    if np.any((p < 0) | (p > 1)):
        raise ValueError("a p-value lies outside 0 to 1")
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    p[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in p]
