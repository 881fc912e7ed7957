"""The lineage view against the files themselves, and pools that are opened to be read."""

import json

import duckdb
import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import ImageCounts, image_counts, replace_images
from dagster_active_learning.store.labeling_candidates import candidate_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import existing_pool
from dagster_active_learning.store.prediction_sets import chosen_prediction_set, prediction_set
from pools import ingest, score
from ranked_pools import HOSTILE_IDS, manifest, ranked, ranked_files, sha256, write_files

LINEAGE = """SELECT source, row_number, source_sha256, class_probs FROM candidate_lineage
    WHERE image_id = $image_id AND acquisition_function = 'margin'"""


def files_with_faults(tmp_path):
    """Three files, the second one empty, with rows that go to quarantine between the others."""
    first = [("a", [0.9, 0.1]), ("bad", [0.5, 0.2]), ("b", [0.6, 0.4])]
    second = [(None, [0.5, 0.5]), *((one, [0.8, 0.2]) for one in HOSTILE_IDS), ("c", [0.7, 0.3])]
    return write_files(tmp_path / "files", first, [], second)


def expected_lineage(path):
    """image_id -> file, row from 1, hash and values, read from the files by pyarrow alone."""
    import pyarrow.parquet as pq

    return {
        row["image_id"]: (str(file), number, sha256(file), row["class_probs"])
        for file in sorted(path.parent.glob("*.parquet"))
        for number, row in enumerate(pq.read_table(file).to_pylist(), start=1)
        if row["image_id"] not in (None, "bad")
    }


def test_every_candidate_leads_to_the_row_of_its_file(store, tmp_path):
    path = files_with_faults(tmp_path)
    ranked_files(store, path)
    expected = expected_lineage(path)
    assert len(expected) == 3 + len(HOSTILE_IDS)
    for image_id, origin in expected.items():
        assert store.connection.execute(LINEAGE, {"image_id": image_id}).fetchall() == [origin]
    counts = store.connection.execute(
        "SELECT acquisition_function, count(*) FROM candidate_lineage GROUP BY ALL"
    ).fetchall()
    assert dict(counts) == dict.fromkeys(
        ["entropy", "least_confidence", "margin", "variance"], len(expected)
    )


def test_it_names_set_model_runs_uri_and_scores(store, tmp_path):
    replace_images(store, manifest(["a", "b", "nothing"]))
    path = write_files(tmp_path / "files", [("a", [0.75, 0.25]), ("b", [0.5, 0.5])])
    ranked_files(store, path, in_manifest=True, functions=["margin"])
    rows = store.connection.sql(
        "SELECT * EXCLUDE (ingested_at) FROM candidate_lineage ORDER BY rank"
    ).pl()
    assert rows["image_id"].to_list() == ["b", "a", "nothing"]
    digest = prediction_set(store, "set").source_sha256
    assert rows.row(1, named=True) == {
        "prediction_set": "set", "acquisition_function": "margin", "rank": 2, "image_id": "a",
        "uri": "s3://images/a", "score": 0.5, "uncertainty": 0.5, "predicted_class": "0",
        "entropy": pytest.approx(0.8112781244591328, abs=1e-12), "least_confidence": 0.25,
        "margin": 0.5, "variance": 0.0625, "mean_object_score": None, "prediction_count": 1,
        "prediction_index": 0, "class_probs": [0.75, 0.25], "prediction_score": None,
        "category": None, "source": str(path.parent / "part0.parquet"),
        "source_sha256": sha256(path.parent / "part0.parquet"), "row_number": 1, "model": "model",
        "class_names": ["0", "1"], "prediction_set_source": str(path),
        "prediction_set_sha256": digest, "prediction_run_id": "run", "ranking_run_id": "run",
    }  # fmt: skip
    nothing = rows.row(2, named=True)
    assert nothing["prediction_count"] == 0
    assert nothing["source"] is nothing["row_number"] is nothing["class_probs"] is None


