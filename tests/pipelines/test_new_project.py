"""The way of a new user: a project of Dagster's own making, and the YAML of the documents as it is."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest

from documents import blocks, readme_commands

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project that the README's commands make, but for pip, and for the UI at their end."""
    make_venv, *commands, last = readme_commands("new project")
    assert make_venv.startswith("python3 -m venv")
    assert last == "dg dev"
    folder = tmp_path_factory.mktemp("new")
    (folder / "clone").mkdir()
    run("\n".join(["pip() { :; }", *commands]), folder / "clone", folder / "my_project")
    return folder / "my_project"


def run(script, folder, project):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
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


def first_by_margin(project):
    with duckdb.connect(str(project / "labeling.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT image_id FROM street_signs.labeling_candidates "
            "WHERE acquisition_function = 'margin' ORDER BY rank LIMIT 10"
        ).fetchall()
    return [image_id for (image_id,) in rows]


def least_margins(image_ids, class_probs):
    """The first ten images by the difference of their two largest class probabilities."""
    two_largest = np.sort(np.asarray(class_probs, np.float64), axis=1)[:, -2:]
    order = np.argsort(np.diff(two_largest)[:, 0], kind="stable")
    return [list(image_ids)[place] for place in order[:10]]


def test_the_example_runs_at_once(project):
    pool = project / "src" / "my_project" / "defs" / "street_signs"
    predictions = pl.read_csv(pool / "example_predictions.csv")
    manifest = pl.read_csv(pool / "example_manifest.csv")
    labeled = manifest.filter(pl.col("label").is_not_null())["image_id"]
    unlabeled = predictions.filter(~pl.col("image_id").is_in(labeled.implode()))
    expected = least_margins(unlabeled["image_id"], unlabeled.drop("image_id").to_numpy())
    assert first_by_margin(project) == expected
    # What `dg dev` shows with the same home.
    with dg.DagsterInstance.from_config(str(project / ".dagster_home")) as instance:
        key = dg.AssetKey(["street_signs", "labeling_candidates", "margin"])
        assert instance.get_latest_materialization_event(key)


def launch_with(project, document):
    """Materialize the pool with the first YAML of a document in place of the scaffold's."""
    pool = project / "src" / "my_project" / "defs" / "street_signs"
    (pool / "defs.yaml").write_text(blocks(document, "yaml")[0].text)
    run('dg check yaml && dg launch --assets "*"', project, project)
    return pool


def test_the_yaml_of_the_readme_runs_as_it_is_printed(project):
    pool = launch_with(project, "README.md")
    batch = pl.read_csv(pool / "labeling_batch.csv")
    assert batch["chosen_by"].value_counts().sort("chosen_by").rows() == [
        ("queue", 9),
        ("random", 1),
    ]


def test_the_yaml_of_the_guide_runs_with_files_of_your_own(project):
    random = np.random.default_rng(0)
    class_probs = random.dirichlet(np.ones(5), 1_000).astype(np.float32)
    image_ids = [f"image{row}" for row in range(1_000)]
    (project / "predictions").mkdir()
    pl.DataFrame({"image_id": image_ids, "class_probs": list(class_probs)}).write_parquet(
        project / "predictions" / "may.parquet"
    )
    pl.DataFrame({"image_id": image_ids}).write_csv(project / "manifest.csv")
    launch_with(project, ".github/docs/pool.md")
    assert first_by_margin(project) == least_margins(image_ids, class_probs)
    assert pl.read_csv(project / "labeling_batch.csv").height == 100
