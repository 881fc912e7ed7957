"""Prediction sets that are read in place: their two views over Parquet files, and reads of these.

The views bear the names of the tables of a copied set, and have what those have, so that every
statement reads them alike.
"""

# Paths are put into statements: DuckDB binds no values in views.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_active_learning.files.in_place import FileInPlace, as_duckdb_path
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.readers.tables import Layout
from dagster_active_learning.store.in_place_sets import InPlaceSet, in_place_set
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.schema import literal, quoted
from dagster_active_learning.store.set_tables import SetTables, drop_table

if TYPE_CHECKING:
    import polars as pl


PREDICTIONS_VIEW = """
CREATE OR REPLACE VIEW {name} AS
SELECT {columns} FROM (
    SELECT *, {first_indices}[file_index::BIGINT + 1] + file_row_number AS "position of row"
    FROM read_parquet({files}, hive_partitioning = false)
) p {without_quarantined}
"""

WITHOUT_QUARANTINED = """
ANTI JOIN (SELECT prediction_index FROM {quarantined}) q
    ON p."position of row" = q.prediction_index
"""


def show_predictions(
    store: PoolStore,
    tables: SetTables,
    files: Sequence[FileInPlace],
    first_indices: Sequence[int],
    columns: Sequence[str],
    quarantined: Sequence[str],
) -> None:
    """Make the view of a set's predictions.

    Args:
        store: The pool.
        tables: The names of the set's views.
        files: The files of predictions.
        first_indices: The position of the first row of each.
        columns: The columns of the view, as SQL.
        quarantined: Paths of the Parquet files with the rows that are no predictions.
    """
    without = ""
    if quarantined:
        without = WITHOUT_QUARANTINED.format(quarantined=_read(quarantined))
    store.connection.execute(
        PREDICTIONS_VIEW.format(
            name=tables.name("predictions"),
            columns=", ".join(columns),
            first_indices=f"({list(first_indices)}::BIGINT[])",
            files=_list(file.path for file in files),
            without_quarantined=without,
        )
    )


SCORES_VIEW = "CREATE VIEW {name} AS {rows}"

SCORES_OF_KNOWN_IMAGES = """
SELECT s.* FROM {scores} s ANTI JOIN (SELECT image_id FROM {unknown}) u ON s.image_id = u.image_id
"""

NO_SCORES = "SELECT NULL::VARCHAR AS image_id, NULL::BIGINT AS prediction_count WHERE false"


def show_scores(
    store: PoolStore,
    tables: SetTables,
    scores: Sequence[str],
    *,
    unknown: str | None = None,
    others: str | None = None,
) -> None:
    """Make the view of the scores of a set's images.

    Args:
        store: The pool.
        tables: The names of the set's views.
        scores: Paths of the Parquet files of scores; without one there are none.
        unknown: The Parquet file of the images whose scores do not count.
        others: The Parquet file of images without predictions.
    """
    rows = _scores_of_known(scores, unknown) if scores else NO_SCORES
    if others is not None:
        rows += f" UNION ALL BY NAME FROM {_read([others])}"
    # A table, where the set was scored as if it were copied.
    drop_table(store.connection, tables, "image_scores")
    store.connection.execute(SCORES_VIEW.format(name=tables.name("image_scores"), rows=rows))


def _scores_of_known(scores: Sequence[str], unknown: str | None) -> str:
    if unknown is None:
        return f"FROM {_read(scores)}"
    return SCORES_OF_KNOWN_IMAGES.format(scores=_read(scores), unknown=_read([unknown]))


def scores_in_files(store: PoolStore, prediction_set: str) -> str | None:
    """A query of the images of a set in place, with what is kept of them beside their scores.

    None of a set that is copied, and of one without predictions.

    Raises:
        PredictionReadError: If a file of scores is gone or cut.
    """
    # A pool that is only read may be of a version that copied all predictions.
    kept = in_place_set(store, prediction_set) if store.columns("in_place_sets") else None
    if kept is None or not kept.scores:
        return None
    kept.check_scores(*kept.scores)
    kept.check_quarantine(kept.unknown_images)
    unknown = None if kept.unknown_images is None else kept.folder.path(kept.unknown_images)
    return f"({_scores_of_known([*map(kept.score_folder.path, kept.scores)], unknown)})"


BEST_IMAGES = """
SELECT b.image_id, b.{score}, b.prediction_count FROM {best} b {without_unknown}
WHERE {before_cut}
"""

WITHOUT_UNKNOWN = "ANTI JOIN (SELECT image_id FROM {unknown}) u ON b.image_id = u.image_id"


@dataclass(frozen=True)
class BestImages:
    """The images that come first by a function, and those without predictions.

    Attributes:
        rows: A query of their image_id, score and prediction_count.
        cut: The score that all of them come before; None where no image with predictions and a
            score is left out.
    """

    rows: str
    cut: float | None


def best_images(
    store: PoolStore, prediction_set: str, function: str, *, highest_first: bool
) -> BestImages | None:
    """The images of a set in place that come first by a function; None of one that is copied.

    Of those that have predictions, each comes before all that are left out.
    """
    kept = in_place_set(store, prediction_set)
    if kept is None or kept.best is None:
        return None
    kept.check_scores(kept.best, kept.empty_images)
    kept.check_quarantine(kept.unknown_images)
    score = quoted(function)
    cut = kept.cuts.get(function)
    before = ">" if highest_first else "<"
    rows = BEST_IMAGES.format(
        score=score,
        best=_read([kept.score_folder.path(kept.best)]),
        without_unknown=_without_unknown(kept),
        # As text: DuckDB takes a number that is written out for a decimal.
        before_cut="true" if cut is None else f"b.{score} {before} '{cut!r}'::DOUBLE",
    )
    if kept.empty_images is not None:
        empty = _read([kept.score_folder.path(kept.empty_images)])
        rows += f" UNION ALL BY NAME FROM {empty}"
    return BestImages(rows, cut)