def test_objects_have_a_row_each(store, tmp_path):
    objects = [("a", 0.25, "car"), ("b", 0.5, "bus"), ("a", 0.75, "car")]
    file = tmp_path / "objects.jsonl"
    file.write_text(
        "".join(
            json.dumps({"image_id": one, "score": value, "category": name}) + "\n"
            for one, value, name in objects
        )
    )
    stream = read_predictions(
        file, format="jsonl", score_column="score", category_column="category"
    )
    ranked(store, stream, rules=Rules(task="detection"), functions=["mean_object_score"])
    found = store.connection.execute(
        """SELECT image_id, prediction_score, category, row_number FROM candidate_lineage
        ORDER BY row_number"""
    ).fetchall()
    assert found == [(*row, number) for number, row in enumerate(objects, start=1)]


def test_a_filter_on_the_image_reaches_every_table(store, tmp_path):
    replace_images(store, manifest(["a", "b"]))
    ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5]), ("b", [1.0, 0.0])]))
    plan = store.connection.execute(
        "EXPLAIN (FORMAT json) SELECT * FROM candidate_lineage WHERE image_id = 'b'"
    ).fetchall()[0][1]
    scans = {}

    def walk(node):
        details = node.get("extra_info", {})
        if "Table" in details:
            scans[details["Table"].rpartition(".")[2]] = str(details.get("Filters", ""))
        for child in node.get("children", []):
            walk(child)

    for node in json.loads(plan):
        walk(node)
    for table in ("labeling_candidates", "images", "image_scores", "predictions"):
        assert "image_id = 'b'" in scans[table] or "image_id='b'" in scans[table], scans


def test_a_pool_of_an_earlier_version_gets_what_it_lacks(database, tmp_path):
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5])]))
        connection.execute("DROP VIEW candidate_lineage; DROP TABLE rankings")
        for column in ("inputs", "aggregation"):
            connection.execute(f"ALTER TABLE prediction_sets DROP COLUMN {column}")
    with duckdb.connect(str(database), read_only=True) as connection:
        # A reader cannot make it, and can do without.
        assert prediction_set(PoolStore(connection, "pool"), "set").image_count == 1
        with pytest.raises(duckdb.CatalogException):
            connection.execute("FROM candidate_lineage")
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        assert len(connection.execute("FROM candidate_lineage").fetchall()) == 4
        comments = {column.name: column.comment for column in store.columns("candidate_lineage")}
        assert "Which row of the file, from 1" in str(comments["row_number"])
        assert store.columns("rankings")
        ingest(store, read_predictions(tmp_path / "files" / "*.parquet", format="parquet"))
        score(store)
        rules = connection.execute("SELECT inputs, aggregation FROM prediction_sets").fetchall()
        assert rules == [("probabilities", "mean")]


@pytest.mark.parametrize(
    "lack",
    [
        "DROP VIEW candidate_lineage",
        "DROP TABLE rankings",
        "ALTER TABLE prediction_sets DROP COLUMN aggregation",
        "COMMENT ON COLUMN candidate_lineage.prediction_set IS NULL",
    ],
)
def test_each_thing_that_an_earlier_version_lacks_is_added(store, lack):
    store.connection.execute(lack)
    PoolStore(store.connection, "pool")
    store.connection.execute("SELECT inputs, aggregation FROM prediction_sets")
    store.connection.execute("FROM candidate_lineage")
    store.connection.execute("FROM rankings")
    assert uncommented(store) == []


def uncommented(store):
    """Tables, views and columns of the pool that have no comment."""
    return store.connection.execute(
        """SELECT table_name, NULL FROM duckdb_tables()
            WHERE schema_name = 'pool' AND comment IS NULL
        UNION ALL SELECT view_name, NULL FROM duckdb_views()
            WHERE schema_name = 'pool' AND comment IS NULL
        UNION ALL SELECT table_name, column_name FROM duckdb_columns()
            WHERE schema_name = 'pool' AND comment IS NULL"""
    ).fetchall()


