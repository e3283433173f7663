"""Whether a recalibrated threshold is worth having, in one sentence.

What decides is the volume error on patients that the fit did not see, as a paired difference with its interval: a gain
that may be nothing is no reason to leave a threshold under which everything else was validated.
"""

from dataclasses import dataclass

from apatite.calcium.rule import CALCIUM_HU
from apatite.calibrate.readings import GATED
from apatite.core.volume import Estimate
from apatite.report.numbers import number_text
from apatite.study.evaluate import Evaluation
from apatite.study.recalibrate import Recalibration
from apatite.study.site_fit import threshold_before


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the new threshold of one label is worth having.

    Attributes:
        sentence: For people.
        is_better: Whether the interval of the gain lies on the better side of 0.
        gain: Mean |ΔV| recalibrated minus as it came, over all cases, paired; negative is better.
    """

    sentence: str
    is_better: bool
    gain: Estimate


def verdict_of(recalibration: Recalibration, evaluation: Evaluation, label: int) -> Verdict:
    """Judge the new threshold of a label by the paired difference of its volume error, out of sample."""
    reading = recalibration.deployed_reading(label)
    gate = CALCIUM_HU if reading == GATED else None
    gain = next(
        d.estimate
        for d in evaluation.differences
        if (d.quantity, d.label, d.hu_gate) == ("volume_error_all_mm3", label, gate)
    )
    old = threshold_before(recalibration.old, (label, reading))
    new = recalibration.site.calibration.threshold(label, reading)
    change = f"mean |ΔV| changes by {_signed(gain)} mm³ on patients that the fit did not see"
    if recalibration.config.keeps_threshold or new == old:
        return Verdict(sentence=f"The threshold stays at {old:.3f}.", is_better=False, gain=gain)
    if gain.high < 0:
        sentence = f"Use the new threshold, {new:.3f} instead of {old:.3f}: {change}."
        return Verdict(sentence=sentence, is_better=True, gain=gain)
    if gain.low > 0:
        return Verdict(
            sentence=f"Keep the old threshold of {old:.3f}: with {new:.3f}, {change}, which is worse.",
            is_better=False,
            gain=gain,
        )
    return Verdict(
        sentence=f"Keep the old threshold of {old:.3f}: with {new:.3f}, {change}, and the interval covers 0. "
        "These cases do not show a gain; more of them might.",
        is_better=False,
        gain=gain,
    )


def _signed(estimate: Estimate) -> str:
    value, low, high = (
        ("+" if part > 0 else "") + number_text(part) for part in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}; {high}]"
