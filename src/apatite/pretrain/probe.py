"""A frozen linear segmentation probe: what the features already know, without training the encoder.

From each token's frozen features a ridge regression, in closed form, predicts the voxels of its patch. Half of the
labelled cases fit it, the other half judge it (then the halves change places), so a probe never sees a case that it
is judged on, and never the development or test split.

Source: linear probing after Alain and Bengio 2017 (arXiv 1610.01644); the ridge solution is textbook.
"""

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-2
"""Ridge strength relative to the mean eigenvalue of the features' covariance."""

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
        not-a-number with fewer than two cases or without any foreground.
    """
    half = len(features) // 2
    if half == 0:
        return float("nan")
    first, second = slice(0, half), slice(half, None)
    scores = [_judge(features, targets, fit, held) for fit, held in ((first, second), (second, first))]
    return sum(scores) / 2


def _judge(features: Features, targets: PatchTargets, fit: slice, held: slice) -> float:
    weights, mean = _ridge(features[fit].flatten(0, 1).double(), targets[fit].flatten(0, 1).double())
    threshold = _best_threshold(_predict(features[fit], weights, mean), targets[fit].flatten())
    return _dice(_predict(features[held], weights, mean) >= threshold, targets[held].flatten() >= 0.5)


def _ridge(rows: Float[Tensor, "rows dim"], wanted: Float[Tensor, "rows voxels"]) -> tuple[Tensor, Tensor]:
    mean = rows.mean(dim=0)
    centred = torch.cat([rows - mean, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
    gram = centred.T @ centred
    strength = RIDGE * gram.diagonal().mean()
    return torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=gram.dtype), centred.T @ wanted), mean


def _predict(features: Features, weights: Tensor, mean: Tensor) -> Float[Tensor, "voxels"]:
    rows = features.flatten(0, 1).double() - mean
    return (rows @ weights[:-1] + weights[-1]).flatten()


def _best_threshold(score: Float[Tensor, "voxels"], target: Float[Tensor, "voxels"]) -> float:
    """The threshold with the best Dice where the probe was fitted."""
    options = torch.quantile(score[:: max(1, len(score) // 1_000_000)], torch.linspace(0.5, 0.9995, 60, dtype=score.dtype))
    return max(options.tolist(), key=lambda option: _dice(score >= option, target >= 0.5))


def _dice(is_predicted: Tensor, is_reference: Tensor) -> float:
    total = int(is_predicted.sum()) + int(is_reference.sum())
    return 2 * int((is_predicted & is_reference).sum()) / total if total else float("nan")
