"""Columns of a table as canonical columns, and why some of their rows hold no such value.

Each function takes columns of any type that can hold what it wants and gives one array, and the
``Reason`` of every row (by position in the batch) that does not hold it. Nothing here goes row by
row but over those rows. Only text needs polars, which takes its time to load.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.readers.objects import transform_scores
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.stream import boxes_array


def may_be_ids(kind: pa.DataType) -> bool:
    """True for the type of a column that may hold ids, or names of classes.

    They are text, UUIDs or whole numbers, which many tools write as floats or decimals.
    """
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_uuid = isinstance(kind, pa.UuidType)
    return is_uuid or is_text(kind) or is_number(kind) or pa.types.is_null(kind)


def read_image_ids(column: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Ids as text, and the reasons of the rows that have none; empty text counts as null."""
    image_id = as_text(column)
    reasons: dict[int, str] = {}
    for row in _rows_where(pc.fill_null(pc.equal(image_id, ""), fill_value=True)):
        if image_id[row].is_valid or not column[row].is_valid:
            reasons[row] = Reason.IMAGE_ID_NULL
        else:
            number = is_number(_without_dictionary(column).type)
            reasons[row] = Reason.IMAGE_ID_NOT_TEXT if number else Reason.IMAGE_ID_NOT_UTF8
    return image_id, reasons


def read_class_columns(
    columns: Sequence[pa.Array], value_type: pa.DataType
) -> tuple[pa.Array, dict[int, str]]:
    """One column per class, as a list column of the same rows."""
    reasons: dict[int, str] = {}
    matrix = np.empty((len(columns[0]), len(columns)), dtype=numpy_type(value_type))
    for position, numbers in enumerate(_columns_as_numbers(columns, value_type)):
        if numbers.null_count:
            for row in _rows_where(numbers.is_null()):
                reasons.setdefault(row, number_fault(columns[position][row]))
        matrix[:, position] = numbers.to_numpy(zero_copy_only=False)
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel())), reasons


