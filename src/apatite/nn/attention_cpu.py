"""Exact attention on a CPU for narrow heads, forward and backward, compiled on first use for each head width.

Scores exist one tile at a time. The forward pass keeps the logarithm of each query's sum of exponentials, from which
the backward pass makes the same weights again. Each thread takes the next head that nobody has taken; a head is
computed by one thread in a fixed order, so results do not depend on the number of threads and are the same bits in
every run.

Source: Dao et al. 2022 (arXiv 2205.14135), algorithms 1 and 4.
Differs: fp32 throughout; exponentials are powers of two by a polynomial within 2.2e-7.
"""

import functools
import math
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32
from numba import cfunc, njit, types
from numba.np.numpy_support import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from apatite.nn.attention_lanes import (
    KEYS,
    LANES,
    exponentiate_and_mix,
    fade,
    gather,
    mix,
    score,
    score_gradient,
    weigh,
)
from apatite.nn.torch_threads import Compiled, run_in_threads
from apatite.nn.vectors import VECTOR, at_address, take_next

QueriesKeysValues = Float[Tensor, "batch tokens 3 heads width"]
Mixed = Float32[Tensor, "batch tokens heads width"]

LOG2_E, LN_2 = np.float32(math.log2(math.e)), np.float32(math.log(2))
NOTHING_YET = np.float32(-1e30)
"""A running maximum before the first score; finite, so that differences are."""
TAKEN, SIZES, SCALE, ARRAYS = 0, 1, 4, 5
"""Where a kernel's work says: heads taken so far; samples, tokens, heads; scale of the scores; addresses of arrays."""
FEW_SCORES = 1 << 17
"""Fewer are not worth a second thread."""


