"""The package itself: what it exports, and what importing it costs."""

import subprocess
import sys

import pytest
from dagster_shared.libraries import DagsterLibraryRegistry

import dagster_active_learning

HEAVY = ["duckdb", "numba", "polars", "pyarrow"]


@pytest.mark.parametrize(
    "code",
    [
        "import dagster_active_learning",
        (
            "from dagster_active_learning import active_learning_definitions, PredictionFiles, PoolImages;"
            "active_learning_definitions(pool='p', predictions=PredictionFiles('p.csv', 'csv'), images='m.csv')"
        ),
    ],
    ids=["import", "definitions"],
)
def test_nothing_heavy_is_imported_before_it_is_used(code):
    check = f"{code}; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", check],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in dagster_active_learning.__all__:
        assert getattr(dagster_active_learning, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dagster_active_learning.nothing  # noqa: B018


def test_dagster_knows_the_library():
    libraries = DagsterLibraryRegistry.get()
    assert libraries["dagster-active-learning"] == dagster_active_learning.__version__
