"""Pools of every earlier layout are migrated, those of a later version refused."""

import shutil
from importlib.metadata import version
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    explain_candidate,
    load_candidates,
    read_predictions,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import schema, set_tables, versions
from dagster_active_learning.store.kept_scores import drop_kept_scores
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import existing_pool
from dagster_active_learning.store.prediction_sets import (
    former_class_names,
    prediction_set,
    prediction_set_names,
)
from dagster_active_learning.store.rankings import check_rankings, outdated_rankings
from pools import column, in_memory, ingest, rank, rows, score
from ranked_pools import write_files
from store.earlier_layouts import LAYOUTS, statements

PREDICTIONS = [("a", [0.5, 0.5]), ("b", [0.75, 0.25]), ("a", [1.0, 0.0]), ("c", [0.125, 0.875])]
"""Those about one image do not stand together."""

LAYOUT = """
SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns()
WHERE schema_name = 'pool' AND NOT regexp_matches(table_name, '_-?[0-9]+$')
ORDER BY table_name, column_index
"""

AS_VERSION_4 = """
CREATE TABLE all_predictions AS FROM predictions;
CREATE TABLE all_scores AS FROM image_scores;
DROP VIEW candidate_lineage; DROP VIEW predictions; DROP VIEW image_scores;
DROP TABLE predicted_classes; ALTER TABLE prediction_sets DROP COLUMN scored_by;
ALTER TABLE all_predictions RENAME TO predictions;
ALTER TABLE all_scores RENAME TO image_scores;
UPDATE schema_version SET version = 4;
"""
"""What makes the predictions of all sets one table, and their scores another."""


def as_version_4(store):
    """Make a pool of version 4 of a new one."""
    query = "SELECT table_type, table_name FROM information_schema.tables WHERE regexp_matches(table_name, '_-?[0-9]+$')"
    own = rows(store, query)
    store.connection.execute(AS_VERSION_4)
    for kind, table in own:
        store.connection.execute(f'DROP {kind.removeprefix("BASE ")} "{table}"')


STATEMENTS = [
    """INSERT INTO prediction_sets BY NAME SELECT {name} AS prediction_set, 'old model' AS model,
        'old/*.parquet' AS source, '0f' AS source_sha256, ['x', 'y'] AS class_names,
        4 AS prediction_count, 3 AS image_count, 1 AS quarantined_count, {known}
        'old run' AS run_id, TIMESTAMPTZ '2026-11-{day} 10:00:00+00' AS ingested_at""",
    "INSERT INTO prediction_sources VALUES ({name}, 'old/1.parquet', '1f', 0, 5)",
    "INSERT INTO quarantined_predictions VALUES ({name}, 'old/1.parquet', 5, 'bad', 'NaN', '[]')",
    "INSERT INTO image_scores VALUES ({name}, 'a', 2, 0, 0, 0.5, 0, NULL), ({name}, 'b', 1, 0, 0, 0.5, 0, NULL)",
    "INSERT INTO labeling_candidates VALUES ({name}, 'margin', 1, 'b', 0.5, 0.5, 1, 'x', 'rank run')",
    "INSERT INTO labeling_candidates VALUES ({name}, 'entropy', 1, 'a', 0.5, 0.5, 2, 'x', 'rank run')",
]


def make(connection, layout, *, sets=(("set", 24),)):
    """A pool of an earlier layout with predictions, scores and two rankings."""
    connection.execute("CREATE SCHEMA pool; USE pool")
    for statement in statements(layout):
        connection.execute(statement)
    connection.execute("INSERT INTO images VALUES ('a', 's3://a', 1, 1, false, NULL)")
    has = LAYOUTS[layout]
    known = "0 AS score_only_count, 'pixel' AS bbox_unit, " * ("objects" in has)
    known += "'FLOAT[]' AS value_type, " * ("value_type" in has)
    known += "4 AS image_run_count, " * ("image_run_count" in has)
    known += "'probabilities' AS inputs, 'max' AS aggregation, " * ("rules" in has)
    for name, day in sets:
        for statement in STATEMENTS:
            connection.execute(statement.format(name=f"'{name}'", known=known, day=day))
        for index, (image_id, class_probs) in enumerate(PREDICTIONS):
            connection.execute(
                "INSERT INTO predictions BY NAME SELECT ? AS prediction_set, ? AS image_id, ? AS prediction_index, ? AS class_probs",
                [name, image_id, index, class_probs],
            )
        if "rankings" in has:
            connection.execute(
                f"INSERT INTO rankings VALUES ('{name}', 'margin', 7, 'rank run', now())"
            )
    connection.execute("USE main")


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def earlier_pool(layout, tmp_path_factory):
    """The database of a pool of an earlier layout, for copies."""
    database = tmp_path_factory.mktemp("earlier") / "test.duckdb"
    with duckdb.connect(str(database)) as connection:
        make(connection, layout)
    return database


