"""What a pool's tables say, for people and for other tools: everything here only reads."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store import queries
from dagster_active_learning.store.opening import connect
from dagster_active_learning.store.pool_store import PoolStore, quoted, release_results

Database: TypeAlias = "duckdb.DuckDBPyConnection | str | PathLike[str]"
"""An open connection, or the path of a database file."""

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class ImageRecord:
    """All that a pool's tables say about one image in a prediction set, with their column names.

    Attributes:
        manifest: uri, labeled and label; None if the manifest does not have the image.
        scores: The row of ``image_scores`` from prediction_count on; None if there is none.
        inputs: What the class probabilities were declared to be when they were scored; None if the
            pool does not say, as one of an earlier version.
        aggregation: What the scores are of those of the predictions; None where inputs is.
        rankings: For each function that has candidates: how many (``candidates``), the
            ``last_score`` among them, the ``run_id``, and rank, score, uncertainty and
            predicted_class of the image, None if it is not among them.
        predictions: class_probs, score and category of each prediction, with source,
            source_sha256 and row_number.
        quarantined: source, row_number and reason of its rows in quarantine.
        is_empty: Whether the source says that the model found no object in it.
    """

    manifest: dict[str, Any] | None
    scores: dict[str, Any] | None
    inputs: str | None
    aggregation: str | None
    rankings: dict[str, dict[str, Any]]
    predictions: list[dict[str, Any]]
    quarantined: list[dict[str, Any]]
    is_empty: bool


@contextmanager
def existing_pool(database: Database, pool: str) -> Generator[PoolStore]:
    """A pool that is in a database already, for reading, as long as the block runs.

    Args:
        database: The path of the database, which is opened read-only and closed again; or an open
            connection, which is left as it is: what it has not committed is not seen.
        pool: The pool's name.

    Raises:
        PoolStateError: If the database does not have the pool.
    """
    if isinstance(database, duckdb.DuckDBPyConnection):
        ((name,),) = database.execute("SELECT current_database()").fetchall()
        connection = database.cursor()
        # A cursor starts in the first database, wherever its connection is.
        connection.execute(f"USE {quoted(name)}")
    else:
        connection = connect(fspath(database), read_only=True)
    try:
        pools = [name for (name,) in connection.execute(queries.POOLS).fetchall()]
        if pool not in pools:
            raise PoolStateError(
                f"the database has no pool {pool!r}, it has {pools}: materialize "
                f"{pool}/predictions first, or name another pool or database"
            )
        yield PoolStore(connection, pool)
    except BaseException as error:
        release_results(error)
        raise
    finally:
        connection.close()


def chosen_prediction_set(store: PoolStore, prediction_set: str | None) -> str:
    """The prediction set that is named, or without a name the pool's only one.

    Raises:
        PoolStateError: If the pool does not have the set, or it is not the only one.
    """
    if prediction_set is not None:
        return store.prediction_set(prediction_set).prediction_set
    names = [name for (name,) in store.connection.execute(queries.PREDICTION_SET_NAMES).fetchall()]
    if len(names) != 1:
        raise PoolStateError(
            f"pool {store.pool!r} has {len(names)} prediction sets, {names}: "
            + ("name one as prediction_set" if names else f"materialize {store.pool}/predictions")
        )
    return names[0]


def candidate_rows(
    store: PoolStore,
    prediction_set: str,
    functions: Sequence[str] = tuple(ACQUISITION_FUNCTIONS),
    *,
    limit: int | None = None,
) -> pa.RecordBatchReader:
    """The candidates of functions, one after the other, in the order of their ranks, in batches.

    Read them to the end or close the reader: as long as it is open it blocks the connection.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        functions: Names of the acquisition functions.
        limit: The last rank of each function; all ranks without it.

    Returns:
        The columns prediction_set, acquisition_function, rank, image_id, uri, width, height, score,
        uncertainty, prediction_count, predicted_class and run_id.

    Raises:
        ValueError: If there is no such acquisition function or the limit is below 1.
    """
    if unknown := [name for name in functions if name not in ACQUISITION_FUNCTIONS]:
        raise ValueError(
            f"acquisition_function is {unknown[0]!r}, expected one of "
            f"{', '.join(ACQUISITION_FUNCTIONS)}"
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")
    relation = store.connection.sql(
        queries.CANDIDATE_ROWS,
        params={
            "prediction_set": prediction_set,
            "acquisition_functions": list(functions),
            "limit": limit,
        },
    )
    return relation.to_arrow_reader(BATCH_ROWS)


def image_record(store: PoolStore, prediction_set: str, image_id: str) -> ImageRecord:
    """All that the tables say about one image in a prediction set."""
    of_image = {"image_id": image_id}
    in_set = {"prediction_set": prediction_set, **of_image}

    def rows(query: str, values: dict[str, str]) -> list[dict[str, Any]]:
        return store.connection.sql(query, params=values).to_arrow_table().to_pylist()

    manifest = rows(queries.IMAGE, of_image)
    scores = rows(queries.SCORES_OF_IMAGE, in_set)
    (scoring,) = rows(queries.SCORING, {"prediction_set": prediction_set})
    return ImageRecord(
        manifest=manifest[0] if manifest else None,
        scores=scores[0] if scores else None,
        inputs=scoring.get("inputs"),
        aggregation=scoring.get("aggregation"),
        rankings={
            row["acquisition_function"]: row for row in rows(queries.RANKINGS_OF_IMAGE, in_set)
        },
        predictions=rows(queries.PREDICTIONS_OF_IMAGE, in_set),
        quarantined=rows(queries.QUARANTINED_OF_IMAGE, in_set),
        is_empty=bool(rows(queries.EMPTY_IMAGE, in_set)),
    )
