"""Sets in place and the same files copied: how tests make both, and compare them."""

import tempfile
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow, read_predictions
from dagster_active_learning.files.in_place import FileInPlace
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore

RULES = Rules()


class InThisProcess:
    """An engine that runs one task after the other, in the order that it is given."""

    def __init__(self, order=list):
        self.order = order
        self.tasks = []

    def run(self, function, tasks, *_):
        for task in self.order(tasks):
            self.tasks.append(task)
            yield function(task)


def pool_store(path=":memory:"):
    return PoolStore(duckdb.connect(str(path)), "pool")


def copied(path, rules=RULES, *, manifest=None, **options):
    """A pool with the set in DuckDB's way."""
    store = pool_store()
    add_manifest(store, manifest)
    stream = read_predictions(path, format="parquet", **options)
    flow.ingest_predictions(
        store,
        stream,
        prediction_set="set",
        model="model",
        run_id="run",
        rules=rules,
        report=lambda _: None,
    )
    flow.score_prediction_set(store, "set", rules=rules, run_id="run", report=lambda _: None)
    return store


def scored(
    path,
    storage,
    rules=RULES,
    engine=None,
    report=lambda _: None,
    *,
    prediction_set="set",
    run_id="run",
    **options,
):
    return flow.score_files(
        open_in_place(str(path), **options),
        prediction_set=prediction_set,
        rules=rules,
        storage=Storage(str(storage)),
        engine=engine or InThisProcess(),
        run_id=run_id,
        report=report,
    )


def commit(store, files, rules=RULES, *, prediction_set="set"):
    flow.ingest_in_place(
        store,
        files,
        prediction_set=prediction_set,
        model="model",
        run_id="run",
        report=lambda _: None,
    )
    return flow.score_in_place(store, prediction_set, rules=rules, run_id="run")


def in_place(path, storage, rules=RULES, *, manifest=None, engine=None, **options):
    """A pool with the set in place."""
    store = pool_store()
    add_manifest(store, manifest)
    commit(store, scored(path, storage, rules, engine, **options), rules)
    return store


def add_manifest(store, manifest):
    if manifest is not None:
        # The statement finds it as the variable of that name.
        manifest_rows = pl.DataFrame({"image_id": manifest})  # noqa: F841 # pyright: ignore[reportUnusedVariable]
        store.connection.execute(
            "INSERT INTO images BY NAME SELECT *, false AS labeled FROM manifest_rows"
        )


# Where their scores are kept is not what they are.
SET = "SELECT * EXCLUDE (generation, ingested_at, scored_by) FROM prediction_sets"
CLASSES = "FROM predicted_classes ORDER BY ALL"
PREDICTIONS = "FROM predictions ORDER BY prediction_index"
SOURCES = "FROM prediction_sources ORDER BY first_prediction_index, row_count, source"
QUARANTINED = "FROM quarantined_predictions ORDER BY source, row_number"
SCORES = "FROM image_scores ORDER BY image_id"

TABLES = {
    "predictions": PREDICTIONS,
    "classes": CLASSES,
    "sources": SOURCES,
    "quarantined": QUARANTINED,
    "scores": SCORES,
    "candidates": "SELECT * EXCLUDE (run_id) FROM labeling_candidates ORDER BY ALL",
}


def tables(store, rules=RULES, limit=1000):
    """All that is the same however a set is read, as Arrow tables; equal means the same bits."""
    functions = [one for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(rules)]
    rankings = flow.rank_candidates(
        store, "set", functions, rules=rules, limit=limit, seed=3, run_id="run"
    )
    found = {
        name: store.connection.sql(query).to_arrow_table()
        for name, query in {
            "set": SET,
            **TABLES,
            "lineage": "SELECT * EXCLUDE (ingested_at) FROM candidate_lineage ORDER BY ALL",
        }.items()
    }
    return {**found, "hashes": {name: ranking.sha256 for name, ranking in rankings.items()}}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        if isinstance(table, pa.Table):
            assert bits(found[name]) == bits(table), name
        else:
            assert found[name] == table, name


ROWS_PER_FILE = """
    SELECT s.source, s.row_count, (
        SELECT count(*) FROM predictions p WHERE p.prediction_index >= s.first_prediction_index
            AND p.prediction_index < s.first_prediction_index + s.row_count
    ), (SELECT count(*) FROM quarantined_predictions q WHERE q.source = s.source)
    FROM prediction_sources s ORDER BY ALL"""
"""The rows of each file: all, predictions, and those in quarantine."""


def bits(table):
    """A table as a value that tells -0.0 from 0.0, and a NaN from none."""
    return [repr(row) for row in table.to_pylist()]


def random_probs(rng, rows, classes=5, kind=np.float32):
    probs = rng.dirichlet(np.ones(classes), rows).astype(kind)
    probs[::7] = np.eye(classes, dtype=kind)[rng.integers(classes, size=len(probs[::7]))]
    return probs


def write(path, image_ids, probs, row_group_size=1000, **columns):
    lists = pa.array(probs.tolist() if isinstance(probs, np.ndarray) else probs)
    kind = columns.pop("kind", pa.float32())
    table = pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "class_probs": lists.cast(pa.list_(kind)),
            **columns,
        }
    )
    pq.write_table(table, path, row_group_size=row_group_size)


def folder():
    return Path(tempfile.mkdtemp())


def content(folder):
    """The files in a folder by their names, as bytes."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def remove(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


DAMAGES = [remove, cut, empty]
"""What happens to files."""


def blank(files, store):
    """Make files of zeros, which have the size of those that were there; a pool takes them for those."""
    for file in files:
        file.write_bytes(bytes(file.stat().st_size))
        store.connection.execute(
            "UPDATE in_place_files SET mark = ? WHERE path = ?",
            [FileInPlace.now_at(str(file)).mark, str(file)],
        )
