"""SMIT's training step, plain and slow: the oracle of the tests and the other side of the benchmark.

One view after the other, every logit kept, losses in the order of their formulas, Python loops over weights. The
encoder is MONAI's `SwinTransformer`; everything else stands here.

Source: the released code of Jiang et al. 2022 (The-Veeraraghavan-Lab/SMIT, commit 5d81399) and their figure. u and v
are the views of a sample, m is 1 where a cell is hidden:

    L_MIP = Σ M |x̂ - x| / (Σ M + 1e-5), over the voxels of both views
    L_MPD = mean over views and samples of Σ_i m_i CE(P_t(u)_i, P_s(ũ)_i) / max(1, Σ_i m_i)
    L_ITD = mean over samples of (CE(P_t(v), P_s(ũ)) + CE(P_t(u), P_s(ṽ))) / 2
    P_s   = softmax(h / τ_s);  P_t = softmax((h - c) / τ_t);  h: cosines with the prototypes
    c     ← 0.9 c + 0.1 mean of h_t;  θ_t ← m θ_t + (1 - m) θ_s

Differs: images are -1 to 1 as our networks see them, and are counted from 0 to 1 in L_MIP alone. Local views, which
iBOT and DINO add, are further students in L_ITD, over all pairs of unlike views. An odd grid is padded with zeros.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Edges = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The dimensions of an encoder and its heads; the defaults are those of the released code of 2022."""

    channels: int = 1
    patch: Edges = (2, 2, 2)
    dim: int = 48
    depths: tuple[int, ...] = (2, 2, 4, 2)
    heads: tuple[int, ...] = (4, 4, 4, 4)
    window: Edges = (4, 4, 4)
    drop_path: float = 0.0
    prototypes: int = 8192
    head_hidden: int = 2048
    head_dim: int = 256

    @property
    def cell(self) -> Edges:
        """Edges in voxels of what is hidden at once: eight patches."""
        d, h, w = self.patch
        return 8 * d, 8 * h, 8 * w


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a method fixes beside the shape.

    Attributes:
        weights: Of the terms that count: `mip`, `mpd`, `itd`.
        tap: After stage 3 and its merging, as released, or after stage 4 before its merging.
        is_shared: One head for cells and whole views.
        normalises_deep: Whether the coarsest map passes a norm before it is made voxels, as in SimMIM.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"mip": 1.0, "mpd": 0.1, "itd": 0.1})
    tap: str = "merged3"
    is_shared: bool = False
    normalises_deep: bool = False
    student_temperature: float = 0.1


class Merging(nn.Module):
    """Eight neighbours become one token, in the order of the released code, which is not MONAI's."""

    NEIGHBOURS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))

    def __init__(self, dim: int, norm_layer: type[nn.LayerNorm] = nn.LayerNorm, spatial_dims: int = 3) -> None:
        super().__init__()
        assert spatial_dims == 3
        self.norm = norm_layer(8 * dim)
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        _, d, h, w, _ = x.shape
        x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2, 0, d % 2))
        return self.reduction(self.norm(torch.cat([x[:, i::2, j::2, k::2] for i, j, k in self.NEIGHBOURS], dim=-1)))


