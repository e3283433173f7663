"""How much of a map repeats with the period of an upsampling: power at its frequencies over what their neighbours say.

A map whose elements were made from tokens by m doublings along an axis can carry patterns of 2, 4, …, 2^m elements. In
elements per cycle, these are the frequencies k/2^m. Along each axis of N elements, with each channel's mean removed and
its variance made 1, and the periodic Hann window w,

    P(j)      = mean over lines and channels of |Σ_n w_n x_n exp(-2πi j n / N)|²
    log E(j)  = (9 L₂ - 4 L₃)/5, where L_d is the mean of log P(j - d) and log P(j + d): the middle of the parabola
                through those; at j = N/2 it is 2.4 L₂ - 1.4 L₃, half-way from there to a straight line on each side,
                because the spectrum meets its mirror image in a kink that smoothing rounds off
    ratio(j)  = P(j) / E(j)                                  no unit; 1 without a checkerboard
    share(j)  = P(j) / Σ P over all frequencies but 0        no unit

The window leaks into one bin on each side, so the neighbours see nothing of a pattern at j: a cosine of amplitude a in
white noise of variance s² gives the ratio 1 + N a²/(6 s²), and 1 + 2 N a²/(3 s²) at two elements per cycle. A ratio
below 1 says that less is there than beside it, as after a nearest-neighbour doubling, which has a zero there, and at
two elements per cycle also in a map that is much smoother than its elements.

Source: the frequencies are those of Odena et al. 2016, "Deconvolution and checkerboard artifacts"; the ratio is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Axis = Literal["depth", "height", "width"]
AXES: tuple[Axis, ...] = ("depth", "height", "width")
FEWEST_TOKENS = 5
"""Along an axis that is measured: with fewer, the neighbours of one frequency are those of the next."""
_FLOOR = 1e-12
"""Of the mean power; less is rounding."""


@dataclass(frozen=True, kw_only=True)
class PeriodicPower:
    """What repeats along one axis with one period.

    Attributes:
        axis: Along which.
        period: In elements of the map: 2, 4, …
        ratio: Power at the period's frequencies over what their neighbours let expect, averaged over the
            frequencies that no shorter period has.
        share: Part of the power of all frequencies but 0.
    """

    axis: Axis
    period: int
    ratio: float
    share: float


def periodic_powers(
    values: Float[np.ndarray, "channels depth height width"], repeats: tuple[int, int, int]
) -> list[PeriodicPower]:
    """Measure a map.

    Args:
        values: Features or logits.
        repeats: Elements that one token became along each axis; powers of two.

    Returns:
        One entry per axis and period. An axis that was not doubled, of fewer than `FEWEST_TOKENS` tokens, or of no
        whole number of them has none, and neither has a map without any variation.
    """
    channels = values.reshape(len(values), -1).astype(np.float64)
    spread = channels.std(axis=1)
    is_alive = spread > 1e-9 * np.abs(channels).max(axis=1, initial=0.0)
    if not is_alive.any():
        return []
    standard = (channels[is_alive] - channels[is_alive].mean(axis=1, keepdims=True)) / spread[is_alive, None]
    standard = standard.reshape(-1, *values.shape[1:])
    found = []
    for number, (axis, repeat) in enumerate(zip(AXES, repeats, strict=True), start=1):
        length = standard.shape[number]
        if repeat > 1 and length % repeat == 0 and length // repeat >= FEWEST_TOKENS:
            found += _along(axis, _power(np.moveaxis(standard, number, -1)), length, repeat)
    return found


def mean_ratio(powers: Sequence[PeriodicPower]) -> float:
    """One number for a map: the mean ratio over axes and periods; NaN where nothing was measured."""
    return float(np.mean([power.ratio for power in powers])) if powers else float("nan")


def _power(lines: Float[np.ndarray, "channels a b length"]) -> Float[np.ndarray, "frequencies"]:
    """P(j) for j = 0 … N/2."""
    length = lines.shape[-1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    power = (np.abs(np.fft.rfft(lines * window, axis=-1)) ** 2).mean(axis=(0, 1, 2))
    return np.maximum(power, _FLOOR * power.mean())


def _along(axis: Axis, power: Float[np.ndarray, "frequencies"], length: int, repeat: int) -> list[PeriodicPower]:
    # A frequency and its negative are two of the whole spectrum; half the sampling rate is one.
    twice = np.where(np.arange(len(power)) * 2 == length, 1.0, 2.0)
    total = float((twice * power)[1:].sum())
    found = []
    period = 2
    while period <= repeat:
        bins = [odd * length // period for odd in range(1, period // 2 + 1, 2)]
        ratio = float(np.mean([power[at] / _expected(power, at, length) for at in bins]))
        share = float(sum(twice[at] * power[at] for at in bins)) / total
        found.append(PeriodicPower(axis=axis, period=period, ratio=ratio, share=share))
        period *= 2
    return found


def _expected(power: Float[np.ndarray, "frequencies"], at: int, length: int) -> float:
    """E(j)."""
    near, far = (float(np.log(power[at - d] * power[min(at + d, length - at - d)])) / 2 for d in (2, 3))
    return float(np.exp(2.4 * near - 1.4 * far if 2 * at == length else (9 * near - 4 * far) / 5))
