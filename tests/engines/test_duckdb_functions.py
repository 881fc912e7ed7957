"""The SQL functions, against plain float64 NumPy and DuckDB's own aggregates."""

import gc
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import polars as pl
import pytest

from dagster_active_learning import register_functions, score_images
from reference import ROW_SCORES, prediction_scores

FUNCTIONS = ROW_SCORES[:4]
ALL = ", ".join(f"{name}(class_probs) AS {name}" for name in FUNCTIONS)
CLASS_PROBS = np.random.default_rng(0).dirichlet(np.full(7, 0.4), 50_000)


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        register_functions(connection)
        yield connection


def value_of(connection, query):
    ((value,),) = connection.execute(query).fetchall()
    return value


def fill(connection, kind):
    connection.register("rows", pl.DataFrame({"class_probs": CLASS_PROBS}))
    connection.execute("CREATE SCHEMA digits")
    connection.execute(
        f"CREATE TABLE digits.predictions AS SELECT class_probs::{kind} AS class_probs FROM rows"
    )


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("DOUBLE[]", 1e-12), ("FLOAT[]", 2e-6), ("DOUBLE[7]", 1e-12), ("FLOAT[7]", 2e-6)],
)
def test_scores_are_those_of_numpy(connection, kind, tolerance):
    fill(connection, kind)
    scores = connection.sql(f"SELECT {ALL} FROM digits.predictions").pl()
    reference = prediction_scores(CLASS_PROBS)
    assert scores.schema == dict.fromkeys(FUNCTIONS, pl.Float64)
    for name in FUNCTIONS:
        np.testing.assert_allclose(scores[name], reference[name], rtol=0, atol=tolerance)


def test_the_bits_are_those_of_score_images(connection):
    fill(connection, "FLOAT[]")
    rows = connection.sql(f"SELECT class_probs, {ALL} FROM digits.predictions").pl()
    assert rows.select(FUNCTIONS).equals(score_images(rows["class_probs"]).select(FUNCTIONS))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("margin([0.5, 0.3, 0.2])", 0.2),
        ("entropy([0.5, 0.5])", 1.0),
        ("entropy([1, 0])", 0.0),
        ("variance([1, 0]::UTINYINT[2])", 0.25),
        ("least_confidence([0.75, 0.25]::DECIMAL(4, 2)[])", 0.25),
        ("margin(NULL::FLOAT[])", None),
        ("margin(NULL::DOUBLE[3])", None),
        ("TRY(margin([0.5, 0.3]))", None),
    ],
)
def test_literals_and_null(connection, expression, value):
    assert value_of(connection, f"SELECT {expression}") == pytest.approx(value, abs=1e-15)


def test_rows_may_have_different_numbers_of_classes_and_nulls_among_them(connection):
    rows = [[0.5, 0.5], None, [0.2, 0.3, 0.5], [0.9, 0.1]] * 3000
    connection.execute("CREATE TABLE rows (class_probs DOUBLE[])")
    connection.executemany("INSERT INTO rows VALUES (?)", [[row] for row in rows[:4]])
    connection.execute("INSERT INTO rows SELECT r.class_probs FROM rows r, range(2999)")
    scores = connection.execute("SELECT class_probs, margin(class_probs) FROM rows").fetchall()
    assert len(scores) == len(rows)
    for row, margin in scores:
        if row is None:
            assert margin is None
        else:
            first, second = sorted(row, reverse=True)[:2]
            assert margin == pytest.approx(first - second, abs=1e-15)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("[0.5, 0.25]", "which sums to 0.75; expected a sum of 1"),
        ("[0.5, 'nan'::DOUBLE]", "expected finite numbers"),
        ("[0.5, NULL]", "expected finite numbers"),
        ("[1.0]", "expected 2 class probabilities or more"),
        ("[]", "expected 2 class probabilities or more"),
    ],
)
def test_a_row_that_is_no_distribution_ends_the_query(connection, row, words):
    with pytest.raises(duckdb.InvalidInputException, match=words):
        value_of(connection, f"SELECT entropy({row})")


