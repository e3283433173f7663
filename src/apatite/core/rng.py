"""Counter-based randomness: every draw is a function of a seed and the names of what is drawn.

`generator(seed, "hiding", step, sample)` gives the same numbers on any machine, in any order, in any process. So a
run that was killed resumes with the same draws, and case 7 of a cohort is the same bytes whether or not case 6 was
made. Nothing in the package holds a random state that would have to be saved.

Source: Salmon et al. 2011 (Philox), as in `numpy.random.Philox`.
"""

import hashlib
import operator
from typing import SupportsIndex

import numpy as np

Key = SupportsIndex | str


def generator(seed: int, *keys: Key) -> np.random.Generator:
    """A NumPy generator for one named draw.

    Args:
        seed: The run's or the cohort's seed.
        keys: What is drawn and for which step, sample or patient; integers and strings do not collide.
    """
    return np.random.Generator(np.random.Philox(key=derived_seed(seed, *keys)))


def derived_seed(seed: int, *keys: Key) -> int:
    """A 128-bit seed for a named draw (for example to seed a `torch.Generator` with its low 63 bits)."""
    # A NumPy integer names the same draw as a plain one.
    words = [f"str:{key}" if isinstance(key, str) else f"int:{operator.index(key)}" for key in (seed, *keys)]
    return int.from_bytes(hashlib.blake2b("\x1f".join(words).encode(), digest_size=16).digest(), "little")
