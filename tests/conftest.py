"""What tests share: real predictions, pools to fill, and Dagster instances."""

import functools
import os
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alembic.script import ScriptDirectory

from dagster_active_learning import ACQUISITION_FUNCTIONS
from dagster_active_learning.store.pool_store import PoolStore
from pools import on_tables
from toy_function import TOY

PROJECT = Path(__file__).parents[1]
REAL_PREDICTIONS = PROJECT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_predictions() -> Path:
    """A folder of predictions of real models, published by others, beside the project."""
    if not REAL_PREDICTIONS.is_dir():
        reason = f"{REAL_PREDICTIONS} is not there"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return REAL_PREDICTIONS


@pytest.fixture(autouse=True, scope="session")
def migrations_read_once():
    """Dagster's migrations, 90 files that each of its instances in memory reads anew."""
    with pytest.MonkeyPatch.context() as patch:
        from_config = functools.cache(ScriptDirectory.from_config)
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture
def database(tmp_path) -> Path:
    """Where a test has its DuckDB database."""
    return tmp_path / "test.duckdb"


@pytest.fixture(scope="session")
def empty_pool(tmp_path_factory) -> Path:
    """A database with an empty pool, for copies: to make one takes longer than many a test."""
    database = tmp_path_factory.mktemp("empty_pool") / "test.duckdb"
    with duckdb.connect(str(database)) as connection:
        PoolStore(connection, "pool")
    return database


@pytest.fixture
def store(database, empty_pool):
    """An empty pool in the test's database."""
    shutil.copy(empty_pool, database)
    with duckdb.connect(str(database)) as connection:
        yield PoolStore(connection, "pool")


@pytest.fixture
def query(database):
    """Run a query on the test's database and fetch all rows."""

    def run(sql: str, *values):
        with duckdb.connect(str(database)) as connection:
            return connection.execute(sql, values).fetchall()

    return run


@pytest.fixture
def change(database):
    """Change the predictions or scores of the pool's only set, or another table of it."""

    def run(sql: str, *values):
        with duckdb.connect(str(database)) as connection:
            connection.execute("USE pool")
            connection.execute(on_tables(connection, sql), values)

    return run


@pytest.fixture
def write_predictions(tmp_path):
    """Write class probabilities as a Parquet file with ids image0, image1, …"""

    def write(class_probs, image_ids=None, name="predictions.parquet", dtype=None) -> Path:
        rows = [np.asarray(row, dtype) for row in class_probs]
        ids = image_ids or [f"image{row}" for row in range(len(rows))]
        pq.write_table(pa.table({"image_id": ids, "class_probs": rows}), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def toy_function(monkeypatch):
    """An acquisition function that a test has added to the table."""
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, TOY.name, TOY)
    return TOY