def attend(queries_keys_values: QueriesKeysValues, scale: float) -> Mixed:
    """softmax(q k^T scale) v for every head.

    Args:
        queries_keys_values: As one linear layer makes them; on the CPU. Under autocast they are turned to fp32.
        scale: Of the scores.
    """
    return _Attend.apply(queries_keys_values, scale)  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    """The two kernels as one differentiable operation."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, qkv: Tensor, scale: float) -> Tensor:
        qkv = qkv.contiguous()
        batch, tokens, _, heads, width = qkv.shape
        mixed, log_sums = qkv.new_empty(batch, tokens, heads, width), qkv.new_empty(batch, heads, tokens)
        _run(_forward_for(width), (batch, tokens, heads), scale, (qkv, mixed, log_sums))
        ctx.save_for_backward(qkv, mixed, log_sums)
        ctx.scale = scale
        return mixed

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        qkv, mixed, log_sums = ctx.saved_tensors
        batch, tokens, _, heads, width = qkv.shape
        result = torch.empty_like(qkv)
        arrays = (qkv, mixed, log_sums, gradient.float().contiguous(), result)
        _run(_backward_for(width), (batch, tokens, heads), ctx.scale, arrays)
        return result, None


def _run(kernel: Compiled, sizes: tuple[int, int, int], scale: float, arrays: tuple[Tensor, ...]) -> None:
    """Run a kernel over all heads of a batch, in as many threads as torch uses."""
    samples, tokens, heads = sizes
    work = np.array([0, *sizes, 0, *(array.data_ptr() for array in arrays)], dtype=np.int64)
    work[SCALE : SCALE + 1].view(np.float64)[0] = scale
    few = samples * heads * tokens**2 < FEW_SCORES
    run_in_threads(kernel, work.ctypes.data, 1 if few else min(torch.get_num_threads(), samples * heads))


@functools.cache
def _forward_for(width: int) -> Compiled:
    """The forward kernel for heads of a width."""

    @cfunc(types.void(types.voidptr), error_model="numpy", cache=True)
    @no_type_check
    def forward(address):
        """Takes heads until none is left."""
        work = carray(address, ARRAYS + 3, np.int64)
        factor = np.float32(carray(address, ARRAYS, np.float64)[SCALE] * LOG2_E)
        samples, tokens, heads = work[SIZES], work[SIZES + 1], work[SIZES + 2]
        qkv = carray(at_address(work[ARRAYS]), (samples, tokens, 3, heads, width), np.float32)
        mixed = carray(at_address(work[ARRAYS + 1]), (samples, tokens, heads, width), np.float32)
        log_sums = carray(at_address(work[ARRAYS + 2]), (samples, heads, tokens), np.float32)
        keys, values = _rows(tokens, width), _rows(tokens, width)
        queries, outputs, scores = _tile(width), _tile(width), _tile(KEYS)
        top, old, totals = _tile(1)[0], _tile(1)[0], _tile(1)[0]
        head = take_next(work)
        while head < samples * heads:
            one = qkv[head // heads, :, :, head % heads]
            _take_rows(one, 1, keys)
            _take_rows(one, 2, values)
            for begin in range(0, tokens, LANES):
                _take_columns(one[:, 0], begin, factor, queries)
                _clear(outputs, totals)
                top[:] = NOTHING_YET
                for key in range(0, tokens, KEYS):
                    count = min(KEYS, tokens - key)
                    old[:] = top
                    score(width, keys[key:], queries, scores, top, count)
                    if key > 0:
                        fade(old, top)
                        totals *= old
                        outputs *= old
                    exponentiate_and_mix(width, scores, values[key:], outputs, top, totals, count)
                for lane in range(min(LANES, tokens - begin)):
                    log_sums[head // heads, head % heads, begin + lane] = top[lane] + np.log2(totals[lane])
                outputs /= totals
                _put_columns(outputs, mixed[head // heads, :, head % heads], begin)
            head = take_next(work)

    return forward.ctypes


@functools.cache
def _backward_for(width: int) -> Compiled:
    """The backward kernel for heads of a width."""
    stored = -(-width // VECTOR) * VECTOR

    @cfunc(types.void(types.voidptr), error_model="numpy", cache=True)
    @no_type_check
    def backward(address):
        """Takes heads until none is left."""
        work = carray(address, ARRAYS + 5, np.int64)
        scale = np.float32(carray(address, ARRAYS, np.float64)[SCALE])
        samples, tokens, heads = work[SIZES], work[SIZES + 1], work[SIZES + 2]
        qkv = carray(at_address(work[ARRAYS]), (samples, tokens, 3, heads, width), np.float32)
        mixed = carray(at_address(work[ARRAYS + 1]), (samples, tokens, heads, width), np.float32)
        log_sums = carray(at_address(work[ARRAYS + 2]), (samples, heads, tokens), np.float32)
        gradient = carray(at_address(work[ARRAYS + 3]), (samples, tokens, heads, width), np.float32)
        result = carray(at_address(work[ARRAYS + 4]), (samples, tokens, 3, heads, width), np.float32)
        keys, values = _rows(tokens, width), _rows(tokens, width)
        key_sums, value_sums = _rows(tokens, stored), _rows(tokens, stored)
        query_rows, gradient_rows = _rows(LANES, stored), _rows(LANES, stored)
        queries, gradients, query_sums = _tile(width), _tile(width), _tile(width)
        weights, changes, base, dots = _tile(KEYS), _tile(KEYS), _tile(1)[0], _tile(1)[0]
        head = take_next(work)
        while head < samples * heads:
            one, place = qkv[head // heads, :, :, head % heads], result[head // heads, :, :, head % heads]
            output, incoming = mixed[head // heads, :, head % heads], gradient[head // heads, :, head % heads]
            _take_rows(one, 1, keys)
            _take_rows(one, 2, values)
            _clear(key_sums, value_sums)
            for begin in range(0, tokens, LANES):
                _take_columns(one[:, 0], begin, scale * LOG2_E, queries)
                _take_columns(incoming, begin, np.float32(1), gradients)
                _turn(queries, query_rows)
                _turn(gradients, gradient_rows)
                # A lane beyond the last query has a gradient of zero, and so no part in any sum.
                _take_sums(log_sums[head // heads, head % heads], begin, base)
                _dot(incoming, output, begin, dots)
                query_sums[:] = 0
                for key in range(0, tokens, KEYS):
                    count = min(KEYS, tokens - key)
                    if count < KEYS:
                        _clear(weights, changes)
                    weigh(width, keys[key:], queries, weights, base, count)
                    gather(stored, weights, gradient_rows, value_sums[key:])
                    score_gradient(width, values[key:], gradients, changes, weights, dots, count)
                    gather(stored, changes, query_rows, key_sums[key:])
                    mix(width, changes, keys[key:], query_sums, count)
                query_sums *= scale
                _put_columns(query_sums, place[:, 0], begin)
            # The rows held queries times scale times log2(e).
            key_sums *= LN_2
            place[:, 1] = key_sums[:tokens, :width]
            place[:, 2] = value_sums[:tokens, :width]
            head = take_next(work)

    return backward.ctypes


@njit(error_model="numpy")
@no_type_check
def _rows(tokens, width):
    """Zeros for whole tiles of keys."""
    return np.zeros((-(-tokens // KEYS) * KEYS, width), np.float32)


@njit(error_model="numpy")
@no_type_check
def _tile(rows):
    """Zeros, one for each lane in every row."""
    return np.zeros((rows, LANES), np.float32)


@njit(error_model="numpy")
@no_type_check
def _clear(a, b):
    """Zeros again."""
    a[:] = 0
    b[:] = 0


@njit(error_model="numpy")
@no_type_check
def _take_rows(one, which, rows):
    """Keys (1) or values (2) of a head, close together."""
    for token in range(one.shape[0]):
        for channel in range(one.shape[2]):
            rows[token, channel] = one[token, which, channel]


@njit(error_model="numpy")
@no_type_check
def _take_columns(rows, begin, factor, columns):
    """One lane for each of the next tokens, times a factor; zero beyond the last."""
    taken = min(LANES, rows.shape[0] - begin)
    columns[:, taken:] = 0
    for lane in range(taken):
        for channel in range(columns.shape[0]):
            columns[channel, lane] = rows[begin + lane, channel] * factor


@njit(error_model="numpy")
@no_type_check
def _take_sums(log_sums, begin, base):
    """One lane for each of the next tokens; zero beyond the last."""
    taken = min(LANES, len(log_sums) - begin)
    base[:taken] = log_sums[begin : begin + taken]
    base[taken:] = 0


@njit(error_model="numpy")
@no_type_check
def _dot(a, b, begin, dots):
    """The product of the next tokens' rows, one lane each."""
    dots[:] = 0
    for lane in range(min(LANES, a.shape[0] - begin)):
        for channel in range(a.shape[1]):
            dots[lane] += a[begin + lane, channel] * b[begin + lane, channel]


@njit(error_model="numpy")
@no_type_check
def _put_columns(columns, rows, begin):
    """The lanes back to their tokens."""
    for lane in range(min(LANES, rows.shape[0] - begin)):
        for channel in range(columns.shape[0]):
            rows[begin + lane, channel] = columns[channel, lane]


@njit(error_model="numpy")
@no_type_check
def _turn(columns, rows):
    """Columns as rows."""
    for lane in range(LANES):
        for channel in range(columns.shape[0]):
            rows[lane, channel] = columns[channel, lane]