def test_every_table_view_and_column_is_explained(store):
    assert uncommented(store) == []


def test_the_view_outlives_wider_class_probabilities_and_other_database_names(database, tmp_path):
    with duckdb.connect(str(database)) as connection:
        store = PoolStore(connection, "pool")
        ranked_files(store, write_files(tmp_path / "files", [("a", [0.75, 0.25])]))
        connection.execute("ALTER TABLE predictions ALTER class_probs TYPE FLOAT[]")
        connection.execute("ALTER TABLE predictions ALTER class_probs TYPE DOUBLE[]")
        assert len(connection.execute("FROM candidate_lineage").fetchall()) == 4
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{database}' AS other (READ_ONLY)")
        assert len(connection.execute("FROM other.pool.candidate_lineage").fetchall()) == 4


@pytest.mark.parametrize("kind", ["connection", "path", "text"])
def test_an_existing_pool_is_read_and_nothing_is_left_behind(database, kind):
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, 'a "pool"')
    given = {"connection": duckdb.connect(str(database)), "path": database, "text": str(database)}
    if kind != "connection":
        given["connection"].close()
    with existing_pool(given[kind], 'a "pool"') as store:
        assert image_counts(store) == ImageCounts(0, 0)
    with (
        pytest.raises(PoolStateError, match=r"has no pool 'typo', it has \['a \"pool\"'\]"),
        existing_pool(given[kind], "typo"),
    ):
        pass
    if kind == "connection":
        schemas = (
            "SELECT current_schema(), count(*) FROM duckdb_schemas() WHERE schema_name = 'typo'"
        )
        assert given[kind].execute(schemas).fetchall() == [("main", 0)]
        given[kind].close()
    # It can be opened with another configuration: nobody has it open any more.
    duckdb.connect(str(database), config={"threads": 1}).close()


def test_an_existing_pool_in_the_database_that_the_connection_uses(database):
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{database}' AS \"the other\"")
        connection.execute('USE "the other"')
        with existing_pool(connection, "pool") as store:
            assert store.database == "the other"


def test_the_only_prediction_set_needs_no_name(store, tmp_path):
    with pytest.raises(PoolStateError, match="has 0 prediction sets, .*materialize pool/pred"):
        chosen_prediction_set(store, None)
    stream = read_predictions(
        write_files(tmp_path / "files", [("a", [0.5, 0.5])]), format="parquet"
    )
    ingest(store, stream)
    assert chosen_prediction_set(store, None) == chosen_prediction_set(store, "set") == "set"
    with pytest.raises(PoolStateError, match="has no prediction set 'other'"):
        chosen_prediction_set(store, "other")
    stream = read_predictions(tmp_path / "files" / "*.parquet", format="parquet")
    ingest(store, stream, prediction_set="another")
    with pytest.raises(PoolStateError, match=r"2 prediction sets, \['another', 'set'\]: name one"):
        chosen_prediction_set(store, None)


def test_candidates_come_in_the_order_of_functions_and_ranks(store, tmp_path):
    rows = [(f"image{row}", [1 - row / 20_000, row / 20_000]) for row in range(10_000)]
    ranked_files(store, write_files(tmp_path / "files", rows), functions=["margin", "entropy"])
    found = candidate_rows(store, "set").read_all().to_pylist()
    assert [(row["acquisition_function"], row["rank"]) for row in found] == [
        (name, rank) for name in ("entropy", "margin") for rank in range(1, 1001)
    ]
    first = candidate_rows(store, "set", ["margin"], limit=3).read_all().to_pylist()
    assert [row["image_id"] for row in first] == ["image9999", "image9998", "image9997"]
    for wrong, words in (
        ({"limit": 0}, "limit is 0"),
        ({"functions": ["margin", "x"]}, "is 'x', ex"),
    ):
        with pytest.raises(ValueError, match=words):
            candidate_rows(store, "set", **wrong)
    assert score(store).height == 10_000
