"""The inner loops of attention on a CPU: a lane is a query, keys and values are spread over the lanes.

Every function works on one tile of scores, `keys lanes`, and on columns, `channels lanes`; the sums of 32 queries stay
in registers over all keys of a tile. Exponentials are powers of two, so the scores carry a factor of log2(e).

Source: tiles and running maximum after Dao et al. 2022 (arXiv 2205.14135).
Differs: lanes run over queries instead of channels, because heads here are 10 to 40 channels wide.
"""

from collections.abc import Callable
from typing import Any, no_type_check

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from apatite.nn.vectors import VECTOR, Vectors, constant

LANES = 64
"""Queries of a tile."""
KEYS = 64
"""Keys of a tile; two tiles of 64×64 fp32 fill two thirds of a first-level cache."""
TOGETHER = 32
"""Queries whose sums are held at once."""
MOST_CHANNELS = 12
"""Channels held at once: 12 channels of 32 queries are 24 of 32 registers."""
MOST_SUMS = 16
"""Vectors of sums over lanes held at once."""

Finish = Callable[[int, Any, Any], Any]
"""From a lane, the tile's row and what was summed, what is kept."""


@intrinsic(prefer_literal=True)
@no_type_check
def score(_, width, keys, queries, scores, top, count):
    """`scores = keys @ queries`, and `top` becomes the maximum of itself and each lane's scores."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        *arrays, tops = write.pointers(signature.args, values)

        def begin(lanes):
            held = {lane: write.held(write.load(tops, write.number(0), lane)) for lane in lanes}

            def finish(lane, _, value):
                write.write(write.larger(write.read(held[lane]), value), held[lane])
                return value

            def end():
                for lane, place in held.items():
                    write.store(write.read(place), tops, write.number(0), lane)

            return finish, end

        _products(write, width.literal_value, arrays, values[-1], begin)
        return context.get_dummy_value()

    return types.void(width, keys, queries, scores, top, count), build


@intrinsic(prefer_literal=True)
@no_type_check
def weigh(_, width, keys, queries, weights, log_sums, count):
    """`weights = 2^(keys @ queries - log_sums)`: the softmax again, from what the forward pass kept."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        *arrays, bases = write.pointers(signature.args, values)

        def begin(lanes):
            base = {lane: write.load(bases, write.number(0), lane) for lane in lanes}
            return lambda lane, _, value: write.exp2(builder.fsub(value, base[lane])), _nothing

        _products(write, width.literal_value, arrays, values[-1], begin)
        return context.get_dummy_value()

    return types.void(width, keys, queries, weights, log_sums, count), build


@intrinsic(prefer_literal=True)
@no_type_check
def score_gradient(_, width, values_, output_gradients, gradients, weights, dots, count):  # noqa: PLR0913 (arrays)
    """`gradients = weights * (values @ output_gradients - dots)`."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        *arrays, weight, dot = write.pointers(signature.args, values)

        def begin(lanes):
            less = {lane: write.load(dot, write.number(0), lane) for lane in lanes}

            def finish(lane, row, value):
                return builder.fmul(write.load(weight, row, lane), builder.fsub(value, less[lane]))

            return finish, _nothing

        _products(write, width.literal_value, arrays, values[-1], begin)
        return context.get_dummy_value()

    return types.void(width, values_, output_gradients, gradients, weights, dots, count), build


@intrinsic(prefer_literal=True)
@no_type_check
def exponentiate_and_mix(_, width, scores, values_, outputs, top, totals, count):  # noqa: PLR0913 (arrays)
    """`weights = 2^(scores - top)`; `totals += sum of weights`; `outputs += values^T @ weights`."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        tile, rows, columns, tops, sums = write.pointers(signature.args, values)
        is_read_again = len(_parts(width.literal_value)) > 1

        def begin(lanes):
            most = {lane: write.load(tops, write.number(0), lane) for lane in lanes}
            total = {lane: write.held(write.load(sums, write.number(0), lane)) for lane in lanes}

            def weight(lane, row, value):
                value = write.exp2(builder.fsub(value, most[lane]))
                write.write(builder.fadd(write.read(total[lane]), value), total[lane])
                if is_read_again:
                    write.store(value, tile, row, lane)
                return value

            def end():
                for lane, place in total.items():
                    write.store(write.read(place), sums, write.number(0), lane)

            return weight, end

        _mixtures(write, width.literal_value, [tile, rows, columns], values[-1], begin)
        return context.get_dummy_value()

    return types.void(width, scores, values_, outputs, top, totals, count), build