KNOWN_CLASSES = """
SELECT b.image_id, b.predicted_class FROM {best} b {without_unknown} WHERE b.class_is_known
"""


def known_classes(store: PoolStore, prediction_set: str) -> pl.DataFrame | None:
    """Columns image_id and predicted_class of best images; None where none is kept."""
    kept = in_place_set(store, prediction_set)
    if kept is None or kept.best is None:
        return None
    kept.check_scores(kept.best)
    kept.check_quarantine(kept.unknown_images)
    best = _read([kept.score_folder.path(kept.best)])
    query = KNOWN_CLASSES.format(best=best, without_unknown=_without_unknown(kept))
    return store.relation(query).pl()


def _without_unknown(kept: InPlaceSet) -> str:
    """What leaves out images that the manifest did not have; it may have them by now."""
    if kept.unknown_images is None:
        return ""
    return WITHOUT_UNKNOWN.format(unknown=_read([kept.folder.path(kept.unknown_images)]))


@dataclass(frozen=True)
class UnknownImages:
    """Images that the manifest does not have, and their predictions, in numbers."""

    images: int
    predictions: int


UNKNOWN_IMAGES = """
SELECT count(*), coalesce(sum(s.prediction_count), 0)::BIGINT
FROM {scores} s ANTI JOIN images i ON s.image_id = i.image_id
"""


def images_not_in_manifest(store: PoolStore, scores: Sequence[str]) -> UnknownImages:
    """Images with scores, in Parquet files, that the manifest does not have."""
    if not scores:
        return UnknownImages(0, 0)
    return UnknownImages(*store.rows(UNKNOWN_IMAGES.format(scores=_read(scores)))[0])


SCORES_OF_UNKNOWN_IMAGES = """
FROM {scores} s SEMI JOIN (SELECT image_id FROM {unknown}) u ON s.image_id = u.image_id
"""


def scores_of_unknown_images(store: PoolStore, scores: Sequence[str], unknown: str) -> pa.Table:
    """The scores, in Parquet files, of images that the manifest did not have.

    Args:
        store: The pool.
        scores: Paths of the files of scores.
        unknown: Path of the file of these images.
    """
    query = SCORES_OF_UNKNOWN_IMAGES.format(scores=_read(scores), unknown=_read([unknown]))
    return store.relation(query).to_arrow_table()


UNKNOWN_PREDICTIONS = """
SELECT p.prediction_index, p.image_id FROM {predictions} p
ANTI JOIN images i ON p.image_id = i.image_id ORDER BY p.prediction_index
"""


def predictions_not_in_manifest(store: PoolStore, tables: SetTables) -> pa.RecordBatchReader:
    """Columns prediction_index and image_id of predictions about images not in the manifest."""
    query = UNKNOWN_PREDICTIONS.format(predictions=tables.name("predictions"))
    return store.relation(query).to_arrow_reader(DEFAULT_BATCH_ROWS)


def prediction_columns(layout: Layout, value_type: str) -> list[str]:
    """The columns of a set's predictions by what they hold, as SQL.

    Args:
        layout: The columns of the files.
        value_type: ``FLOAT`` or ``DOUBLE``, the precision of class probabilities.
    """
    columns = [
        f"{quoted(layout.image_id)}::VARCHAR AS image_id",
        '"position of row" AS prediction_index',
    ]
    if layout.class_columns:
        names = [quoted(name) for name in layout.class_columns]
        numbers = ", ".join(f"{name}::{value_type}" for name in names)
        missing = " AND ".join(f"{name} IS NULL" for name in names)
        columns.append(f"CASE WHEN NOT ({missing}) THEN [{numbers}] END AS class_probs")
    elif layout.class_probs is not None:
        columns.append(f"{quoted(layout.class_probs)}::{value_type}[] AS class_probs")
    if layout.score is not None:
        columns.append(f"{quoted(layout.score)}::DOUBLE AS score")
    if layout.category is not None:
        columns.append(f"{quoted(layout.category)}::VARCHAR AS category")
    if layout.bbox:
        columns.append(f"{_box(layout)} AS bbox")
    return columns


def _box(layout: Layout) -> str:
    """A box as x and y of the top left corner, width and height; null where there is none."""
    names = [quoted(name) for name in layout.bbox]
    numbers = names if len(names) > 1 else [f"{names[0]}[{place}]" for place in (1, 2, 3, 4)]
    a, b, c, d = (f"{number}::DOUBLE" for number in numbers)
    box = {
        "xywh": f"[{a}, {b}, {c}, {d}]",
        "xyxy": f"[{a}, {b}, {c} - {a}, {d} - {b}]",
        "xcycwh": f"[{a} - {c} / 2, {b} - {d} / 2, {c}, {d}]",
    }[layout.box]
    missing = " AND ".join(f"{name} IS NULL" for name in names)
    return f"CASE WHEN NOT ({missing}) THEN {box} END"


def _read(paths: Iterable[str]) -> str:
    # Names of folders are no columns.
    return f"read_parquet({_list(paths)}, hive_partitioning = false)"


def _list(paths: Iterable[str]) -> str:
    return f"[{', '.join(literal(as_duckdb_path(path)) for path in paths)}]"
