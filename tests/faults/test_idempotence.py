"""Whatever was materialized before and however it ended: the rows are those of the last good input."""

import json
import shutil

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import PredictionAsset, PredictionFiles, active_learning_definitions
from dagster_active_learning.store.pool_store import PoolStore
from faults.pool import broken_copy, differing_rows, state
from ranked_pools import ranked_files


def predictions(
    n_images=60, n_classes=3, *, seed=0, dtype=np.float32, broken=0, each=1, names=None
):
    """A table of random predictions, ``each`` for every image, the first ``broken`` not valid."""
    random = np.random.default_rng(seed)
    class_probs = random.dirichlet(np.ones(n_classes), n_images * each).astype(dtype)
    class_probs[:broken] = 2
    ids = [f"image{one}" for one in random.permutation(np.repeat(np.arange(n_images), each))]
    table = pa.table({"image_id": ids, "class_probs": list(class_probs)})
    return table.replace_schema_metadata({"class_names": json.dumps(names)} if names else {})


USUAL = predictions()
GOOD = {
    "the same": [USUAL, USUAL],
    "the same twice": [USUAL, USUAL, USUAL],
    "changed": [USUAL, predictions(seed=1)],
    "changed and back": [USUAL, predictions(seed=1), USUAL],
    "shrank": [USUAL, predictions(20)],
    "grew": [USUAL, predictions(90)],
    "one row left": [USUAL, predictions(1)],
    "more classes": [USUAL, predictions(n_classes=5)],
    "fewer classes": [USUAL, predictions(n_classes=2)],
    "other class names": [
        predictions(names=["a", "b", "c"]), predictions(names=["c", "b", "a"]),
    ],
    "float64 after float32": [USUAL, predictions(dtype=np.float64)],
    "float32 after float64": [predictions(dtype=np.float64), USUAL],
    "quarantine emptied": [predictions(broken=7), USUAL],
    "quarantine filled": [USUAL, predictions(broken=7)],
    "several predictions an image": [USUAL, predictions(each=3), USUAL],
    "one prediction an image again": [predictions(each=3), USUAL, predictions(30, each=2)],
}  # fmt: skip


@pytest.fixture
def materialize(tmp_path):
    """Materialize the pool from a table, all assets, into a database of a name."""
    path = tmp_path / "predictions.parquet"
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(path, "parquet"),
        acquisition_functions=["margin"],
    )

    def run(table, name):
        if isinstance(table, pa.Table):
            pq.write_table(table, path, row_group_size=10)
        else:
            table(path)
        return dg.materialize(
            definitions.assets,
            resources={"duckdb": DuckDBResource(database=str(tmp_path / name))},
            raise_on_error=False,
        ).success

    return run


@pytest.fixture
def fill(tmp_path):
    """Read, score and rank a table without Dagster, into a database of a name."""
    path = tmp_path / "predictions.parquet"

    def run(table, name):
        pq.write_table(table, path, row_group_size=10)
        with duckdb.connect(str(tmp_path / name)) as connection:
            ranked_files(PoolStore(connection, "pool"), path, functions=["margin"])

    return run


def assert_only_the_last_counts(fill, folder, tables):
    for table in tables:
        fill(table, "again.duckdb")
    last = tables[-1]
    fill(last, "once.duckdb")
    differing = differing_rows(folder / "again.duckdb", folder / "once.duckdb")
    assert set(differing.values()) == {0}, differing
    stored = state(folder / "again.duckdb")
    assert stored
    rows, quarantined = stored["predictions"][0], stored["quarantined_predictions"][0]
    assert rows + quarantined == last.num_rows


@pytest.mark.parametrize("case", GOOD)
def test_only_the_last_input_counts(fill, tmp_path, case):
    assert_only_the_last_counts(fill, tmp_path, GOOD[case])


@pytest.mark.parametrize("case", ["changed and back", "quarantine filled"])
def test_only_what_was_materialized_last_counts(materialize, tmp_path, case):
    assert_only_the_last_counts(materialize, tmp_path, GOOD[case])


def half(path):
    pq.write_table(predictions(seed=9), path, row_group_size=10, write_page_checksum=True)
    shutil.copy(path, path.with_suffix(".whole"))
    broken_copy(path.with_suffix(".whole"), path)


