"""Is it learning anything? Reconstruction against trivial baselines, the features, and what a teacher says.

A falling loss alone proves little: a network that predicts each patch's mean scores about 1 on the normalised target,
and copying a smooth interpolation of what is visible may score less. A method worth its time beats both, and its
features span more than a few directions. A method without a reconstruction has only its features and its teacher to
show (`collapse` says when they are of no use).

Source: effective rank after Roy and Vetterli 2007 (EUSIPCO): the exponential of the entropy of the normalised
singular values.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apatite.core.types import Image, IsHidden, Rows, Tokens
from apatite.losses.distillation import teacher_health
from apatite.losses.reconstruction import EPSILON, mean_squared_error
from apatite.nn.patches import patchify, place_tokens, take_tokens, unpatchify
from apatite.pretrain.terms import Reconstruction
from apatite.pretrain.view import Seen, Taught, View

ROUNDING = 1e-5
"""Relative size below which a direction of fp32 features is noise."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionHealth:
    """Errors in the unit of the target, squared; lower is better.

    Attributes:
        error: Of the network.
        patch_mean_error: Of predicting every patch's own mean (which a network cannot even know): about 1 where patches
            are normalised.
        interpolation_error: Of interpolating smoothly between visible voxels. Where patches are normalised, weakened by
            the one factor that suits it best: a guess of full strength that is hardly right would lose to no guess.
    """

    error: float
    patch_mean_error: float
    interpolation_error: float


@torch.no_grad()
def reconstruction_health(term: Reconstruction, seen: Seen) -> ReconstructionHealth:
    """Compare a branch's reconstruction of hidden patches with two baselines that need no learning."""
    target = term.target(seen)
    guess = term.target_of(take_tokens(patchify(interpolate_hidden(seen.view), seen.view.patch), seen.view.hidden))
    if term.unit == "normalised":
        guess = guess * (guess * target).sum() / guess.square().sum().clamp(min=1e-12)
    return ReconstructionHealth(
        error=mean_squared_error(seen.made_patches(), target).item(),
        patch_mean_error=mean_squared_error(_means(target, seen.view.channels), target).item(),
        interpolation_error=mean_squared_error(guess, target).item(),
    )


def _means(patches: Rows, channels: int) -> Rows:
    """Each patch's mean, channel by channel, at all of its voxels."""
    rows = patches.unflatten(2, (-1, channels))
    return rows.mean(dim=2, keepdim=True).expand_as(rows).flatten(2)


def interpolate_hidden(view: View) -> Image:
    """Fill hidden patches from visible voxels by normalised convolution, finest scale first.

    At each scale the visible voxels are averaged over a growing box; a hidden voxel takes the value of the finest box
    that contains anything visible (Knutsson and Westin 1993, normalised convolution).
    """
    is_seen = torch.ones_like(take_tokens(view.patches, view.visible))
    known = unpatchify(place_tokens(torch.zeros_like(view.patches), is_seen, view.visible), view.tokens, view.patch)
    image = view.image() * known
    filled, done = image, known
    reach = 1
    while bool((done < 0.5).any()):
        weight, total = _box_mean(known, reach), _box_mean(image, reach)
        # Two passes of a box make a tent, so that the filling has no hard edges.
        weight, total = _box_mean(weight, reach), _box_mean(total, reach)
        # However little is seen: with a floor, one visible patch in a large crop would never fill the rest.
        has_value = (weight > 0) & (done < 0.5)
        filled = torch.where(has_value, total / torch.where(has_value, weight, 1.0), filled)
        done = torch.where(has_value, torch.ones_like(done), done)
        reach *= 2
    return filled


