"""Decimal numbers in bytes, read inside Numba kernels: the same bits as Python's ``float``.

The method is that of D. Lemire, Number parsing at a gigabyte per second (2021): the decimal digits
times 128 bits of the power of ten. Where these bits do not decide the rounding, and for a number
that is not written as most are, the answer is that it is not known.
"""

import math

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.compilation import compiled

# Numba has no types, and the bodies of its kernels are not ordinary Python.
# ruff: noqa: ANN001, ANN201, PLR0911, PLR0912, PLR0915, ANN202
# pyright: reportMissingParameterType=false

_SMALLEST, _LARGEST = -300, 280
"""Powers of ten in the table; numbers of 19 digits with them are neither subnormal nor infinite."""


def _powers_of_five() -> npt.NDArray[np.uint64]:
    """The first 128 bits of each power, from the highest that is set, as two numbers."""
    powers: list[tuple[int, int]] = []
    for exponent in range(_SMALLEST, _LARGEST + 1):
        power = 5 ** abs(exponent)
        if exponent >= 0:
            shift = 128 - power.bit_length()
            bits = power << shift if shift >= 0 else power >> -shift
        else:
            # Rounded up, as the number is not whole.
            bits = (1 << (power.bit_length() + 255)) // power
            bits = (bits >> (bits.bit_length() - 128)) + 1
        powers.append((bits >> 64, bits & (2**64 - 1)))
    return np.array(powers, dtype=np.uint64)


_POWERS_OF_FIVE = _powers_of_five()
_POWERS_OF_TEN = np.array([float(10**exponent) for exponent in range(23)])

_MOST_DIGITS = 19
_EXACT_INTEGER = np.uint64(2**53)
_HALF_WORD = np.uint64(32)
_LOW_HALF = np.uint64(2**32 - 1)
_ALL_BITS = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


@compiled
def parse_decimal(text, start, stop):
    """A number and whether it is known: all of the text must be digits, a point, an exponent.

    ``-0`` without a point or an exponent is 0.0, as Python has no such integer.
    """
    position = start
    is_negative = False
    if position < stop and (text[position] == ord("-") or text[position] == ord("+")):
        is_negative = text[position] == ord("-")
        position += 1
    digits = np.uint64(0)
    significant = 0
    exponent = 0
    has_digits = False
    is_integer = True
    behind_point = False
    while position < stop:
        character = text[position]
        if ord("0") <= character <= ord("9"):
            has_digits = True
            if significant or character != ord("0"):
                significant += 1
                if significant > _MOST_DIGITS:
                    return math.nan, False
            digits = np.uint64(digits * np.uint64(10) + np.uint64(character - ord("0")))
            if behind_point:
                exponent -= 1
        elif character == ord(".") and not behind_point:
            behind_point = True
            is_integer = False
        else:
            break
        position += 1
    if not has_digits:
        return math.nan, False
    if position < stop:
        if text[position] != ord("e") and text[position] != ord("E"):
            return math.nan, False
        is_integer = False
        position += 1
        below = False
        if position < stop and (text[position] == ord("-") or text[position] == ord("+")):
            below = text[position] == ord("-")
            position += 1
        if position == stop or stop - position > 4:
            return math.nan, False
        written = 0
        while position < stop:
            if not ord("0") <= text[position] <= ord("9"):
                return math.nan, False
            written = written * 10 + (text[position] - ord("0"))
            position += 1
        exponent += -written if below else written
    if digits == np.uint64(0):
        return (-0.0 if is_negative and not is_integer else 0.0), True
    if digits <= _EXACT_INTEGER and -22 <= exponent <= 22:
        number = float(digits)
        number = (
            number / _POWERS_OF_TEN[-exponent]
            if exponent < 0
            else (number * _POWERS_OF_TEN[exponent])
        )
    else:
        number = _rounded(digits, exponent)
        if math.isnan(number):
            return math.nan, False
    return (-number if is_negative else number), True


@compiled
def _product(first, second):
    """The upper and the lower 64 bits of a product."""
    first_high, first_low = np.uint64(first >> _HALF_WORD), np.uint64(first & _LOW_HALF)
    second_high, second_low = np.uint64(second >> _HALF_WORD), np.uint64(second & _LOW_HALF)
    low = np.uint64(first_low * second_low)
    middle = np.uint64(np.uint64(first_high * second_low) + np.uint64(low >> _HALF_WORD))
    other = np.uint64(np.uint64(first_low * second_high) + np.uint64(middle & _LOW_HALF))
    upper = np.uint64(
        np.uint64(first_high * second_high)
        + np.uint64(np.uint64(middle >> _HALF_WORD) + np.uint64(other >> _HALF_WORD))
    )
    return upper, np.uint64(np.uint64(other << _HALF_WORD) | np.uint64(low & _LOW_HALF))


@compiled
def _rounded(digits, exponent):
    """The float nearest to ``digits`` times a power of ten; NaN if that takes more bits to tell."""
    if exponent < _SMALLEST or exponent > _LARGEST:
        return math.nan
    zeros = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if np.uint64(digits >> np.uint64(64 - shift)) == np.uint64(0):
            digits = np.uint64(digits << np.uint64(shift))
            zeros += shift
    high, low = _POWERS_OF_FIVE[exponent - _SMALLEST]
    upper, lower = _product(digits, high)
    # The lower bits of the power count only where a carry from them can reach the rounding.
    if np.uint64(upper & np.uint64(0x1FF)) == np.uint64(0x1FF):
        further, _ = _product(digits, low)
        lower = np.uint64(lower + further)
        if lower < further:
            upper = np.uint64(upper + _ONE)
    if lower == _ALL_BITS or lower <= _ONE:
        # Between two floats, or so near that it may be.
        return math.nan
    top = np.uint64(upper >> np.uint64(63))
    kept = np.uint64(upper >> np.uint64(top + np.uint64(9)))
    kept = np.uint64(np.uint64(kept + np.uint64(kept & _ONE)) >> _ONE)
    # The binary exponent of the power of ten; 217706 / 2^16 is log2 10.
    power = ((217_706 * exponent) >> 16) + 63 + np.int64(top) - zeros
    return math.ldexp(float(kept), power - 52)
