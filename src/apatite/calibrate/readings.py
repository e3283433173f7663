"""How a prediction is read: all of it, or only where the original slice has at least 130 HU.

The gate is a switch of the reading, applied alike to every model. It belongs to calcium; organs have no such gate.
"""

from collections.abc import Mapping

from apatite.calcium.rule import CALCIUM_HU

UNGATED, GATED = "ungated", "gated"
CALCIUM = "calcium"
"""The label name to which the gate, the rule and burden groups belong."""


def readings_of(label_names: Mapping[int, str]) -> dict[str, float | None]:
    """The readings of a model with these labels: name and HU gate."""
    return {UNGATED: None} | ({GATED: CALCIUM_HU} if calcium_label(label_names) is not None else {})


def gate_of(label: int, reading: str, label_names: Mapping[int, str]) -> float | None:
    """The HU gate of one label in a reading; labels other than calcium are never gated."""
    return readings_of(label_names)[reading] if label == calcium_label(label_names) else None


def calcium_label(label_names: Mapping[int, str]) -> int | None:
    """The value of the label named calcium; `None` where there is none."""
    return next((value for value, name in label_names.items() if name == CALCIUM), None)