def _box_mean(image: Image, reach: int) -> Image:
    """Mean over a box, zero outside; one axis after the other, since a box of 100³ at once would take minutes."""
    for axis in range(3):
        edge = min(2 * reach + 1, 2 * image.shape[2 + axis] - 1)
        kernel, margins = [1, 1, 1], [0] * 6
        kernel[axis] = edge
        margins[4 - 2 * axis] = margins[5 - 2 * axis] = edge // 2  # F.pad counts from the last axis
        # Padded beforehand, because the pooling refuses a kernel longer than the image, padding or not.
        image = F.avg_pool3d(F.pad(image, margins), kernel, stride=1)
    return image


@torch.no_grad()
def effective_rank(features: Float[Tensor, "rows dim"]) -> float:
    """How many directions the centred features really use: 1 when collapsed, at most their width.

    Directions weaker than `ROUNDING` of the features themselves are rounding: features that have collapsed to one
    constant differ by it in every direction, and would otherwise look rich.
    """
    # On the CPU, because not every device has double precision.
    rows = features.cpu().double()
    values = torch.linalg.svdvals(rows - rows.mean(dim=0))
    values = values[values > ROUNDING * torch.linalg.norm(rows)]
    if not len(values):
        return 1.0
    share = values / values.sum()
    return float(torch.exp(-(share * torch.log(share)).sum()))


@torch.no_grad()
def feature_spread(features: Float[Tensor, "crops dim"]) -> float:
    r"""How far the features of crops lie from their mean: 0 where all are the same, 1 where they cancel out.

    $$s = \sqrt{1 - \lVert \bar u \rVert^2}, \qquad u_i = f_i / \lVert f_i \rVert$$ the root of the mean square of
    $u_i - \bar u$, as a share of their length.
    """
    units = F.normalize(features.cpu().double(), dim=1)
    return float((units - units.mean(dim=0)).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def teacher_numbers(taught: Taught, is_hidden: IsHidden) -> dict[str, float]:
    """What a teacher says of the cells that a student is asked about, and of the views, by the names of the journal.

    Args:
        taught: What it says of some views.
        is_hidden: Which of their cells the student is asked about.

    Returns:
        For each of `cells` and `views` that it speaks of: entropies in nats, and shares from 0 to 1.
    """
    asked = None if taught.cells is None else taught.cells.rows(is_hidden.flatten())
    row: dict[str, float] = {}
    for what, target in (("cells", asked), ("views", taught.views)):
        if target is None or not len(target.projected.points):
            continue
        found = teacher_health(target.projected, target.offset, target.temperature)
        row |= {
            f"{what}_teacher_entropy": found.entropy.item(),
            f"{what}_mean_entropy": found.mean_entropy.item(),
            f"{what}_used_prototypes": found.used_prototypes.item(),
            f"{what}_largest_share": found.largest_share.item(),
        }
    return row


@torch.no_grad()
def reconstruction_pictures(term: Reconstruction, seen: Seen) -> tuple[Image, Image, Image]:
    """Original, visible part and reconstruction in network units.

    Where the network predicts normalised patches each is given the true mean and spread of its patch back for the
    picture, as is customary, so only its pattern is the network's own.
    """
    view, drawn = seen.view, seen.made_patches()
    if term.unit == "normalised":
        drawn = _with_statistics_of(drawn, view.hidden_patches(), term.target_floor)
    empty = torch.full_like(view.patches, float("nan"))
    visible = place_tokens(empty, take_tokens(view.patches, view.visible), view.visible)
    return view.image(), unpatchify(visible, view.tokens, view.patch), view.image_with(drawn)


def _with_statistics_of(pattern: Tokens, patches: Tokens, floor: tuple[float, ...]) -> Tokens:
    """`pattern` with the mean and spread of each patch of `patches`; undoes `normalise_patches`."""
    batch, count, _ = patches.shape
    rows = patches.view(batch, count, -1, len(floor))
    least = torch.tensor(floor, device=rows.device).square()
    spread = torch.sqrt(rows.var(dim=2, keepdim=True) + EPSILON + least)
    return (pattern.view_as(rows) * spread + rows.mean(dim=2, keepdim=True)).view_as(patches)
