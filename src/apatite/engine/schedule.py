"""Learning rate over a run: linear warm-up, then a cosine to zero.

Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), one cycle; warm-up as in He et al. 2022 (arXiv 2111.06377).
"""

import math


def warmup_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Factor on the base learning rate at a step, counted from 0.

    It rises linearly to 1 over the warm-up (never starting at 0, which would waste a step), then falls to 0 at the
    end.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