def test_try_finds_the_rows_that_are_none(connection):
    query = """SELECT i FROM range(10) t(i), (SELECT 1)
        WHERE TRY(margin(CASE WHEN i % 4 = 0 THEN [0.5, 0.25] ELSE [0.5, 0.5] END)) IS NULL
        ORDER BY i"""
    assert connection.execute(query).fetchall() == [(0,), (4,), (8,)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT {entropy}(x), {variance}(x) FROM range(10) t(x)",
        "SELECT x % 2, {entropy}(x // 4), {variance}(x) FROM range(10) t(x) GROUP BY 1 ORDER BY 1",
        "SELECT {entropy}(x) OVER (ORDER BY x), {variance}(x) OVER () FROM range(5) t(x)",
        "SELECT {entropy}(x::VARCHAR), {entropy}([x::VARCHAR]) FROM range(10) t(x)",
        "SELECT x % 2 FROM range(9) t(x) GROUP BY 1 HAVING {variance}(x) > 7",
    ],
)
def test_duckdbs_own_aggregates_of_these_names_stay(connection, query):
    names = {name: f"system.main.{name}" for name in ("entropy", "variance")}
    with duckdb.connect() as plain:
        expected = plain.execute(query.format(**names)).fetchall()
    assert expected
    assert connection.execute(query.format(entropy="entropy", variance="variance")).fetchall() == (
        expected
    )
    distinct = "SELECT system.main.entropy(DISTINCT x) FROM (VALUES (1), (1), (2)) t(x)"
    assert value_of(connection, distinct) == 1.0


def test_registering_again_on_cursors_and_on_other_connections(database):
    margin = "SELECT margin([0.75, 0.25])"
    first = duckdb.connect(str(database))
    for _ in range(2):
        register_functions(first)
        assert value_of(first, margin) == 0.5
    cursor, second = first.cursor(), duckdb.connect(str(database))
    for other in (cursor, second):
        register_functions(other)
        assert value_of(other, margin) == 0.5
    # The connection that registered them goes; the other still has them.
    first.close()
    del first
    gc.collect()
    assert value_of(second, margin) == 0.5
    second.close()


def test_nothing_is_written_to_the_database(database):
    with duckdb.connect(str(database)) as connection:
        fill(connection, "FLOAT[]")
    before = database.read_bytes()
    with duckdb.connect(str(database), read_only=True) as connection:
        register_functions(connection)
        uncertain = "SELECT count(*) FROM digits.predictions WHERE entropy(class_probs) > 2"
        expected = int((prediction_scores(CLASS_PROBS.astype("f4"))["entropy"] > 2).sum())
        assert value_of(connection, uncertain) == expected
    assert database.read_bytes() == before
    with (
        duckdb.connect(str(database), read_only=True) as connection,
        pytest.raises(duckdb.CatalogException, match="margin does not exist"),
    ):
        value_of(connection, "SELECT margin([0.5, 0.5])")


def test_a_rollback_does_not_lock_the_functions_out():
    with duckdb.connect() as connection:
        connection.begin()
        register_functions(connection)
        connection.rollback()
        register_functions(connection)
        assert value_of(connection, "SELECT margin([0.75, 0.25])") == 0.5


def test_from_many_threads_at_once(connection):
    fill(connection, "DOUBLE[]")
    connection.execute("SET threads = 4")
    sums = ", ".join(f"sum({name}(class_probs))" for name in FUNCTIONS)
    query = f"SELECT {sums} FROM digits.predictions"

    def run(_):
        with connection.cursor() as cursor:
            register_functions(cursor)
            return cursor.execute(query).fetchone()

    reference = prediction_scores(CLASS_PROBS)
    expected = [reference[name].sum() for name in FUNCTIONS]
    with ThreadPoolExecutor(8) as threads:
        for sums in threads.map(run, range(16)):
            np.testing.assert_allclose(sums, expected, rtol=1e-10)
