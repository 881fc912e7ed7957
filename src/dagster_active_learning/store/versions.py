"""The version of a pool's schema: earlier ones are migrated, later ones are refused.

Another layout of the tables, or another meaning of a column, is another version: it gets the next
``SCHEMA_VERSION`` and a migration. Comments, views and the columns of acquisition functions need
none: the statements are run again whenever they are others than before.
"""

# Names of tables and columns are put into statements.
# ruff: noqa: S608

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from uuid import uuid4

import duckdb

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.class_counts import count_predicted_classes
from dagster_active_learning.store.schema import (
    PACKAGE,
    TABLES,
    VIEWS,
    known_columns,
    quoted,
    schema_sql,
    views_sql,
)
from dagster_active_learning.store.set_columns import SCORE_COLUMNS
from dagster_active_learning.store.set_tables import (
    COMMENT,
    SetTables,
    add_column,
    make_table,
    renew_views,
)

SCHEMA_VERSION = 6
"""The version of ``schema.sql``.

0 is any layout from the time before pools said theirs. Up to 2 a sum added scores, not
uncertainties, and there were no batches. Up to 3 no rule was evaluated, an export that did not end
was not known, and there were no labeling tasks and labels. Up to 4 the predictions of all sets were
one table, and their scores another. Up to 5 predictions were not counted by class.
"""

EARLIER_COLUMNS = {("prediction_sets", "aggregation")}
"""The columns of earlier versions that this one does not have."""

# A table of a set has the columns of the view that shows it; its comment tells it from a user's.
STORED_COLUMNS = """
SELECT c.table_name, c.column_name, c.comment IS NOT NULL,
    CASE WHEN v.view_name IS NULL
        THEN coalesce(regexp_extract(s.table_name, '^(predictions|image_scores)_', 1), c.table_name)
    END
FROM duckdb_columns() c
LEFT JOIN (
    FROM duckdb_tables() WHERE schema_name = $schema AND database_name = current_database()
        AND starts_with(comment, $comment)
) s ON c.table_name = s.table_name
LEFT JOIN (
    FROM duckdb_views() WHERE schema_name = $schema AND database_name = current_database()
) v ON c.table_name = v.view_name
WHERE c.schema_name = $schema AND c.database_name = current_database()
    AND (list_contains($tables, c.table_name) OR s.table_name IS NOT NULL)
"""


@dataclass(frozen=True)
class StoredSchema:
    """The schema of a pool in a database.

    Attributes:
        version: Its version.
        package_version: The version of this package that made or changed it last, if it says so.
        statements_sha256: SHA-256 of the statements that did.
        columns: The columns of the tables, each with the table's name. The view that shows a table
            of a set is beside it: a column of ``predictions_7`` is known if ``predictions`` has it.
        explained: Columns of tables and views that have a comment.
    """

    version: int
    package_version: str | None
    statements_sha256: str | None
    columns: frozenset[tuple[str, str, str]]
    explained: frozenset[tuple[str, str]]

    @property
    def is_newest(self) -> bool:
        """True where the statements of ``schema.sql`` would change nothing."""
        return (
            self.version == SCHEMA_VERSION
            and self.statements_sha256 == statements_sha256()
            and known_columns() <= self.explained
        )


def statements_sha256() -> str:
    """SHA-256 of the statements that make a pool's tables now."""
    return hashlib.sha256((schema_sql() + views_sql()).encode()).hexdigest()


def stored_schema(connection: duckdb.DuckDBPyConnection, schema: str) -> StoredSchema:
    """The tables of a pool, in a schema of the connection's current database."""
    values = {"schema": schema, "tables": [*TABLES, *VIEWS], "comment": COMMENT}
    rows = connection.execute(STORED_COLUMNS, values).fetchall()
    columns = frozenset((table, kind, column) for table, column, _, kind in rows if kind)
    explained = frozenset((table, column) for table, column, has_comment, _ in rows if has_comment)
    recorded: list[tuple[int, str, str]] = []
    if ("schema_version", "schema_version", "version") in columns:
        ((database,),) = connection.execute("SELECT current_database()").fetchall()
        table = f"{quoted(database)}.{quoted(schema)}.schema_version"
        query = f"SELECT version, package_version, statements_sha256 FROM {table}"
        recorded = connection.execute(query).fetchall()
    return StoredSchema(*(recorded[0] if recorded else (0, None, None)), columns, explained)


