"""Rows of a table as predictions: shared by every reader whose source has named columns."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.columns import (
    complete_pairs,
    is_number,
    is_text,
    may_be_ids,
    read_boxes,
    read_categories,
    read_class_columns,
    read_class_lists,
    read_image_ids,
    read_scores,
)
from dagster_active_learning.readers.options import FixedColumns, TableOptions, whole_name
from dagster_active_learning.readers.quarantine import Reason, RejectedRow, with_rejected
from dagster_active_learning.readers.stream import PredictionPart, prediction_batch
from dagster_active_learning.readers.values import BoxFields, box_fields
from dagster_active_learning.text import describe_names, is_utf8, raw_text

MOST_COLUMNS = 50_000
"""More columns are no table of predictions: each takes some kB in a parser, and their time."""

CLASS_NAMES_KEY = b"class_names"
"""Key of a Parquet file's or an Arrow schema's metadata that holds the class names, as JSON."""


@dataclass(frozen=True)
class TableBatch:
    """Rows of a table, with their positions (from 1) and the rows that have no columns."""

    columns: pa.RecordBatch
    row_numbers: npt.NDArray[np.int64]
    rejected: Sequence[RejectedRow] = field(default=())


@dataclass(frozen=True)
class Layout:
    """The columns of a table by what they hold.

    ``class_columns`` is empty where the class probabilities are the list column ``class_probs``,
    which is None where the source has none; ``bbox`` is one column or four of numbers, ``box`` the
    meaning of the numbers; ``box_fields`` are the fields of one column of objects.
    ``categories`` are the names a category may have, or None where it may have any. ``is_fixed``
    says that the columns are ``FixedColumns``, ``is_binary`` that a row has a single probability.
    """

    image_id: str
    class_probs: str | None
    class_columns: tuple[str, ...]
    class_names: tuple[str, ...] | None
    names_in_file: tuple[str, ...] | None
    value_type: pa.DataType
    score: str | None
    category: str | None
    categories: tuple[str, ...] | None
    bbox: tuple[str, ...]
    box: str
    box_fields: tuple[str, ...]
    score_transform: str | None
    is_fixed: bool
    is_binary: bool

    @property
    def probabilities(self) -> tuple[str, ...]:
        """The names of the columns with class probabilities."""
        if self.class_probs is None:
            return self.class_columns
        return (self.class_probs,)

    @property
    def columns(self) -> list[str]:
        """The names of the columns that are read."""
        others = [name for name in (self.score, self.category) if name is not None]
        return list(dict.fromkeys([self.image_id, *self.probabilities, *others, *self.bbox]))


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
        names_in_file=layout.names_in_file,
        value_type=layout.value_type,
        batches=batches,
        sha256=sha256,
        bbox_unit=options.bbox_unit if layout.bbox else None,
    )


def find_columns(
    source: str,
    schema: pa.Schema,
    options: TableOptions,
    class_names_in_file: Sequence[str] | None = None,
) -> Layout:
    """Match the options with the table's columns."""
    # pyarrow makes the list of names anew each time it is asked for.
    columns = Counter(schema.names)
    check_column_count(source, len(schema))
    class_columns = find_class_columns(schema.names, options)
    probs_column = options.class_probs_column
    if options.single_probability and _is_single(schema, probs_column, options):
        class_columns = {probs_column: probs_column}
    probs_column = None
    if (
        not class_columns
        and not options.one_column_per_class
        and (options.score_column is None or options.class_probs_column in columns)
    ):
        probs_column = options.class_probs_column
    probabilities = list(class_columns) if probs_column is None else [probs_column]
    bbox = options.bbox_columns or ([options.bbox_column] if options.bbox_column else [])
    others = [name for name in (options.score_column, options.category_column) if name]
    needed = [options.image_id_column, *probabilities, *others, *bbox]
    missing = [name for name in needed if name not in columns]
    if missing:
        advice = (
            f"expected all of {', '.join(needed)}"
            if isinstance(options, FixedColumns)
            else "name the columns with the options image_id_column, class_probs_column, "
            "class_columns, class_column_prefix, class_column_pattern, score_column, "
            "category_column, bbox_column or bbox_columns"
        )
        raise PredictionReadError(
            f"{source} has no column {missing[0]!r}: its columns are "
            f"{describe_names(schema.names)}; {advice}"
        )
    n_columns = len(class_columns)
    if options.one_column_per_class and (n_columns != 1 if options.is_binary else n_columns < 2):
        expected = "1 that has a single probability" if options.is_binary else "at least 2"
        raise PredictionReadError(
            f"{source} has {n_columns} class columns for {options!r}, expected {expected}: its "
            f"columns are {describe_names(schema.names)}"
        )
    ambiguous = [name for name in needed if columns[name] > 1]
    if ambiguous:
        raise PredictionReadError(f"{source} has more than one column {ambiguous[0]!r}")
    _check_id_column(source, schema.field(options.image_id_column))

    value_types = [
        _value_type(source, schema.field(name), in_list=not class_columns) for name in probabilities
    ]
    _check_object_columns(source, schema, options)
    box = _box_of(source, schema, options)
    names_in_file = list(class_columns.values()) or class_names_in_file
    if options.is_binary and class_columns:
        (name,) = class_columns.values()
        names_in_file = [f"not {name}", name]
    if names_in_file and len(set(names_in_file)) != len(names_in_file):
        raise PredictionReadError(
            f"{source} has the classes {describe_names(names_in_file)} by {options!r}: expected "
            "each name once"
        )
    given = list(options.class_names or ())
    if given and class_names_in_file and not class_columns and given != list(class_names_in_file):
        raise PredictionReadError(
            f"{source} says that its classes are {describe_names(class_names_in_file)}, but the "
            f"option class_names is {describe_names(given)}"
        )
    names = options.class_names or names_in_file
    if names and names_in_file and class_columns and len(names) != len(names_in_file):
        raise PredictionReadError(
            f"{source} has {len(names_in_file)} classes in columns, but class_names has "
            f"{len(names)}: {describe_names(names)}"
        )
    return Layout(
        image_id=options.image_id_column,
        class_probs=probs_column,
        class_columns=tuple(class_columns),
        class_names=tuple(names) if names else None,
        names_in_file=tuple(names_in_file) if names_in_file else None,
        value_type=pa.float64() if pa.float64() in value_types else pa.float32(),
        score=options.score_column,
        category=options.category_column,
        categories=tuple(given) if given else None,
        bbox=tuple(bbox),
        box=box.kind,
        box_fields=box.names,
        score_transform=options.score_transform,
        is_fixed=isinstance(options, FixedColumns),
        is_binary=options.is_binary,
    )


