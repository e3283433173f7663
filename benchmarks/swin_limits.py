"""A roofline of SMIT's step: what a Swin encoder, its heads and their losses must at least cost.

Forward, for a stage of width C over T tokens in windows of w tokens: 24 T C² for the linear layers of a block (queries,
keys, values 6; output 2; perceptron 16), 4 T w C for scores and mixing, H T w exponentials, 4 T C² for the merging. A
head costs 2 (W h + h² + h d) per row and 2 d K for its cosines with K prototypes, whose softmax takes K exponentials.
Counted are the tokens of the image: windows that are filled up with zeros are a method's own doing. A student costs
three forwards; its scores are made again in the backward pass, so attention costs 3.5 and two exponentials each.
"""

import math
from dataclasses import dataclass

from limits import FUSED_ELEMENTS
from machine import Limits
from smit_reference import Edges, Shape


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of forward passes.

    Attributes:
        linear: Floating-point operations of linear layers.
        attention: Floating-point operations of scores and mixing.
        exps: Exponentials.
        elements: Tokens times width, summed over the blocks.
    """

    linear: float = 0.0
    attention: float = 0.0
    exps: float = 0.0
    elements: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __mul__(self, times: float) -> "Work":
        return Work(**{name: times * value for name, value in vars(self).items()})

    @property
    def flops(self) -> float:
        """All of them."""
        return self.linear + self.attention


def encoder_work(shape: Shape, edges: Edges) -> Work:
    """One image through embedding, four stages and their merging."""
    grid = [edge // part for edge, part in zip(edges, shape.patch, strict=True)]
    values = math.prod(shape.patch) * shape.channels
    work, dim = Work(linear=2 * math.prod(grid) * values * shape.dim), shape.dim
    for depth, heads in zip(shape.depths, shape.heads, strict=True):
        tokens = math.prod(grid)
        window = math.prod(min(edge, part) for edge, part in zip(grid, shape.window, strict=True))
        block = Work(
            linear=24 * tokens * dim**2,
            attention=4 * tokens * window * dim,
            exps=heads * tokens * window,
            elements=tokens * dim,
        )
        grid = [math.ceil(edge / 2) for edge in grid]
        work, dim = work + block * depth + Work(linear=32 * math.prod(grid) * dim**2), 2 * dim
    return work


def head_work(shape: Shape, rows: int, compared: int) -> Work:
    """So many rows through a head, of which some are compared with the prototypes."""
    width, hidden, dim = 8 * shape.dim, shape.head_hidden, shape.head_dim
    perceptron = 2 * rows * (width * hidden + hidden**2 + hidden * dim)
    return Work(
        linear=perceptron + 2 * compared * dim * shape.prototypes,
        exps=compared * shape.prototypes,
        elements=rows * hidden,
    )


def voxels_work(shape: Shape, edges: Edges) -> Work:
    """The linear layer from the coarsest map to voxels, of one image."""
    elements = math.prod(math.ceil(edge / (2 * cell)) for edge, cell in zip(edges, shape.cell, strict=True))
    return Work(linear=2 * elements * 16 * shape.dim * shape.channels * 8 * math.prod(shape.cell))


def floor_s(student: Work, teacher: Work, updated: int, limits: Limits) -> float:
    """Seconds of a step: products and exponentials share the vector units, traffic hides behind the linear layers.

    Args:
        student: Forward, of all that has a gradient.
        teacher: Forward, of all that has none.
        updated: Weights of the teacher; as in a copy, one array is read and another is fetched and written back.
        limits: Of this machine.
    """
    linear = (3 * student.linear + teacher.linear) / limits.gemm_fp32
    traffic = 4 * FUSED_ELEMENTS * (3 * student.elements + teacher.elements) / limits.stream
    attention = (3.5 * student.attention + teacher.attention) / limits.gemm_fp32
    exps = (2 * student.exps + teacher.exps) / limits.exps
    return max(linear, traffic) + attention + exps + 2 * 4 * updated / limits.stream


def step_floor_s(shape: Shape, edges: Edges, images: int, hidden: int, weights: int, limits: Limits) -> float:
    """Of a whole step: `images` views of `edges`, `hidden` cells in each; the centre counts every cell."""
    cells = math.prod(edge // cell for edge, cell in zip(edges, shape.cell, strict=True))
    compared = hidden + 1
    encoder = encoder_work(shape, edges)
    student = encoder + voxels_work(shape, edges) + head_work(shape, compared, compared)
    teacher = encoder + head_work(shape, cells + 1, compared)
    return floor_s(student * images, teacher * images, weights, limits)
