"""The example code location as a user runs it: from the shell, with Dagster's own commands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from dagster_ui import dagster_dev
from documents import blocks, readme_commands
from reference import prediction_scores

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPONENT = "dagster_active_learning.ActiveLearningComponent"


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def environment(data_folder):
    return os.environ | {
        "LABELING_DATA_FOLDER": str(data_folder),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }


def run(command, environment, folder=PROJECT):
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def output(environment, data_folder):
    """What the README's command says, in the home that the UI of the README then has."""
    make_venv, *main_job = readme_commands("main job")
    assert make_venv.startswith("python3 -m venv")
    (ui,) = readme_commands("ui")
    assert 'DAGSTER_HOME="$PWD/dagster_home" dg dev' in ui
    home = data_folder / "dagster_home"
    home.mkdir()
    shutil.copy(PROJECT / "pipelines" / "dagster_home" / "dagster.yaml", home)
    commands = "\n".join(main_job).replace("$PWD/dagster_home", str(home))
    assert str(home) in commands
    return run(["bash", "-euo", "pipefail", "-c", commands], environment)


def rows(data_folder, sql):
    with duckdb.connect(str(data_folder / "labeling.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_the_main_job_ends_with_the_ten_images_to_label_next(output, data_folder):
    predictions = pl.read_parquet(data_folder / "digits" / "predictions.parquet")
    manifest = pl.read_csv(data_folder / "digits" / "manifest.csv")
    assert manifest["labeled"].sum() == 50
    margins = prediction_scores(predictions["class_probs"].to_list())["margin"]
    predicted = predictions["class_probs"].list.arg_max()
    last_lines = output[output.rindex("Label these next:") :]
    ids = re.findall(r"digit_\d{4}", last_lines)
    assert len(set(ids)) == 10
    batch = pl.read_csv(data_folder / "digits" / "labeling_batch.csv")
    assert batch["image_id"].to_list() == ids
    assert (batch["chosen_by"] == "random").sum() == 1
    assert batch.filter(pl.col("chosen_by") == "random")["selection_probability"].to_list() == [
        pytest.approx(1 / 1747)
    ]
    # Nine of ten classes have their turn, each with its smallest margin that is not drawn.
    of_queue = batch.filter(pl.col("chosen_by") == "queue")
    assert of_queue["predicted_class"].n_unique() == 9
    for image_id, score in of_queue.select("image_id", "score").iter_rows():
        row = predictions["image_id"].to_list().index(image_id)
        of_class = (predicted == predicted[row]).to_numpy() & ~manifest["labeled"].to_numpy()
        assert score == pytest.approx(margins[row], abs=1e-6)
        assert (margins[of_class] < margins[row]).sum() <= 30


def test_the_readme_shows_the_last_lines(output, data_folder):
    """With other digits and other numbers where the machine trains another classifier."""
    (shown,) = blocks("README.md", "text")
    said = output.replace(str(data_folder), "…/pipelines/data")
    said_lines = {
        re.sub(r"\d+", "0", line) for line in said[said.rindex("Label these next:") :].splitlines()
    }
    for line in shown.text.splitlines():
        assert line == "…" or re.sub(r"\d+", "0", line) in said_lines


def test_the_digits_are_all_there_and_the_labeled_ones_no_candidates(output, data_folder):
    assert rows(data_folder, "SELECT count(*), count(*) FILTER (labeled) FROM digits.images") == [
        (1797, 50)
    ]
    assert rows(data_folder, "SELECT count(*) FROM digits.predictions") == [(1797,)]
    assert rows(data_folder, "SELECT count(*) FROM digits.image_scores") == [(1797,)]
    candidates = rows(
        data_folder,
        """SELECT acquisition_function, count(*), count(DISTINCT rank), max(rank), count(*) FILTER (labeled)
        FROM digits.labeling_candidates JOIN digits.images USING (image_id) GROUP BY 1 ORDER BY 1""",
    )
    names = ["entropy", "least_confidence", "margin", "variance"]
    assert candidates == [(name, 500, 500, 500, 0) for name in names]
    assert len(list((data_folder / "digits" / "images").glob("*.png"))) == 1797


def test_the_classifier_has_learned_something(output, data_folder):
    from sklearn.datasets import load_digits

    predictions = pl.read_parquet(data_folder / "digits" / "predictions.parquet")
    predicted = np.argmax(predictions["class_probs"].to_list(), axis=1)
    assert (predicted == load_digits().target).mean() > 0.7


def test_dagster_and_dg_accept_the_definitions(environment):
    assert "validation" in run(["dagster", "definitions", "validate"], environment).lower()
    pipelines = PROJECT / "pipelines"
    assert "validated successfully" in run(["dg", "check", "yaml"], environment, pipelines)
    assert "loaded successfully" in run(["dg", "check", "defs"], environment, pipelines)
    listed = run(["dg", "list", "defs", "--json"], environment, pipelines)
    for key in ("predictions", "image_scores", "labeling_candidates/margin", "labeling_batch"):
        assert f'"digits/{key}"' in listed
    # Without a server there is no such pool.
    assert "labeled_digits" not in listed


def test_dg_lists_and_describes_the_component(environment):
    pipelines = PROJECT / "pipelines"
    listed = json.loads(run(["dg", "list", "components", "--json"], environment, pipelines))
    summaries = {item["key"]: item["summary"] for item in listed["items"]}
    assert "labeling candidates" in summaries[COMPONENT]
    about = run(["dg", "utils", "inspect-component", COMPONENT], environment, pipelines)
    assert "How many images each ranking has at the most" in about
    assert "every column whose name starts with this is a class" in about
    # The same for people to read.
    command = ["dg", "utils", "inspect-component", COMPONENT, "--defs-yaml-schema"]
    settings = run(command, environment, pipelines)
    assert "  # Optional: How many images each ranking has" in settings


def test_dg_scaffolds_a_pool_beside_the_others(environment, tmp_path):
    pipelines = tmp_path / "pipelines"
    shutil.copytree(
        PROJECT / "pipelines", pipelines, ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    run(["dg", "scaffold", "defs", COMPONENT, "street_signs"], environment, pipelines)
    assert "loaded successfully" in run(["dg", "check", "defs"], environment, pipelines)
    listed = run(["dg", "list", "defs", "--json"], environment, pipelines)
    assert '"street_signs/labeling_candidates/margin"' in listed


def test_the_guide_explains_the_columns_of_the_candidates(output, data_folder):
    columns = rows(
        data_folder,
        "SELECT column_name FROM duckdb_columns() "
        "WHERE schema_name = 'digits' AND table_name = 'labeling_candidates'",
    )
    guide = (PROJECT / ".github" / "docs" / "results.md").read_text("utf-8")
    table = guide[guide.index("| column |") : guide.index("Every column of every table")]
    explained = [
        name
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row[: row.find("|", 1)])
    ]
    assert sorted(explained) == sorted(name for (name,) in columns)


@pytest.mark.slow
def test_the_replay_of_digits_has_its_own_location_and_goes_on_where_it_was(
    environment, data_folder
):
    """The main job trains none of its classifiers."""
    (block,) = [
        block
        for block in blocks(".github/docs/which_rule.md", "bash")
        if "labeling.replay" in block.text
    ]
    command = ["bash", "-c", block.text]
    output = run(command, environment, PROJECT / "pipelines")
    assert "replayed random with seed 9: 30 of 30" in output
    progress = data_folder / "digits" / "replay.jsonl"
    *kept, _ = progress.read_text().splitlines(keepends=True)
    progress.write_text("".join(kept))
    assert "RUN_SUCCESS" in run(command, environment, PROJECT / "pipelines")
    assert len(progress.read_text().splitlines()) == 30


@pytest.mark.slow
def test_dagster_dev_shows_what_was_materialized(environment, output, data_folder, tmp_path):
    home = environment | {"DAGSTER_HOME": str(data_folder / "dagster_home")}
    with dagster_dev(home, tmp_path / "dev.log") as dagster:
        answer = dagster.ask(
            "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }"
        )
    materialized = {
        "/".join(node["assetKey"]["path"])
        for node in answer["assetNodes"]
        if node["assetMaterializations"]
    }
    assert {
        "digits/predictions",
        "digits/image_scores",
        "digits/labeling_candidates/margin",
    } <= materialized
