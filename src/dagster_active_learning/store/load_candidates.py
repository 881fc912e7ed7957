"""A pool's candidates as a data frame."""

from __future__ import annotations

import polars as pl

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.store import (
    candidate_rows,
    chosen_prediction_set,
    existing_pool,
)
from dagster_active_learning.store.lookup import Database


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
        >>> load_candidates("labeling.duckdb", pool="digits", limit=10)  # doctest: +SKIP
    """
    with existing_pool(database, pool) as store:
        chosen = chosen_prediction_set(store, prediction_set)
        # All of them at once: an open reader would keep the database open.
        every = acquisition_function is None
        functions = list(ACQUISITION_FUNCTIONS) if every else [acquisition_function]
        rows = candidate_rows(store, chosen, functions, limit=limit).read_all()
        return pl.DataFrame(rows)