@pytest.fixture(scope="module")
def migrated_pool(earlier_pool, tmp_path_factory):
    """The same after its migration."""
    database = shutil.copy(earlier_pool, tmp_path_factory.mktemp("migrated"))
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
    return database


@pytest.fixture
def earlier(database, earlier_pool):
    return Path(shutil.copy(earlier_pool, database))


@pytest.fixture
def migrated(database, migrated_pool):
    with duckdb.connect(str(shutil.copy(migrated_pool, database))) as connection:
        yield PoolStore(connection, "pool")


def test_a_migrated_pool_has_the_layout_of_a_new_one(migrated):
    with duckdb.connect() as connection:
        new = PoolStore(connection, "pool")
        assert rows(migrated, LAYOUT) == rows(new, LAYOUT)
        for kind in ("tables", "views"):
            comments = f"SELECT {kind[:-1]}_name AS name, comment FROM duckdb_{kind}() WHERE schema_name = 'pool' AND NOT regexp_matches(name, '_-?[0-9]+$') ORDER BY ALL"
            assert rows(migrated, comments) == rows(new, comments)
        recorded = (versions.SCHEMA_VERSION, version("dagster-active-learning"))
        for store in (migrated, new):
            ((number, package, sha256),) = rows(
                store, "SELECT * EXCLUDE (pool, pool_id) FROM schema_version"
            )
            assert (number, package) == recorded
            assert sha256 == versions.statements_sha256()


def test_its_rows_are_there_and_what_was_not_kept_is_null(migrated, layout):
    has = LAYOUTS[layout]
    stored = prediction_set(migrated, "set")
    assert (stored.prediction_count, stored.image_count, stored.image_run_count) == (4, 3, 4)
    assert (stored.score_only_count, stored.value_type) == (0, "FLOAT[]")
    assert stored.bbox_unit == ("pixel" if "objects" in has else None)
    assert (stored.task, stored.inputs, stored.in_manifest, stored.sum_tolerance) == (None,) * 4
    assert rows(migrated, "SELECT image_id, class_probs FROM predictions") == PREDICTIONS
    for table, count in (("images", 1), ("prediction_sources", 1), ("quarantined_predictions", 1), ("image_scores", 2), ("scorings", 0)):  # fmt: skip
        assert rows(migrated, f"SELECT count(*) FROM {table}") == [(count,)]
    rankings = "SELECT acquisition_function, candidate_limit, run_id, model, predictions_generation FROM rankings ORDER BY 1"
    limit = 7 if "rankings" in has else None
    assert rows(migrated, rankings) == [
        ("entropy", None, "rank run", None, None), ("margin", limit, "rank run", None, None),
    ]  # fmt: skip
    temporary = "SELECT table_name FROM duckdb_tables() WHERE temporary"
    assert rows(migrated, temporary) == []


def test_its_candidates_are_not_said_to_be_of_the_predictions_that_are_there(migrated):
    candidates = load_candidates(migrated.connection, pool="pool")
    assert candidates["image_id"].to_list() == ["a", "b"]
    assert candidates["uri"].to_list() == ["s3://a", None]
    lineage = "SELECT image_id, score, ranking_run_id, model, source, class_probs, prediction_run_id, is_current FROM candidate_lineage ORDER BY 1"
    assert rows(migrated, lineage) == [
        (image_id, 0.5, "rank run", None, None, None, None, False) for image_id in "ab"
    ]
    assert outdated_rankings(migrated, ["set"], ["margin", "entropy"]).count == 2
    words = "ranking by entropy .* made by an earlier version, which did not keep what of; .*materialize pool/image_scores, pool/lab"
    with pytest.raises(PoolStateError, match=words):
        check_rankings(migrated, "set", ["entropy", "margin"])
    text = explain_candidate(migrated.connection, "b", pool="pool", acquisition_function="margin")
    assert "ranked by an earlier version, which did not keep what the rank was made of" in text
    assert "formula" not in text


