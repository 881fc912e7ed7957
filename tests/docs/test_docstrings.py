"""The examples in docstrings: each public name has one, and all of them say what is so."""

import doctest
import pkgutil
import shutil
import subprocess
from importlib import import_module
from inspect import isfunction

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource

import dagster_active_learning
from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    LabelingBatch,
    PredictionFiles,
    active_learning_definitions,
    evaluation,
)

MODULES = [
    module.name
    for module in pkgutil.walk_packages(
        dagster_active_learning.__path__, "dagster_active_learning."
    )
]

NAMES = {
    **{name: getattr(dagster_active_learning, name) for name in dagster_active_learning.__all__},
    "DuckDBResource": DuckDBResource,
    "dg": dg,
    "duckdb": duckdb,
    "np": np,
    "pl": pl,
}
"""What the examples have besides the names of their modules."""

WITHOUT_EXAMPLE = {
    "ACQUISITION_FUNCTIONS": "a mapping: AcquisitionFunction has the example",
    "PredictionSource": "the base of the sources, which have examples",
    "warm_up": "it compiles for some time: the container in the guide to production runs it",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with the pool ``digits``, as the examples speak of it."""
    folder = tmp_path_factory.mktemp("digits")
    class_probs = [[0.5, 0.5], [0.875, 0.125], [0.75, 0.25], [0.625, 0.375]]
    lines = [f"digit_{row},{p},{q}" for row, (p, q) in enumerate(class_probs)]
    (folder / "predictions.csv").write_text("\n".join(["image_id,prob_1,prob_7", *lines]))
    shutil.copy(folder / "predictions.csv", folder / "2026-05.csv")
    labels = ["", "", "", "7"]
    lines = [f"digit_{row},{label}" for row, label in enumerate(labels)]
    (folder / "manifest.csv").write_text("\n".join(["image_id,label", *lines]))
    database = folder / "labeling.duckdb"
    definitions = active_learning_definitions(
        pool="digits",
        predictions=PredictionFiles(
            folder / "{partition_key}.csv", "csv", class_column_prefix="prob_", model="resnet18"
        ),
        images=folder / "manifest.csv",
        partitions_def=dg.StaticPartitionsDefinition(["2026-05"]),
        batch=LabelingBatch(size=2, random_share=0, class_turns=False),
    )
    dg.materialize(
        definitions.assets,
        partition_key="2026-05",
        resources={"duckdb": DuckDBResource(database=str(database))},
    )
    two_models(folder, database)
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            "INSERT INTO digits.labels (image_id, category, annotator, annotated_at, ground_truth,"
            " tool, project, task_id, annotation_id, run_id, read_at) VALUES ('digit_3', '7', 'ada',"
            " now(), false, 'label_studio', 'digits', 1, '1', 'run', now())"
        )
    return folder


def two_models(folder, database):
    """The pool ``cameras``: in June a model says of one image of four what it did not say in May."""
    months = ["2026-05", "2026-06"]
    for month, last in zip(months, (0.75, 0.25), strict=True):
        rows = [f"camera_{row},{p},{1 - p}" for row, p in enumerate([0.5, 0.75, 0.875, last])]
        path = folder / "cameras" / f"{month}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["image_id,prob_car,prob_bus", *rows]))
    definitions = active_learning_definitions(
        pool="cameras",
        predictions=PredictionFiles(
            folder / "cameras" / "{partition_key}.csv", "csv", class_column_prefix="prob_"
        ),
        partitions_def=dg.StaticPartitionsDefinition(months),
        acquisition_functions=["margin"],
    )
    for month in months:
        dg.materialize(
            definitions.assets,
            partition_key=month,
            resources={"duckdb": DuckDBResource(database=str(database))},
        )


@pytest.fixture
def folder(digits, tmp_path, monkeypatch):
    """A copy of it as the working directory, and a registry that forgets what is added."""
    subprocess.run(["cp", "-r", f"{digits}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    known = dict(ACQUISITION_FUNCTIONS)
    yield
    ACQUISITION_FUNCTIONS.clear()
    ACQUISITION_FUNCTIONS.update(known)


def examples_of(module):
    """The docstrings of a module that have an example."""
    names = {**vars(import_module(module)), **NAMES}
    found = doctest.DocTestFinder().find(import_module(module), module, globs=names)
    return [test for test in found if test.examples]


EXAMPLES = [test for module in MODULES for test in examples_of(module)]


@pytest.mark.parametrize("example", [pytest.param(test, id=test.name) for test in EXAMPLES])
def test_an_example_says_what_is_so(example, folder):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = []
    runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


PUBLIC = [
    getattr(dagster_active_learning, name)
    for name in dagster_active_learning.__all__
    if name not in WITHOUT_EXAMPLE
] + [
    value
    for value in (getattr(evaluation, name) for name in dir(evaluation))
    if isfunction(value) and value.__module__.startswith(f"{evaluation.__name__}.")
]


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: value.__name__)
def test_every_public_name_has_an_example_with_a_result(value):
    whole_name = f"{value.__module__}.{value.__qualname__}"
    examples = [
        example for test in EXAMPLES if test.name == whole_name for example in test.examples
    ]
    assert any(example.want for example in examples)
    assert not any(doctest.SKIP in example.options for example in examples)
