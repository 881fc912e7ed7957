"""The table ``labeling_candidates``: one row per image in each ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.limits import rows_for
from dagster_active_learning.store.in_place_sets import check_files
from dagster_active_learning.store.in_place_views import known_classes
from dagster_active_learning.store.kept_predictions import keep_predictions, of_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool
from dagster_active_learning.store.predicted_classes import predicted_classes_sql
from dagster_active_learning.store.prediction_sets import PredictionSet, chosen_prediction_set
from dagster_active_learning.store.rankings import replace_rankings

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 65_536

DELETE_CANDIDATES = """
DELETE FROM labeling_candidates WHERE prediction_set = $prediction_set
    AND list_contains($acquisition_functions, acquisition_function)
"""

INSERT_WITH_CLASSES = """
INSERT INTO labeling_candidates BY NAME
SELECT $prediction_set AS prediction_set, c.*, $run_id AS run_id FROM active_learning__incoming c
ORDER BY c.acquisition_function, c.rank
"""

INSERT_CANDIDATES = """
INSERT INTO labeling_candidates BY NAME
{predicted_classes}
SELECT $prediction_set AS prediction_set, c.acquisition_function, c.rank, c.image_id, c.score,
    c.uncertainty, c.prediction_count, p.class AS predicted_class, $run_id AS run_id
FROM active_learning__incoming c LEFT JOIN predicted p ON c.image_id = p.image_id
ORDER BY c.acquisition_function, c.rank
"""


def replace_candidates(
    store: PoolStore,
    prediction_set: str,
    candidates: Mapping[str, pl.DataFrame],
    run_id: str,
    *,
    limit: int,
    objects: bool,
) -> None:
    """Store functions' candidates by their names, of each function ``limit`` at the most.

    They have the columns rank, image_id, score, uncertainty and prediction_count.
    """
    functions = list(candidates)
    store.connection.execute(
        DELETE_CANDIDATES, {"prediction_set": prediction_set, "acquisition_functions": functions}
    )
    replace_rankings(store, prediction_set, functions, run_id, limit=limit)
    import polars as pl

    # Together, for the classes of their images are looked up in all predictions.
    incoming = pl.concat(
        ranked.with_columns(acquisition_function=pl.lit(name))
        for name, ranked in candidates.items()
    )
    classes = known_classes(store, prediction_set)
    if classes is not None:
        unknown = incoming.join(classes, on="image_id", how="anti")
        if not unknown.height or unknown["prediction_count"].max() == 0:
            check_files(store, [prediction_set], "predictions")
            known = incoming.join(classes, on="image_id", how="left").to_arrow()
            values = {"prediction_set": prediction_set, "run_id": run_id}
            store.insert(INSERT_WITH_CLASSES, known, **values)
            return
    statement = INSERT_CANDIDATES.format(predicted_classes=predicted_classes_sql(objects=objects))
    images = incoming.unique("image_id").select("image_id", "prediction_count")
    keep_predictions(store, prediction_set, images)
    (query,), kept = of_images(store, prediction_set, images["image_id"], [statement])
    values = {"prediction_set": prediction_set, "run_id": run_id}
    store.insert(query, incoming.to_arrow(), kept=kept, **values)


# The manifest counts where the ranking was made with one. Where it is not known, it may have been.
RANKED_IMAGES = """
FROM labeling_candidates c
LEFT JOIN rankings r
    ON c.prediction_set = r.prediction_set AND c.acquisition_function = r.acquisition_function
LEFT JOIN images i ON c.image_id = i.image_id AND r.in_manifest IS NOT FALSE
"""

IS_DONE = "coalesce(i.labeled, r.in_manifest, false)"

OF_FUNCTIONS = f"""
WHERE c.prediction_set = $prediction_set
    AND list_contains($acquisition_functions, c.acquisition_function)
    AND ($limit IS NULL OR c.rank <= $limit)
    AND NOT ($still_to_label AND {IS_DONE})
