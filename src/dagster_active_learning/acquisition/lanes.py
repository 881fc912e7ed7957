"""Vectors inside Numba kernels: one number of each of several rows, in one processor register.

LLVM vectorises neither sums nor the two largest values of a row without reordering them, which
would change the bits. So the kernels say it themselves: `Lanes` is a Numba type for an LLVM vector,
and the functions here are what a kernel does with vectors. Every operation is rounded as IEEE says,
so that the results are the same on any machine.

Numba's cache notices changes of the file a kernel stands in, not of this one: after a change here
delete it, the folder ``__pycache__`` or what ``NUMBA_CACHE_DIR`` names.
"""

import operator
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

# Numba has no types, and the bodies of intrinsics are not ordinary Python.
# ruff: noqa: ANN001, ANN201, ANN202, ARG001
# pyright: reportMissingParameterType=false, reportUntypedBaseClass=false
# pyright: reportUntypedClassDecorator=false, reportAttributeAccessIssue=false
# pyright: reportOptionalCall=false

# An AVX-512 register: there it takes 26 % less time than vectors of 32 bytes. Where registers are
# AVX2's LLVM uses two of them, which takes 16 % more than 32 bytes did.
LANE_BYTES = 64


class Lanes(types.Type):
    """A vector register inside a kernel: one number of each of `count` rows."""

    def __init__(self, dtype: types.Float, count: int) -> None:
        super().__init__(name=f"Lanes({dtype}, {count})")
        self.dtype = dtype
        self.count = count


# A function that emits LLVM code in place: its first parameter is Numba's, not the caller's.
_intrinsic = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)


def _vector(lanes: Lanes) -> ir.VectorType:
    element = ir.FloatType() if lanes.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(element, lanes.count)


@register_model(Lanes)
class _LanesModel(PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes))


def _lane_operator(operation: Callable[..., Any], emit: Callable[..., Any]) -> None:
    """Define a Python operator on two vectors of one type."""

    @infer_global(operation)
    class _LaneTyping(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1] and not kws:
                return signature(args[0], *args)
            return None

    lower_builtin(operation, Lanes, Lanes)(
        lambda _context, builder, _signature, args: emit(builder, *args)
    )


_lane_operator(operator.add, lambda builder, left, right: builder.fadd(left, right))
_lane_operator(operator.sub, lambda builder, left, right: builder.fsub(left, right))
_lane_operator(operator.mul, lambda builder, left, right: builder.fmul(left, right))
# A NaN may be lost here (the comparison is false), never in the sum of the row.
_lane_operator(
    max,
    lambda builder, left, right: builder.select(
        builder.fcmp_ordered(">", left, right), left, right
    ),
)
_lane_operator(
    min,
    lambda builder, left, right: builder.select(
        builder.fcmp_ordered("<", left, right), left, right
    ),
)


def _constant(vector: ir.VectorType, value: float | int) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _emit_multiply_add(builder: Any, left: Any, right: Any, addend: Any) -> Any:
    """Emit left * right + addend, rounded once: every processor and library must agree on it."""
    vector = left.type
    name = f"llvm.fma.v{vector.count}f{32 if vector.element == ir.FloatType() else 64}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )
    return builder.call(function, [left, right, addend])


def _broadcast(builder: Any, vector: ir.VectorType, value: Any) -> Any:
    single = builder.insert_element(
        ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _lanes_of(array: types.Array) -> Lanes:
    return Lanes(array.dtype, LANE_BYTES * 8 // array.dtype.bitwidth)


def _square_side(array: types.Array) -> int:
    """The numbers in 128 bits: so many columns of rows are transposed at a time."""
    return 128 // array.dtype.bitwidth


@_intrinsic
def lanes_in(typing_context, array):
    """The number of an array's elements in a vector, known when the kernel is compiled."""

    def emit(context, builder, sig, args):
        return context.get_constant(types.intp, _lanes_of(array).count)

    return types.intp(array), emit


@_intrinsic
def load(typing_context, array, index):
    """Read the vector at array[index:]."""

    def emit(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], *args)
        vector = _vector(sig.return_type)
        return builder.load(
            builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8
        )

    return _lanes_of(array)(array, types.intp), emit


@_intrinsic
def store(typing_context, array, index, lanes):
    """Write the vector to array[index:]."""

    def emit(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1])
        pointer = builder.bitcast(pointer, args[2].type.as_pointer())
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@_intrinsic
def gather(typing_context, array, index, stride):
    """Read one vector of every stride-th element from array[index] on."""

    def emit(context, builder, sig, args):
        vector = _vector(sig.return_type)
        gathered = ir.Constant(vector, ir.Undefined)
        position = args[1]
        for lane in range(vector.count):
            pointer = _pointer(context, builder, sig.args[0], args[0], position)
            gathered = builder.insert_element(
                gathered, builder.load(pointer), ir.Constant(ir.IntType(32), lane)
            )
            position = builder.add(position, args[2])
        return gathered

    return _lanes_of(array)(array, types.intp, types.intp), emit


