"""Whether a model may speak about a scan: one that learnt from phantoms says nothing valid about a patient.

A threshold chosen on phantoms, or burden groups cut on them, are as misleading as weights trained on them; so any of
the three is enough. Pre-training on phantoms is not: it sees no label, and everything after it was real.
"""

from apatite.core.errors import ModelError
from apatite.io.model_card import ModelCard

SIMULATION_TRAINED = "SIMULATION-TRAINED, NOT VALID"
"""Stands in every artefact of such a model on a real scan."""
PHANTOM = "phantom"
STAGES = ("training", "calibration", "reference")


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