"""

CANDIDATE_ROWS = f"""
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.uri, i.width, i.height,
    c.score, c.uncertainty, c.prediction_count, c.predicted_class, c.run_id
{RANKED_IMAGES} {OF_FUNCTIONS}
ORDER BY list_position($acquisition_functions, c.acquisition_function), c.rank
"""


def candidate_rows(
    store: PoolStore,
    prediction_set: str,
    functions: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    still_to_label: bool = False,
) -> pa.RecordBatchReader:
    """The candidates of functions, one after the other, in the order of their ranks, in batches.

    They are what is committed. Read them to the end or close the reader: as long as it is open, the
    database is.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        functions: Names of the acquisition functions; all without it.
        limit: The last rank of each function; all ranks without it.
        still_to_label: Whether images are left out that have their label by now, or have left the
            manifest.

    Returns:
        The columns prediction_set, acquisition_function, rank, image_id, uri, width, height, score,
        uncertainty, prediction_count, predicted_class and run_id.

    Raises:
        ValueError: If there is no such acquisition function or the limit is below 1.
    """
    values = {
        **_ranked_values(prediction_set, functions, limit),
        "still_to_label": still_to_label,
    }
    return store.committed_rows(CANDIDATE_ROWS, BATCH_ROWS, **values)


# Images of which nothing is known look all alike: a detector may have found nothing in thousands.
FIRST_CANDIDATES = """
WITH of_function AS (
    FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
),
first_of_them AS (
    FROM of_function WHERE prediction_count > 0 OR rank <= coalesce((
        SELECT rank FROM of_function WHERE prediction_count = 0
        ORDER BY rank LIMIT 1 OFFSET $without_predictions - 1
    ), rank)
    ORDER BY rank LIMIT $first
)
SELECT c.rank, c.image_id, i.uri, i.width, i.height, c.score, c.prediction_count, c.predicted_class
FROM first_of_them c
LEFT JOIN rankings r
    ON c.prediction_set = r.prediction_set AND c.acquisition_function = r.acquisition_function
