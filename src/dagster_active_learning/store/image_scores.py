"""The view ``image_scores`` and its tables: a row per image, a column per function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.alike_ids import ALIKE_IDS, sets_with_other_ids
from dagster_active_learning.store.empty_images import has_empty_images
from dagster_active_learning.store.in_place_views import best_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.schema import quoted, with_rows
from dagster_active_learning.store.set_rows import append, of_sets, of_tables
from dagster_active_learning.store.set_tables import SetTables, drop_table, make_table

if TYPE_CHECKING:
    import polars as pl


def score_columns(store: PoolStore, functions: Iterable[str]) -> list[str]:
    """The columns of functions' scores, as SQL takes them.

    Raises:
        PoolStateError: If the pool lacks a column: nothing was written to it since the function
            has been added.
    """
    stored = {column.name for column in store.columns("image_scores")}
    columns = [*functions]
    missing = [name for name in columns if name not in stored]
    if missing:
        raise PoolStateError(
            f"pool {store.pool!r} has no scores by {', '.join(missing)} yet: materialize "
            f"{store.pool}/image_scores"
        )
    return [quoted(name) for name in columns]


def replace_image_scores(
    store: PoolStore, tables: SetTables, scores: Iterable[pa.RecordBatch]
) -> None:
    """Store batches of ``image_score_schema`` in place of the set's scores, as they come.

    The views are to be renewed after it.
    """
    drop_table(store.connection, tables, "image_scores")
    make_table(store.connection, tables, "image_scores")
    append(store, tables, "image_scores", image_score_schema(), scores)


def add_image_scores(store: PoolStore, tables: SetTables, scores: pa.Table) -> None:
    """Store the scores of further images."""
    append(store, tables, "image_scores", scores.schema, scores.to_batches())


# The score of no object is 0; those of class probabilities are null without any.
IMAGES_WITHOUT_PREDICTIONS = """
SELECT image_id, 0 AS prediction_count, {scores} FROM (
    SELECT image_id,
        -- Objects that could not be read are not objects that are not there.
        CASE WHEN $objects AND image_id NOT IN (
            SELECT image_id FROM quarantined_predictions
            WHERE prediction_set = $prediction_set AND image_id IS NOT NULL
            {alike}
        ) THEN 0::DOUBLE END AS score_of_no_object
    FROM (
        SELECT image_id FROM images WHERE $in_manifest
        UNION
        SELECT image_id FROM empty_images
        WHERE prediction_set = $prediction_set AND NOT $in_manifest
    )
    WHERE image_id NOT IN (SELECT image_id FROM {{image_scores}})
)
ORDER BY image_id
"""

OR_NEARLY_NAMED = "UNION ALL SELECT image_id FROM ({alike})"


def images_without_predictions(store: PoolStore, tables: SetTables, rules: Rules) -> pa.Table:
    """The scores of each image that has none yet, with the columns that are not null.

    Those are images of the manifest, or without one images in which the model found nothing. One
    that predictions nearly name is unknown: it has no score, as one with rows in quarantine.
    """
    prediction_set = tables.prediction_set
    # DuckDB would hash the ids of all scores also where there is no image to look for.
    if not rules.in_manifest and not has_empty_images(store, prediction_set):
        return pa.table({})
    columns = [quoted(name) for name in functions_of("object")]
    of_objects = [f"score_of_no_object AS {column}" for column in columns]
    values: dict[str, object] = {
        "prediction_set": prediction_set,
        "in_manifest": rules.in_manifest,
        "objects": rules.objects,
    }
    alike = ""
    if rules.objects and rules.in_manifest and sets_with_other_ids(store, [prediction_set]):
        alike = OR_NEARLY_NAMED.format(alike=ALIKE_IDS)
        values["prediction_sets"] = [prediction_set]
    query = IMAGES_WITHOUT_PREDICTIONS.format(scores=", ".join(of_objects), alike=alike)
    return store.relation(of_tables(store, tables, query), **values).to_arrow_table()


# Without a manifest there is no image to look for: the ids of ten million take a quarter second.
STILL_TO_LABEL = " SEMI JOIN (FROM images WHERE NOT labeled) i ON s.image_id = i.image_id"


def unlabeled_scores(rules: Rules) -> str:
    """The scores of images that have no label yet and, with a manifest, still are in it."""
    return "FROM {image_scores} s" + STILL_TO_LABEL * rules.in_manifest


SCORE_AT_CUT = """
SELECT s.{score} {unlabeled} WHERE s.prediction_count > 0 AND s.{score} IS NOT NULL
ORDER BY s.{score} {direction} LIMIT 1 OFFSET $beyond
"""

# Two scans: as alternatives in one, neither could pass over what it does not need.
CONTENDERS = """
SELECT s.image_id, s.{score} AS score, s.prediction_count {unlabeled}
WHERE s.prediction_count > 0 AND ($cut IS NULL OR s.{score} {as_good_as} $cut)
UNION ALL
SELECT s.image_id, s.{score} AS score, s.prediction_count {unlabeled} WHERE s.prediction_count = 0
"""


def contenders(
    store: PoolStore, prediction_set: str, function: AcquisitionFunction, first: int, rules: Rules
) -> Iterator[pl.DataFrame]:
    """Columns image_id, score and prediction_count of images without a label.

    Images whose score cannot be among the ``first`` are left out; those without predictions are
    not. Of a set in place the best images are kept: where the ``first`` are among them, no other
    score is read.
    """
    import polars as pl

    (score,) = score_columns(store, [function.name])
    highest = function.label_first_under(rules.aggregation) == "highest"
    words = {
        "score": score,
        "direction": "DESC" if highest else "ASC",
        "as_good_as": ">=" if highest else "<=",
        "unlabeled": unlabeled_scores(rules),
    }
    at_cut, of_contenders = SCORE_AT_CUT.format(**words), CONTENDERS.format(**words)
    best = best_images(store, prediction_set, function.name, highest_first=highest)
    cut: list[Any] = []
    if best is not None:
        cut = store.rows(_of_rows(best.rows, at_cut), beyond=first - 1)
    if best is not None and (cut or best.cut is None):
        of_contenders = _of_rows(best.rows, of_contenders)
    else:
        # Of those that are kept, too many have a label by now, or equal scores at their cut.
        cut = store.rows(of_sets(store, [prediction_set], at_cut), beyond=first - 1)
        of_contenders = of_sets(store, [prediction_set], of_contenders)
    relation = store.relation(of_contenders, cut=cut[0][0] if cut else None)
    waiting: list[pa.RecordBatch] = []
    # DuckDB gives a batch per part of the table, with the few rows that are as good as the cut.
    for batch in relation.to_arrow_reader(DEFAULT_BATCH_ROWS):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= DEFAULT_BATCH_ROWS:
            yield pl.DataFrame(pa.Table.from_batches(waiting))
            waiting = []
    if waiting:
        yield pl.DataFrame(pa.Table.from_batches(waiting))


def _of_rows(rows: str, statement: str) -> str:
    return with_rows(statement, lambda _: rows)


def functions_of(level: str) -> list[str]:
    """The names of the acquisition functions of a level."""
    return [name for name, function in ACQUISITION_FUNCTIONS.items() if function.level == level]
