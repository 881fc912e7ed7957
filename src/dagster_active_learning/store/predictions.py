"""The view ``predictions`` and the tables in it: one row per prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.class_probs import class_prob_matrix
from dagster_active_learning.limits import EXAMPLES, rows_for
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.in_place_sets import check_files, in_place_set
from dagster_active_learning.store.kept_predictions import of_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.repeated import Repeated, RepeatedImage
from dagster_active_learning.store.set_rows import of_sets, of_tables
from dagster_active_learning.store.set_tables import SetTables

if TYPE_CHECKING:
    import polars as pl


IMAGE_COUNT = "SELECT count(DISTINCT image_id) FROM {predictions}"


def image_count(store: PoolStore, tables: SetTables) -> int:
    """Number of different images that a set has predictions about."""
    return store.rows(of_tables(store, tables, IMAGE_COUNT))[0][0]


SCORE_ONLY_COUNT = "SELECT count(*) FROM {predictions} WHERE class_probs IS NULL"


def score_only_count(store: PoolStore, tables: SetTables) -> int:
    """Number of predictions without class probabilities."""
    return store.rows(of_tables(store, tables, SCORE_ONLY_COUNT))[0][0]


CATEGORIES = """
SELECT coalesce(list(DISTINCT category ORDER BY category), []) FROM {predictions}
WHERE category IS NOT NULL
"""


def categories(store: PoolStore, tables: SetTables) -> list[str]:
    """The categories of a set's objects, in alphabetical order."""
    return store.rows(of_tables(store, tables, CATEGORIES))[0][0]


MOST_FILES = """
SELECT coalesce(max(files), 0) FROM (
    SELECT count(DISTINCT f.first_prediction_index) AS files
    FROM {predictions} p ASOF JOIN (FROM prediction_sources WHERE row_count > 0) f
        ON p.prediction_set = f.prediction_set AND p.prediction_index >= f.first_prediction_index
    GROUP BY p.image_id
)
"""


def most_files_of_an_image(store: PoolStore, prediction_set: str) -> int:
    """The largest number of files that have predictions about one image."""
    return store.rows(of_sets(store, [prediction_set], MOST_FILES))[0][0]


PREDICTIONS = "SELECT image_id, class_probs, score FROM {predictions} "

BY_IMAGE = "ORDER BY image_id, prediction_index"

IN_ORDER = "ORDER BY prediction_index"


def predictions_by_image(
    store: PoolStore, prediction_set: PredictionSet, batch_rows: int
) -> pa.RecordBatchReader:
    """Columns image_id, class_probs and score; an image's predictions together, in their order.

    They are what is committed, whatever the transaction of the store has changed.
    """
    query = PREDICTIONS
    if prediction_set.image_run_count > prediction_set.image_count:
        query += BY_IMAGE
    elif not store.rows("SELECT current_setting('preserve_insertion_order')")[0][0]:
        query += IN_ORDER
    statement = of_tables(store, prediction_set.tables, query)
    return store.committed_rows(statement, batch_rows)


PREDICTIONS_OF_IMAGES = """
WITH candidates AS ({images}),
-- Without the class probabilities, which are long: an image may have a hundred thousand objects.
places AS (
    SELECT p.image_id, p.prediction_index,
        row_number() OVER (of_image ORDER BY p.prediction_index) AS place,
        count(*) OVER of_image AS prediction_count
    FROM {{predictions}} p SEMI JOIN candidates USING (image_id)
    WINDOW of_image AS (PARTITION BY p.image_id)
)
SELECT p.image_id, p.class_probs, p.score, p.category, p.bbox{masks}, places.prediction_count
-- By the image too: of Parquet files whose ids are in order, few row groups are read then.
FROM {{predictions}} p JOIN places USING (image_id, prediction_index)
WHERE places.place <= $per_image
ORDER BY p.image_id, p.prediction_index
"""

