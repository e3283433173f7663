"""The pairs of two sets of points that save most, exactly: bids at falling steps, then shortest augmenting paths.

Every point has a price, and two prices together are at least what the two points save as a pair. First all points bid
for partners, and prices rise by a step more than they must; with smaller and smaller steps that brings prices near
where they end, and decides nothing. Then pairs are made without a step: who is outbid bids again, and who is left
looks for the cheapest chain of changes, Dijkstra's way, that ends at a partner nobody has or at a point that is as
well off alone. In the end the prices of a pair are together just what it saves, and points alone have a price of zero.
So all prices together are what the pairs save, and no other pairs save more: that proves it, up to rounding.

Source: Jonker and Volgenant 1987 (10.1007/BF02278710), bids before paths; Bertsekas 1988 (10.1007/BF02186476), steps.
Differs: pairs are optional, so a chain may end in a point left alone, and both sides take turns as the one that bids;
    what pairs save is looked up in a tree of boxes, so no table of all pairs is ever made: memory grows with the
    points, not with their product.
"""

from typing import Final, no_type_check

import numpy as np
from numba import njit

from apatite.topology.partners import best_two, fill, gain_of, new_stack, push_halves, raise_price

FIRST_STEP: Final = 1e-2
"""Steps are in units of the largest p²: each costs a round of bids and saves longer paths."""
LAST_STEP: Final = 0.05
"""Over the number of points."""
FALL: Final = 0.1
MOST_BIDS: Final = 200
"""Per point and round with a step: a bound on time only."""
MOST_EXACT_BIDS: Final = 8
"""Per point without a step: prices may creep where much is worth the same, and paths then end it sooner."""


@njit(cache=True, nogil=True)
@no_type_check
def assign(ours, theirs):
    """The place in `theirs` of the partner of each point of `ours`, -1 for none.

    Args:
        ours: As planted; best the smaller one.
        theirs: As planted. Afterwards the prices of both are those of the proof.
    """
    partner, owner = np.empty(len(ours.means), np.int64), np.empty(len(theirs.means), np.int64)
    largest = max(ours.sizes.max(), theirs.sizes.max()) ** 2
    step = FIRST_STEP * largest
    while True:
        if step * len(partner) < LAST_STEP * largest:
            step = 0.0
        partner[:] = -1
        owner[:] = -1
        ours.prices[:] = np.inf
        _settle(ours, theirs, partner, owner, step)
        fill(ours)
        _settle(theirs, ours, owner, partner, step)
        if step == 0:
            return partner
        fill(theirs)
        step *= FALL


@njit(cache=True, nogil=True)
@no_type_check
def _settle(rows, columns, column_of, owner, step):
    """Pair every row that is not, or bring its price down to zero; with a step, only about."""
    left = _bid(rows, columns, column_of, owner, step)
    if step > 0:
        return
    count = len(owner)
    far, seen, came_from = np.empty(count), np.full(count, -1, np.int64), np.empty(count, np.int64)
    heap, place_in, done = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    for root in left:
        if rows.prices[root] > 0:
            _extend(rows, columns, column_of, owner, (far, seen, came_from, heap, place_in, done), root)


@njit(cache=True, nogil=True)
@no_type_check
def _bid(rows, columns, column_of, owner, step):
    """Rows bid in turn, and again when they are outbid; returns those that are left."""
    turn, left = np.empty(len(column_of), np.int64), np.empty(len(column_of), np.int64)
    waiting, num_left, bids = 0, 0, 0
    for row in range(len(column_of) - 1, -1, -1):
        if column_of[row] < 0 and rows.prices[row] > 0:
            turn[waiting] = row
            waiting += 1
    most_bids = (MOST_BIDS if step > 0 else MOST_EXACT_BIDS) * waiting
    while waiting:
        waiting -= 1
        row = turn[waiting]
        best, gain_best, gain_second = best_two(columns, owner, rows.means[row], rows.sizes[row])
        rise = gain_best - gain_second + step
        bids += 1
        if best >= 0 and owner[best] >= 0 and (rise == 0 or bids > most_bids):
            rows.prices[row] = gain_best
            left[num_left] = row
            num_left += 1
            continue
        rows.prices[row] = gain_second
        if best < 0:
            continue
        if owner[best] >= 0:
            turn[waiting] = owner[best]
            column_of[owner[best]] = -1
            waiting += 1
        owner[best], column_of[row] = row, best
        raise_price(columns, best, rise)
    return left[:num_left]


