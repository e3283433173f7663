"""Which points of a diagram are worth most to a point of another one, at a price for each: a tree over their plane.

A point is its mean m = (b + d)/√2 and its size p = (d − b)/√2, the distance to the diagonal; b and d are birth and
death. Two points that are paired save, over leaving both to the diagonal, p² + q² − distance². At a price v of the
second point the first gains p² − distance² + (q² − v): so a box of points can gain no more than its nearest edge and
its largest q² − v allow, and most boxes need not be opened.

Source: searching a kd-tree whose points have weights, after Kerber, Morozov and Nigmetov 2017 (arXiv 1606.03357),
who bid for points of diagrams that way.
Differs: the diagonal is one fixed offer of zero and no point of its own.
"""

from typing import Final, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float64, Int64
from numba import njit

LEAF: Final = 12
"""Points of a leaf at most: fewer cost more boxes, more cost more points looked at."""
STACK: Final = 64
"""More than the levels of any tree that fits in memory."""


class Tree(NamedTuple):
    """Points in the order of the leaves, and what each box can be worth. Node 1 is the root; n has 2n and 2n + 1.

    Attributes:
        means: m of each point.
        sizes: p of each point.
        prices: v of each point; with `worth`, all that changes.
        starts: First point of each leaf, and the number of points.
        boxes: Per node: least m, largest m, least p, largest p.
        worth: Per node: largest q² − v of its points.
    """

    means: Float64[np.ndarray, "points"]
    sizes: Float64[np.ndarray, "points"]
    prices: Float64[np.ndarray, "points"]
    starts: Int64[np.ndarray, "bounds"]
    boxes: Float64[np.ndarray, "nodes 4"]
    worth: Float64[np.ndarray, "nodes"]


def plant(
    means: Float64[np.ndarray, "points"], sizes: Float64[np.ndarray, "points"]
) -> tuple[Tree, Int64[np.ndarray, "points"]]:
    """A tree over points, each at the price p², and the place of each of its points in what was given.

    Args:
        means: m, at least one.
        sizes: p, above zero.
    """
    levels = max(int(np.ceil(np.log2(len(means) / LEAF))), 0)
    order = np.arange(len(means))
    for level in range(levels):
        bounds = _bounds(len(order), level)
        box = np.repeat(np.arange(1 << level), np.diff(bounds))
        is_wide = _spans(means[order], bounds) >= _spans(sizes[order], bounds)
        order = order[np.lexsort((np.where(is_wide[box], means[order], sizes[order]), box))]
    nodes = 2 << levels
    bounds = _bounds(len(order), levels)
    tree = Tree(means[order], sizes[order], sizes[order] ** 2, bounds, np.empty((nodes, 4)), np.empty(nodes))
    fill(tree)
    return tree, order


def _bounds(points: int, level: int) -> Int64[np.ndarray, "bounds"]:
    """Where the boxes of a level begin; those of the next one begin there and in their middles."""
    return (np.arange((1 << level) + 1) * points) >> level


def _spans(values: Float64[np.ndarray, "points"], bounds: Int64[np.ndarray, "bounds"]) -> Float64[np.ndarray, "boxes"]:
    return np.maximum.reduceat(values, bounds[:-1]) - np.minimum.reduceat(values, bounds[:-1])


@njit(cache=True, nogil=True)
@no_type_check
def fill(tree):
    """The boxes of all nodes, and what they are worth at the prices that are there."""
    leaves = len(tree.starts) - 1
    for node in range(2 * leaves - 1, 0, -1):
        if node < leaves:
            for side in range(4):
                one, other = tree.boxes[2 * node, side], tree.boxes[2 * node + 1, side]
                tree.boxes[node, side] = max(one, other) if side % 2 else min(one, other)
            tree.worth[node] = max(tree.worth[2 * node], tree.worth[2 * node + 1])
            continue
        here = slice(tree.starts[node - leaves], tree.starts[node - leaves + 1])
        tree.boxes[node, 0], tree.boxes[node, 1] = tree.means[here].min(), tree.means[here].max()
        tree.boxes[node, 2], tree.boxes[node, 3] = tree.sizes[here].min(), tree.sizes[here].max()
        tree.worth[node] = (tree.sizes[here] ** 2 - tree.prices[here]).max()


@njit(cache=True, nogil=True)
@no_type_check
def gain_of(tree, place, mean, size):
    """What a point gains by being paired with the one at `place` at its price; at the diagonal it gains zero."""
    return 2 * size * tree.sizes[place] - (mean - tree.means[place]) ** 2 - tree.prices[place]


@njit(cache=True, nogil=True)
@no_type_check
def most_in(tree, node, mean, size):
    """A point can gain no more in a node's box."""
    along = max(tree.boxes[node, 0] - mean, mean - tree.boxes[node, 1], 0.0)
    across = max(tree.boxes[node, 2] - size, size - tree.boxes[node, 3], 0.0)
    return size * size - along * along - across * across + tree.worth[node]


@njit(cache=True, nogil=True)
@no_type_check
def push_halves(tree, node, mean, size, stack, waiting):
    """Put a node's two halves on a stack of (node, most in it), the better one on top."""
    one, other = most_in(tree, 2 * node, mean, size), most_in(tree, 2 * node + 1, mean, size)
    nodes, most = stack
    better = 2 * node + (other > one)
    nodes[waiting], most[waiting] = better ^ 1, min(one, other)
    nodes[waiting + 1], most[waiting + 1] = better, max(one, other)
    return waiting + 2


@njit(cache=True, nogil=True)
@no_type_check
def new_stack():
    """A stack with the root on it, of which nothing is known."""
    nodes, most = np.empty(STACK, np.int64), np.empty(STACK)
    nodes[0], most[0] = 1, np.inf
    return nodes, most


@njit(cache=True, nogil=True)
@no_type_check
def best_two(tree, owner, mean, size):
    """The place with the largest gain above zero, -1 if there is none, and the two largest gains, at least zero.

    Among equal gains, a place that nobody owns comes first.
    """
    leaves = len(tree.starts) - 1
    stack, waiting = new_stack(), 1
    best, gain_best, gain_second = -1, 0.0, 0.0
    while waiting:
        waiting -= 1
        node = stack[0][waiting]
        if stack[1][waiting] <= gain_second:
            continue
        if node < leaves:
            waiting = push_halves(tree, node, mean, size, stack, waiting)
            continue
        for place in range(tree.starts[node - leaves], tree.starts[node - leaves + 1]):
            gain = gain_of(tree, place, mean, size)
            if gain > gain_best or (gain == gain_best and best >= 0 and owner[place] < 0 <= owner[best]):
                best, gain_best, gain_second = place, gain, gain_best
            elif gain > gain_second:
                gain_second = gain
    return best, gain_best, gain_second


@njit(cache=True, nogil=True)
@no_type_check
def raise_price(tree, place, by):
    """Make a point dearer, and the boxes round it worth less where it was what they are worth."""
    tree.prices[place] += by
    leaves = len(tree.starts) - 1
    leaf = ((place + 1) * leaves - 1) // len(tree.means)
    worth = -np.inf
    for other in range(tree.starts[leaf], tree.starts[leaf + 1]):
        worth = max(worth, tree.sizes[other] ** 2 - tree.prices[other])
    node = leaves + leaf
    while node and tree.worth[node] != worth:
        tree.worth[node] = worth
        worth = max(worth, tree.worth[node ^ 1])
        node //= 2
