"""Class probabilities that carry the names of their classes.

They are a mapping, a struct or an Arrow map of names and numbers, or a list of objects with a label
and a score. Whatever their order, they become a list in the order of the classes.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.readers.columns import (
    as_numbers,
    as_text,
    is_list,
    number_fault,
    numpy_type,
    read_class_columns,
)
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.values import as_name
from dagster_active_learning.text import is_utf8

ROWS_SEARCHED_FOR_NAMES = 1_000

LABELS = frozenset({"label", "class", "class_name", "name"})
NUMBERS = frozenset({"score", "probability", "prob", "confidence"})
"""The fields of one class, in any case, where class probabilities are a list of objects."""


def label_and_number(fields: Iterable[str]) -> tuple[str, str] | None:
    """The two fields of an object with the name of a class and its probability, if they are there.

    None if there are none, or more than one of a kind.
    """
    fields = list(fields)
    labels = [name for name in fields if name.lower() in LABELS]
    numbers = [name for name in fields if name.lower() in NUMBERS]
    return (labels[0], numbers[0]) if len(labels) == len(numbers) == 1 else None


def has_names(kind: pa.DataType) -> bool:
    """True for the type of a column of class probabilities that carry their names."""
    return pa.types.is_struct(kind) or pa.types.is_map(kind) or _pair_of(kind) is not None


def names_of_fields(kind: pa.DataType) -> list[str] | None:
    """The names of the classes that a type gives: those of a struct; None for any other type."""
    return _field_names(kind) if pa.types.is_struct(kind) else None


def number_types(kind: pa.DataType) -> list[pa.DataType]:
    """The types of the probabilities in a type that carries their names."""
    if pa.types.is_struct(kind):
        return [kind.field(position).type for position in range(kind.num_fields)]
    if pa.types.is_map(kind):
        return [kind.item_type]
    _, number = _pair_of(kind) or ("", "")
    return [kind.value_type.field(number).type]


def names_of_rows(columns: Iterable[pa.Array]) -> list[str] | None:
    """The names of the classes in the first rows of a column of maps or lists, given in pieces."""
    rows: list[list[str | None]] = []
    for column in columns:
        offsets, labels, _ = _pairs(column.slice(0, ROWS_SEARCHED_FOR_NAMES - len(rows)))
        names = as_text(labels).to_pylist()
        rows += [names[start:stop] for start, stop in pairwise(offsets)]
        if len(rows) >= ROWS_SEARCHED_FOR_NAMES:
            break
    return frequent_names(rows)


def frequent_names(rows: Iterable[Sequence[str | None]]) -> list[str] | None:
    """The set of names that most rows have, in alphabetical order; None if no row has any.

    A list of the classes of an image is often sorted by their probabilities, so that no row gives
    the order of the classes.
    """
    sets = Counter(
        frozenset(names)
        for names in rows
        if names and all(name and is_utf8(name) for name in names)
    )
    return sorted(str(name) for name in sets.most_common(1)[0][0]) if sets else None


def read_named_probabilities(
    column: pa.Array, names: Sequence[str], value_type: pa.DataType
) -> tuple[pa.Array, dict[int, str]]:
    """Class probabilities in the order of ``names``, and the reasons of the rows that have none.

    A row must have each of the names once, and no other.
    """
    if pa.types.is_struct(column.type):
        inner = [pc.struct_field(column, name) for name in names]
        class_probs, reasons = read_class_columns(inner, value_type)
        nulls = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist()
        return class_probs, reasons | dict.fromkeys(nulls, Reason.CLASS_PROBS_NULL)
    offsets, labels, values = _pairs(column)
    numbers = as_numbers(values, value_type)
    lengths = np.diff(offsets)
    rows = np.repeat(np.arange(len(column)), lengths)
    classes = pc.index_in(as_text(labels), value_set=pa.array(names, pa.string()))
    known = classes.is_valid().to_numpy(zero_copy_only=False)
    cells = rows[known] * len(names) + classes.drop_null().to_numpy()
    once = np.bincount(cells, minlength=len(column) * len(names)) == 1
    is_whole = once.reshape(len(column), len(names)).all(axis=1)
    is_whole &= (lengths == len(names)) & (lengths > 0)

    matrix = np.full(len(column) * len(names), np.nan, dtype=numpy_type(value_type))
    matrix[cells] = numbers.to_numpy(zero_copy_only=False)[known]
    reasons: dict[int, str] = {}
    for row in np.flatnonzero(~is_whole).tolist():
        empty = Reason.CLASS_PROBS_EMPTY if column[row].is_valid else Reason.CLASS_PROBS_NULL
        reasons[row] = Reason.OTHER_CLASS_NAMES if lengths[row] else empty
    for position in np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False)).tolist():
        reasons.setdefault(int(rows[position]), number_fault(values[position]))
    starts = np.arange(len(column) + 1, dtype=np.int32) * len(names)
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(matrix)), reasons


def named_numbers(value: object) -> dict[str, Any] | None:
    """The names and numbers of a JSON object, or of a list of objects; None for anything else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return None
    numbers: dict[str, Any] = {}
    for entry in value:
        fields = label_and_number(entry) if isinstance(entry, dict) else None
        name = None if fields is None else as_name(entry[fields[0]])
        if fields is None or name is None or name in numbers:
            return None
        numbers[name] = entry[fields[1]]
    return numbers


def in_class_order(value: object, names: Sequence[str]) -> list[Any] | Reason | None:
    """The numbers of a JSON value in the order of ``names``, or why they are not there."""
    if value is None:
        return None
    numbers = named_numbers(value)
    if numbers == {}:
        return []
    if numbers is None or numbers.keys() != set(names):
        return Reason.OTHER_CLASS_NAMES
    return [numbers[name] for name in names]


def _pair_of(kind: pa.DataType) -> tuple[str, str] | None:
    """The fields of a list of objects with a label and a number; None for any other type."""
    if not is_list(kind) or not pa.types.is_struct(kind.value_type):
        return None
    return label_and_number(_field_names(kind.value_type))


def _field_names(kind: pa.DataType) -> list[str]:
    return [kind.field(position).name for position in range(kind.num_fields)]


def _pairs(column: pa.Array) -> tuple[np.ndarray[Any, Any], pa.Array, pa.Array]:
    """Where each row's pairs begin among all of them, the labels, and the numbers."""
    if pa.types.is_map(column.type):
        label, number = "key", "value"
        kind = column.type
        entries = pa.struct([(label, kind.key_type), (number, kind.item_type)])
        column = column.cast(pa.list_(entries))
    else:
        label, number = _pair_of(column.type) or ("", "")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    entries = pc.list_flatten(column)
    offsets = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, pc.struct_field(entries, label), pc.struct_field(entries, number)
