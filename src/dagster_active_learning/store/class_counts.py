"""The table ``predicted_classes``: how many predictions of a set are for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster_active_learning.store.set_tables import SetTables, with_rows_of_sets

if TYPE_CHECKING:
    import duckdb

INSERT_CLASSES = """
INSERT INTO predicted_classes
SELECT $prediction_set, unnest($classes::VARCHAR[]), unnest($predictions::BIGINT[])
"""


def add_predicted_classes(
    connection: duckdb.DuckDBPyConnection,
    prediction_set: str,
    counts: Sequence[tuple[str | None, int]],
) -> None:
    """Record the number of predictions for each class, None for those without a class."""
    values = {
        "prediction_set": prediction_set,
        "classes": [name for name, _ in counts],
        "predictions": [count for _, count in counts],
    }
    connection.execute(INSERT_CLASSES, values)


COUNT_CLASSES = """
INSERT INTO predicted_classes
WITH counted AS (
    SELECT category, CASE WHEN category IS NULL
        THEN list_position(class_probs, list_max(class_probs)) END AS class_index,
        count(*) AS predictions
    FROM {predictions} GROUP BY category, class_index
)
SELECT $prediction_set, coalesce(c.category, s.class_names[c.class_index]) AS class,
    sum(c.predictions)::BIGINT AS predictions
FROM counted c JOIN prediction_sets s ON s.prediction_set = $prediction_set
GROUP BY class
"""


def count_predicted_classes(connection: duckdb.DuckDBPyConnection, tables: SetTables) -> None:
    """Count the predictions of a set that is stored, where they were not counted as they came."""
    statement = with_rows_of_sets(connection, [tables], COUNT_CLASSES)
    connection.execute(statement, {"prediction_set": tables.prediction_set})


PREDICTIONS_BY_CLASS = """
SELECT class, predictions FROM predicted_classes WHERE prediction_set = $prediction_set
ORDER BY predictions DESC, class
"""


def predictions_by_class(
    connection: duckdb.DuckDBPyConnection, prediction_set: str
) -> list[tuple[str | None, int]]:
    """Each class and the number of predictions for it, the most frequent first."""
    values = {"prediction_set": prediction_set}
    return connection.execute(PREDICTIONS_BY_CLASS, values).fetchall()
