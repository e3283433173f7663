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


def verdict(mean: float) -> str:
    """Where a mean over organs lies, in words; above is a stronger peer, which is no straw man either."""
    gap = mean - mean_seen()
    if abs(gap) <= TOLERANCE:
        return f"inside the tolerance of {TOLERANCE}"
    side = "above, so a stronger peer than the one seen" if gap > 0 else "below, so a straw man"
    return f"OUTSIDE the tolerance of {TOLERANCE}, {abs(gap):.2f} {side}"
