"""Rows of a table as predictions: shared by every reader whose source has named columns."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.options import TableOptions, check_names
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import (
    PredictionPart,
    RejectedRow,
    describe_names,
    prediction_batch,
    raw_text,
)

CLASS_NAMES_KEY = b"class_names"
"""Key of a Parquet file's or an Arrow schema's metadata that holds the class names, as JSON."""


@dataclass(frozen=True)
class TableBatch:
    """Some rows of a table, with their positions (from 1) and the rows that have no columns."""

    columns: pa.RecordBatch
    row_numbers: npt.NDArray[np.int64]
    rejected: Sequence[RejectedRow] = field(default=())


@dataclass(frozen=True)
class Layout:
    """Which columns of a table hold what.

    ``class_columns`` is empty where the class probabilities are the list column ``class_probs``.
    """

    image_id: str
    class_probs: str
    class_columns: tuple[str, ...]
    class_names: tuple[str, ...] | None
    value_type: pa.DataType

    @property
    def columns(self) -> list[str]:
        """The names of the columns that are read."""
        return [self.image_id, *(self.class_columns or [self.class_probs])]


def table_part(
    source: str,
    schema: pa.Schema,
    options: TableOptions,
    read: Callable[[Layout], Iterator[TableBatch]],
    sha256: Callable[[], str],
    class_names_in_file: Sequence[str] | None = None,
) -> PredictionPart:
    """A table as a part of a stream.

    Raises:
        PredictionReadError: If the table lacks a column, or a column cannot hold what it should.
    """
    layout = find_columns(source, schema, options, class_names_in_file)

    def batches() -> Iterator[pa.RecordBatch]:
        for table_batch in read(layout):
            yield to_predictions(table_batch, layout)

    return PredictionPart(
        source=source,
        class_names=layout.class_names,
        value_type=layout.value_type,
        batches=batches,
        sha256=sha256,
    )


def find_columns(
    source: str,
    schema: pa.Schema,
    options: TableOptions,
    class_names_in_file: Sequence[str] | None = None,
) -> Layout:
    """Match the options with the table's columns."""
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    class_columns = _class_columns(schema.names, options)
    needed = [
        options.image_id_column,
        *(class_columns if options.one_column_a_class else {options.class_probs_column: ""}),
    ]
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise PredictionReadError(
            f"{source} has no column {missing[0]!r}: its columns are "
            f"{describe_names(schema.names)}; name the columns with the options image_id_column, "
            "class_probs_column, class_columns, class_column_prefix or class_column_pattern"
        )
    if options.one_column_a_class and len(class_columns) < 2:
        raise PredictionReadError(
            f"{source} has {len(class_columns)} class columns for {options!r}, expected at least "
            f"2: its columns are {describe_names(schema.names)}"
        )
    ambiguous = [name for name in needed if name in repeated]
    if ambiguous:
        raise PredictionReadError(f"{source} has more than one column {ambiguous[0]!r}")

    value_types = [
        _value_type(source, schema.field(name), in_list=not class_columns) for name in needed[1:]
    ]
    names = options.class_names or list(class_columns.values()) or class_names_in_file
    if names and class_columns and len(names) != len(class_columns):
        raise PredictionReadError(
            f"{source} has {len(class_columns)} class columns, but class_names has {len(names)}: "
            f"{describe_names(names)}"
        )
    return Layout(
        image_id=options.image_id_column,
        class_probs=options.class_probs_column,
        class_columns=tuple(class_columns),
        class_names=tuple(names) if names else None,
        value_type=pa.float64() if pa.float64() in value_types else pa.float32(),
    )


def class_names_in_metadata(source: str, schema: pa.Schema) -> list[str] | None:
    """The class names under ``CLASS_NAMES_KEY`` in a schema's metadata, if they are there.

    Raises:
        PredictionReadError: If the key does not hold a JSON list of names.
    """
    text = (schema.metadata or {}).get(CLASS_NAMES_KEY)
    if text is None:
        return None
    try:
        names = json.loads(text)
        check_names("class_names", names)
    except ValueError as error:
        raise PredictionReadError(
            f"{source}: the metadata key class_names is {text[:200]!r}, expected a JSON list of "
            f"names: {error}"
        ) from error
    return [str(name) for name in names]


def to_predictions(batch: TableBatch, layout: Layout) -> pa.RecordBatch:
    """Rows of a table as canonical columns, the rejected ones in their places."""
    columns = batch.columns
    image_id, reasons = _image_ids(columns.column(layout.image_id))
    if layout.class_columns:
        class_probs, broken = _from_class_columns(columns, layout)
    else:
        class_probs, broken = _from_list_column(columns.column(layout.class_probs), layout)
    for row, reason in broken.items():
        reasons.setdefault(row, reason)
    if not reasons and not batch.rejected:
        return prediction_batch(image_id, class_probs, batch.row_numbers)

    broken_rows = sorted(reasons)
    shown = columns.select(layout.columns).take(pa.array(broken_rows, pa.int64())).to_pylist()
    raw = dict(zip(broken_rows, shown, strict=True))
    whole = prediction_batch(
        image_id,
        class_probs,
        batch.row_numbers,
        reason=pa.array([reasons.get(row) for row in range(len(columns))], pa.string()),
        raw=pa.array(
            [raw_text(raw[row]) if row in raw else None for row in range(len(columns))],
            pa.string(),
        ),
    )
    return _insert_rejected(whole, batch.rejected)


