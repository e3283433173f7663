"""What a calibration chose: thresholds per label and reading, and the frozen burden groups.

It is stored in the model's card, so that a prediction is always read with the thresholds that belong to its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.threshold import ThresholdFit
from apatite.core.errors import ConfigError, ModelError

UNCALIBRATED_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was chosen.

    Attributes:
        fits: By label value, then by reading (`ungated`, `gated`).
        burden: By reading; empty where there are no burden groups.
        num_cases: Development cases.
        domains: Where those come from.
    """

    fits: Mapping[int, Mapping[str, ThresholdFit]]
    burden: Mapping[str, BurdenCuts]
    num_cases: int
    domains: list[str]

    def threshold(self, label: int, reading: str) -> float:
        """The chosen threshold of a label in a reading; 0.5 where too few cases allowed no choice."""
        fits = self.fits.get(label, {})
        return fits[reading].threshold if reading in fits else UNCALIBRATED_THRESHOLD

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the model card."""
        labels = {
            str(label): {reading: fit.to_dict() for reading, fit in fits.items()} for label, fits in self.fits.items()
        }
        return {"labels": labels, "num_cases": self.num_cases}

    def burden_dict(self) -> dict[str, Any] | None:
        """Cut-points for the model card."""
        return {reading: cuts.to_dict() for reading, cuts in self.burden.items()} or None


def calibration_of(
    card_calibration: Mapping[str, Any] | None, burden: Mapping[str, Any] | None, domains: list[str]
) -> Calibration | None:
    """The calibration that a model card carries; `None` where it carries none.

    Raises:
        ModelError: the card holds something else under that name (`MODEL_VERSION`).
    """
    if card_calibration is None:
        return None
    try:
        fits = {
            int(label): {reading: ThresholdFit.from_dict(values) for reading, values in readings.items()}
            for label, readings in card_calibration["labels"].items()
        }
        cuts = {reading: BurdenCuts.from_dict(values) for reading, values in (burden or {}).items()}
        return Calibration(fits=fits, burden=cuts, num_cases=int(card_calibration["num_cases"]), domains=domains)
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            "its calibration cannot be read", where="model card", fix="calibrate it again", code="MODEL_VERSION"
        ) from error


def thresholds_of(calibration: Calibration | None, label_values: Sequence[int], reading: str) -> list[float]:
    """One threshold per label: the calibrated ones, or 0.5."""
    if calibration is None:
        return [UNCALIBRATED_THRESHOLD] * len(label_values)
    return [calibration.threshold(label, reading) for label in label_values]
