"""Tables with one row per image, whose columns hold lists: one element per object of the image.

An empty list says that the model saw the image and found no object in it. Everything else about
such a table is as in one with a row per object, which this module makes of it.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.columns import is_list, is_text, read_image_ids, without_views
from dagster_active_learning.readers.named_probabilities import has_names, label_and_number
from dagster_active_learning.readers.options import TableOptions, find_class_columns
from dagster_active_learning.readers.quarantine import Reason, RejectedRow
from dagster_active_learning.readers.table_batch import TableBatch, raw_values


def has_row_per_image(schema: pa.Schema, options: TableOptions) -> bool:
    """True where the score's column holds lists, or without one that of class probabilities does.

    Args:
        schema: The columns of the table.
        options: The names of the columns.
    """
    name = options.score_column or options.class_probs_column
    if schema.names.count(name) != 1:
        return False
    kind = schema.field(name).type
    if not is_list(kind) or has_names(kind):
        return False
    is_nested = is_list(kind.value_type) or _is_mapping(kind.value_type)
    return is_nested == (options.score_column is None)


def _is_mapping(kind: pa.DataType) -> bool:
    """True for the type of class probabilities by name; with a text it is one class, misspelt."""
    fields = list(kind) if pa.types.is_struct(kind) else []
    return has_names(kind) and not any(is_text(field.type) for field in fields)


def sample_has_row_per_image(sample: Mapping[str, Any], options: TableOptions) -> bool:
    """The same of a JSON object, whose values need not be those of one row."""
    if options.score_column is not None:
        return type(sample.get(options.score_column)) is list
    listed = sample.get(options.class_probs_column)
    # One odd element of the first row is not to decide about all rows.
    return type(listed) is list and 2 * sum(map(_is_object, listed)) > len(listed)


def _is_object(element: Any) -> bool:
    """True for a list or a mapping of class probabilities; False for one class and its number."""
    if type(element) is not dict:
        return type(element) is list
    has_text = any(type(value) is str for value in element.values())
    return bool(element) and not has_text and label_and_number(element) is None


def columns_of_objects(names: Sequence[str], options: TableOptions) -> tuple[list[str], list[str]]:
    """The columns with scores or class probabilities, and those with the rest.

    A table need not have all of them.

    Args:
        names: All columns of the table.
        options: Their names by what they hold.
    """
    class_columns = find_class_columns(names, options)
    scored = [options.score_column, *(class_columns or [options.class_probs_column])]
    others = [options.category_column, options.bbox_column, *(options.bbox_columns or ())]
    return [*filter(None, scored)], [*filter(None, others)]


def schema_of_objects(source: str, schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """The schema that a table has with one row per object.

    Args:
        source: The table's name in errors.
        schema: The columns of the table.
        columns: Names of the columns that hold lists, the first of them known to.

    Raises:
        PredictionReadError: If another column holds no lists.
    """
    first = next(schema.field(name) for name in columns if name in schema.names)
    for name in columns:
        position = schema.get_field_index(name)
        if position < 0:
            continue
        kind = schema.field(position).type
        if not is_list(kind) and not pa.types.is_null(kind):
            raise PredictionReadError(
                f"{source}: column {first.name!r} is of type {first.type}, as in a table with one "
                f"row per image, but column {name!r} is of type {kind}: expected lists in both, "
                "with one element per object, or in neither"
            )
        schema = schema.set(position, pa.field(name, kind.value_type if is_list(kind) else kind))
    return schema


def objects_of_images(
    batch: pa.RecordBatch, image_id: str, scored: Sequence[str], first_row: int
) -> TableBatch:
    """The objects of some images as rows, numbered from ``first_row``.

    A row about which nothing can be said is one row of the quarantine: without an id, with lists of
    different lengths or without any score.

    Args:
        batch: One row per image; the columns are lists but the image's id.
        image_id: Name of the column of ids.
        scored: Names of the columns with scores or class probabilities.
        first_row: The number of the first object.
    """
    ids, faults = read_image_ids(batch.column(image_id))
    names = [name for name in batch.schema.names if name != image_id]
    lengths = np.stack([_lengths(batch.column(name)) for name in names])
    counts = lengths.max(axis=0)
    is_scored = (lengths[[names.index(name) for name in scored]] >= 0).any(axis=0)
    for row in np.flatnonzero(~is_scored & (counts <= 0)).tolist():
        faults.setdefault(row, Reason.NO_OBJECT_LISTS)
    for row in np.flatnonzero(((lengths >= 0) & (lengths != counts)).any(axis=0)).tolist():
        faults.setdefault(row, Reason.OTHER_LIST_LENGTH)

    is_broken = np.zeros(len(batch), dtype=np.bool_)
    is_broken[list(faults)] = True
    object_counts = np.where(is_broken, 0, np.maximum(counts, 0))
    row_counts = np.where(is_broken, 1, object_counts)
    first_rows = first_row + np.cumsum(row_counts) - row_counts
    rows = np.repeat(np.arange(len(batch)), object_counts)
    # The position of each object among those of its image.
    positions = np.arange(len(rows)) - np.repeat(
        np.cumsum(object_counts) - object_counts, object_counts
    )
    columns = {image_id: ids.take(pa.array(rows))}
    for name, listed in zip(names, lengths, strict=True):
        starts = np.cumsum(np.maximum(listed, 0)) - np.maximum(listed, 0)
        places = pa.array(starts[rows] + positions, mask=listed[rows] < 0)
        columns[name] = elements(batch.column(name)).take(places)
    rejected = [
        RejectedRow(
            int(first_rows[row]), faults[row], raw_values(batch, row), ids[row].as_py() or None
        )
        for row in sorted(faults)
    ]
    empty = ids.take(pa.array(np.flatnonzero(row_counts == 0)))
    arrays = [columns[name] for name in batch.schema.names]
    return TableBatch(
        pa.RecordBatch.from_arrays(arrays, names=batch.schema.names),
        first_rows[rows] + positions,
        rejected,
        empty.to_pylist(),
    )


def objects_of_row(
    row: Mapping[str, Any], columns: Sequence[str], scored: Sequence[str]
) -> list[dict[str, Any]] | Reason:
    """The objects of a JSON object about one image, or why there are none to be told.

    Args:
        row: The row.
        columns: Names of the columns that hold lists.
        scored: Those of them with scores or class probabilities.
    """
    lists = {name: row[name] for name in columns if row.get(name) is not None}
    if not all(type(listed) is list for listed in lists.values()):
        return Reason.NOT_OBJECT_LISTS
    lengths = {len(listed) for listed in lists.values()}
    if lengths <= {0} and not lists.keys() & set(scored):
        return Reason.NO_OBJECT_LISTS
    if len(lengths) > 1:
        return Reason.OTHER_LIST_LENGTH
    rest = {name: value for name, value in row.items() if name not in columns}
    return [
        rest | {name: listed[position] for name, listed in lists.items()}
        for position in range(*lengths)
    ]


def _lengths(column: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The lengths of lists, -1 for null."""
    if pa.types.is_null(column.type):
        return np.full(len(column), -1)
    lengths = pc.fill_null(pc.list_value_length(column), -1)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def elements(column: pa.Array) -> pa.Array:
    """The elements of all lists of a column, one after the other."""
    if pa.types.is_null(column.type):
        return column
    return without_views(pc.list_flatten(column))
