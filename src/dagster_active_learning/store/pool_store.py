"""The tables of one pool through one open connection: what is written and read, in which words."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS, RAW_CHARACTERS
from dagster_active_learning.store import queries

TABLES = (
    "empty_images",
    "image_scores",
    "images",
    "labeling_candidates",
    "prediction_sets",
    "prediction_sources",
    "predictions",
    "quarantined_predictions",
    "rankings",
)
"""The tables of ``schema.sql``."""


def prediction_schema(value_type: pa.DataType) -> pa.Schema:
    """The columns of ``predictions`` from image_id on, with class probabilities of a precision."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("prediction_index", pa.int64()),
            ("class_probs", pa.list_(value_type)),
            ("score", pa.float64()),
            ("category", pa.string()),
            ("bbox", pa.list_(pa.float64())),
            ("segmentation", pa.string()),
        ]
    )


@dataclass(frozen=True)
class PredictionSet:
    """One row of ``prediction_sets``."""

    prediction_set: str
    model: str | None
    source: str
    source_sha256: str
    class_names: list[str]
    prediction_count: int
    image_count: int
    image_run_count: int
    quarantined_count: int
    score_only_count: int
    bbox_unit: str | None
    value_type: str
    run_id: str

    @property
    def has_class_probs(self) -> bool:
        """Whether any of its predictions has class probabilities."""
        return self.prediction_count > self.score_only_count


@dataclass(frozen=True)
class SourceFile:
    """One row of ``prediction_sources``: a file and the positions its rows have in the set."""

    source: str
    source_sha256: str
    first_prediction_index: int
    row_count: int