def test_it_is_scored_and_ranked_as_a_new_one(migrated):
    with pytest.raises(PoolStateError, match=r"scores of an earlier version.*pool/image_scores"):
        rank(migrated, "margin")
    assert column(migrated, "SELECT DISTINCT run_id FROM labeling_candidates") == ["rank run"]
    with duckdb.connect() as connection:
        new = PoolStore(connection, "pool")
        ids, class_probs = zip(*PREDICTIONS, strict=True)
        lists = pa.array(class_probs, pa.list_(pa.float32()))
        table = pa.table({"image_id": ids, "class_probs": lists})
        ingest(new, in_memory(table.replace_schema_metadata({"class_names": '["x", "y"]'})))
        for store in (migrated, new):
            assert score(store)["margin"].to_list() == [0.5, 0.5, 0.75]
        for name in ("margin", "entropy"):
            assert rank(migrated, name, limit=2) == rank(new, name, limit=2)
    assert outdated_rankings(migrated, ["set"], ["margin", "entropy"]).count == 0
    lineage = "SELECT DISTINCT model, source, is_current FROM candidate_lineage"
    assert rows(migrated, lineage) == [("old model", "old/1.parquet", True)]


def test_a_reader_says_what_migrates_it(earlier):
    before = earlier.read_bytes()
    for read in (load_candidates, lambda path, **options: explain_candidate(path, "a", **options)):
        with pytest.raises(
            PoolStateError, match=rf"version 0 .*version {versions.SCHEMA_VERSION} .*materialize"
        ):
            read(earlier, pool="pool")
    assert earlier.read_bytes() == before
    with duckdb.connect(str(earlier)) as connection:
        PoolStore(connection, "pool")
    assert load_candidates(earlier, pool="pool").height == 2


VERSION_1 = """
ALTER TABLE scorings DROP COLUMN committee;
ALTER TABLE rankings DROP COLUMN committee;
ALTER TABLE schema_version DROP COLUMN pool;
UPDATE schema_version SET version = 1;
"""
"""What makes a pool of version 1 of a newer one."""


@pytest.mark.parametrize("image_ids", [["a", "b", "c", "d"], ["a", "b", "a", "c"]])
def test_a_pool_of_version_1_keeps_its_scores_and_rankings(store, tmp_path, image_ids):
    path = write_files(
        tmp_path / "files",
        [(i, probs) for i, (_, probs) in zip(image_ids, PREDICTIONS, strict=True)],
    )
    ingest(store, read_predictions(path, format="parquet"))
    score(store)
    rank(store, "margin")
    scores = "FROM image_scores ORDER BY image_id"
    lineage = "FROM candidate_lineage ORDER BY rank, prediction_index"
    before = rows(store, scores), rows(store, lineage)
    as_version_4(store)
    store.connection.execute(VERSION_1)
    store = PoolStore(store.connection, "pool")
    assert (rows(store, scores), rows(store, lineage)) == before
    check_rankings(store, "set", ["margin"])
    score(store)
    assert rows(store, scores) == before[0]


def test_sets_have_the_order_in_which_they_were_read_and_come_before_new_ones(database, layout):
    with duckdb.connect(str(database)) as connection:
        make(connection, layout, sets=(("last", 24), ("first", 22), ("middle", 23)))
        store = PoolStore(connection, "pool")
        by_generation = "SELECT prediction_set FROM prediction_sets ORDER BY generation"
        assert column(store, by_generation) == ["first", "middle", "last"]
        ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
        assert column(store, by_generation)[-1] == "set"
        assert former_class_names(store, "set") == ["x", "y"]
        assert former_class_names(store, "first") is None


@pytest.mark.parametrize("layout", ["4631189", "b3f1417"], indirect=True)
def test_what_the_oldest_did_not_count_is_counted(database, layout):
    """Objects without class probabilities, and the precision that the table had."""
    with duckdb.connect(str(database)) as connection:
        make(connection, layout, sets=())
        connection.execute("ALTER TABLE pool.predictions ALTER class_probs TYPE DOUBLE[]")
        known = "1 AS score_only_count, " * ("objects" in LAYOUTS[layout])
        connection.execute("USE pool")
        connection.execute(STATEMENTS[0].format(name="'set'", known=known, day=1))
        for index, (image_id, class_probs) in enumerate([("a", [0.1, 0.9]), ("a", None), ("b", [0.3, 0.7])]):  # fmt: skip
            connection.execute("INSERT INTO predictions BY NAME SELECT 'set' AS prediction_set, ? AS image_id, ? AS prediction_index, ? AS class_probs", [image_id, index, class_probs])  # fmt: skip
        stored = prediction_set(PoolStore(connection, "pool"), "set")
        assert (stored.image_run_count, stored.score_only_count) == (2, 1)
        assert stored.value_type == "DOUBLE[]"


