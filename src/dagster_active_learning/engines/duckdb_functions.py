"""The acquisition functions as SQL functions of DuckDB."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import duckdb
import pyarrow as pa
from duckdb.func import PythonUDFType

from dagster_active_learning.acquisition.functions import row_functions
from dagster_active_learning.engines.row_scores import row_scores
from dagster_active_learning.store.schema import quoted

_registering = threading.Lock()

_IS_THERE = """
SELECT count(*) > 0 FROM duckdb_functions()
WHERE function_name = $name AND function_type = $type AND database_name = 'system'
"""

# Typed parameters: DuckDB picks the first for float16 and float32 lists and arrays, the second for
# all other numbers.
_CREATE_MACRO = """
CREATE OR REPLACE TEMP MACRO {name}
    (class_probs FLOAT[]) AS {function}(class_probs),
    (class_probs DOUBLE[]) AS {function}(class_probs)
"""

# Values that are not lists of numbers stay with the aggregate that has the macro's name.
_OR_AGGREGATE = ", (value) AS system.main.{name}(value)"


def register_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``entropy``, ``least_confidence``, ``margin`` and ``variance`` known to a connection.

    So are the functions of the level ``"image"`` that are added to ``ACQUISITION_FUNCTIONS``.

    Each takes class probabilities as a list or array of numbers, K >= 2 in each row, and gives a
    DOUBLE, NULL for NULL; FLOAT is scored in float32, other numbers in float64. The rows may have
    different numbers of classes. A row that is not a probability distribution (every value finite
    and in 0..1 and their sum 1, both within 1e-3) ends the query with an error that shows its
    values: ``TRY(entropy(class_probs))`` is NULL instead, and so finds such rows.

    DuckDB has aggregates named ``entropy`` and ``variance``. Here these names mean the functions
    for lists of numbers, and still the aggregates for everything else, also as window functions;
    only ``DISTINCT``, ``FILTER`` and ``ORDER BY`` inside them need the full name,
    ``system.main.entropy(DISTINCT x)``.

    The names are macros of this connection and go with it: nothing is written to the database,
    which may be read-only. Call this again for a cursor or another connection. All connections of
    this process to the database share the functions behind the names, ``acquisition_entropy`` and
    so on. Registering again changes nothing.

    Args:
        connection: An open connection, with no transaction under way.

    Example:
        >>> with duckdb.connect() as connection:
        ...     register_functions(connection)
        ...     connection.execute("SELECT margin([0.5, 0.3, 0.2])").fetchone()
        (0.2,)
    """
    functions = {name: f"acquisition_{name}" for name in row_functions()}
    # All of them in a cursor, which commits at once, and before the connection's transaction looks
    # for them: after a rollback a connection takes a function for registered, does not have it, and
    # cannot get it any more.
    with _registering, connection.cursor() as cursor:
        for name, function in functions.items():
            if not _is_there(cursor, function, "scalar"):
                scores = _scores_under(name)
                cursor.create_function(function, scores, None, "DOUBLE", type=PythonUDFType.ARROW)
    for name, function in functions.items():
        words = {"name": quoted(name), "function": quoted(function)}
        macro = _CREATE_MACRO.format(**words)
        if _is_there(connection, name, "aggregate"):
            macro += _OR_AGGREGATE.format(**words)
        connection.execute(macro)


# Alive as long as the process: DuckDB lets go of a function when the connection that registered it
# is closed, and then crashes if another connection to the database calls it.
@cache
def _scores_under(function: str) -> Callable[[pa.ChunkedArray], pa.Array]:
    # DuckDB counts the parameters of the signature: one, of any type.
    def scores(class_probs: pa.ChunkedArray) -> pa.Array:
        return row_scores(class_probs, function)

    return scores


def _is_there(connection: duckdb.DuckDBPyConnection, name: str, type: str) -> bool:
    values = {"name": name, "type": type}
    ((is_there,),) = connection.execute(_IS_THERE, values).fetchall()
    return is_there
