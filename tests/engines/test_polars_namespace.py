"""The expression namespace in every kind of polars query, against plain float64 NumPy."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dagster_active_learning import AcquisitionNamespace, score_images
from reference import ROW_SCORES, image_scores, prediction_scores

FUNCTIONS = ROW_SCORES[:4]
CLASS_PROBS = np.random.default_rng(0).dirichlet(np.full(7, 0.4), 5_000)


def frame(dtype, *, array=False):
    kind = pl.Array(dtype, 7) if array else pl.List(dtype)
    return pl.DataFrame(
        {
            "image_id": [f"image{row % 900}" for row in range(len(CLASS_PROBS))],
            "class_probs": pl.Series(CLASS_PROBS, dtype=pl.Array(pl.Float64, 7)).cast(kind),
        }
    )


def expressions():
    return {
        name: getattr(AcquisitionNamespace(pl.col("class_probs")), name)() for name in FUNCTIONS
    }


@pytest.mark.parametrize("array", [False, True], ids=["list", "array"])
@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(pl.Float64, 1e-12), (pl.Float32, 2e-6), (pl.Float16, 5e-3)]
)
def test_scores_are_those_of_numpy(dtype, tolerance, engine, array):
    # Streamed, the rows come in several batches, in any order of the calls.
    lazy = frame(dtype, array=array).lazy().select(**expressions())
    assert lazy.collect_schema() == dict.fromkeys(FUNCTIONS, pl.Float64)
    scores = lazy.collect(engine=engine)
    reference = prediction_scores(CLASS_PROBS)
    for name in FUNCTIONS:
        np.testing.assert_allclose(scores[name], reference[name], rtol=0, atol=tolerance)


def test_the_bits_are_those_of_score_images():
    data = frame(pl.Float32)
    scores = data.select(**expressions())
    assert_frame_equal(
        scores, score_images(data["class_probs"]).select(FUNCTIONS), check_exact=True
    )


def test_the_name_of_the_namespace():
    column = pl.col("class_probs")
    scores = frame(pl.Float64).select(
        column.acquisition.entropy().alias("entropy"), column.acquisition.margin().alias("margin")
    )
    assert_frame_equal(
        scores, frame(pl.Float64).select(**expressions()).select("entropy", "margin")
    )


def test_means_over_the_predictions_of_an_image():
    data = frame(pl.Float64)
    ids = data["image_id"].to_list()
    reference = image_scores(CLASS_PROBS, ids)
    means = {name: expression.mean() for name, expression in expressions().items()}
    grouped = data.group_by("image_id").agg(**means)
    over = data.select("image_id", **{k: mean.over("image_id") for k, mean in means.items()})
    assert grouped.height == len(reference)
    for table in (grouped, over):
        for row in table.iter_rows(named=True):
            for name in FUNCTIONS:
                assert row[name] == pytest.approx(reference[row["image_id"]][name], abs=1e-12)


def test_nulls_empty_frames_literals_and_filters():
    rows = pl.DataFrame({"class_probs": [None, [0.25, 0.75], [0.25, 0.25, 0.5]], "keep": [1, 0, 1]})
    margin = AcquisitionNamespace(pl.col("class_probs")).margin()
    assert rows.select(margin).to_series().to_list() == [None, 0.5, 0.25]
    assert rows.filter(pl.col("keep") == 1).select(margin).to_series().to_list() == [None, 0.25]
    assert rows.clear().select(margin).schema == {"class_probs": pl.Float64}
    nothing = pl.DataFrame({"class_probs": [None, None]})
    assert nothing.select(margin).to_series().to_list() == [None, None]
    literal = AcquisitionNamespace(pl.lit([0.25, 0.75])).margin().alias("margin")
    assert rows.with_columns(literal)["margin"].to_list() == [0.5] * 3


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_row_that_is_no_distribution_is_an_error(engine):
    lazy = pl.LazyFrame({"class_probs": [[0.5, 0.5], [0.5, 0.25]]})
    margin = AcquisitionNamespace(pl.col("class_probs")).margin()
    with pytest.raises(ValueError, match=r"\[0.5  0.25\], which sums to 0.75; expected a sum of 1"):
        lazy.select(margin).collect(engine=engine)
    with pytest.raises(TypeError, match="column of double, expected lists of numbers"):
        pl.LazyFrame({"class_probs": [0.5]}).select(margin).collect(engine=engine)


@pytest.mark.parametrize(
    "activate",
    [
        "import dagster_active_learning.engines.polars_namespace",
        "from dagster_active_learning import AcquisitionNamespace",
        "from dagster_active_learning import explain_candidate",
        "from dagster_active_learning import load_candidates",
        "from dagster_active_learning import register_functions",
        "from dagster_active_learning import score_images",
        "import dagster_active_learning; dagster_active_learning.score_images",
    ],
)
def test_importing_a_name_for_data_frames_registers_it(activate):
    code = (
        f"import polars as pl\n{activate}\n"
        "print(pl.select(pl.lit([0.5, 0.5]).acquisition.entropy()).item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.0"
