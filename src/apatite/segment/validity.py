"""Whether a model may speak about a scan: one that learnt from phantoms says nothing valid about a patient.

A threshold chosen on phantoms, or burden groups cut on them, are as misleading as weights trained on them; so any of
the three is enough. Pre-training on phantoms is not: it sees no label, and everything after it was real.
"""

from typing import Any

from apatite.core.errors import ModelError
from apatite.io.model_card import ModelCard

SIMULATION_TRAINED = "SIMULATION-TRAINED, NOT VALID"
"""Stands in every artefact of such a model on a real scan."""
PHANTOM = "phantom"
STAGES = ("training", "calibration", "reference")
OUT_OF_VALIDATED_RANGE = "OUT_OF_VALIDATED_RANGE"
"""The flag of a scan that `outside_validated` has something to say about."""
ROUNDING_MM = 0.1
"""Thicknesses in headers are rounded."""


def phantom_stages(card: ModelCard) -> tuple[str, ...]:
    """The stages of a model into which phantoms entered, among those that make it say something about labels."""
    return tuple(stage for stage in STAGES if PHANTOM in card.domains[stage])


def banner_for(card: ModelCard, domain: str, *, accepts_phantom_model: bool) -> str:
    """What must stand over the results of this model on a scan of this domain; empty where nothing must.

    Args:
        card: The model's.
        domain: Of the scan, `real` or `phantom`.
        accepts_phantom_model: The user has asked for it, knowing what it is.

    Raises:
        ModelError: a model that learnt from phantoms, a real scan, and nobody asked for it (`PHANTOM_MODEL`).
    """
    stages = phantom_stages(card)
    if not stages or domain == PHANTOM:
        return ""
    if not accepts_phantom_model:
        raise ModelError(
            f"phantoms entered this model ({', '.join(stages)}); its numbers mean nothing on a real scan",
            where="model card",
            fix="use a model trained and calibrated on real scans; --phantom-model-on-real-scan runs it for a test",
            code="PHANTOM_MODEL",
        )
    return SIMULATION_TRAINED


def outside_validated(
    card: ModelCard, *, thickness_mm: float | None = None, noise_hu: float | None = None
) -> tuple[str, ...]:
    """In what a scan lies outside the range in which a model was shown to hold.

    Args:
        card: The model's; one without a validated range says nothing about any scan.
        thickness_mm: Of the thickest slice; `None` where unknown.
        noise_hu: Standard deviation in brain (`ct.kernel_check.measured_kernel`); `None` where unknown.

    Returns:
        `thickness`, `noise` or both; empty where nothing measured lies outside. A quantity without a range, and a
        range that was never looked at, say nothing.

    Raises:
        ModelError: the card holds something else under that name (`MODEL_VERSION`).
    """
    if card.validated is None:
        return ()
    try:
        ranges = card.validated["ranges"]
        thickness, noise = ranges.get("thickness"), ranges.get("noise")
        found = []
        if thickness is not None and thickness_mm is not None and not _is_within(thickness, thickness_mm):
            found.append("thickness")
        if noise is not None and noise_hu is not None and _is_too_noisy(noise, noise_hu):
            found.append("noise")
        return tuple(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "its validated range cannot be read", where="model card", fix="measure it again", code="MODEL_VERSION"
        ) from error


def _is_within(found: dict[str, Any], thickness_mm: float) -> bool:
    if found["low"] is None:
        return False
    return found["low"] - ROUNDING_MM <= thickness_mm <= found["high"] + ROUNDING_MM


def _is_too_noisy(found: dict[str, Any], noise_hu: float) -> bool:
    """More noise than what was there and what was added together; less is never too little."""
    return found["high"] is None or (found["total"] is not None and noise_hu > found["total"])