@njit(cache=True, nogil=True)
@no_type_check
def _extend(rows, columns, column_of, owner, paths, root):
    """The cheapest chain of changes that begins with a row that is left: it gets a column, or is left alone."""
    far, _, came_from, heap, place_in, done = paths
    # Others were paid since the row bid.
    _, rows.prices[root], _ = best_two(columns, owner, rows.means[root], rows.sizes[root])
    end, end_row, limit = -1, root, rows.prices[root]
    waiting, num_done, row, distance = 0, 0, root, 0.0
    while distance < limit:
        here = (root, row, rows.means[row], rows.sizes[row], distance + rows.prices[row])
        limit, end, waiting = _scan(columns, owner, paths, here, (limit, end, waiting))
        if not waiting or far[heap[0]] >= limit:
            break
        column, waiting = _pop(heap, place_in, far, waiting)
        done[num_done] = column
        num_done += 1
        row, distance = owner[column], far[column]
        if distance + rows.prices[row] < limit:
            limit, end, end_row = distance + rows.prices[row], -1, row
    rows.prices[root] -= limit
    for column in done[:num_done]:
        less = max(limit - far[column], 0.0)
        rows.prices[owner[column]] -= less
        raise_price(columns, column, less)
    _change(column_of, owner, came_from, root, end, end_row)


@njit(cache=True, nogil=True)
@no_type_check
def _scan(columns, owner, paths, here, state):
    """Look at every column that a row reaches before the limit; one that nobody owns becomes the end, and the limit."""
    far, seen, came_from, heap, place_in, _ = paths
    root, row, mean, size, base = here
    limit, end, num_reached = state
    leaves = len(columns.starts) - 1
    stack, waiting = new_stack(), 1
    while waiting:
        waiting -= 1
        node = stack[0][waiting]
        if base - stack[1][waiting] >= limit:
            continue
        if node < leaves:
            waiting = push_halves(columns, node, mean, size, stack, waiting)
            continue
        for place in range(columns.starts[node - leaves], columns.starts[node - leaves + 1]):
            reached = base - gain_of(columns, place, mean, size)
            is_seen = seen[place] == root
            if reached >= limit or (is_seen and (place_in[place] < 0 or reached >= far[place])):
                continue
            came_from[place] = row
            if owner[place] < 0:
                limit, end = reached, place
                continue
            if not is_seen:
                seen[place], heap[num_reached], place_in[place] = root, place, num_reached
                num_reached += 1
            far[place] = reached
            _rise(heap, place_in, far, place_in[place])
    return limit, end, num_reached


@njit(cache=True, nogil=True)
@no_type_check
def _change(column_of, owner, came_from, root, end, end_row):
    """Hand columns on along the chain that ends at a column nobody owned, or at a row that is left alone."""
    if end < 0 and end_row == root:
        return
    column = end
    if end < 0:
        column = column_of[end_row]
        column_of[end_row] = -1
    while column >= 0:
        row = came_from[column]
        given_up = column_of[row]
        owner[column], column_of[row] = row, column
        column = given_up


@njit(cache=True, nogil=True)
@no_type_check
def _rise(heap, place_in, far, place):
    """Move what came nearer towards the front of the heap."""
    moving = heap[place]
    while place and far[heap[(place - 1) // 2]] > far[moving]:
        heap[place] = heap[(place - 1) // 2]
        place_in[heap[place]] = place
        place = (place - 1) // 2
    heap[place], place_in[moving] = moving, place


@njit(cache=True, nogil=True)
@no_type_check
def _pop(heap, place_in, far, waiting):
    """Take the nearest out of the heap; its place becomes -1."""
    nearest = heap[0]
    place_in[nearest] = -1
    waiting -= 1
    moving, place = heap[waiting], 0
    while 2 * place + 1 < waiting:
        child = 2 * place + 1
        if child + 1 < waiting and far[heap[child + 1]] < far[heap[child]]:
            child += 1
        if far[heap[child]] >= far[moving]:
            break
        heap[place] = heap[child]
        place_in[heap[place]] = place
        place = child
    if waiting:
        heap[place], place_in[moving] = moving, place
    return nearest, waiting