def test_a_failed_migration_leaves_the_pool_as_it_was(earlier, monkeypatch):
    def breaks_off():
        raise OSError("the disk is full")

    with duckdb.connect(str(earlier)) as connection:
        before = connection.execute(LAYOUT).fetchall()
        with monkeypatch.context() as patch:
            patch.setattr(versions, "statements_sha256", breaks_off)
            with pytest.raises(OSError, match="disk"):
                PoolStore(connection, "pool")
        assert connection.execute(LAYOUT).fetchall() == before
        assert prediction_set(PoolStore(connection, "pool"), "set").image_count == 3


# Version 2


def test_a_sum_of_version_2_is_made_again_before_it_is_ranked(store):
    """It added scores, also of functions that are labeled lowest first."""
    table = pa.table({"image_id": ["a", "b"], "class_probs": [[0.5, 0.5], [0.75, 0.25]]})
    rules = Rules(aggregation="sum")
    ingest(store, in_memory(table))
    for aggregation, is_kept in ((rules, False), (Rules(), True)):
        score(store, rules=aggregation)
        as_version_4(store)
        store.connection.execute("UPDATE schema_version SET version = 2")
        PoolStore(store.connection, "pool")
        assert (column(store, "SELECT aggregation FROM scorings") == ["mean"]) == is_kept
        if not is_kept:
            with pytest.raises(PoolStateError, match=r"materialize pool/image_scores"):
                rank(store, "margin", rules=aggregation)


# Version 3


def test_a_pool_of_version_3_gets_the_table_of_evaluations(store):
    layout = rows(store, LAYOUT)
    as_version_4(store)
    store.connection.execute("DROP TABLE rule_evaluations; UPDATE schema_version SET version = 3")
    store = PoolStore(store.connection, "pool")
    assert rows(store, LAYOUT) == layout
    assert column(store, "SELECT version FROM schema_version") == [versions.SCHEMA_VERSION]


# Version 4


def test_the_sets_of_version_4_get_tables_of_their_own(store):
    """With the columns that each fills, in the precision that it was read in."""
    sets = {
        "classes": pa.table({"image_id": ["b", "a"], "class_probs": [[0.1, 0.9], [0.5, 0.5]]}),
        "float32": pa.table(
            {
                "image_id": ["a"],
                "class_probs": pa.array([[0.25, 0.75]], pa.list_(pa.float32())),
            }
        ),
        "'quoted'": pa.table({"image_id": ["c"], "class_probs": [[0.3, 0.7]]}),
    }
    for name, table in sets.items():
        ingest(store, in_memory(table), prediction_set=name)
    queries = ("FROM predictions", "FROM image_scores", "FROM prediction_sets")
    tables = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'pool' ORDER BY ALL"
    # Version 4 did not score predictions when it read them.
    for name in sets:
        drop_kept_scores(store, prediction_set(store, name).tables)
    store.connection.execute("UPDATE prediction_sets SET scored_by = NULL")
    before = [rows(store, query) for query in (*queries, tables)]
    as_version_4(store)
    store = PoolStore(store.connection, "pool")
    assert [rows(store, query) for query in (*queries, tables)] == before


# Later versions


def test_a_later_version_is_refused_with_both_named(store, database):
    store.connection.execute("UPDATE schema_version SET version = 12, package_version = '7.8.9'")
    store.connection.close()
    newest = versions.SCHEMA_VERSION
    words = (
        rf"has version 12 of the schema.*7\.8\.9.*knows versions up to {newest}: install .* 7\.8\.9"
    )
    for read_only in (True, False):
        with duckdb.connect(str(database), read_only=read_only) as connection:
            with pytest.raises(PoolStateError, match=words):
                PoolStore(connection, "pool")
            assert connection.execute("SELECT version FROM pool.schema_version").fetchall() == [
                (12,)
            ]
    with pytest.raises(PoolStateError, match="version 12"):
        load_candidates(database, pool="pool")


