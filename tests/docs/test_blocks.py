"""Every block of code in the Markdown files is run, or is in a list here with the reason why not."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import click
import create_dagster.cli
import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest
import yaml
from dagster._cli import create_dagster_cli
from dagster.components.testing import create_defs_folder_sandbox
from dagster_dg_cli.cli import cli as dg_cli
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    LabelingBatch,
    PredictionFiles,
    RuleEvaluation,
    active_learning_definitions,
)
from dagster_active_learning.definitions.scaffolder import ScaffoldParams
from documents import DOCUMENTS, PROJECT, blocks

TYPE = "dagster_active_learning.ActiveLearningComponent"

LANGUAGES = {"bash", "csv", "dockerfile", "json", "python", "sql", "text", "yaml"}


def of(language):
    return [
        pytest.param(block, id=str(block))
        for document in DOCUMENTS
        for block in blocks(document, language)
    ]


def test_every_block_has_a_language_that_is_tested():
    assert {block.language for document in DOCUMENTS for block in blocks(document)} <= LANGUAGES


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder in which the pool ``digits`` of the guides was materialized."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "predictions").mkdir()
    (folder / "pipelines" / "data").mkdir(parents=True)
    random = np.random.default_rng(0)
    image_ids = [f"digit_{number:04d}" for number in range(600)]
    class_probs = random.dirichlet(np.ones(10), 600)
    pl.DataFrame(
        {
            "image_id": [*image_ids, "digit_9999"],
            "class_probs": pl.Series([*class_probs, class_probs[0] * 2], dtype=pl.List(pl.Float64)),
        }
    ).write_parquet(folder / "predictions" / "may.parquet")
    labels = [
        str(digit) if number < 300 else None
        for number, digit in enumerate(random.integers(10, size=600))
    ]
    # The image whose lineage the guides ask for has no label.
    labels.reverse()
    labels[578] = None
    pl.DataFrame({"image_id": image_ids, "label": labels}).write_csv(folder / "manifest.csv")
    definitions = active_learning_definitions(
        pool="digits",
        predictions=PredictionFiles(
            folder / "predictions" / "*.parquet", "parquet", class_names=[*"0123456789"]
        ),
        images=folder / "manifest.csv",
        batch=LabelingBatch(size=10),
        evaluation=RuleEvaluation(labels_drawn_at_random=True),
    )
    database = folder / "pipelines" / "data" / "labeling.duckdb"
    dg.materialize(definitions.assets, resources={"duckdb": DuckDBResource(database=str(database))})
    return folder


@pytest.fixture
def folder(digits, tmp_path, monkeypatch):
    """A copy of it that a block of code may do what it likes with, as the working directory."""
    subprocess.run(["cp", "-r", f"{digits}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block, folder, capsys):
    if "delete_prediction_set" in block.text:
        prepare_a_set_to_delete(folder)
    names: dict[str, Any] = {"__name__": "block"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        exec(compile(block.text, str(block), "exec"), names)
    for name, value in names.items():
        if name.startswith("test_"):
            value(folder)


def prepare_a_set_to_delete(folder):
    """The pool ``street_signs`` in ``labeling.duckdb``, with a prediction set of May."""
    (folder / "2026-05.csv").write_text("image_id,prob_a,prob_b\n1,0.5,0.5\n")
    definitions = active_learning_definitions(
        pool="street_signs",
        predictions=PredictionFiles("{partition_key}.csv", "csv", class_column_prefix="prob_"),
        partitions_def=dg.StaticPartitionsDefinition(["2026-05"]),
    )
    dg.materialize(
        definitions.assets,
        partition_key="2026-05",
        resources={"duckdb": DuckDBResource(database="labeling.duckdb")},
    )


@pytest.mark.parametrize("block", of("sql"))
def test_sql_finds_rows(block, folder):
    with duckdb.connect("pipelines/data/labeling.duckdb") as connection:
        for statement in connection.extract_statements(block.text):
            found = connection.execute(statement)
            if statement.type == duckdb.StatementType.SELECT:
                assert found.fetchall(), statement.query


@pytest.fixture(scope="module")
def component():
    """Makes the component of a pool from a document of YAML, in a folder with some files."""
    with create_defs_folder_sandbox() as sandbox:

        def run(text, files):
            path = sandbox.defs_folder_path / "pool"
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_text(content)
            (path / "defs.yaml").write_text(text)
            with sandbox.load_component_and_build_defs(path) as (loaded, definitions):
                return loaded, definitions

        yield run


DEFAULTS = {"pool": "street_signs", "predictions": {"path": "may.parquet", "format": "parquet"}}


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_what_it_says(block, component, tmp_path):
    if block.name == "dagster.yaml":
        check_instance(yaml.safe_load(block.text), tmp_path)
        return
    document = yaml.safe_load(block.text)
    if "attributes" not in document:
        document = {"type": TYPE, "attributes": {**DEFAULTS, **document}}
    before = [other for other in blocks(block.document) if other.line < block.line]
    files = {
        other.name: other.text
        for other in before
        if other.name and other.language in ("csv", "json", "text")
    }
    pool, definitions = component(yaml.safe_dump(document), files)
    assert definitions.assets
    read = pool.predictions
    if isinstance(read, PredictionFiles) and document["attributes"]["predictions"]["path"] in {
        part for name in files for part in (name, name.partition("/")[0])
    }:
        rows = [row for batch in read.open(None)(None) for row in batch.to_pylist()]
        assert rows
        assert [row for row in rows if row["reason"] is not None] == []


def check_instance(settings, folder):
    """Dagster takes the settings of an instance."""
    if "storage" in settings:
        # The package with the storage is not installed for the tests: Dagster knows its settings.
        from dagster._core.instance.config import storage_config_schema

        assert settings["storage"].keys() <= storage_config_schema().config_type.fields.keys()
        return
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert all(instance.get_settings(name) == value for name, value in settings.items())


# What the README's first command says, tests/pipelines/test_labeling.py compares.
FILES = [
    block for block in [*of("csv"), *of("json"), *of("text")] if "README.md:" not in str(block.id)
]


@pytest.mark.parametrize("block", FILES)
def test_a_file_that_is_shown_is_read_by_the_yaml_after_it(block):
    assert block.name, f"{block} has no name of a file before it"
    following = next(other for other in blocks(block.document, "yaml") if other.line > block.line)
    assert block.name.partition("/")[0] in following.text


RUN_BY = {
    "main job": "tests/pipelines/test_labeling.py",
    "new project": "tests/pipelines/test_new_project.py",
    "tests": ".ci/run",
    "ui": "tests/pipelines/test_labeling.py",
    "dg check defs": "tests/pipelines/test_labeling.py",
    "dg check yaml": "tests/pipelines/test_labeling.py",
    "python3 -m venv label_studio": "tests/labeling/test_example_pool.py",
    "dg launch -m labeling.replay": "tests/pipelines/test_labeling.py",
    'pip install -e ".[bench]"': ".ci/run",
}
"""The tests that run blocks of shell commands, by their names or how they begin."""

NOT_RUN = {
    "cp labeling.duckdb labeling.duckdb.before": "it installs what is not released",
}
"""Blocks of shell commands that no test runs, and why: their commands are looked up."""


def test_every_block_of_shell_commands_is_run_or_listed():
    found = [block for document in DOCUMENTS for block in blocks(document, "bash")]
    known = RUN_BY.keys() | NOT_RUN.keys()
    for block in found:
        assert [name for name in known if block.name == name or block.text.startswith(name)], block
    for name in known:
        assert [block for block in found if block.name == name or block.text.startswith(name)], name
    assert all((PROJECT / path).exists() for path in RUN_BY.values())


@pytest.mark.parametrize("block", of("bash"))
def test_shell_commands_exist_and_have_their_options(block):
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, timeout=10)
    for program, *arguments in commands(block.text):
        look_up(program.rpartition("/")[2], arguments)


@pytest.mark.slow
@pytest.mark.parametrize("block", of("dockerfile"))
def test_a_container_is_built_with_the_kernels(block, tmp_path):
    text = re.sub(r"^RUN ", "", re.sub(r"^ENV ", "export ", block.text, flags=re.M), flags=re.M)
    script = text.replace("/opt", str(tmp_path))
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    subprocess.run(command, env=os.environ | {"PATH": python}, check=True, timeout=300)
    assert list((tmp_path / "numba").rglob("*.nbc"))


def commands(script):
    """The simple commands of a script, each a list of words."""
    words: list[str] = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;()"):
                while words and re.match(r"export$|\w+=", words[0]):
                    words = words[1:]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


CLICK = {
    "create-dagster": create_dagster.cli.cli,
    "dagster": create_dagster_cli(),
    "dg": dg_cli,
}

EXTRAS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def look_up(program, arguments):
    """A command is there, and has the options that it is given."""
    if program in CLICK:
        check_options(CLICK[program], arguments)
    elif program == "pip":
        assert arguments[0] in ("install", "uninstall")
        asked_for = [name for word in arguments for name in re.findall(r"^\.\[(.*)\]$", word)]
        assert {*asked_for} <= EXTRAS.keys()
    elif program == "python" and arguments[0].startswith("tests/"):
        done = subprocess.run(
            [sys.executable, *arguments, "--help"],
            cwd=PROJECT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    else:
        builtin = ("export", "cd", ".")
        known = (*builtin, "label-studio", "python3", "python", "pytest")
        assert program in known or shutil.which(program), f"there is no {program}"


def check_options(command, arguments):
    """A command of click has the subcommands and options that it is given."""
    while isinstance(command, click.Group):
        if command.name == "defs" and arguments[0] == TYPE:
            names = [word.strip("-").replace("-", "_") for word in arguments if word[:2] == "--"]
            assert {*names} <= ScaffoldParams.model_fields.keys()
            return
        name, *arguments = arguments
        found = command.get_command(click.Context(command), name)
        assert found, f"{command.name} has no command {name}"
        command = found
    command.make_parser(click.Context(command)).parse_args(list(arguments))