class PoolStore:
    """A pool's schema in an open DuckDB connection, made on first use.

    Args:
        connection: An open connection; its current schema becomes the pool's.
        pool: The pool's name, which is the schema's.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, pool: str) -> None:
        self._connection = connection
        self.pool = pool
        connection.execute(queries.COMPARE_LITERALLY)
        in_the_way = self._rows(queries.SCHEMA_IN_THE_WAY, pool=pool)
        if in_the_way:
            raise PoolStateError(
                f"the pool {pool!r} cannot have a schema in the database {self.database!r}: DuckDB "
                f"takes its name for that of the schema {in_the_way[0][0]!r}, which is another's: "
                "give the pool another name"
            )
        # With the database's name: a schema may be named as the database is.
        schema = f"{quoted(self.database)}.{quoted(pool)}"
        ((made, taken),) = self._rows(queries.TABLES_EXIST, pool=pool, tables=list(TABLES))
        if taken and not made:
            raise PoolStateError(
                f"the schema {pool!r} of the database {self.database!r} has the tables "
                f"{', '.join(taken)}, which are not this package's: give the pool another name"
            )
        # A pool of an earlier version lacks what has come since; only a writer can add it.
        if not made or not self._rows(queries.IS_COMPLETE, pool=pool)[0][0]:
            tables = (
                resources.files("dagster_active_learning.store")
                .joinpath("schema.sql")
                .read_text("utf-8")
            )
            with self.transaction():
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                connection.execute(f"USE {schema}")
                connection.execute(tables)
        self._use = f"{queries.COMPARE_LITERALLY}; USE {schema}"
        connection.execute(self._use)

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Everything in the block happens, or nothing does."""
        self._connection.begin()
        try:
            yield
        except BaseException as error:
            # An open result in a frame of the traceback would block the rollback.
            release_results(error)
            self._connection.rollback()
            raise
        self._connection.commit()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The open connection."""
        return self._connection

    @property
    def database(self) -> str:
        """The name of the database the pool is in."""
        return str(self._rows("SELECT current_database()")[0][0])

    # images

    def replace_images(self, images: pa.Table) -> None:
        """Make ``images`` (columns of the table ``images``) the pool's manifest."""
        self._connection.execute(queries.DELETE_IMAGES)
        self._insert(queries.INSERT_IMAGES, images)

    def image_counts(self) -> tuple[int, int]:
        """How many images the manifest has, and how many of them are labeled."""
        return self._rows(queries.IMAGE_COUNTS)[0]

    # predictions

    def clear_prediction_set(self, prediction_set: str, value_type: pa.DataType) -> None:
        """Remove a prediction set's rows and make room for values of the given precision."""
        for statement in queries.DELETE_PREDICTION_SET:
            self._connection.execute(statement, {"prediction_set": prediction_set})
        stored = {name: kind for name, kind, _ in self.columns("predictions")}["class_probs"]
        if value_type == pa.float64() and stored != "DOUBLE[]":
            self._connection.execute(queries.WIDEN_CLASS_PROBS)

    def add_predictions(
        self, prediction_set: str, schema: pa.Schema, predictions: Iterable[pa.RecordBatch]
    ) -> None:
        """Store rows with the columns of ``predictions`` from image_id on, as they come."""
        self._insert_stream(
            queries.INSERT_PREDICTIONS, schema, predictions, prediction_set=prediction_set
        )

    def add_empty_images(self, prediction_set: str, images: pa.RecordBatch) -> None:
        """Store the column image_id: images in which the model found no object."""
        self._insert(queries.INSERT_EMPTY_IMAGES, images, prediction_set=prediction_set)

    def empty_images_not_in_manifest(self, prediction_set: str) -> int:
        """How many images in which the model found no object the manifest does not have."""
        values = {"prediction_set": prediction_set}
        return self._rows(queries.EMPTY_IMAGES_NOT_IN_MANIFEST, **values)[0][0]

    def add_quarantined(self, prediction_set: str, rows: pa.RecordBatch) -> None:
        """Store rows with the columns source, row_number, image_id, reason and raw."""
        self._insert(queries.INSERT_QUARANTINED, rows, prediction_set=prediction_set)

    def add_sources(self, prediction_set: str, files: Sequence[SourceFile]) -> None:
        """Record which positions of the set the rows of each file have."""
        rows = pa.Table.from_pylist([asdict(file) for file in files])
        self._insert(queries.INSERT_SOURCES, rows, prediction_set=prediction_set)

    def quarantine_images_not_in_manifest(self, prediction_set: str, reason: str) -> int:
        """Move predictions about images the manifest does not have; returns how many they are."""
        values = {"prediction_set": prediction_set}
        self._connection.execute(
            queries.QUARANTINE_IMAGES_NOT_IN_MANIFEST,
            {**values, "reason": reason, "raw_characters": RAW_CHARACTERS},
        )
        return self._rows(queries.DELETE_IMAGES_NOT_IN_MANIFEST, **values)[0][0]

    def add_prediction_set(
        self,
        prediction_set: str,
        *,
        model: str | None,
        source: str,
        source_sha256: str,
        class_names: list[str] | None,
        prediction_count: int,
        image_count: int | None,
        image_run_count: int,
        quarantined_count: int,
        may_have_lone_scores: bool,
        bbox_unit: str | None,
        value_type: pa.DataType,
        run_id: str,
    ) -> PredictionSet:
        """Record the prediction set whose rows have been stored.

        Without ``class_names`` they are the categories of its objects; without ``image_count``
        the different ids are counted. ``may_have_lone_scores`` says whether there can be rows
        without class probabilities.
        """
        # A subquery would run also where its value is not asked for.
        values = {"prediction_set": prediction_set}
        if image_count is None:
            image_count = self._rows(queries.IMAGE_COUNT, **values)[0][0]
        score_only_count = 0
        if may_have_lone_scores:
            score_only_count = self._rows(queries.SCORE_ONLY_COUNT, **values)[0][0]
        self._connection.execute(
            queries.INSERT_PREDICTION_SET,
            {
                "prediction_set": prediction_set,
                "model": model,
                "source": source,
                "source_sha256": source_sha256,
                "class_names": class_names,
                "prediction_count": prediction_count,
                "image_count": image_count,
                "image_run_count": image_run_count,
                "quarantined_count": quarantined_count,
                "score_only_count": score_only_count,
                "bbox_unit": bbox_unit,
                "value_type": "DOUBLE[]" if value_type == pa.float64() else "FLOAT[]",
                "run_id": run_id,
            },
        )
        return self.prediction_set(prediction_set)

    def prediction_set(self, prediction_set: str) -> PredictionSet:
        """The record of a prediction set.

        Raises:
            PoolStateError: If the set is not in the database.
        """
        found = self._rows(queries.PREDICTION_SET, prediction_set=prediction_set)
        if not found:
            raise PoolStateError(
                f"pool {self.pool!r} has no prediction set {prediction_set!r} in the database "
                f"{self.database!r}: materialize {self.pool}/predictions first"
            )
        return PredictionSet(*found[0])

    def sources(self, prediction_set: str) -> list[SourceFile]:
        """The files of a prediction set, in the order they were read."""
        rows = self._rows(queries.SOURCES, prediction_set=prediction_set)
        return [SourceFile(*row) for row in rows]

    def quarantined_by_reason(self, prediction_set: str) -> pl.DataFrame:
        """Columns reason, rows, first_source, first_row; the most frequent reason first."""
        return self._relation(queries.QUARANTINED_BY_REASON, prediction_set=prediction_set).pl()

    def first_ids(self, prediction_set: str, reason: str) -> tuple[str | None, str | None]:
        """The beginning of the first image_id in quarantine for a reason, and in the manifest."""
        return self._rows(queries.FIRST_IDS, prediction_set=prediction_set, reason=reason)[0]

    # scores

    def predictions_by_image(
        self, prediction_set: PredictionSet, batch_rows: int
    ) -> pa.RecordBatchReader:
        """Columns image_id, class_probs and score; an image's predictions together, in their order.

        They are what is committed, read beside the transaction of this store.
        """
        # A float32 set is scored as such also where a float64 set has widened the table.
        query = queries.PREDICTIONS.format(value_type=prediction_set.value_type)
        if prediction_set.image_run_count > prediction_set.image_count:
            query += queries.BY_IMAGE
        elif not self._rows(queries.PRESERVES_ORDER)[0][0]:
            query += queries.IN_ORDER
        beside = self._connection.cursor()
        beside.execute(self._use)
        relation = beside.sql(query, params={"prediction_set": prediction_set.prediction_set})
        return relation.to_arrow_reader(batch_rows)

    def replace_image_scores(self, prediction_set: str, scores: Iterable[pa.RecordBatch]) -> None:
        """Store batches of ``image_score_schema`` in place of the set's scores, as they come."""
        values = {"prediction_set": prediction_set}
        self._connection.execute(queries.DELETE_IMAGE_SCORES, values)
        self._insert_stream(queries.INSERT_IMAGE_SCORES, image_score_schema(), scores, **values)

    def set_scoring(self, prediction_set: str, *, inputs: str, aggregation: str) -> None:
        """Record by which rules a prediction set was scored."""
        self._connection.execute(
            queries.SET_SCORING,
            {"prediction_set": prediction_set, "inputs": inputs, "aggregation": aggregation},
        )

    def add_images_without_predictions(
        self, prediction_set: str, *, in_manifest: bool, objects: bool
    ) -> None:
        """Store a row for each image that has no scores yet.

        Those are images of the manifest, or without one images in which the model found nothing.
        """
        values = {"prediction_set": prediction_set}
        # DuckDB would hash the ids of all scores also where there is no image to look for.
        if in_manifest or self._rows(queries.HAS_EMPTY_IMAGES, **values)[0][0]:
            self._connection.execute(
                queries.INSERT_IMAGES_WITHOUT_PREDICTIONS,
                {**values, "in_manifest": in_manifest, "objects": objects},
            )

    def has_scores(self, prediction_set: str) -> bool:
        """Whether a prediction set has been scored."""
        return self._rows(queries.HAS_SCORES, prediction_set=prediction_set)[0][0]

    def score_statistics(self, prediction_set: str) -> tuple[int, int, Mapping[str, float | None]]:
        """How many images have scores, how many of them no prediction, and each score's mean."""
        ((images, without, *means),) = self._rows(
            queries.SCORE_STATISTICS, prediction_set=prediction_set
        )
        return images, without, dict(zip(ACQUISITION_FUNCTIONS, means, strict=True))

    # candidates

    def unlabeled_count(self, prediction_set: str, *, in_manifest: bool) -> int:
        """How many images with scores have no label yet.

        With ``in_manifest`` only of those that the manifest still has.
        """
        values = {"prediction_set": prediction_set, "in_manifest": in_manifest}
        return self._rows(queries.UNLABELED_COUNT, **values)[0][0]

    def contenders(
        self,
        prediction_set: str,
        function: AcquisitionFunction,
        first: int,
        *,
        in_manifest: bool,
    ) -> Iterator[pl.DataFrame]:
        """Columns image_id, score and prediction_count of images without a label.

        Images whose score cannot be among the ``first`` are left out; those without predictions
        are not.
        """
        values = {"prediction_set": prediction_set, "in_manifest": in_manifest}
        highest = function.label_first == "highest"
        words = {
            "score": quoted(function.name),
            "direction": "DESC" if highest else "ASC",
            "as_good_as": ">=" if highest else "<=",
        }
        cut = self._rows(queries.SCORE_AT_CUT.format(**words), **values, beyond=first - 1)
        relation = self._relation(
            queries.CONTENDERS.format(**words), **values, cut=cut[0][0] if cut else None
        )
        for batch in relation.to_arrow_reader(DEFAULT_BATCH_ROWS):
            yield pl.DataFrame(batch)

    def replace_candidates(
        self,
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
        values = {"prediction_set": prediction_set}
        of_functions = {**values, "acquisition_functions": list(candidates)}
        for statement in queries.DELETE_RANKINGS:
            self._connection.execute(statement, of_functions)
        self._connection.execute(
            queries.INSERT_RANKINGS, {**of_functions, "limit": limit, "run_id": run_id}
        )
        # Together, for the classes of their images are looked up in all predictions.
        incoming = pl.concat(
            ranked.with_columns(acquisition_function=pl.lit(name))
            for name, ranked in candidates.items()
        )
        classes = queries.MOST_FREQUENT_CLASSES if objects else queries.PREDICTED_CLASSES
        statement = f"INSERT INTO labeling_candidates {classes} {queries.INSERT_CANDIDATES}"
        self._insert(statement, incoming.to_arrow(), **values, run_id=run_id)

    # what the tables are

    def columns(self, table: str) -> list[tuple[str, str, str | None]]:
        """Name, type and comment of a table's columns."""
        return self._rows(queries.COLUMNS, pool=self.pool, table=table)

    def _rows(self, query: str, **values: Any) -> list[Any]:
        # All of them: a result that is not fetched to its end blocks the connection.
        return self._connection.execute(query, values).fetchall()

    def _relation(self, query: str, **values: Any) -> duckdb.DuckDBPyRelation:
        return self._connection.sql(query, params=values)

    def _insert_stream(
        self, statement: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], **values: Any
    ) -> None:
        """Run one statement over batches that are made while it runs."""
        failures: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:
                failures.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(schema, guarded())
        try:
            self._insert(statement, reader, **values)
        except duckdb.Error:
            # DuckDB says that its input failed: what matters is why.
            if failures:
                raise failures[0] from None
            raise

    def _insert(
        self,
        statement: str,
        incoming: pa.Table | pa.RecordBatch | pa.RecordBatchReader,  # noqa: ARG002
        **values: Any,
    ) -> None:
        # The statement finds `incoming` as the variable of that name. A registered view would keep
        # the rows in memory until the transaction ends.
        self._connection.execute(statement, values)


def release_results(error: BaseException | None) -> None:
    """Let go of what a failed step holds, for as long as somebody keeps its error.

    A query result in a frame of the traceback blocks its connection, and keeps the database open:
    DuckDB then waits without end for it to be closed when the process connects again.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def quoted(identifier: str) -> str:
    """An identifier as SQL takes it, whatever it contains."""
    return '"' + identifier.replace('"', '""') + '"'
