"""A function that is added to the table alone is in everything that is made from the table."""

from dataclasses import replace

import duckdb
import numpy as np
import polars as pl
import pytest

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    AcquisitionNamespace,
    register_functions,
    score_images,
)
from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.explanation.phrase import candidate_reason
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import quoted

ROWS = [[0.25, 0.25, 0.5], [0.75, 0.125, 0.125], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]
IMPURITY = [0.625, 0.40625, 0.0, 0.5]
PREDICTIONS = pl.DataFrame(
    {"class_probs": ROWS}, schema={"class_probs": pl.List(pl.Float32)}
).with_columns(score=pl.lit(None, pl.Float64), category=pl.lit(None, pl.String))


def test_a_column_of_image_scores(toy_function):
    assert image_score_schema().names[-1] == toy_function.name
    class_probs = np.array(ROWS, np.float32)
    alone = score_images(class_probs)
    assert alone[toy_function.name].to_list() == IMPURITY
    joined = score_images(class_probs, ["a", "b", "a", "b"])
    assert joined[toy_function.name].to_list() == [0.3125, 0.453125]
    # The other columns are as they are without it.
    del ACQUISITION_FUNCTIONS[toy_function.name]
    assert alone.drop(toy_function.name).equals(score_images(class_probs))
    assert joined.drop(toy_function.name).equals(score_images(class_probs, ["a", "b", "a", "b"]))


def test_a_polars_expression(toy_function):
    column = AcquisitionNamespace(pl.col("class_probs"))
    assert PREDICTIONS.select(column.gini_impurity()).to_series().to_list() == IMPURITY
    assert column.gini_impurity.__doc__ == toy_function.description
    assert toy_function.name in dir(column)
    del ACQUISITION_FUNCTIONS[toy_function.name]
    with pytest.raises(AttributeError, match="gini_impurity"):
        column.gini_impurity  # noqa: B018


@pytest.mark.parametrize("name", ["gini_impurity", "select", 'a "quoted" name', "Größe {0}"])
def test_a_duckdb_function(toy_function, monkeypatch, name):
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, name, replace(toy_function, name=name))
    with duckdb.connect() as connection:
        register_functions(connection)
        connection.register("rows", PREDICTIONS)
        query = f"SELECT {quoted(name)}(class_probs) FROM rows"
        assert [score for (score,) in connection.execute(query).fetchall()] == IMPURITY


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("two_classes", "worst of 4 predictions: cow vs cat: 0.50 / 0.25"),
        ("no_class_above", "worst of 4 predictions: no class above 0.50 (cow)"),
    ],
)
def test_a_reason(toy_function, phrase, words):
    function = replace(toy_function, phrase=phrase)
    reason = candidate_reason(
        function, PREDICTIONS, class_names=["cat", "dog", "cow"], rules=Rules(), has_quarantined=False
    )  # fmt: skip
    assert reason == words


def test_rows_that_are_not_valid_are_kept_from_it(toy_function):
    lists = pl.DataFrame({"class_probs": [[0.5, 0.5], [0.5, float("nan")]]})
    column = AcquisitionNamespace(pl.col("class_probs"))
    with pytest.raises(ValueError, match=r"row 1 of 2 is \[0.5 nan\].*expected finite numbers"):
        lists.select(column.gini_impurity())


def test_scores_of_another_shape_are_an_error(toy_function, monkeypatch):
    wrong = replace(toy_function, scores=lambda class_probs: class_probs)
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, wrong.name, wrong)
    with pytest.raises(ValueError, match=r"'gini_impurity' gives scores of shape \(4, 3\)"):
        score_images(np.array(ROWS))
