"""The way of a new user: a project of Dagster's own making, one command, one Parquet file."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from documents import readme_commands


@pytest.mark.slow
def test_a_new_project_ranks_the_images_of_a_parquet_file(tmp_path):
    """The README's commands, but for pip, and for the UI at their end."""
    project, files = tmp_path / "my_project", tmp_path / "files"
    files.mkdir()
    class_probs = np.random.default_rng(0).dirichlet(np.ones(5), 1_000).astype(np.float32)
    image_ids = [f"image{row}" for row in range(1_000)]
    pq.write_table(
        pa.table({"image_id": image_ids, "class_probs": list(class_probs)}), files / "may.parquet"
    )
    make_venv, *commands, last = readme_commands("new project")
    assert make_venv.startswith("python3 -m venv")
    assert last == "dg dev"
    (tmp_path / "clone").mkdir()
    script = "\n".join(["pip() { :; }", *commands]).replace("/where/they/are", str(files))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path / "clone",
        env=os.environ
        | {
            "DAGSTER_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # As if the project was installed, which would be into the environment of the tests.
            "PYTHONPATH": f"{project / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    two_largest = np.sort(class_probs.astype(np.float64), axis=1)[:, -2:]
    expected = np.argsort(np.diff(two_largest)[:, 0])[:10]
    with duckdb.connect(str(project / "labeling.duckdb"), read_only=True) as connection:
        first = connection.execute(
            "SELECT image_id FROM street_signs.labeling_candidates "
            "WHERE acquisition_function = 'margin' ORDER BY rank LIMIT 10"
        ).fetchall()
    assert first == [(f"image{row}",) for row in expected]
    # What `dg dev` shows with the same home.
    with dg.DagsterInstance.from_config(str(project / ".dagster_home")) as instance:
        key = dg.AssetKey(["street_signs", "labeling_candidates", "margin"])
        assert instance.get_latest_materialization_event(key)