def check_column_count(source: object, columns: int) -> None:
    """Raise PredictionReadError if a table has more columns than memory should hold."""
    if columns > MOST_COLUMNS:
        raise PredictionReadError(
            f"{source} has more than {MOST_COLUMNS:,} columns: expected a table of predictions"
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
        listed: Any = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    # The classes of scikit-learn are often integers.
    fits = isinstance(listed, list) and all(type(name) in (str, int) for name in listed)
    names = [str(name) for name in listed] if fits else []
    if not names or len(set(names)) != len(names) or not all(map(is_utf8, names)):
        raise PredictionReadError(
            f"{source}: the metadata key class_names is {text[:200]!r}, expected a JSON list of "
            'different texts such as ["cat", "dog"]'
        )
    return names


def to_predictions(batch: TableBatch, layout: Layout) -> pa.RecordBatch:
    """Rows of a table as canonical columns, the rejected ones in their places."""
    columns = batch.columns
    canonical: dict[str, pa.Array] = {}
    canonical["image_id"], reasons = read_image_ids(columns.column(layout.image_id))
    broken: dict[int, str] = {}
    if layout.class_columns:
        canonical["class_probs"], broken = read_class_columns(
            [columns.column(name) for name in layout.class_columns], layout.value_type
        )
    elif layout.class_probs is not None:
        canonical["class_probs"], broken = read_class_lists(
            columns.column(layout.class_probs), layout.value_type
        )
    if layout.is_binary and "class_probs" in canonical:
        canonical["class_probs"] = complete_pairs(canonical["class_probs"])
    if layout.score is not None:
        canonical["score"], wrong = read_scores(
            columns.column(layout.score), layout.score_transform
        )
        # Where a detector gives scores, a row needs one of the two: class probabilities or a score.
        without = _without_class_probs(columns, layout)
        broken = {row: why for row, why in broken.items() if not without[row]}
        broken |= {
            row: why for row, why in wrong.items() if why != Reason.SCORE_NULL or without[row]
        }
        if "class_probs" in canonical and without.any():
            canonical["class_probs"] = pc.if_else(pa.array(without), None, canonical["class_probs"])
    if layout.category is not None:
        canonical["category"], wrong = read_categories(
            columns.column(layout.category), layout.categories, required=layout.is_fixed
        )
        broken = wrong | broken
    if layout.bbox:
        canonical["bbox"], wrong = read_boxes(
            [columns.column(name) for name in layout.bbox],
            layout.box_fields,
            layout.box,
            required=layout.is_fixed,
        )
        broken = wrong | broken
    for row, reason in broken.items():
        reasons.setdefault(row, reason)
    if not reasons and not batch.rejected:
        return prediction_batch(len(columns), **canonical, row_number=pa.array(batch.row_numbers))

    # Value by value: Arrow takes no rows from the text columns of polars, which are views.
    raw = {
        row: {name: _shown(columns.column(name)[row]) for name in layout.columns}
        for row in sorted(reasons)
    }
    whole = prediction_batch(
        len(columns),
        **canonical,
        row_number=pa.array(batch.row_numbers),
        reason=pa.array([reasons.get(row) for row in range(len(columns))], pa.string()),
        raw=pa.array(
            [raw_text(raw[row]) if row in raw else None for row in range(len(columns))],
            pa.string(),
        ),
    )
    return with_rejected(whole, batch.rejected)


def _without_class_probs(columns: pa.RecordBatch, layout: Layout) -> npt.NDArray[np.bool_]:
    """True for the rows that have no class probability at all."""
    without = np.ones(len(columns), dtype=np.bool_)
    for name in layout.probabilities:
        without &= columns.column(name).is_null().to_numpy(zero_copy_only=False)
    return without


def _shown(value: pa.Scalar) -> Any:
    r"""A value for the quarantine table: text where it is bytes, as ``\xff`` what is not UTF-8."""
    try:
        shown = value.as_py()
    except UnicodeDecodeError:
        if not is_text(value.type):
            return f"{value.type} with text that is not UTF-8"
        shown = value.as_buffer().to_pybytes()
    return shown.decode("utf-8", errors="backslashreplace") if isinstance(shown, bytes) else shown


def find_class_columns(names: Sequence[str], options: TableOptions) -> dict[str, str]:
    """Class columns with the class name each one stands for, in class order."""
    if options.class_columns is not None:
        return {name: name for name in options.class_columns}
    taken = {
        options.image_id_column,
        options.score_column,
        options.category_column,
        options.bbox_column,
        *(options.bbox_columns or ()),
    }
    others = [name for name in names if name not in taken]
    if options.class_column_prefix is not None:
        prefix = options.class_column_prefix
        return {name: name.removeprefix(prefix) for name in others if name.startswith(prefix)}
    if options.class_column_pattern is not None:
        pattern = whole_name(options.class_column_pattern)
        matching = pl.Series(others, dtype=pl.String)
        matching = matching.filter(matching.str.contains(pattern))
        groups = matching.str.extract(pattern, 1)
        return {name: group or name for name, group in zip(matching, groups, strict=True)}
    return {}


def _is_single(schema: pa.Schema, column: str, options: TableOptions) -> bool:
    """True for a column of numbers, not of lists, that has the single probabilities."""
    if options.one_column_per_class or schema.names.count(column) != 1:
        return False
    return is_number(schema.field(column).type)


def _check_id_column(source: str, column: pa.Field) -> None:
    if not may_be_ids(column.type):
        raise PredictionReadError(
            f"{source}: column {column.name!r} is of type {column.type}, expected image ids: text "
            "or integers"
        )


def _value_type(source: str, column: pa.Field, *, in_list: bool) -> pa.DataType:
    """The precision a column's numbers are kept in."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind) or pa.types.is_null(kind):
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
            or is_text(number)
        ):
            return pa.float64()
    expected = "a list of class probabilities" if in_list else "one class probability per row"
    raise PredictionReadError(
        f"{source}: column {column.name!r} is of type {column.type}, expected {expected}; "
        "class_probs_column names a list column, the class_column options columns of one class"
    )


def _check_object_columns(source: str, schema: pa.Schema, options: TableOptions) -> None:
    """Raise PredictionReadError if the type of a column of objects cannot hold what it should."""
    checks: list[tuple[str | None, Callable[[pa.DataType], bool], str]] = [
        (options.score_column, is_number, "numbers"),
        (options.category_column, may_be_ids, "text or integers"),
        *[(name, is_number, "numbers") for name in options.bbox_columns or ()],
    ]
    if options.bbox_columns is None:
        checks.append((options.bbox_column, _may_be_boxes, "lists of four numbers"))
    for name, fits, expected in checks:
        if name is None:
            continue
        kind = schema.field(name).type
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (is_text(values) or pa.types.is_null(values) or fits(values)):
            raise PredictionReadError(
                f"{source}: column {name!r} is of type {kind}, expected {expected}"
            )


def _box_of(source: str, schema: pa.Schema, options: TableOptions) -> BoxFields:
    """The fields of the box where one column holds objects, and the meaning of the numbers."""
    if options.bbox_column is not None:
        kind = schema.field(options.bbox_column).type
        if pa.types.is_struct(kind):
            names = [kind.field(position).name for position in range(kind.num_fields)]
            fields = box_fields(names, options.box)
            if fields is None or options.box not in ("xywh", fields.kind):
                fault = (
                    "expected four fields such as xmin, ymin, xmax and ymax"
                    if fields is None
                    else f"which are {fields.kind}, but the option box is {options.box!r}"
                )
                raise PredictionReadError(
                    f"{source}: column {options.bbox_column!r} has the fields "
                    f"{', '.join(names)}: {fault}"
                )
            return fields
    return BoxFields((), options.box)


def _may_be_boxes(kind: pa.DataType) -> bool:
    if not _is_list(kind):
        return pa.types.is_struct(kind)
    value = kind.value_type
    return is_number(value) or is_text(value) or pa.types.is_null(value)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
