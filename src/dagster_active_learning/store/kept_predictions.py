"""Predictions of some images: of sets in place those that are kept apart, else all are looked at.

In a set in place the predictions of the images that come first are in a file of their own, with
the scores of the images. Who asks for such images reads a few row groups of it, and no other file.
Where images have their predictions in several places, a ranking that has to look for them makes it.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.files.answers import named_errors
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.store.in_place_sets import (
    check_files,
    in_place_set,
    keep_predictions_file,
)
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set as prediction_set_of
from dagster_active_learning.store.schema import literal, quoted, with_rows
from dagster_active_learning.store.set_columns import NUMBERS_BESIDE_CLASSES
from dagster_active_learning.store.set_rows import of_sets
from dagster_active_learning.store.set_tables import rows_of_table

if TYPE_CHECKING:
    import polars as pl

MOST_IMAGES = 50_000
"""Images that are looked up: of more some are not kept."""

MOST_NUMBERS = 2**24
"""Numbers in the predictions that are kept: they go through the memory."""

ROWS_OF_IMAGES = 256
"""Rows of a row group of the file: with some thousand images they are as long as its footer."""

LOOKED_UP = "predictions-{name}.parquet"
"""The file with the predictions that a ranking has looked for."""

PREDICTION_COLUMNS = ("image_id", "prediction_index", "class_probs", "score", "category", "bbox")


def of_images(
    store: PoolStore,
    prediction_set: str,
    image_ids: Sequence[str] | pl.Series,
    statements: Sequence[str],
) -> tuple[list[str], pa.Table | None]:
    """Statements about some images, with their rows where they have a table in braces.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        image_ids: The images that the statements are about.
        statements: The statements.

    Returns:
        The statements, and the rows that they call ``active_learning__kept``;
        None where they look at all images.

    Raises:
        PredictionReadError: If a file that predictions are read from in place is gone or another.
    """
    few = len(image_ids) <= MOST_IMAGES
    kept = kept_predictions(store, prediction_set, image_ids) if few else None
    if kept is None:
        return [of_sets(store, [prediction_set], statement) for statement in statements], None
    rows = {
        "predictions": (
            PREDICTION_COLUMNS,
            "FROM active_learning__kept WHERE prediction_count > 0",
        ),
        "image_scores": (
            ("image_id", "prediction_count", *_functions(kept)),
            # All rows of an image have its scores.
            "FROM (SELECT DISTINCT ON (image_id) * FROM active_learning__kept)",
        ),
    }

    def rows_of(table: str) -> str:
        return rows_of_table(literal(prediction_set), table, *rows[table])

    return [with_rows(statement, rows_of) for statement in statements], kept


def kept_predictions(
    store: PoolStore, prediction_set: str, image_ids: Sequence[str] | pl.Series
) -> pa.Table | None:
    """All predictions of images, with the scores of the images, read where they are kept.

    An image without predictions has one row, with its scores. None of a set that is copied, and
    where the predictions of an image are not kept.

    Raises:
        PredictionReadError: If a file of the set is gone or another.
    """
    # A pool that is only read may be of a version that copied all predictions.
    kept = in_place_set(store, prediction_set) if store.columns("in_place_sets") else None
    if kept is None or kept.predictions is None:
        return None
    check_files(store, [prediction_set], "predictions")
    kept.check_scores(kept.predictions, kept.empty_images)
    kept.check_quarantine(kept.unknown_images)
    ids = pa.array([*image_ids], pa.string())
    rows = _rows_with(kept.score_folder, kept.predictions, "image_id", ids)
    if kept.unknown_images is not None:
        index = rows.column("prediction_index").combine_chunks()
        unknown = _rows_with(kept.folder, kept.unknown_images, "prediction_index", index)
        is_unknown = pc.is_in(index, unknown.column("prediction_index"))
        rows = rows.filter(pc.invert(is_unknown))
    others = {*ids.to_pylist()}.difference(rows.column("image_id").to_pylist())
    if others and kept.empty_images is not None:
        ids = pa.array(sorted(others))
        empty = _rows_with(kept.score_folder, kept.empty_images, "image_id", ids)
        others.difference_update(empty.column("image_id").to_pylist())
        rows = pa.concat_tables([rows, empty], promote_options="permissive")
    return None if others else rows


def _rows_with(folder: Storage, name: str, column: str, values: pa.Array) -> pa.Table:
    """The rows of a file that have one of some values, of which the file is in the order.

    Not by DuckDB, which reads the whole of a small file at an address.
    """
    wanted = sorted({*values.to_pylist()})
    with (
        named_errors(folder.path(name)),
        folder.reading(name) as opened,
        pq.ParquetFile(opened, pre_buffer=True) as file,
    ):
        place = file.schema_arrow.get_field_index(column)
        groups = [
            group
            for group in range(file.num_row_groups)
            if _has_any(file.metadata.row_group(group).column(place).statistics, wanted)
        ]
        rows = file.read_row_groups(groups, use_threads=False)
    return rows.filter(pc.is_in(rows.column(column), values))


def _has_any(statistics: pq.Statistics | None, wanted: Sequence[Any]) -> bool:
    """Whether a row group may have one of some values, which are in order."""
    if statistics is None or not statistics.has_min_max:
        return True
    place = bisect_left(wanted, statistics.min)
    return place < len(wanted) and wanted[place] <= statistics.max


ROWS_TO_KEEP = """
WITH wanted AS (SELECT unnest($image_ids) AS image_id),
scores AS (
    SELECT s.image_id, s.prediction_count, {scores}
    FROM {{image_scores}} s SEMI JOIN wanted USING (image_id)
)
SELECT s.*, p.* EXCLUDE (prediction_set, image_id, segmentation)
FROM {{predictions}} p JOIN scores s ON p.image_id = s.image_id
ORDER BY p.image_id, p.prediction_index
"""


def keep_predictions(store: PoolStore, prediction_set: str, images: pl.DataFrame) -> None:
    """Keep the predictions of some images of a set in place, for who asks for them next.

    All files are read, unless they are kept already. Nothing is done of a set that is copied, of
    one without scores in its storage, nor of more images or predictions than memory should hold.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        images: Columns image_id and prediction_count, each image once.
    """
    kept = in_place_set(store, prediction_set)
    if kept is None or kept.best is None or len(images) > MOST_IMAGES:
        return
    n_classes = len(prediction_set_of(store, prediction_set).class_names)
    if images["prediction_count"].sum() * (n_classes + NUMBERS_BESIDE_CLASSES) > MOST_NUMBERS:
        return
    ids = sorted(images["image_id"])
    if kept_predictions(store, prediction_set, ids) is not None:
        return
    functions = kept.description["functions"]
    statement = ROWS_TO_KEEP.format(scores=", ".join(map(quoted, functions)))
    rows = store.relation(of_sets(store, [prediction_set], statement), image_ids=ids)
    name = LOOKED_UP.format(name=hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:32])
    with kept.score_folder.writing(name) as file:
        pq.write_table(
            rows.to_arrow_table(), file, row_group_size=ROWS_OF_IMAGES, use_dictionary=False
        )
    others = {file: size for file, size in kept.score_files.items() if file != kept.predictions}
    sizes = {**others, name: kept.score_folder.written[name]}
    keep_predictions_file(store, prediction_set, name, sizes)


def _functions(kept: pa.Table) -> list[str]:
    return [name for name in ACQUISITION_FUNCTIONS if name in kept.column_names]