GIVEN_IMAGES = "SELECT unnest($image_ids) AS image_id"


def predictions_of_images(
    store: PoolStore, prediction_set: str, image_ids: Sequence[str], *, per_image: int = 1_000
) -> Mapping[str, pl.DataFrame]:
    """Predictions about some images, by the image's id.

    The columns are class_probs, score, category, bbox and prediction_count, which is the number of
    all predictions of the image; one row per prediction in their order, ``per_image`` at the most.
    Images without predictions are left out.
    """
    statement = PREDICTIONS_OF_IMAGES.format(images=GIVEN_IMAGES, masks="")
    (query,), kept = of_images(store, prediction_set, image_ids, [statement])
    values = {"image_ids": list(image_ids), "per_image": per_image}
    rows = store.relation(query, kept=kept, **values).pl()
    by_image = rows.partition_by("image_id", as_dict=True, include_key=False)
    return {image_id: frame for (image_id,), frame in by_image.items()}


def each_image_predictions(
    store: PoolStore,
    prediction_set: PredictionSet,
    image_ids: Sequence[str],
    *,
    per_image: int,
    masks: bool,
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Images and the predictions about them, one after the other: memory holds a few batches.

    The frames have the columns of ``predictions_of_images``, and segmentation where ``masks`` are
    wanted. Images without predictions are left out. Read them to the end.
    """
    import polars as pl

    statement = PREDICTIONS_OF_IMAGES.format(images=GIVEN_IMAGES, masks=", p.segmentation" * masks)
    (query,), kept = of_images(store, prediction_set.prediction_set, image_ids, [statement])
    values = {"image_ids": list(image_ids), "per_image": per_image}
    relation = store.relation(query, kept=kept, **values)
    rest: pl.DataFrame | None = None
    batch_rows = rows_for(len(prediction_set.class_names) * 8)
    for batch in relation.to_arrow_reader(batch_rows):
        rows = pl.DataFrame(batch)
        if rest is not None:
            rows = pl.concat([rest, rows])
        *whole, rest = rows.partition_by("image_id", maintain_order=True)
        for frame in whole:
            yield frame["image_id"][0], frame
    if rest is not None:
        yield rest["image_id"][0], rest


CLASS_PROBS_OF_IMAGES = """
SELECT p.image_id, p.class_probs
FROM {predictions} p SEMI JOIN (SELECT unnest($image_ids) AS image_id) c ON p.image_id = c.image_id
ORDER BY p.image_id, p.prediction_index
"""


def mean_class_probs(
    store: PoolStore, prediction_set: str, image_ids: Sequence[str]
) -> Mapping[str, npt.NDArray[np.float64]]:
    """The mean of the class probabilities (n_classes,) of each image, of those that have any."""
    (query,), kept = of_images(store, prediction_set, image_ids, [CLASS_PROBS_OF_IMAGES])
    table = store.relation(query, kept=kept, image_ids=list(image_ids)).to_arrow_table()
    if not table.num_rows:
        return {}
    matrix = class_prob_matrix(table.column("class_probs")).astype(np.float64)
    ids = np.array(table.column("image_id").to_pylist(), object)
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    counts = np.diff(np.append(starts, len(ids)))
    return dict(zip(ids[starts], np.add.reduceat(matrix, starts) / counts[:, None], strict=True))


# Votes are equal or not: hashes are as good as lists of class probabilities, and shorter.
DIFFERING_PREDICTIONS = """
WITH hashed AS (
    SELECT prediction_set, image_id, prediction_index, hash(class_probs) AS content_hash
    FROM {predictions}
)
SELECT prediction_set, image_id, count(*) AS predictions, min(prediction_index) AS first_index,
    max(prediction_index) AS last_index, count(*) OVER () AS finding_count
FROM hashed GROUP BY prediction_set, image_id HAVING min(content_hash) != max(content_hash)
ORDER BY prediction_set, first_index LIMIT $first
"""


def differing_predictions(store: PoolStore, prediction_sets: Sequence[str]) -> Findings:
    """Images that have several predictions which are not all the same, with their number."""
    counted, others = _counted_sets(store, prediction_sets)
    parts = [
        _findings(name, "predictions", one.differing, one.first_differing)
        for name, one in counted.items()
    ]
    if others:
        parts.append(findings(store, of_sets(store, others, DIFFERING_PREDICTIONS)))
    return _joined(parts, lambda row: (row["prediction_set"], row["first_index"]))


def _counted_sets(
    store: PoolStore, prediction_sets: Sequence[str]
) -> tuple[dict[str, Repeated], list[str]]:
    """What is repeated in sets in place whose predictions were counted, and the other sets.

    Images that the manifest did not have were counted too: where any is one of them, all is read.
    """
    counted: dict[str, Repeated] = {}
    for name in prediction_sets:
        kept = in_place_set(store, name) if store.columns("in_place_sets") else None
        if kept is not None and kept.repeated is not None:
            of_none = not (kept.repeated.duplicates or kept.repeated.differing)
            if kept.unknown_images is None or of_none:
                counted[name] = kept.repeated
    check_files(store, counted, "predictions")
    return counted, [name for name in prediction_sets if name not in counted]


def _findings(
    prediction_set: str, number: str, count: int, images: Sequence[RepeatedImage]
) -> Findings:
    names = ("image_id", number, "first_index", "last_index")
    rows = [dict(zip(names, image, strict=True)) for image in images]
    return Findings(count, [{"prediction_set": prediction_set, **row} for row in rows])


def _joined(parts: Sequence[Findings], order: Callable[[dict[str, Any]], Any]) -> Findings:
    """The findings of several sets, with the first examples of all."""
    examples = sorted((row for part in parts for row in part.examples), key=order)
    return Findings(sum(part.count for part in parts), examples[:EXAMPLES])


ROW_COUNT = "SELECT count(*) FROM {predictions}"

DUPLICATE_PREDICTIONS = """
WITH hashed AS (
    SELECT *, hash(class_probs, score, category, bbox, segmentation) AS content_hash
    FROM {predictions}
        -- Two objects without a place in the image may be alike in all else.
    WHERE NOT $objects OR bbox IS NOT NULL OR segmentation IS NOT NULL
),
-- Class probabilities are long: only rows with a hash in common are compared as they are.
suspects AS (
    SELECT prediction_set, image_id, content_hash FROM hashed GROUP BY ALL HAVING count(*) > 1
)
SELECT prediction_set, image_id, count(*) AS times, min(prediction_index) AS first_index,
    max(prediction_index) AS last_index, (sum(count(*) - 1) OVER ())::BIGINT AS finding_count
FROM hashed SEMI JOIN suspects USING (prediction_set, image_id, content_hash)
GROUP BY prediction_set, image_id, class_probs, score, category, bbox, segmentation
HAVING count(*) > 1
ORDER BY times DESC, prediction_set, first_index LIMIT $first
"""


def duplicate_predictions(
    store: PoolStore, prediction_sets: Sequence[PredictionSet], *, objects: bool
) -> Findings:
    """Predictions that say the same about the same image as another one.

    The count is that of the rows which could go. Objects without box and mask are left out.
    """
    # Where each image has one prediction, none is repeated.
    several = [
        stored.prediction_set
        for stored in prediction_sets
        if store.rows(of_tables(store, stored.tables, ROW_COUNT))[0][0] > stored.image_count
    ]
    counted, others = _counted_sets(store, several)
    parts = [
        _findings(name, "times", one.duplicates, one.most_repeated) for name, one in counted.items()
    ]
    if others:
        query = of_sets(store, others, DUPLICATE_PREDICTIONS)
        parts.append(findings(store, query, objects=objects))
    return _joined(parts, lambda row: (-row["times"], row["prediction_set"], row["first_index"]))