class Head(nn.Module):
    """Cosines of a perceptron's output with the prototypes."""

    def __init__(self, width: int, shape: Shape) -> None:
        super().__init__()
        edges = (width, shape.head_hidden, shape.head_hidden, shape.head_dim)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(edges))
        self.prototypes = nn.Parameter(torch.randn(shape.prototypes, shape.head_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            tokens = F.gelu(layer(tokens))
        points = self.layers[-1](tokens)
        points = points / points.norm(dim=-1, keepdim=True)
        directions = self.prototypes / self.prototypes.norm(dim=-1, keepdim=True)
        return points @ directions.T


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Of one view: logits of cells and of the whole, and the coarsest map."""

    cells: Tensor
    whole: Tensor
    deep: Tensor


class Network(nn.Module):
    """A student or a teacher: encoder, norm of the tapped tokens, two heads, a layer to voxels."""

    def __init__(self, shape: Shape, rules: Rules) -> None:
        super().__init__()
        from monai.networks.nets.swin_unetr import SwinTransformer

        self.shape, self.rules = shape, rules
        self.swin = SwinTransformer(
            in_chans=shape.channels,
            embed_dim=shape.dim,
            window_size=shape.window,
            patch_size=shape.patch,
            depths=shape.depths,
            num_heads=shape.heads,
            qkv_bias=False,
            drop_path_rate=shape.drop_path,
            patch_norm=True,
            downsample=Merging,  # type: ignore[arg-type] - MONAI takes a class too
        )
        self.hidden_token = nn.Parameter(torch.zeros(shape.dim))
        self.norm = nn.LayerNorm(8 * shape.dim, eps=1e-6)
        self.cell_head = Head(8 * shape.dim, shape)
        self.whole_head = self.cell_head if rules.is_shared else Head(8 * shape.dim, shape)
        self.deep_norm = nn.LayerNorm(16 * shape.dim) if rules.normalises_deep else nn.Identity()
        self.to_voxels = nn.Linear(16 * shape.dim, shape.channels * math.prod(2 * edge for edge in shape.cell))

    def forward(self, image: Tensor, is_hidden: Tensor | None = None) -> Looked:
        tapped, deep = self.maps(image, is_hidden)
        tokens = self.norm(rearrange(tapped, "b d h w c -> b (d h w) c"))
        return Looked(cells=self.cell_head(tokens), whole=self.whole_head(tokens.mean(dim=1)), deep=deep)

    def maps(self, image: Tensor, is_hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """The tapped map and the coarsest, channels last."""
        x = self.swin.patch_embed(image)
        if is_hidden is not None:
            grid = [edge // cell for edge, cell in zip(image.shape[2:], self.shape.cell, strict=True)]
            m = enlarged(is_hidden, grid, (8, 8, 8)).to(x.dtype)[:, None]
            x = (1 - m) * x + m * self.hidden_token[:, None, None, None]
        third = self.swin.layers3[0](self.swin.layers2[0](self.swin.layers1[0](x)))
        last = cast(Any, self.swin.layers4[0])
        fourth = before_merging(last, third)
        deep = last.downsample(fourth)
        return (rearrange(third, "b c d h w -> b d h w c") if self.rules.tap == "merged3" else fourth), deep

    def voxels(self, deep: Tensor, edges: Sequence[int]) -> Tensor:
        """The image that the coarsest map says, cut to its edges where the last merging had to pad."""
        (s1, s2, s3), order = (2 * edge for edge in self.shape.cell), "b d h w (s1 s2 s3 c) -> b c (d s1) (h s2) (w s3)"
        image = rearrange(self.to_voxels(self.deep_norm(deep)), order, s1=s1, s2=s2, s3=s3)
        return image[..., : edges[0], : edges[1], : edges[2]]


@dataclass(kw_only=True)
class Centres:
    """The running means of the teacher's logits."""

    cells: Tensor
    whole: Tensor
    momentum: float = 0.9

    @classmethod
    def zero(cls, shape: Shape, dtype: torch.dtype = torch.float32) -> "Centres":
        return cls(cells=torch.zeros(shape.prototypes, dtype=dtype), whole=torch.zeros(shape.prototypes, dtype=dtype))

    def follow(self, taught: list[Looked]) -> None:
        """Every cell of every view counts for the one, hidden or not; every view for the other."""
        keeps, moves = self.momentum, 1 - self.momentum
        self.cells = keeps * self.cells + moves * torch.cat([x.cells for x in taught]).mean(dim=(0, 1))
        self.whole = keeps * self.whole + moves * torch.cat([x.whole for x in taught]).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class Views:
    """What one step is given, in network units: two views of each sample with their hidden cells, and local views."""

    images: list[Tensor]
    is_hidden: list[Tensor]
    local: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Temperatures:
    """Of the teacher."""

    cells: float = 0.04
    whole: float = 0.04


def smit_step(
    student: Network, teacher: Network | None, views: Views, centres: Centres | None, teacher_at: Temperatures
) -> tuple[dict[str, Tensor], list[Looked]]:
    """Every term that counts, unweighted, and what the teacher saw; the centres are not moved yet."""
    rules, taught, terms = student.rules, [], {}
    seen = [student(image, is_hidden) for image, is_hidden in zip(views.images, views.is_hidden, strict=True)]
    if "mip" in rules.weights:
        terms["mip"] = image_loss(student, views, seen)
    if teacher is not None and centres is not None:
        at = rules.student_temperature, teacher_at
        with torch.no_grad():
            taught = [teacher(image) for image in views.images]
        if "mpd" in rules.weights:
            terms["mpd"] = cell_loss(taught, seen, views.is_hidden, centres, at)
        if "itd" in rules.weights:
            seen = seen + [student(image) for image in views.local]
            terms["itd"] = whole_loss(taught, seen, centres, at)
    return terms, taught


def total(terms: dict[str, Tensor], rules: Rules) -> Tensor:
    """The weighted sum."""
    return sum((rules.weights[name] * value for name, value in terms.items()), torch.zeros(()))


def image_loss(student: Network, views: Views, seen: list[Looked]) -> Tensor:
    """L_MIP."""
    missed, counted = torch.zeros(()), torch.zeros(())
    for image, is_hidden, look in zip(views.images, views.is_hidden, seen, strict=True):
        grid = [edge // cell for edge, cell in zip(image.shape[2:], student.shape.cell, strict=True)]
        m = enlarged(is_hidden, grid, student.shape.cell).to(image.dtype)[:, None].expand_as(image)
        made, given = (student.voxels(look.deep, image.shape[2:]) + 1) / 2, (image + 1) / 2
        missed, counted = missed + (m * (made - given).abs()).sum(), counted + m.sum()
    return missed / (counted + 1e-5)


def cell_loss(
    taught: list[Looked], seen: list[Looked], hidden: list[Tensor], centres: Centres, at: tuple[float, Temperatures]
) -> Tensor:
    """L_MPD: the teacher's clean view and the student's of the same crop."""
    losses = []
    for teacher, student, is_hidden in zip(taught, seen, hidden, strict=True):
        entropies = cross_entropy(teacher.cells, student.cells, centres.cells, (at[0], at[1].cells))
        for of_sample, m in zip(entropies, is_hidden.to(entropies.dtype), strict=True):
            losses.append((of_sample * m).sum() / max(1.0, float(m.sum())))
    return torch.stack(losses).mean()


def whole_loss(taught: list[Looked], seen: list[Looked], centres: Centres, at: tuple[float, Temperatures]) -> Tensor:
    """L_ITD: the teacher's clean view and the student's of every other crop."""
    losses = [
        cross_entropy(teacher.whole, student.whole, centres.whole, (at[0], at[1].whole)).mean()
        for number, teacher in enumerate(taught)
        for other, student in enumerate(seen)
        if number != other
    ]
    return torch.stack(losses).mean()


def cross_entropy(teacher: Tensor, student: Tensor, centre: Tensor, temperatures: tuple[float, float]) -> Tensor:
    """One per row: - Σ_k p_k log q_k."""
    p = F.softmax((teacher - centre) / temperatures[1], dim=-1).detach()
    return -(p * F.log_softmax(student / temperatures[0], dim=-1)).sum(dim=-1)


def enlarged(is_hidden: Tensor, grid: list[int], times: Edges) -> Tensor:
    """Which voxels (or patches) belong to a hidden cell: each cell repeated along each axis."""
    cells = is_hidden.reshape(len(is_hidden), *grid)
    for axis, count in enumerate(times, start=1):
        cells = cells.repeat_interleave(count, dim=axis)
    return cells


def before_merging(layer: Any, x: Tensor) -> Tensor:
    """MONAI's stage without its last step, channels last."""
    from monai.networks.nets.swin_unetr import compute_mask, get_window_size

    x = rearrange(x, "b c d h w -> b d h w c")
    window, shift = get_window_size(x.shape[1:4], layer.window_size, layer.shift_size)
    padded = [math.ceil(edge / part) * part for edge, part in zip(x.shape[1:4], window, strict=True)]
    apart = compute_mask(padded, window, shift, x.device)
    for block in layer.blocks:
        x = block(x, apart)
    return x


def follow(teacher: Network, student: Network, momentum: float) -> None:
    """The teacher's weights, one after the other, towards the student's."""
    with torch.no_grad():
        for theirs, ours in zip(teacher.parameters(), student.parameters(), strict=True):
            theirs.copy_(momentum * theirs + (1 - momentum) * ours)


def momentum_at(step: int, steps: int, lowest: float = 0.996) -> float:
    """A cosine from the lowest to 1 over all steps of a run."""
    return 1 - (1 - lowest) * (math.cos(math.pi * step / steps) + 1) / 2
