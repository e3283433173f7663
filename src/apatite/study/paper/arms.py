"""The arms of the paper's comparisons, by name, and the subsets of cases that it looks at."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from apatite.study.outcomes import CaseOutcome
from apatite.study.paper.results import Arm, Reading, Results

DECODERS: Final = ("unetr", "sfpn", "upscale", "mae")
UPSAMPLED: Final = ("unetr", "sfpn", "upscale")
"""Decoders that have a choice of upsampling."""
PATCHES: Final = (4, 8, 16)
MODELS: Final = ("vitiac-s", "vitiac-m", "vitiac-l")
THICK_MM: Final = 3.5
"""Slices above this are thick."""


def pretrained(results: Results, reading: Reading = "calibrated") -> Arm:
    """The paper's main model: pre-trained, MAE decoder, smallest patch."""
    return results.arm(_titled("ViT, pre-trained", reading), reading, init="mae")


def from_scratch(results: Results, reading: Reading = "calibrated") -> Arm:
    """The same without pre-training."""
    return results.arm(_titled("ViT, from scratch", reading), reading, init="scratch")


def nnunet(results: Results, reading: Reading) -> Arm:
    """The baseline."""
    return results.arm(_titled("nnU-Net", reading), reading, arm="nnunet")


def _titled(name: str, reading: Reading) -> str:
    return f"{name}, calibrated" if reading == "calibrated" else name


def main_arms(results: Results) -> dict[tuple[str, Reading], Arm]:
    """The main table, by start of training and reading; the baseline is calibrated like the rest."""
    readings: Sequence[Reading] = ("raw", "calibrated")
    return {
        (name, reading): make(results, reading)
        for name, make in (("nnunet", nnunet), ("scratch", from_scratch), ("mae", pretrained))
        for reading in readings
    }


def is_thick(case: CaseOutcome) -> bool | None:
    """Whether a case's slices are thick; None where that is unknown."""
    return None if case.slice_thickness_mm is None else case.slice_thickness_mm > THICK_MM


def calcium_tertiles_mm3(results: Results, arm: Arm) -> tuple[float, float]:
    """The tertiles of the reference volumes: up to the first is small, above the second large. NaN without cases."""
    runs = list(results.runs(arm).values())
    volumes = [o.reference_mm3 for o in results.rows(runs[0], arm.reading) if o.is_positive] if runs else []
    if not volumes:
        return float("nan"), float("nan")
    first, second = (float(cut) for cut in np.quantile(volumes, [1 / 3, 2 / 3]))
    return first, second