@pytest.mark.parametrize("table", schema.TABLES)
def test_a_column_that_this_version_does_not_know_is_named(store, database, table):
    store.connection.execute(f"ALTER TABLE {table} ADD COLUMN \"later 'column'\" FLOAT[]")
    store.connection.close()
    words = rf"has {table}\.later 'column', which .*another version .*registered elsewhere"
    with duckdb.connect(str(database)) as connection, pytest.raises(PoolStateError, match=words):
        PoolStore(connection, "pool")
    # A reader names the columns that it reads.
    with existing_pool(database, "pool") as reader:
        assert prediction_set_names(reader) == []


@pytest.mark.parametrize("table", ["predictions", "image_scores"])
def test_a_column_of_a_set_that_this_version_does_not_know_is_named(store, table):
    ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
    store.connection.execute(f"CREATE TABLE {table}_2024 (mine FLOAT[])")
    PoolStore(store.connection, "pool")
    of_set = prediction_set(store, "set").tables.name(table)
    store.connection.execute(f"ALTER TABLE {of_set} ADD COLUMN later DOUBLE")
    with pytest.raises(PoolStateError, match=rf"has {table}_\d+\.later, which .*another version"):
        PoolStore(store.connection, "pool")


@pytest.mark.parametrize("layout", ["4631189", "cdf6ffe"], indirect=True)
def test_a_column_that_no_earlier_version_had_is_named(earlier):
    with duckdb.connect(str(earlier)) as connection:
        connection.execute("ALTER TABLE pool.predictions ADD COLUMN embedding FLOAT[]")
        with pytest.raises(PoolStateError, match=r"has predictions\.embedding, which .*version"):
            PoolStore(connection, "pool")
        assert connection.execute("SELECT count(*) FROM pool.prediction_sets").fetchall() == [(1,)]


def test_the_column_of_a_function_is_known_where_the_function_is(store, toy_function):
    PoolStore(store.connection, "pool")
    ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
    score(store)
    del ACQUISITION_FUNCTIONS[toy_function.name]
    with pytest.raises(PoolStateError, match=rf"image_scores_\d+\.{toy_function.name}.* drop the"):
        PoolStore(store.connection, "pool")
    ACQUISITION_FUNCTIONS[toy_function.name] = toy_function
    PoolStore(store.connection, "pool")
    # As the error says.
    table = prediction_set(store, "set").tables.name("image_scores")
    store.connection.execute(f"ALTER TABLE {table} DROP COLUMN {toy_function.name}")
    del ACQUISITION_FUNCTIONS[toy_function.name]
    columns = [each.name for each in PoolStore(store.connection, "pool").columns("image_scores")]
    assert toy_function.name not in columns


def test_tables_of_the_user_beside_a_pool_are_their_own(store):
    store.connection.execute(
        "CREATE TABLE mine (embedding FLOAT[]); CREATE VIEW seen AS FROM images"
    )
    PoolStore(store.connection, "pool")
    assert rows(store, "SELECT count(*) FROM mine") == [(0,)]


# The view


@pytest.mark.parametrize(
    "view",
    [
        "SELECT prediction_set, rank FROM labeling_candidates",
        "SELECT *, 1 AS more FROM labeling_candidates",
    ],
)
def test_a_view_of_an_earlier_version_is_made_anew(store, view):
    expected = rows(store, LAYOUT)
    store.connection.execute(f"CREATE OR REPLACE VIEW candidate_lineage AS {view}")
    PoolStore(store.connection, "pool")
    assert rows(store, LAYOUT) == expected


def test_a_changed_statement_reaches_a_pool_and_an_unchanged_one_writes_nothing(
    store, database, monkeypatch
):
    store.connection.close()
    before = database.read_bytes()
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
    assert database.read_bytes() == before
    changed = schema.views_sql().replace("c.is_current", "NOT c.is_current AS is_current")
    for module in (versions, set_tables):
        monkeypatch.setattr(module, "views_sql", lambda: changed)
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
        ((sql,),) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'candidate_lineage'").fetchall()  # fmt: skip
        assert "NOT c.is_current" in sql or "(NOT c.is_current)" in sql


def test_the_known_columns_are_those_of_the_tables(store, toy_function):
    PoolStore(store.connection, "pool")
    stored = {(table, name) for table, name, *_ in rows(store, LAYOUT)}
    assert schema.known_columns() == stored
    tables = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'pool' ORDER BY 1"
    assert column(store, tables) == sorted(schema.TABLES)
