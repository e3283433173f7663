"""A frozen linear segmentation probe: what the features already know, without training the encoder.

From each token's frozen features a ridge regression, in closed form, predicts the voxels of its patch. Half of the
labelled cases fit it, the other half judge it (then the halves change places), so a probe never sees a case that it
is judged on, and never the development or test split.

Source: linear probing after Alain and Bengio 2017 (arXiv 1610.01644); the ridge solution is textbook.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-2
"""Ridge strength relative to the mean eigenvalue of the features' covariance."""
NUM_THRESHOLDS = 60
MOST_SCORES = 1_000_000
"""How many scores the quantiles are taken from."""

Features = Float[Tensor, "cases tokens dim"]
PatchTargets = Float[Tensor, "cases tokens voxels"]


@torch.no_grad()
def probe_dice(features: Features, targets: PatchTargets) -> float:
    """Dice of a linear probe over held-out labelled cases, pooled over voxels (0 to 1).

    Args:
        features: Frozen encoder outputs of labelled cases.
        targets: For every token the fraction of each voxel of its patch that is foreground (any label).

    Returns:
        Dice at the threshold that is best on the half that fitted, judged on the other half, averaged over both ways;
        not-a-number with fewer than two cases, or when a half has no foreground to learn from.
    """
    half = len(features) // 2
    if half == 0 or not all((part >= 0.5).any() for part in (targets[:half], targets[half:])):
        return float("nan")
    # On the CPU in double precision: a solve of the features' width, the same on every device.
    features, targets = features.cpu().double(), targets.cpu().double()
    first, second = slice(0, half), slice(half, None)
    scores = [_judge(features, targets, fit, held) for fit, held in ((first, second), (second, first))]
    return sum(scores) / 2


def _judge(features: Features, targets: PatchTargets, fit: slice, held: slice) -> float:
    line = _ridge(features[fit].flatten(0, 1), targets[fit].flatten(0, 1))
    threshold = _best_threshold(line.predict(features[fit]), targets[fit].flatten())
    return _dice(line.predict(features[held]) >= threshold, targets[held].flatten() >= 0.5)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A fitted linear map; the offset is the mean of what it was fitted to, which the ridge does not shrink."""

    weights: Float[Tensor, "dim voxels"]
    mean: Float[Tensor, "dim"]
    offset: Float[Tensor, "voxels"]

    def predict(self, features: Features) -> Float[Tensor, "all_voxels"]:
        return ((features.flatten(0, 1) - self.mean) @ self.weights + self.offset).flatten()


def _ridge(rows: Float[Tensor, "rows dim"], wanted: Float[Tensor, "rows voxels"]) -> _Line:
    mean, offset = rows.mean(dim=0), wanted.mean(dim=0)
    centred = rows - mean
    gram = centred.T @ centred
    strength = (RIDGE * gram.diagonal().mean()).clamp(min=1e-12)
    weights = torch.linalg.solve(
        gram + strength * torch.eye(len(gram), dtype=gram.dtype), centred.T @ (wanted - offset)
    )
    return _Line(weights=weights, mean=mean, offset=offset)


def _best_threshold(score: Float[Tensor, "voxels"], target: Float[Tensor, "voxels"]) -> float:
    """The threshold with the best Dice where the probe was fitted.

    The options lie densest among the highest scores, since a lesion may be a thousandth of the voxels.
    """
    tail = torch.logspace(math.log10(0.5), -4, NUM_THRESHOLDS, dtype=score.dtype)
    options = torch.quantile(score[:: max(1, len(score) // MOST_SCORES)], 1 - tail)
    return max(options.tolist(), key=lambda option: _dice(score >= option, target >= 0.5))


def _dice(is_predicted: Tensor, is_reference: Tensor) -> float:
    total = int(is_predicted.sum()) + int(is_reference.sum())
    return 2 * int((is_predicted & is_reference).sum()) / total if total else float("nan")
