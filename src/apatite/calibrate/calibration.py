"""What a calibration chose: thresholds, temperatures, intervals on the volume, and the frozen burden groups.

It is stored in the model's card, so that a prediction is always read with the thresholds that belong to its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.interval import IntervalFit
from apatite.calibrate.temperature import TemperatureFit
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
        temperatures: By label value; a label with too few cases has none.
        intervals: Of the volume of calcium, by reading; empty where there were too few cases to set some apart.
        model_digest: The package whose probabilities were calibrated; empty where that is not known.
        data_digest: The manifest of the cases.
    """

    fits: Mapping[int, Mapping[str, ThresholdFit]]
    burden: Mapping[str, BurdenCuts]
    num_cases: int
    domains: list[str]
    temperatures: Mapping[int, TemperatureFit] = field(default_factory=dict)
    intervals: Mapping[str, IntervalFit] = field(default_factory=dict)
    model_digest: str = ""
    data_digest: str = ""

    def threshold(self, label: int, reading: str) -> float:
        """The chosen threshold of a label in a reading; 0.5 where too few cases allowed no choice."""
        return self.fits[label][reading].threshold if self.chose(label, reading) else UNCALIBRATED_THRESHOLD

    def chose(self, label: int, reading: str) -> bool:
        """Whether there were enough cases to choose a threshold of a label in a reading."""
        return reading in self.fits.get(label, {})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the model card."""
        labels = {
            str(label): {reading: fit.to_dict() for reading, fit in fits.items()} for label, fits in self.fits.items()
        }
        return {
            "labels": labels,
            "num_cases": self.num_cases,
            "temperatures": {str(label): fit.to_dict() for label, fit in self.temperatures.items()},
            "intervals": {reading: fit.to_dict() for reading, fit in self.intervals.items()},
            "model_digest": self.model_digest,
            "data_digest": self.data_digest,
        }

    def burden_dict(self) -> dict[str, Any] | None:
        """Cut-points for the model card."""
        return {reading: cuts.to_dict() for reading, cuts in self.burden.items()} or None


def calibration_of(
    card_calibration: Mapping[str, Any] | None, burden: Mapping[str, Any] | None, domains: list[str]
) -> Calibration | None:
    """The calibration that a model card carries; `None` where it carries none.

    Cards of earlier versions have thresholds only; they are read as they are.

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
        temperatures = card_calibration.get("temperatures", {})
        intervals = card_calibration.get("intervals", {})
        return Calibration(
            fits=fits,
            burden=cuts,
            num_cases=int(card_calibration["num_cases"]),
            domains=domains,
            temperatures={int(label): TemperatureFit.from_dict(values) for label, values in temperatures.items()},
            intervals={str(reading): IntervalFit.from_dict(values) for reading, values in intervals.items()},
            model_digest=_text(card_calibration.get("model_digest", "")),
            data_digest=_text(card_calibration.get("data_digest", "")),
        )
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            "its calibration cannot be read", where="model card", fix="calibrate it again", code="MODEL_VERSION"
        ) from error


def thresholds_of(calibration: Calibration | None, label_values: Sequence[int], reading: str) -> list[float]:
    """One threshold per label: the calibrated ones, or 0.5."""
    if calibration is None:
        return [UNCALIBRATED_THRESHOLD] * len(label_values)
    return [calibration.threshold(label, reading) for label in label_values]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a digest is text, not {type(value).__name__}")
    return value