def check_schema(stored: StoredSchema, where: str, *, read_only: bool) -> None:
    """Raise PoolStateError unless a pool's tables can be read, and written where that is wanted.

    A reader takes columns that it does not know as they come: it names those that it reads.

    Args:
        stored: The schema of the pool.
        where: The pool and its database, for the error.
        read_only: Whether the pool is only read.
    """
    if stored.version > SCHEMA_VERSION:
        raise PoolStateError(
            f"{where} has version {stored.version} of the schema, made by {PACKAGE} "
            f"{stored.package_version}, and {_this_package()} knows versions up to "
            f"{SCHEMA_VERSION}: install {PACKAGE} {stored.package_version} or a later one, or give "
            "the pool another name or database"
        )
    if read_only:
        if stored.version < SCHEMA_VERSION:
            raise PoolStateError(
                f"{where} has version {stored.version} of the schema, from before {_this_package()}"
                f", which reads version {SCHEMA_VERSION} and can only read now: materialize an "
                "asset of the pool first, for example image_scores, which migrates its tables"
            )
        return
    known = known_columns() | {("predictions", column) for column in SCORE_COLUMNS}
    known |= EARLIER_COLUMNS if stored.version < SCHEMA_VERSION else set()
    unknown = sorted(
        f"{table}.{column}" for table, kind, column in stored.columns if (kind, column) not in known
    )
    if unknown:
        raise PoolStateError(
            f"{where} has {', '.join(unknown)}, which {_this_package()} with version "
            f"{SCHEMA_VERSION} of the schema does not know: another version of the package has "
            "made it, or an acquisition function that is registered elsewhere. Install that "
            "version or register the function here, give the pool another name or database, or "
            "drop the column"
        )


def migrate(connection: duckdb.DuckDBPyConnection, pool: str, stored: StoredSchema | None) -> None:
    """Make the tables of a pool, or bring those that are there to this version.

    This runs in a transaction, in the pool's schema.

    Args:
        connection: The connection.
        pool: The pool's name.
        stored: The schema of the pool; None where there is none yet.
    """
    earlier = SCHEMA_VERSION if stored is None else stored.version
    if earlier < 2:
        connection.execute(SET_ASIDE)
    connection.execute(schema_sql())
    if earlier < 2:
        connection.execute(TAKE_BACK)
    if earlier < 3:
        connection.execute(FORGET_SUMS)
    if earlier < 5:
        connection.execute(FORGET_COMMITTEES)
        _split_by_set(connection)
    if earlier < 6:
        _count_classes(connection)
    renew_views(connection)
    ids = connection.execute("SELECT pool_id FROM schema_version").fetchall()
    connection.execute("DELETE FROM schema_version")
    connection.execute(
        RECORD_VERSION,
        {
            "version": SCHEMA_VERSION,
            "package_version": version(PACKAGE),
            "statements_sha256": statements_sha256(),
            "pool": pool,
            "pool_id": next((pool_id for (pool_id,) in ids if pool_id), uuid4().hex),
        },
    )


# Versions 0 and 1. Their layouts lack columns and tables, in several combinations. The small tables
# are made anew, so that they are what they are in a new pool; large ones only get what they lack.
SET_ASIDE = """
DROP TABLE IF EXISTS schema_version;
CREATE TABLE IF NOT EXISTS scorings (prediction_set VARCHAR);
CREATE TEMP TABLE aside_scorings AS FROM scorings;
DROP TABLE scorings;
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS segmentation VARCHAR;
CREATE TABLE IF NOT EXISTS rankings (prediction_set VARCHAR, acquisition_function VARCHAR);
CREATE TEMP TABLE aside_prediction_sets AS FROM prediction_sets;
CREATE TEMP TABLE aside_rankings AS FROM rankings;
DROP TABLE prediction_sets;
DROP TABLE rankings;
"""