def cut(path):
    pq.write_table(predictions(seed=9), path)
    path.write_bytes(path.read_bytes()[:-100])


BAD = {
    "broken in its middle": half,
    "cut off": cut,
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(missing_ok=True),
    "no valid row": predictions(broken=60),
    "no rows": USUAL.slice(0, 0),
    "another column": USUAL.rename_columns(["image", "class_probs"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_failed_input_leaves_the_rows_of_the_last_good_one(materialize, tmp_path, case):
    good = predictions(broken=3)
    assert materialize(good, "again.duckdb")
    before = state(tmp_path / "again.duckdb")
    assert not materialize(BAD[case], "again.duckdb")
    assert state(tmp_path / "again.duckdb") == before
    assert not materialize(BAD[case], "again.duckdb")
    assert materialize(good, "again.duckdb")
    assert materialize(good, "once.duckdb")
    differing = differing_rows(tmp_path / "again.duckdb", tmp_path / "once.duckdb")
    assert set(differing.values()) == {0}, differing


def whole(table):
    return table


def raises_itself(table):
    raise RuntimeError


def raises_half_way(table):
    """Half of the rows can be read, then what makes them fails."""

    def batches():
        yield from table.slice(0, 30).to_batches()
        raise RuntimeError

    return pa.RecordBatchReader.from_batches(table.schema, batches())


def gives_no_table(table):
    return {"image_id": table.column("image_id").to_pylist()}


@pytest.mark.parametrize("failing", [raises_itself, raises_half_way, gives_no_table])
def test_an_upstream_asset_that_fails_leaves_the_rows_of_the_last_good_run(tmp_path, failing):
    database = tmp_path / "test.duckdb"

    def run(make, table):
        @dg.asset(io_manager_def=dg.mem_io_manager)
        def upstream():
            return make(table)

        definitions = active_learning_definitions(
            pool="pool",
            predictions=PredictionAsset("upstream"),
            acquisition_functions=["margin"],
        )
        return dg.materialize(
            [upstream, *(definitions.assets or [])],
            resources={"duckdb": DuckDBResource(database=str(database))},
            raise_on_error=False,
        ).success

    assert run(whole, USUAL)
    before = state(database)
    assert not run(failing, predictions(seed=1))
    assert state(database) == before
    assert run(whole, USUAL)
    assert state(database) == before


def test_images_in_which_nothing_was_found_are_those_of_the_last_input(tmp_path):
    folder = tmp_path / "objects"
    folder.mkdir()
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    (folder / "schema.json").write_text(
        json.dumps({"task_type": "object-detection", "categories": categories})
    )
    definitions = active_learning_definitions(
        pool="pool", predictions=PredictionFiles(folder, "lightly"), task="detection"
    )

    def run(name, objects):
        for image, count in objects.items():
            found = {"category_id": 0, "bbox": [1, 2, 3, 4], "score": 0.5}
            document = {"file_name": f"{image}.png", "predictions": [found] * count}
            (folder / f"{image}.json").write_text(json.dumps(document))
        assert dg.materialize(
            definitions.assets,
            resources={"duckdb": DuckDBResource(database=str(tmp_path / name))},
        ).success

    run("again.duckdb", {"a": 2, "b": 0, "c": 0})
    run("again.duckdb", {"a": 0, "b": 1, "c": 0})
    run("once.duckdb", {})
    differing = differing_rows(tmp_path / "again.duckdb", tmp_path / "once.duckdb")
    assert set(differing.values()) == {0}, differing
    stored = state(tmp_path / "again.duckdb")
    assert stored
    assert (stored["empty_images"][0], stored["predictions"][0]) == (2, 1)


def test_rows_that_differ_are_found(materialize, tmp_path):
    """What the tests above rely on."""
    assert materialize(USUAL, "one.duckdb")
    assert materialize(USUAL.slice(1), "other.duckdb")
    differing = differing_rows(tmp_path / "one.duckdb", tmp_path / "other.duckdb")
    assert differing["predictions"] >= 1
    assert differing["prediction_sets"] == 2
    assert state(tmp_path / "one.duckdb") != state(tmp_path / "other.duckdb")
