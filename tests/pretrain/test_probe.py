"""The probe finds what is linearly there, finds nothing in noise, and never judges on what it was fitted to."""

import math

import numpy as np
import pytest
import torch

from apatite.pretrain.probe import RIDGE, _best_threshold, _dice, _ridge, probe_dice


def separable(cases=8, tokens=60, dim=12, voxels=10, share=0.2, seed=0):
    """Targets that a linear map of the features tells apart, and the features."""
    torch.manual_seed(seed)
    features = torch.randn(cases, tokens, dim)
    score = features @ torch.randn(dim, voxels)
    return features, (score > torch.quantile(score.flatten(), 1 - share)).float()


def test_a_linear_signal_is_found():
    """The regression fits a step by a line, so it is not perfect even here."""
    features, targets = separable(tokens=400)
    assert probe_dice(features, targets) > 0.9


def test_noise_is_not_found():
    """Guessing everything scores 2·share / (1 + share), here 0.04."""
    torch.manual_seed(1)
    assert probe_dice(torch.randn(8, 400, 12), (torch.rand(8, 400, 10) < 0.02).float()) < 0.06


def test_it_never_fits_on_what_it_judges():
    """With more directions than rows a probe remembers noise exactly; only judging on other cases shows it."""
    torch.manual_seed(0)
    features = torch.randn(4, 20, 200)
    targets = (torch.rand(4, 20, 3) < 0.1).float()
    line = _ridge(features[:2].flatten(0, 1).double(), targets[:2].flatten(0, 1).double())
    remembered = line.predict(features[:2].double())
    assert _dice(remembered >= 0.5, targets[:2].flatten() >= 0.5) > 0.95
    assert probe_dice(features, targets) < 0.4


def test_each_half_judges_the_other():
    """Half a signal: only the first half's features know the targets, so neither way can find it."""
    features, targets = separable(tokens=200)
    features[4:] = torch.randn(4, 200, 12, generator=torch.Generator().manual_seed(3))
    assert probe_dice(features, targets) < 0.45


def test_which_half_comes_first_does_not_matter():
    features, targets = separable(cases=4, tokens=30)
    swapped = torch.tensor([2, 3, 0, 1])
    assert probe_dice(features[swapped], targets[swapped]) == probe_dice(features, targets)


@pytest.mark.parametrize("share", [0.1, 0.01, 0.002])
def test_rare_foreground_has_a_threshold(share):
    torch.manual_seed(0)
    score = torch.randn(200_000)
    cut = torch.quantile(score, 1 - share)
    option = _best_threshold(score, (score > cut).float())
    assert _dice(score >= option, score > cut) > 0.9


def test_the_scale_of_features_does_not_matter():
    features, targets = separable()
    plain = probe_dice(features, targets)
    assert probe_dice(1e-3 * features + 7, targets) == pytest.approx(plain, abs=1e-3)


def test_the_ridge_against_least_squares():
    """Ridge is plain least squares with one more row per direction, sqrt(strength) times the identity, wanting 0."""
    features, targets = separable()
    rows, wanted = features.flatten(0, 1).double().numpy(), targets.flatten(0, 1).double().numpy()
    centred, offset = rows - rows.mean(0), wanted.mean(0)
    strength = RIDGE * (centred**2).sum(0).mean()
    more = np.sqrt(strength) * np.eye(rows.shape[1])
    weights = np.linalg.lstsq(
        np.vstack([centred, more]), np.vstack([wanted - offset, np.zeros((rows.shape[1], wanted.shape[1]))])
    )[0]
    found = _ridge(features.flatten(0, 1).double(), targets.flatten(0, 1).double()).predict(features.double())
    np.testing.assert_allclose(found.view(wanted.shape), centred @ weights + offset, atol=1e-10)


def test_dice_by_hand():
    assert _dice(torch.tensor([1, 1, 0, 0]) > 0, torch.tensor([1, 0, 1, 0]) > 0) == 0.5


@pytest.mark.parametrize("case", ["one case", "no foreground", "no foreground in a half"])
def test_where_it_means_nothing_it_says_so(case):
    features, targets = separable()
    if case == "one case":
        features, targets = features[:1], targets[:1]
    else:
        targets[: 8 if case == "no foreground" else 4] = 0
    assert math.isnan(probe_dice(features, targets))
