"""How the peer did when it was first seen, which it has to do again before anything is compared with it."""

PEER_CHECK_CASES = 12
SEEN = {
    "brainstem": 0.61,
    "spinal cord": 0.71,
    "right parotid": 0.70,
    "left parotid": 0.69,
    "oesophagus": 0.0,
    "larynx": 0.0,
    "mandible": 0.82,
}
"""Dice after ten minutes on two cores with the first 60 training cases, on the first 12 development cases."""
TOLERANCE = 0.05
"""On the mean over organs."""


def mean_seen() -> float:
    """Mean over organs."""
    return sum(SEEN.values()) / len(SEEN)