@intrinsic(prefer_literal=True)
@no_type_check
def mix(_, width, weights, rows, columns, count):
    """`columns += rows^T @ weights`."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        arrays = write.pointers(signature.args, values)
        _mixtures(write, width.literal_value, arrays, values[-1], lambda _: (_unchanged, _nothing))
        return context.get_dummy_value()

    return types.void(width, weights, rows, columns, count), build


@intrinsic(prefer_literal=True)
@no_type_check
def gather(_, stored_width, weights, rows, sums):
    """`sums += weights @ rows` over the lanes of a whole tile; rows and sums are stored at whole vectors."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        tile, row, total = write.pointers(signature.args, values)
        width = stored_width.literal_value
        places = range(0, width, VECTOR)
        together = _divisor_of_keys(MOST_SUMS // len(places))
        with cgutils.for_range(builder, write.number(KEYS // together)) as blocks:
            first = write.times(blocks.index, together * width)
            scores = write.times(blocks.index, together * LANES)
            held = {
                (key, place): write.held(write.load(total, first, key * width + place))
                for key in range(together)
                for place in places
            }
            with cgutils.for_range(builder, write.number(LANES)) as lanes:
                values_ = {place: write.load(row, write.times(lanes.index, width), place) for place in places}
                for key in range(together):
                    weight = write.spread(tile, builder.add(scores, lanes.index), key * LANES)
                    for place in places:
                        sum_ = write.multiply_add(weight, values_[place], write.read(held[key, place]))
                        write.write(sum_, held[key, place])
            for (key, place), sum_ in held.items():
                write.store(write.read(sum_), total, first, key * width + place)
        return context.get_dummy_value()

    return types.void(stored_width, weights, rows, sums), build


@intrinsic
@no_type_check
def fade(_, old_top, top):
    """`old_top` becomes 2^(old_top - top): by how much sums shrink when the maximum has grown."""

    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        old, new = write.pointers(signature.args, values)
        for lane in range(0, LANES, VECTOR):
            change = builder.fsub(write.load(old, write.number(0), lane), write.load(new, write.number(0), lane))
            write.store(write.exp2(change), old, write.number(0), lane)
        return context.get_dummy_value()

    return types.void(old_top, top), build


def _products(write: Vectors, width: int, arrays: list[Any], count: Any, begin: Callable[..., Any]) -> None:
    """`tile[key, lane] = finish(sum over channels of rows[key, channel] columns[channel, lane])`."""
    rows, columns, tile = arrays
    parts = _parts(width)
    for lanes in _lanes():
        finish, end = begin(lanes)
        for part in parts:
            held = {(c, lane): write.load(columns, write.number(0), c * LANES + lane) for c in part for lane in lanes}
            with cgutils.for_range(write.builder, count) as keys:
                row, scores = write.times(keys.index, width), write.times(keys.index, LANES)
                sums = {lane: constant(0) if part is parts[0] else write.load(tile, scores, lane) for lane in lanes}
                for channel in part:
                    key = write.spread(rows, row, channel)
                    sums = {lane: write.multiply_add(key, held[channel, lane], sums[lane]) for lane in lanes}
                for lane, value in sums.items():
                    write.store(finish(lane, scores, value) if part is parts[-1] else value, tile, scores, lane)
        end()


def _mixtures(write: Vectors, width: int, arrays: list[Any], count: Any, begin: Callable[..., Any]) -> None:
    """`columns[channel, lane] += sum over keys of weight(tile[key, lane]) rows[key, channel]`."""
    tile, rows, columns = arrays
    parts = _parts(width)
    for lanes in _lanes():
        for part in parts:
            weight, end = begin(lanes) if part is parts[0] else (_unchanged, _nothing)
            held = {
                (c, lane): write.held(write.load(columns, write.number(0), c * LANES + lane))
                for c in part
                for lane in lanes
            }
            with cgutils.for_range(write.builder, count) as keys:
                row, scores = write.times(keys.index, width), write.times(keys.index, LANES)
                weights = {lane: weight(lane, scores, write.load(tile, scores, lane)) for lane in lanes}
                for channel in part:
                    value = write.spread(rows, row, channel)
                    for lane in lanes:
                        place = held[channel, lane]
                        write.write(write.multiply_add(value, weights[lane], write.read(place)), place)
            end()
            for (channel, lane), place in held.items():
                write.store(write.read(place), columns, write.number(0), channel * LANES + lane)


def _lanes() -> list[range]:
    return [range(first, first + TOGETHER, VECTOR) for first in range(0, LANES, TOGETHER)]


def _parts(width: int) -> list[range]:
    """The channels in as few and as equal parts as fit the registers."""
    size = -(-width // -(-width // MOST_CHANNELS))
    return [range(first, min(first + size, width)) for first in range(0, width, size)]


def _divisor_of_keys(most: int) -> int:
    """The largest power of two of at most `most`, and at least one."""
    return 1 << max(0, most.bit_length() - 1)


def _unchanged(_lane: int, _row: Any, value: Any) -> Any:
    return value


def _nothing() -> None:
    return None