def read_class_lists(column: pa.Array, value_type: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """A list column of any kind, or text that holds a list, as a list column of numbers."""
    reasons: dict[int, str] = {}
    column = _without_dictionary(column)
    if is_text(column.type):
        column = _split_text(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(value_type))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(lengths == 0).tolist():
        reasons[row] = Reason.CLASS_PROBS_EMPTY if column[row].is_valid else Reason.CLASS_PROBS_NULL
    values = pc.list_flatten(column)
    numbers = as_numbers(values, value_type)
    offsets = np.zeros(len(column) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    if numbers.null_count:
        positions = _rows_where(numbers.is_null())
        rows_of = np.searchsorted(offsets, positions, side="right") - 1
        for row, position in zip(rows_of.tolist(), positions, strict=True):
            reasons.setdefault(row, number_fault(values[position]))
    return pa.ListArray.from_arrays(pa.array(offsets), numbers), reasons


def complete_pairs(class_probs: pa.ListArray) -> pa.ListArray:
    """Each single probability p as the class probabilities [1 - p, p]; other lists as they are."""
    lengths = pc.fill_null(pc.list_value_length(class_probs), 0).to_numpy(zero_copy_only=False)
    numbers = class_probs.flatten().to_numpy(zero_copy_only=False)
    is_single = np.repeat(lengths == 1, lengths)
    pairs = np.repeat(numbers, np.where(is_single, 2, 1))
    firsts = np.flatnonzero(np.repeat(is_single, np.where(is_single, 2, 1)))[::2]
    # A probability above 1 is refused for what it is, not for the negative rest.
    pairs[firsts] = np.clip(1 - pairs[firsts], 0, 1)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(np.where(lengths == 1, 2, lengths), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(pairs), mask=class_probs.is_null())


def read_scores(column: pa.Array, transform: str | None) -> tuple[pa.Array, dict[int, str]]:
    """The detector's own scores as probabilities; their range is judged later."""
    numbers = as_numbers(column, pa.float64())
    missing = numbers.is_null().to_numpy(zero_copy_only=False)
    reasons: dict[int, str] = {
        row: Reason.SCORE_NOT_NUMBER if column[row].is_valid else Reason.SCORE_NULL
        for row in np.flatnonzero(missing).tolist()
    }
    scores = transform_scores(numbers.to_numpy(zero_copy_only=False), transform)
    not_finite = np.flatnonzero(~missing & ~np.isfinite(scores)).tolist()
    return pa.array(scores, mask=missing), reasons | dict.fromkeys(
        not_finite, Reason.SCORE_NOT_FINITE
    )


def read_categories(
    column: pa.Array, known: Sequence[str] | None, *, required: bool
) -> tuple[pa.Array, dict[int, str]]:
    """Names of classes as text: any where ``known`` is None, else one of them.

    A row may do without one unless it is ``required``, but not with one that is not UTF-8.
    """
    names = as_text(column)
    unknown = names.is_null() if required else pc.and_(names.is_null(), column.is_valid())
    if known is not None:
        others = pc.invert(pc.is_in(names, pa.array(known, pa.string())))
        unknown = pc.or_(unknown, pc.and_(names.is_valid(), others))
    return names, dict.fromkeys(_rows_where(unknown), Reason.UNKNOWN_CATEGORY)


def read_boxes(
    columns: Sequence[pa.Array], fields: Sequence[str], kind: str, *, required: bool
) -> tuple[pa.Array, dict[int, str]]:
    """Boxes from one column or from four columns of numbers.

    A row may do without a box unless it is ``required``, but not with a broken one.

    Args:
        columns: A column of lists or objects, or four columns.
        fields: The fields of a column of objects; empty for any other.
        kind: The meaning of the four numbers, as the option ``box`` names it.
        required: Whether a row without a box is broken.
    """
    if fields:
        inner = [pc.struct_field(columns[0], name) for name in fields]
        boxes, missing = _from_box_columns(inner)
    elif len(columns) == 1:
        boxes, missing = _from_box_column(columns[0])
    else:
        boxes, missing = _from_box_columns(columns)
    if required:
        missing[:] = False
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "xyxy":
            boxes[:, 2:] -= boxes[:, :2]
        elif kind == "xcycwh":
            boxes[:, :2] -= boxes[:, 2:] / 2
    broken = ~missing & ~np.isfinite(boxes).all(axis=1)
    negative = ~missing & ~broken & (boxes[:, 2:] < 0).any(axis=1)
    reasons: dict[int, str] = {
        **dict.fromkeys(np.flatnonzero(broken).tolist(), Reason.BBOX_NOT_FOUR_NUMBERS),
        **dict.fromkeys(np.flatnonzero(negative).tolist(), Reason.BBOX_NEGATIVE),
    }
    return boxes_array(boxes, ~missing & ~broken & ~negative), reasons


def numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    """The type of NumPy's for a type of numbers; pyarrow before 26 asks pandas for it."""
    return pa.array([], kind).to_numpy(zero_copy_only=False).dtype


def is_number(kind: pa.DataType) -> bool:
    """True for the type of a column of numbers."""
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)


def is_text(kind: pa.DataType) -> bool:
    """True for the type of a column that holds text, or bytes that may be text."""
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """True for the type of a column of lists."""
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def without_views(column: pa.Array) -> pa.Array:
    """The column with its text as Arrow can take rows of it: polars has text as views."""
    kind = _type_without_views(column.type)
    return column if kind == column.type else column.cast(kind)


def _type_without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        inner = [kind.field(position) for position in range(kind.num_fields)]
        return pa.struct([(field.name, _type_without_views(field.type)) for field in inner])
    if pa.types.is_large_list(kind):
        return pa.large_list(_type_without_views(kind.value_type))
    return kind


def _from_box_column(
    column: pa.Array,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Boxes ``(n, 4)``, NaN where there are no four numbers, and which rows are null."""
    column = _without_dictionary(column)
    if is_text(column.type):
        column = _split_text(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.float64()))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    numbers = as_numbers(pc.list_flatten(column), pa.float64()).to_numpy(zero_copy_only=False)
    boxes = np.full((len(column), 4), np.nan)
    starts = np.cumsum(lengths) - lengths
    boxes[lengths == 4] = numbers[starts[lengths == 4, None] + np.arange(4)]
    return boxes, np.array(column.is_null())


def _from_box_columns(
    columns: Sequence[pa.Array],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Boxes ``(n, 4)``, NaN where there is no number, and which rows are null in all columns."""
    numbers = [as_numbers(column, pa.float64()) for column in columns]
    boxes = np.column_stack([column.to_numpy(zero_copy_only=False) for column in numbers])
    missing = [column.is_null().to_numpy(zero_copy_only=False) for column in columns]
    return boxes, np.all(missing, axis=0)


def as_text(values: pa.Array) -> pa.Array:
    """Values as text; bytes that are not UTF-8 and numbers that are not whole become null."""
    values = _without_dictionary(values)
    if isinstance(values.type, pa.UuidType):
        return _uuid_text(values)
    if pa.types.is_floating(values.type):
        return _whole(values).cast(pa.string())
    if pa.types.is_decimal(values.type):
        rounded = pc.round(values)
        whole = pc.if_else(pc.equal(rounded, values), rounded, pa.scalar(None, values.type))
        # As text, a whole number of a decimal column may still have a fraction of zeros.
        return pc.replace_substring_regex(whole.cast(pa.string()), r"\.0+$", "")
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    # What says that it is text need not be: only as bytes is it looked at.
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    elif pa.types.is_large_string(values.type):
        values = values.cast(pa.large_binary())
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        # One value that is not UTF-8 must not cost the others: decode them one by one.
        return pa.array([_decode(value) for value in values.to_pylist()], pa.string())


def _whole(values: pa.Array) -> pa.Array:
    """Floats as integers, null where they are not whole or too large to be what was written."""
    largest = 2 ** (np.finfo(values.type.to_pandas_dtype()).nmant + 1) - 1
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        is_whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= largest)
    return pa.array(np.where(is_whole, numbers, 0).astype(np.int64), mask=~is_whole)


def _uuid_text(values: pa.Array) -> pa.Array:
    """UUIDs as the 36 characters that everybody writes."""
    storage = values.storage
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    stored = np.frombuffer(storage.buffers()[1], np.uint8)
    octets = stored[storage.offset * 16 : (storage.offset + len(storage)) * 16].reshape(-1, 16)
    text = digits[np.stack([octets >> 4, octets & 15], axis=-1)].reshape(-1, 32)
    text = np.ascontiguousarray(np.insert(text, [8, 12, 16, 20], ord("-"), axis=1))
    offsets = np.arange(len(text) + 1, dtype=np.int32) * 36
    whole = pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(text))
    return pc.if_else(storage.is_valid(), whole, pa.scalar(None, pa.string()))


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def as_numbers(values: pa.Array, value_type: pa.DataType) -> pa.Array:
    """Numbers in the wanted precision; text that is no number becomes null."""
    (numbers,) = _columns_as_numbers([values], value_type)
    return numbers