# What was not kept stays unknown: under which rules predictions were read (`inputs` were those of
# the scores) and what a ranking was made of. Clocks give the order once, with numbers below all
# that will come. Scores get no row in `scorings`: they are made again before they are ranked.
TAKE_BACK = """
CREATE TEMP TABLE earlier_prediction_sets AS FROM prediction_sets;
ALTER TABLE aside_prediction_sets DROP COLUMN IF EXISTS aggregation;
INSERT INTO earlier_prediction_sets BY NAME FROM aside_prediction_sets;
INSERT INTO prediction_sets BY NAME
WITH counted AS (
    SELECT prediction_set, count(*) FILTER (starts_run) AS image_run_count,
        count(*) FILTER (class_probs IS NULL) AS score_only_count
    FROM (
        SELECT prediction_set, class_probs, image_id IS DISTINCT FROM lag(image_id) OVER (
            PARTITION BY prediction_set ORDER BY prediction_index
        ) AS starts_run
        FROM predictions WHERE prediction_set IN (
            SELECT prediction_set FROM earlier_prediction_sets
            WHERE image_run_count IS NULL OR score_only_count IS NULL
        )
    )
    GROUP BY prediction_set
)
SELECT e.* REPLACE (
    coalesce(e.image_run_count, c.image_run_count, 0) AS image_run_count,
    coalesce(e.score_only_count, c.score_only_count, 0) AS score_only_count,
    coalesce(e.value_type, (
        SELECT data_type FROM duckdb_columns()
        WHERE database_name = current_database() AND schema_name = current_schema()
            AND table_name = 'predictions' AND column_name = 'class_probs'
    )) AS value_type,
    CASE WHEN e.task IS NOT NULL THEN e.inputs END AS inputs,
    coalesce(
        e.generation,
        row_number() OVER (ORDER BY e.ingested_at, e.prediction_set) - count(*) OVER ()
    ) AS generation
)
FROM earlier_prediction_sets e LEFT JOIN counted c ON e.prediction_set = c.prediction_set;

CREATE TEMP TABLE earlier_rankings AS FROM rankings;
INSERT INTO earlier_rankings BY NAME FROM aside_rankings;
INSERT INTO earlier_rankings BY NAME
SELECT DISTINCT ON (c.prediction_set, c.acquisition_function)
    c.prediction_set, c.acquisition_function, c.run_id
FROM labeling_candidates c
ANTI JOIN aside_rankings r USING (prediction_set, acquisition_function);
INSERT INTO rankings BY NAME
SELECT e.* REPLACE (
    coalesce(e.generation, row_number() OVER (
        ORDER BY e.ranked_at NULLS FIRST, e.prediction_set, e.acquisition_function
    ) - count(*) OVER ()) AS generation
)
FROM earlier_rankings e;

CREATE TEMP TABLE earlier_scorings AS FROM scorings;
INSERT INTO earlier_scorings BY NAME FROM aside_scorings;
INSERT INTO scorings BY NAME
SELECT * REPLACE (coalesce(committee, false) AS committee) FROM earlier_scorings;

DROP TABLE aside_scorings;
DROP TABLE earlier_scorings;
DROP TABLE aside_prediction_sets;
DROP TABLE earlier_prediction_sets;
DROP TABLE aside_rankings;
DROP TABLE earlier_rankings;
"""

# Version 2. Its sums are not what a sum is now: without a scoring they are made again.
FORGET_SUMS = "DELETE FROM scorings WHERE aggregation = 'sum'"

# Version 4. Its committees have no scores by the functions that compare members.
FORGET_COMMITTEES = "DELETE FROM scorings WHERE committee"


def _split_by_set(connection: duckdb.DuckDBPyConnection) -> None:
    """Versions up to 4: give each prediction set its own tables in place of the common ones."""
    query = "SELECT prediction_set, generation, value_type FROM prediction_sets"
    for name, generation, value_type in connection.execute(query).fetchall():
        for table in ("predictions", "image_scores"):
            tables = SetTables(name, generation)
            make_table(connection, tables, table)
            columns = connection.execute(f"DESCRIBE {table}").fetchall()
            of_set = f"FROM {table} WHERE prediction_set = $name"
            counts = ", ".join(f"count({quoted(column[0])})" for column in columns)
            (filled,) = connection.execute(f"SELECT {counts} {of_set}", {"name": name}).fetchall()
            values = ["image_id"]
            for (column, kind, *_), count in zip(columns, filled, strict=True):
                if not count or column in ("prediction_set", "image_id"):
                    continue
                wanted = value_type if column == "class_probs" else kind
                add_column(connection, tables, table, column, wanted)
                values.append(f"{quoted(column)}::{wanted} AS {quoted(column)}")
            connection.execute(
                f"INSERT INTO {tables.name(table)} BY NAME SELECT {', '.join(values)} {of_set}",
                {"name": name},
            )
    connection.execute("DROP TABLE predictions; DROP TABLE image_scores")


def _count_classes(connection: duckdb.DuckDBPyConnection) -> None:
    """Versions up to 5: count the predictions of each set by class."""
    query = "SELECT prediction_set, generation FROM prediction_sets"
    for row in connection.execute(query).fetchall():
        count_predicted_classes(connection, SetTables(*row))


RECORD_VERSION = """
INSERT INTO schema_version BY NAME
SELECT $version AS version, $package_version AS package_version,
    $statements_sha256 AS statements_sha256, $pool AS pool, $pool_id AS pool_id
"""


def _this_package() -> str:
    return f"{PACKAGE} {version(PACKAGE)}"
