"""Predictions of some images: of sets in place those that are kept apart, else all are looked at.

In a set in place the predictions of the images that come first are in a file of their own, with
the scores of the images. Who asks for such images reads a few row groups of it, and no other file;
others are looked for once, whatever is asked of them. Where images have their predictions in
several places, a ranking that has to look for them makes the file.
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
from dagster_active_learning.limits import rows_for
from dagster_active_learning.store.in_place_sets import (
    InPlaceSet,
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
    kept = _rows_of_images(store, prediction_set, image_ids)
    if kept is None:
        return [of_sets(store, [prediction_set], statement) for statement in statements], None
    rows = {
        "predictions": (
            PREDICTION_COLUMNS,
            "FROM active_learning__kept WHERE prediction_index IS NOT NULL",
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


def _rows_of_images(
    store: PoolStore, prediction_set: str, image_ids: Sequence[str] | pl.Series
) -> pa.Table | None:
    """All rows of images of a set in place: those that are kept, and once those of the others.

    None of a set that is copied, and where memory should not hold them.
    """
    # A pool that is only read may be of a version that copied all predictions.
    kept = in_place_set(store, prediction_set) if store.columns("in_place_sets") else None
    if kept is None or kept.best is None or len(image_ids) > MOST_IMAGES:
        return None
    rows, others = _kept_rows(store, prediction_set, kept, image_ids)
    found = _looked_up(store, prediction_set, kept, others) if others else None
    if others and found is None:
        return None
    parts = [part for part in (rows, found) if part is not None]
    return pa.concat_tables(parts, promote_options="permissive") if parts else None


def kept_predictions(
    store: PoolStore, prediction_set: str, image_ids: Sequence[str] | pl.Series
) -> pa.Table | None:
    """All predictions of images, with the scores of the images, read where they are kept.

    An image without predictions has one row, with its scores. None of a set that is copied, and
    where the predictions of an image are not kept.

    Raises:
        PredictionReadError: If a file of the set is gone or another.
    """
    kept = in_place_set(store, prediction_set)
    if kept is None:
        return None
    rows, others = _kept_rows(store, prediction_set, kept, image_ids)
    return None if others else rows


def _kept_rows(
    store: PoolStore, prediction_set: str, kept: InPlaceSet, image_ids: Sequence[str] | pl.Series
) -> tuple[pa.Table | None, list[str]]:
    """The rows of images that are kept, and in their order the ids of the others."""
    check_files(store, [prediction_set], "predictions")
    if kept.predictions is None:
        return None, sorted({*image_ids})
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
    return rows, sorted(others)


# Of ids that are written out DuckDB reads the row groups that can have one of them; of those that a
# join finds it does so up to 50.
LOOKED_UP_ROWS = """
SELECT s.*, p.* EXCLUDE (prediction_set, image_id, segmentation)
FROM (
    SELECT image_id, prediction_count, {scores} FROM {{image_scores}}
    WHERE list_contains($image_ids, image_id)
) s LEFT JOIN (
    FROM {{predictions}} WHERE list_contains($image_ids, image_id)
) p ON s.image_id = p.image_id
ORDER BY s.image_id, p.prediction_index
"""


def _looked_up(
    store: PoolStore, prediction_set: str, kept: InPlaceSet, image_ids: Sequence[str]
) -> pa.Table | None:
    """The rows of images as they are kept, read from all files; None if they are too many."""
    functions = kept.description["functions"]
    statement = LOOKED_UP_ROWS.format(scores=", ".join(map(quoted, functions)))
    query = of_sets(store, [prediction_set], statement)
    n_classes = len(prediction_set_of(store, prediction_set).class_names)
    most = MOST_NUMBERS // (n_classes + NUMBERS_BESIDE_CLASSES)
    relation = store.relation(query, image_ids=image_ids)
    reader = relation.to_arrow_reader(rows_for(8 * (n_classes + NUMBERS_BESIDE_CLASSES)))
    batches: list[pa.RecordBatch] = []
    for batch in reader:
        batches.append(batch)
        most -= batch.num_rows
        if most < 0:
            return None
    return pa.Table.from_batches(batches, reader.schema)


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


CANDIDATES = """
SELECT DISTINCT image_id FROM labeling_candidates
WHERE prediction_set = $prediction_set AND prediction_count > 0
"""


def keep_predictions(store: PoolStore, prediction_set: str, images: pl.DataFrame) -> None:
    """Keep the predictions of some images of a set in place, for who asks for them next.

    Those of the candidates of other functions stay. All files are read for what is not kept
    already. Nothing is done of a set that is copied, of one without scores in its storage, nor of
    more images or predictions than memory should hold.

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
    if kept_predictions(store, prediction_set, images["image_id"]) is not None:
        return
    candidates = store.rows(CANDIDATES, prediction_set=prediction_set)
    ids = sorted({*images["image_id"], *(name for (name,) in candidates)})
    rows = _rows_of_images(store, prediction_set, ids)
    if rows is None:
        return
    rows = rows.filter(pc.is_valid(rows.column("prediction_index")))
    rows = rows.sort_by([("image_id", "ascending"), ("prediction_index", "ascending")])
    name = LOOKED_UP.format(name=hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:32])
    with kept.score_folder.writing(name) as file:
        pq.write_table(rows, file, row_group_size=ROWS_OF_IMAGES, use_dictionary=False)
    others = {file: size for file, size in kept.score_files.items() if file != kept.predictions}
    sizes = {**others, name: kept.score_folder.written[name]}
    keep_predictions_file(store, prediction_set, name, sizes)


def _functions(kept: pa.Table) -> list[str]:
    return [name for name in ACQUISITION_FUNCTIONS if name in kept.column_names]