@_intrinsic
def square_side(typing_context, array):
    """The number of columns that `transpose` reads, known when the kernel is compiled."""

    def emit(context, builder, sig, args):
        return context.get_constant(types.intp, _square_side(array))

    return types.intp(array), emit


@_intrinsic
def transpose(typing_context, array, index, stride, block, target):
    """Read `square_side` columns of a vector of rows, and write one vector per column.

    The first row's numbers begin at array[index], the next row's `stride` later. The first column
    goes to block[target:].
    """

    def emit(context, builder, sig, args):
        vector = _vector(_lanes_of(array))
        side, align = _square_side(array), array.dtype.bitwidth // 8
        part = ir.VectorType(vector.element, side)
        _, start, stride, _, target = args

        # The position grows from row to row: a multiple of the stride per row filled the registers.
        parts = []
        for _ in range(vector.count):
            pointer = _pointer(context, builder, array, args[0], start)
            pointer = builder.bitcast(pointer, part.as_pointer())
            parts.append(builder.load(pointer, align=align))
            start = builder.add(start, stride)

        def shuffle(left, right, lanes):
            indices = ir.VectorType(ir.IntType(32), len(lanes))
            return builder.shuffle_vector(left, right, ir.Constant(indices, lanes))

        def side_by_side(parts):
            while len(parts) > 1:
                lanes = list(range(2 * parts[0].type.count))
                parts = [
                    shuffle(*pair, lanes) for pair in zip(parts[::2], parts[1::2], strict=True)
                ]
            return parts[0]

        # Four squares side by side, each transposed within its 128 bits: the shuffles of x86 that
        # cross them take longer, and checking 80 classes took twice as long with those.
        square = [side_by_side(parts[row::side]) for row in range(side)]
        # Interleaved with the row half a square below, twice of four rows: transposed.
        lanes_of_pairs = [
            [
                begin + half + lane // 2 + lane % 2 * vector.count
                for begin in range(0, vector.count, side)
                for lane in range(side)
            ]
            for half in (0, side // 2)
        ]
        for _ in range(side.bit_length() - 1):
            square = [
                shuffle(upper, lower, lanes)
                for upper, lower in zip(square[: side // 2], square[side // 2 :], strict=True)
                for lanes in lanes_of_pairs
            ]
        for column, transposed in enumerate(square):
            position = builder.add(target, target.type(column * vector.count))
            pointer = _pointer(context, builder, block, args[3], position)
            pointer = builder.bitcast(pointer, vector.as_pointer())
            builder.store(transposed, pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, block, types.intp), emit


@_intrinsic
def deinterleave(typing_context, array, index, block):
    """Read two columns of rows that have no more, one vector each, to the block."""

    def emit(context, builder, sig, args):
        vector = _vector(_lanes_of(array))
        count, align = vector.count, array.dtype.bitwidth // 8
        halves = []
        for half in range(2):
            position = builder.add(args[1], args[1].type(half * count))
            pointer = _pointer(context, builder, array, args[0], position)
            pointer = builder.bitcast(pointer, vector.as_pointer())
            halves.append(builder.load(pointer, align=align))
        indices = ir.VectorType(ir.IntType(32), count)
        for column in range(2):
            every_other = ir.Constant(indices, list(range(column, 2 * count, 2)))
            lanes = builder.shuffle_vector(*halves, every_other)
            target = args[1].type(column * count)
            pointer = _pointer(context, builder, block, args[2], target)
            builder.store(lanes, builder.bitcast(pointer, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, block), emit


def _emit_prefetch(builder: Any, pointer: Any, n_bytes: int) -> None:
    """Ask for the cache lines from an address on, which need not be one: that does no harm."""
    pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag]),
        "llvm.prefetch.p0",
    )
    for line in range(0, n_bytes, 64):
        address = builder.gep(pointer, [ir.Constant(ir.IntType(64), line)])
        builder.call(function, [address, flag(0), flag(3), flag(1)])


@_intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of the array's number at a position, in whatever shape."""

    def emit(context, builder, sig, args):
        _emit_prefetch(builder, _pointer(context, builder, array, *args), 1)
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@_intrinsic
def prefetch_block(typing_context, array, index):
    """Ask for the cache lines of one block from array[index] on."""

    def emit(context, builder, sig, args):
        block_bytes = LANE_BYTES * _lanes_of(array).count
        _emit_prefetch(builder, _pointer(context, builder, array, *args), block_bytes)
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@_intrinsic
def fill(typing_context, like, value):
    """Make a vector of the type of another with the same number in every lane."""

    def emit(context, builder, sig, args):
        vector = _vector(sig.return_type)
        value = context.cast(builder, args[1], sig.args[1], like.dtype)
        return _broadcast(builder, vector, value)

    return like(like, value), emit


@_intrinsic
def widen(typing_context, lanes):
    """Convert a vector to float64."""
    wide = Lanes(types.float64, lanes.count)

    def emit(context, builder, sig, args):
        return args[0] if lanes == wide else builder.fpext(args[0], _vector(wide))

    return wide(lanes), emit


@_intrinsic
def multiply_add(typing_context, left, right, addend):
    """Compute left * right + addend, rounded once."""

    def emit(context, builder, sig, args):
        return _emit_multiply_add(builder, *args)

    return left(left, right, addend), emit


# log2(1 + x) / x on [sqrt(1/2) - 1, sqrt(2) - 1], lowest power first: minimax polynomials (Remez)
# of absolute error 5e-8 and 2e-14 in log2.
_LOG2_FLOAT32 = (
    1.4426947832107544,
    -0.7213571667671204,
    0.48093944787979126,
    -0.36008721590042114,
    0.28670746088027954,
    -0.2500690221786499,
    0.23689039051532745,
    -0.14574450254440308,
)
_LOG2_FLOAT64 = (
    1.4426950408891681,
    -0.7213475204498645,
    0.4808983467947567,
    -0.3606737586377389,
    0.28853903089725397,
    -0.2404493298494702,
    0.2060981271376333,
    -0.18032949462382886,
    0.1603264192797439,
    -0.1444560935667668,
    0.1309024318258769,
    -0.11768122219047039,
    0.11062066838129604,
    -0.11992857940403674,
    0.11671575624063632,
    -0.057437326674150115,
)


@_intrinsic
def log2(typing_context, lanes):
    """Compute log2 of numbers >= 0; finite for 0 and denormals, so that p log2 p is right there."""

    def emit(context, builder, sig, args):
        vector = args[0].type
        single = lanes.dtype == types.float32
        bits = ir.VectorType(ir.IntType(32 if single else 64), vector.count)
        float_type, uint_type = (np.float32, np.uint32) if single else (np.float64, np.uint64)
        mantissa_bits = 23 if single else 52
        bias = 127 if single else 1023
        sqrt_half = int(float_type(0.5**0.5).view(uint_type))
        one = int(float_type(1).view(uint_type))
        shifter = int(float_type(2**mantissa_bits).view(uint_type))
        # Split into 2**exponent * mantissa, with the mantissa in [sqrt(1/2), sqrt(2)): near 1 the
        # exponent is 0 and nothing cancels. An integer in the low bits of 2**mantissa_bits becomes
        # a float without a conversion, which AVX2 does not have for 64 bits.
        offset = builder.add(builder.bitcast(args[0], bits), _constant(bits, one - sqrt_half))
        exponent = builder.lshr(offset, _constant(bits, mantissa_bits))
        exponent = builder.bitcast(builder.or_(exponent, _constant(bits, shifter)), vector)
        exponent = builder.fsub(exponent, _constant(vector, float(2**mantissa_bits + bias)))
        mantissa = builder.and_(offset, _constant(bits, (1 << mantissa_bits) - 1))
        mantissa = builder.add(mantissa, _constant(bits, sqrt_half))
        x = builder.fsub(builder.bitcast(mantissa, vector), _constant(vector, 1.0))
        coefficients = _LOG2_FLOAT32 if single else _LOG2_FLOAT64
        # Estrin's scheme halves the degree at a time: Horner's chain of dependent steps was slower.
        terms = [_constant(vector, coefficient) for coefficient in coefficients]
        power = x
        while len(terms) > 1:
            pairs = zip(terms[::2], terms[1::2], strict=True)
            terms = [_emit_multiply_add(builder, odd, power, even) for even, odd in pairs]
            power = builder.fmul(power, power)
        polynomial = terms[0]
        return _emit_multiply_add(builder, polynomial, x, exponent)

    return lanes(lanes), emit


@_intrinsic
def all_inside(typing_context, lanes, lowest, highest):
    """Tell whether every number is in [lowest, highest]; NaN is not."""

    def emit(context, builder, sig, args):
        vector = args[0].type
        inside = None
        for comparison, bound in ((">=", args[1]), ("<=", args[2])):
            limit = context.cast(builder, bound, types.float64, lanes.dtype)
            limits = _broadcast(builder, vector, limit)
            compared = builder.fcmp_ordered(comparison, args[0], limits)
            inside = builder.and_(inside, compared) if inside else compared
        mask = builder.bitcast(inside, ir.IntType(vector.count))
        return builder.icmp_unsigned("==", mask, mask.type(-1))

    return types.boolean(lanes, types.float64, types.float64), emit