LEFT JOIN images i ON c.image_id = i.image_id AND r.in_manifest IS NOT FALSE
ORDER BY c.rank
"""


def first_candidates(
    store: PoolStore, prediction_set: str, function: str, first: int, *, without_predictions: int
) -> list[dict[str, Any]]:
    """The first candidates of a function, of those without predictions only some.

    Returns:
        Their rank, image_id, uri, width, height, score, prediction_count and predicted_class.
    """
    values = {
        **of_ranking(prediction_set, function),
        "first": first,
        "without_predictions": without_predictions,
    }
    return store.relation(FIRST_CANDIDATES, **values).to_arrow_table().to_pylist()


RANKED_IDS = f"SELECT DISTINCT c.image_id {RANKED_IMAGES} {OF_FUNCTIONS}"

CANDIDATE_PREDICTIONS = f"""
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.uri, i.width, i.height,
    c.score, c.uncertainty, c.prediction_count, c.predicted_class, c.run_id,
    p.prediction_index, p.class_probs::{{value_type}} AS class_probs, p.score AS prediction_score,
    p.category, p.bbox, p.segmentation
{RANKED_IMAGES}
LEFT JOIN {{{{predictions}}}} p ON c.prediction_set = p.prediction_set AND c.image_id = p.image_id
{OF_FUNCTIONS}
ORDER BY list_position($acquisition_functions, c.acquisition_function), c.rank, p.prediction_index
"""


def candidate_predictions(
    store: PoolStore,
    prediction_set: PredictionSet,
    functions: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    still_to_label: bool = False,
) -> pa.RecordBatchReader:
    """The candidates as ``candidate_rows`` gives them, one row per prediction of each.

    The predictions of a candidate stand together, in their order; a candidate without predictions
    has a single row.

    Returns:
        The columns of ``candidate_rows`` and prediction_index, class_probs, prediction_score,
        category, bbox and segmentation, null where the candidate has no predictions.

    Raises:
        ValueError: If there is no such acquisition function or the limit is below 1.
    """
    values = {
        **_ranked_values(prediction_set.prediction_set, functions, limit),
        "still_to_label": still_to_label,
    }
    (query,), kept = of_images(
        store,
        prediction_set.prediction_set,
        store.relation(RANKED_IDS, **values).pl()["image_id"],
        [CANDIDATE_PREDICTIONS.format(value_type=prediction_set.value_type)],
    )
    batch_rows = rows_for(len(prediction_set.class_names) * 8)
    return store.committed_rows(query, batch_rows, kept=kept, **values)


def _ranked_values(
    prediction_set: str, functions: Sequence[str] | None, limit: int | None
) -> dict[str, Any]:
    names = list(ACQUISITION_FUNCTIONS if functions is None else functions)
    if unknown := [name for name in names if name not in ACQUISITION_FUNCTIONS]:
        raise ValueError(
            f"acquisition_function is {unknown[0]!r}, expected one of "
            f"{', '.join(ACQUISITION_FUNCTIONS)}"
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")
    return {"prediction_set": prediction_set, "acquisition_functions": names, "limit": limit}


def load_candidates(
    database: Database,
    *,
    pool: str,
    acquisition_function: str | None = None,
    prediction_set: str | None = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The labeling candidates of a pool.

    Args:
        database: The path of the database, opened read-only and closed again, or an open
            connection, which is left as it is.
        pool: The pool's name.
        acquisition_function: The function that ranked them; those of all functions, one after the
            other, without it.
        prediction_set: Name of the prediction set; a pool with only one needs no name.
        limit: The last rank wanted of each function.

    Returns:
        The columns prediction_set, acquisition_function, rank, image_id, uri, width, height (of the
        manifest), score, uncertainty, prediction_count, predicted_class and run_id, in the order of
        the ranks; no rows if no image is a candidate.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool not the prediction set,
            or none is named and there are several.
        ValueError: If there is no such acquisition function or the limit is below 1.

    Example:
        >>> candidates = load_candidates(
        ...     "labeling.duckdb", pool="digits", acquisition_function="margin", limit=2
        ... )
        >>> candidates.select("rank", "image_id", "score").rows()
        [(1, 'digit_0', 0.0), (2, 'digit_2', 0.5)]
    """
    import polars as pl

    functions = None if acquisition_function is None else [acquisition_function]
    with existing_pool(database, pool) as store:
        chosen = chosen_prediction_set(store, prediction_set)
        # All of them at once: an open reader would keep the database open.
        return pl.DataFrame(candidate_rows(store, chosen, functions, limit=limit).read_all())


CANDIDATES_BY_CLASS = """
SELECT predicted_class, count(*) AS candidates FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
GROUP BY predicted_class ORDER BY candidates DESC, predicted_class
"""


def candidates_by_class(
    store: PoolStore, prediction_set: str, function: str
) -> list[tuple[str | None, int]]:
    """Each predicted class and its number of candidates, the most frequent first."""
    return store.rows(CANDIDATES_BY_CLASS, **of_ranking(prediction_set, function))


CANDIDATES_WITHOUT_PREDICTIONS = """
SELECT count(*) FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
    AND prediction_count = 0
"""


def candidates_without_predictions(store: PoolStore, prediction_set: str, function: str) -> int:
    """Number of candidates that have no predictions."""
    values = of_ranking(prediction_set, function)
    return store.rows(CANDIDATES_WITHOUT_PREDICTIONS, **values)[0][0]


CANDIDATE_COUNT = """
SELECT count(*) FROM labeling_candidates
WHERE prediction_set IN $prediction_sets AND acquisition_function = $acquisition_function
"""


def candidate_count(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> int:
    """Number of candidates under a function."""
    return store.rows(
        CANDIDATE_COUNT, prediction_sets=prediction_sets, acquisition_function=function.name
    )[0][0]


def of_ranking(prediction_set: str, function: str) -> dict[str, str]:
    """The values of a statement about one ranking."""
    return {"prediction_set": prediction_set, "acquisition_function": function}
