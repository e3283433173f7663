"""Vector operations for kernels that are written as LLVM: a vector is 16 fp32 numbers.

A compiler that is given inner loops as text checks for overlapping arrays at every row and keeps sums in memory. A
kernel that is written with these operations says what stays in a register. On machines with narrower registers the
compiler cuts a vector in pieces.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR = 16
MANTISSA_BITS = 23

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_FLOAT, VECTOR), ir.VectorType(_INT, VECTOR)
_FUSED = ("contract",)
_ROUNDER = 1.5 * 2**MANTISSA_BITS
"""Adding it to a small number leaves the nearest whole number in the low bits."""
_LEAST_POWER = -126.0
_POWERS_OF_TWO = (
    1.0000001192092896,
    0.6931471824645996,
    0.2402210682630539,
    0.055503569543361664,
    0.009676031768321991,
    0.0013390863314270973,
)
"""2^f for -1/2 <= f <= 1/2, interpolated at Chebyshev's points; in fp32 within 2.2e-7 of it, relative."""


class Vectors:
    """Writes operations where a kernel is being built.

    Args:
        context, builder: What numba hands to an intrinsic.
    """

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def pointers(self, kinds: Any, values: Any) -> list[Any]:
        """Where the arrays among the arguments begin."""
        arrays = [(kind, value) for kind, value in zip(kinds, values, strict=True) if isinstance(kind, types.Array)]
        return [self.context.make_array(kind)(self.context, self.builder, value).data for kind, value in arrays]

    def number(self, value: int) -> Any:
        """A constant index."""
        return ir.Constant(_INDEX, value)

    def times(self, index: Any, size: int) -> Any:
        """Where row `index` of rows of a constant size begins."""
        return self.builder.mul(index, self.number(size))

    def load(self, pointer: Any, row: Any, offset: int) -> Any:
        """A vector."""
        return self.builder.load(self._vector_at(pointer, row, offset), align=4)

    def store(self, value: Any, pointer: Any, row: Any, offset: int) -> None:
        """Write a vector."""
        self.builder.store(value, self._vector_at(pointer, row, offset), align=4)

    def _vector_at(self, pointer: Any, row: Any, offset: int) -> Any:
        return self.builder.bitcast(self._at(pointer, row, offset), _FLOATS.as_pointer())

    def _at(self, pointer: Any, row: Any, offset: int) -> Any:
        return self.builder.gep(pointer, [self.builder.add(row, self.number(offset))])

    def spread(self, pointer: Any, row: Any, offset: int) -> Any:
        """One number in every lane."""
        value = self.builder.load(self._at(pointer, row, offset), align=4)
        first = self.builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(first, first, ir.Constant(_INTS, [0] * VECTOR))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """A b + c, rounded once where the machine can."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=_FUSED), c, flags=_FUSED)

    def larger(self, a: Any, b: Any) -> Any:
        """The larger, lane by lane."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def exp2(self, power: Any) -> Any:
        """2 to a power of at most 127; below -126 it stays 2^-126, which no sum of ours can see."""
        power = self.larger(power, constant(_LEAST_POWER))
        rounded = self.builder.fadd(power, constant(_ROUNDER))
        rest = self.builder.fsub(power, self.builder.fsub(rounded, constant(_ROUNDER)))
        result = constant(_POWERS_OF_TWO[-1])
        for factor in _POWERS_OF_TWO[-2::-1]:
            result = self.multiply_add(result, rest, constant(factor))
        exponent = self.builder.shl(self.builder.bitcast(rounded, _INTS), ir.Constant(_INTS, [MANTISSA_BITS] * VECTOR))
        return self.builder.bitcast(self.builder.add(self.builder.bitcast(result, _INTS), exponent), _FLOATS)

    def held(self, value: Any) -> Any:
        """A variable that the compiler keeps in a register."""
        place = cgutils.alloca_once(self.builder, _FLOATS)
        self.builder.store(value, place)
        return place

    def read(self, place: Any) -> Any:
        """The value of such a variable."""
        return self.builder.load(place)

    def write(self, value: Any, place: Any) -> None:
        """Change it."""
        self.builder.store(value, place)


def constant(value: float) -> Any:
    """One number in every lane, known when the kernel is written."""
    return ir.Constant(_FLOATS, [value] * VECTOR)


@intrinsic
@no_type_check
def at_address(_, address):
    """An address as a pointer."""

    def build(_context, builder, _signature, values):
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), build


@intrinsic
@no_type_check
def take_next(_, work):
    """The first number of an array, which becomes one larger; no two threads get the same."""

    def build(context, builder, signature, values):
        (place,) = Vectors(context, builder).pointers(signature.args, values)
        return builder.atomic_rmw("add", place, ir.Constant(_INDEX, 1), "monotonic")

    return types.int64(work), build
