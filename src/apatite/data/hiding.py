"""Which patches are hidden: a function of the seed, the step and the sample, and of nothing else."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64

from apatite.core.errors import ConfigError
from apatite.core.rng import generator
from apatite.core.types import TokenChoice


def num_visible(num_tokens: int, hidden_ratio: float) -> int:
    """How many tokens stay visible: at least one, and at least one is hidden.

    Rounded down, as in the reference code of He et al. 2022 (arXiv 2111.06377): int(N * (1 - ratio)).

    Raises:
        ConfigError: the ratio is not strictly between 0 and 1, or nothing would be hidden or visible.
    """
    if not 0 < hidden_ratio < 1:
        raise ConfigError(f"the hidden ratio must lie between 0 and 1, got {hidden_ratio}", fix="0.9 is the paper's")
    visible = int(num_tokens * (1 - hidden_ratio) + 1e-9)
    if not 1 <= visible < num_tokens:
        raise ConfigError(
            f"{num_tokens} tokens at a hidden ratio of {hidden_ratio} leave {visible} visible",
            fix="use smaller patches or another ratio",
        )
    return visible


def hide_randomly(
    seed: int, step: int, sample_ids: Sequence[int], num_tokens: int, hidden_ratio: float
) -> tuple[TokenChoice, TokenChoice]:
    """Uniformly random hidden patches for each sample of a batch.

    Args:
        seed: Of the run.
        step: Of the run.
        sample_ids: Each sample's place in the step's batch.
        num_tokens: Patches of a sample.
        hidden_ratio: Share of them that is hidden.

    Returns:
        The visible and the hidden tokens, each ascending: `batch visible` and `batch hidden`.
    """
    visible = num_visible(num_tokens, hidden_ratio)
    order = np.stack([_shuffled(seed, step, sample, num_tokens) for sample in sample_ids])
    return _ascending(order[:, :visible]), _ascending(order[:, visible:])


def _shuffled(seed: int, step: int, sample: int, num_tokens: int) -> Int64[np.ndarray, "tokens"]:
    return generator(seed, "hiding", step, sample).permutation(num_tokens)


def _ascending(chosen: np.ndarray) -> TokenChoice:
    return torch.from_numpy(np.sort(chosen, axis=1))