def _insert_rejected(batch: pa.RecordBatch, rejected: Sequence[RejectedRow]) -> pa.RecordBatch:
    if not rejected:
        return batch
    refused = prediction_batch(
        pa.nulls(len(rejected), batch.column("image_id").type),
        pa.nulls(len(rejected), batch.column("class_probs").type),
        np.array([row.row_number for row in rejected], dtype=np.int64),
        reason=pa.array([row.reason for row in rejected], pa.string()),
        raw=pa.array([raw_text(row.raw) for row in rejected], pa.string()),
    )
    table = pa.Table.from_batches([batch, refused]).sort_by("row_number")
    return table.combine_chunks().to_batches()[0]


def _class_columns(names: Sequence[str], options: TableOptions) -> dict[str, str]:
    """Class columns with the class name each one stands for, in class order."""
    if options.class_columns is not None:
        return {name: name for name in options.class_columns}
    others = [name for name in names if name != options.image_id_column]
    if options.class_column_prefix is not None:
        prefix = options.class_column_prefix
        return {name: name.removeprefix(prefix) for name in others if name.startswith(prefix)}
    if options.class_column_pattern is not None:
        pattern = re.compile(options.class_column_pattern)
        found = {name: match for name in others if (match := pattern.fullmatch(name))}
        return {
            name: (match.group(1) or name) if pattern.groups else name
            for name, match in found.items()
        }
    return {}


def _value_type(source: str, column: pa.Field, *, in_list: bool) -> pa.DataType:
    """The precision a column's numbers are kept in."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_text(kind) or pa.types.is_null(kind):
        return pa.float64()
    if _is_list(kind) == in_list:
        number = kind.value_type if in_list else kind
        if pa.types.is_float16(number) or pa.types.is_float32(number):
            return pa.float32()
        if (
            pa.types.is_float64(number)
            or pa.types.is_integer(number)
            or pa.types.is_decimal(number)
            or pa.types.is_null(number)
            or _is_text(number)
        ):
            return pa.float64()
    expected = "a list of class probabilities" if in_list else "one class probability a row"
    raise PredictionReadError(
        f"{source}: column {column.name!r} is of type {column.type}, expected {expected}; "
        "class_probs_column names a list column, the class_column options columns of one class"
    )


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _image_ids(column: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Ids as text, and the reasons of the rows that have none; empty text counts as null."""
    image_id = _as_text(column)
    reasons: dict[int, str] = {}
    for row in _rows_where(pc.fill_null(pc.equal(image_id, ""), fill_value=True)):
        undecoded = not image_id[row].is_valid and column[row].is_valid
        reasons[row] = Reason.IMAGE_ID_NOT_UTF8 if undecoded else Reason.IMAGE_ID_NULL
    return image_id, reasons


def _rows_where(condition: pa.Array) -> list[int]:
    return np.flatnonzero(condition.to_numpy(zero_copy_only=False)).tolist()


def _as_text(values: pa.Array) -> pa.Array:
    """Values as text; bytes that are not UTF-8 become null."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        # One value that is not UTF-8 must not cost the others: decode them one by one.
        return pa.array([_decode(value) for value in values.to_pylist()], pa.string())


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _from_class_columns(columns: pa.RecordBatch, layout: Layout) -> tuple[pa.Array, dict[int, str]]:
    """One column a class, as a list column of the same rows."""
    reasons: dict[int, str] = {}
    matrix = np.empty(
        (columns.num_rows, len(layout.class_columns)), dtype=layout.value_type.to_pandas_dtype()
    )
    for position, name in enumerate(layout.class_columns):
        source = columns.column(name)
        numbers = _as_numbers(source, layout.value_type)
        if numbers.null_count:
            for row in _rows_where(numbers.is_null()):
                reasons.setdefault(row, _null_reason(source[row]))
        matrix[:, position] = numbers.to_numpy(zero_copy_only=False)
    offsets = np.arange(columns.num_rows + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel())), reasons


def _from_list_column(column: pa.Array, layout: Layout) -> tuple[pa.Array, dict[int, str]]:
    """A list column of any kind, or text that holds a list, as a list column of numbers."""
    reasons: dict[int, str] = {}
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        column = _split_text(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(layout.value_type))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(lengths == 0).tolist():
        reasons[row] = Reason.CLASS_PROBS_EMPTY if column[row].is_valid else Reason.CLASS_PROBS_NULL
    values = pc.list_flatten(column)
    numbers = _as_numbers(values, layout.value_type)
    offsets = np.zeros(len(column) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    if numbers.null_count:
        positions = _rows_where(numbers.is_null())
        rows_of = np.searchsorted(offsets, positions, side="right") - 1
        for row, position in zip(rows_of.tolist(), positions, strict=True):
            reasons.setdefault(row, _null_reason(values[position]))
    return pa.ListArray.from_arrays(pa.array(offsets), numbers), reasons


def _null_reason(value: pa.Scalar) -> str:
    return Reason.PROBABILITY_NOT_NUMBER if value.is_valid else Reason.PROBABILITY_NULL


def _as_numbers(values: pa.Array, value_type: pa.DataType) -> pa.Array:
    """Numbers in the wanted precision; text that is no number becomes null."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if _is_text(values.type):
        text: Any = pl.from_arrow(_as_text(values))
        return text.str.strip_chars().cast(pl.Float64, strict=False).to_arrow()
    return values.cast(value_type, safe=False)


def _split_text(column: pa.Array) -> pa.Array:
    """Text such as ``[0.1, 0.9]`` or ``0.1 0.9``, as NumPy and pandas write lists into CSV."""
    text: Any = pl.from_arrow(_as_text(column))
    inner = text.str.strip_chars(" \t\r\n[]()").str.replace_all(r"[\s,;]+", " ")
    parts = pl.DataFrame({"inner": inner}).select(
        pl.when(pl.col("inner") == "")
        .then(pl.lit([], dtype=pl.List(pl.String)))
        .otherwise(pl.col("inner").str.split(" "))
    )
    return parts.to_series().to_arrow()
