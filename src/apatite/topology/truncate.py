"""Leaving points of small persistence out of a diagram, and how far that moves its distances.

A point left out can be matched to the diagonal, at persistence²/2 (ground norm L2). By the triangle inequality W2 to
any other diagram changes by at most the distance between the diagram and what is left of it,

    |W2(D, E) − W2(D kept, E)| ≤ W2(D, D kept) ≤ √(Σ left out persistence² / 2).
"""

import numpy as np
from jaxtyping import Float


def num_kept(persistences: Float[np.ndarray, "points"], least_persistence: float, most_points: int | None) -> int:
    """How many points stay: those of at least `least_persistence`, and of these the `most_points` most persistent.

    Args:
        persistences: In descending order.
        least_persistence: A point of exactly this persistence stays.
        most_points: None keeps all.
    """
    reached = int(np.searchsorted(-persistences, -least_persistence, side="right"))
    return reached if most_points is None else min(reached, most_points)


def distance_bound(persistences: Float[np.ndarray, "dropped"]) -> float:
    """The most by which W2 (ground norm L2) changes when points of these persistences are left out."""
    return float(np.sqrt(np.square(persistences).sum() / 2))