def _columns_as_numbers(columns: Sequence[pa.Array], value_type: pa.DataType) -> Iterator[pa.Array]:
    """``as_numbers`` of several columns: polars needs 1 ms to begin, for one as for all of them."""
    values = [_without_dictionary(column) for column in columns]
    texts: dict[str, Any] = {
        str(position): as_text(column)
        for position, column in enumerate(values)
        if is_text(column.type)
    }
    parsed = _parsed(texts) if texts else {}
    for position, column in enumerate(values):
        if str(position) in texts:
            yield parsed[str(position)]
            continue
        numbers = _widened(column) if pa.types.is_float16(column.type) else column
        yield numbers.cast(value_type, safe=False)


def _parsed(texts: dict[str, Any]) -> dict[str, pa.Array]:
    import polars as pl

    numbers = pl.all().str.strip_chars().cast(pl.Float64, strict=False)
    parsed = pl.DataFrame({name: pl.from_arrow(text) for name, text in texts.items()})
    return {column.name: column.to_arrow() for column in parsed.select(numbers)}


def _widened(values: pa.HalfFloatArray) -> pa.FloatArray:
    # Few files have half precision: only they wait for the compiler.
    from dagster_active_learning.acquisition.half_precision import widen_half

    stored = np.frombuffer(values.buffers()[1] or b"", np.float16)
    numbers = widen_half(stored[values.offset : values.offset + len(values)])
    return pa.array(numbers, mask=np.array(values.is_null()) if values.null_count else None)


def _split_text(column: pa.Array) -> pa.Array:
    """Text such as ``[0.1, 0.9]`` or ``0.1 0.9``, as NumPy and pandas write lists into CSV."""
    import polars as pl

    text: Any = pl.from_arrow(as_text(column))
    inner = text.str.strip_chars(" \t\r\n[]()").str.replace_all(r"[\s,;]+", " ")
    parts = pl.DataFrame({"inner": inner}).select(
        pl.when(pl.col("inner") == "")
        .then(pl.lit([], dtype=pl.List(pl.String)))
        .otherwise(pl.col("inner").str.split(" "))
    )
    return parts.to_series().to_arrow()


def _without_dictionary(column: pa.Array) -> pa.Array:
    """The column's values themselves; polars has its categories as views, Arrow takes none."""
    if not pa.types.is_dictionary(column.type):
        return column
    names = column.dictionary
    if pa.types.is_string_view(names.type):
        names = names.cast(pa.string())
    return pa.DictionaryArray.from_arrays(column.indices, names).dictionary_decode()


def _rows_where(condition: pa.Array) -> list[int]:
    return np.flatnonzero(condition.to_numpy(zero_copy_only=False)).tolist()


def number_fault(value: pa.Scalar) -> str:
    """The reason why a class probability that ``as_numbers`` makes null is none."""
    return Reason.PROBABILITY_NOT_NUMBER if value.is_valid else Reason.PROBABILITY_NULL
