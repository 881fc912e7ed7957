"""The way of a new user: a project of Dagster's own making, one command, one Parquet file."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

NEW_PROJECT = "create-dagster project my_project --no-uv-sync"
FIRST_POOL = """
dg scaffold defs dagster_active_learning.ActiveLearningComponent street_signs --database labeling.duckdb
dg check defs
dg launch --assets "*"
"""


@pytest.mark.slow
def test_a_new_project_ranks_the_images_of_a_parquet_file(tmp_path):
    project = tmp_path / "my_project"
    environment = os.environ | {
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "DAGSTER_HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # As if the project was installed, which would be into the environment of the tests.
        "PYTHONPATH": str(project / "src"),
    }
    (tmp_path / "dagster.yaml").touch()

    def run(commands, folder):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run(NEW_PROJECT, tmp_path)
    class_probs = np.random.default_rng(0).dirichlet(np.ones(5), 1_000).astype(np.float32)
    (project / "predictions").mkdir()
    pq.write_table(
        pa.table(
            {
                "image_id": [f"image{row}" for row in range(1_000)],
                "class_probs": list(class_probs),
            }
        ),
        project / "predictions" / "may.parquet",
    )
    run(FIRST_POOL, project)

    two_largest = np.sort(class_probs.astype(np.float64), axis=1)[:, -2:]
    expected = np.argsort(np.diff(two_largest)[:, 0])[:10]
    with duckdb.connect(str(project / "labeling.duckdb"), read_only=True) as connection:
        first = connection.execute(
            "SELECT image_id FROM street_signs.labeling_candidates "
            "WHERE acquisition_function = 'margin' ORDER BY rank LIMIT 10"
        ).fetchall()
    assert first == [(f"image{row}",) for row in expected]
