"""score_images against plain float64 NumPy, for everything it takes and everything it refuses."""

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, score_images
from reference import ROW_SCORES, image_scores, prediction_scores

COLUMNS = ["image_id", "prediction_count", *ROW_SCORES]


def masked(values, mask):
    return np.ma.MaskedArray(np.array(values), mask=np.array(mask, bool))


def special_rows(n_classes: int) -> np.ndarray:
    """Certain, uniform, tied and nearly empty predictions beside random ones."""
    random = np.random.default_rng(n_classes).dirichlet(np.full(n_classes, 0.3), 50)
    certain = np.eye(n_classes)[: min(n_classes, 5)]
    uniform = np.full((1, n_classes), 1 / n_classes)
    tied = np.zeros((1, n_classes))
    tied[0, [0, -1]] = 0.5
    tiny = np.zeros((1, n_classes))
    tiny[0, 0], tiny[0, 1] = 1.0, 1e-310
    return np.concatenate([random, certain, uniform, tied, tiny])


@pytest.mark.parametrize("n_classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6), (np.float16, 2e-6)]
)
def test_every_row_is_an_image_without_ids(n_classes, dtype, tolerance):
    class_probs = special_rows(n_classes).astype(dtype)
    result = score_images(class_probs)
    reference = prediction_scores(class_probs)
    assert result.columns == COLUMNS
    assert result["image_id"].to_list() == list(range(len(class_probs)))
    assert result["image_id"].dtype.is_integer()
    assert result["prediction_count"].to_list() == [1] * len(class_probs)
    assert result["mean_object_score"].null_count() == len(class_probs)
    for name in ROW_SCORES[:4]:
        np.testing.assert_allclose(result[name], reference[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("n_classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_predictions_of_an_image_are_averaged(n_classes, dtype, tolerance):
    class_probs = special_rows(n_classes).astype(dtype)
    ids = [f"image{row % 7}" for row in range(len(class_probs))]
    ids[-1] = "alone"
    result = score_images(class_probs, ids)
    reference = image_scores(class_probs, ids)
    assert result["image_id"].to_list() == list(reference), "in order of first appearance"
    assert result["prediction_count"].sum() == len(class_probs)
    for name in ROW_SCORES:
        expected = [scores[name] for scores in reference.values()]
        np.testing.assert_allclose(result[name], expected, rtol=0, atol=tolerance)


MATRIX = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.0, 0.0, 1.0]], dtype=np.float32)

SAME_INPUT = {
    "numpy": MATRIX,
    "numpy, column by column": np.asfortranarray(MATRIX),
    "numpy, read-only": np.frombuffer(MATRIX.tobytes(), np.float32).reshape(3, 3),
    "numpy, big-endian": MATRIX.astype(">f4"),
    "numpy, every other row": np.repeat(MATRIX, 2, axis=0)[::2],
    "polars list": pl.Series(MATRIX.tolist(), dtype=pl.List(pl.Float32)),
    "polars array": pl.Series(MATRIX, dtype=pl.Array(pl.Float32, 3)),
    "polars in chunks": pl.concat([pl.Series(MATRIX[:1].tolist()), pl.Series(MATRIX[1:].tolist())]).cast(pl.List(pl.Float32)),
    "arrow list": pa.array(list(MATRIX)),
    "arrow list, sliced": pa.array([MATRIX[0], *MATRIX])[1:],
    "arrow fixed-size list": pa.FixedSizeListArray.from_arrays(pa.array(MATRIX.ravel()), 3),
    "arrow chunked": pa.chunked_array([pa.array(list(MATRIX[:2])), pa.array(list(MATRIX[2:]))]),
    "float16": MATRIX.astype(np.float16),
    "arrow list of float16": pa.array([row.tolist() for row in MATRIX], pa.list_(pa.float16())),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME_INPUT)
def test_every_kind_of_input_gives_the_same_bits(kind):
    assert score_images(SAME_INPUT[kind]).equals(score_images(MATRIX))


SAME_IDS = {
    "list": ["b", "a", "b"],
    "numpy": np.array(["b", "a", "b"]),
    "polars": pl.Series(["b", "a", "b"]),
    "polars categorical": pl.Series(["b", "a", "b"], dtype=pl.Categorical),
    "arrow": pa.array(["b", "a", "b"]),
    "arrow chunked": pa.chunked_array([["b"], ["a", "b"]]),
    "arrow dictionary": pa.array(["b", "a", "b"]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", SAME_IDS)
def test_every_kind_of_ids(kind):
    result = score_images(MATRIX, SAME_IDS[kind])
    assert result["image_id"].to_list() == ["b", "a"]
    assert result["prediction_count"].to_list() == [2, 1]
    assert result["mean_object_score"].to_list() == [0.75, 0.75]


def test_integer_ids_stay_integers():
    assert score_images(MATRIX, [7, 3, 7])["image_id"].to_list() == [7, 3]


def test_a_detectors_own_scores_are_the_object_scores():
    result = score_images(MATRIX, ["a", "a", "b"], scores=[0.1, 0.2, 0.25])
    np.testing.assert_allclose(result["mean_object_score"], [0.15, 0.25], rtol=0, atol=1e-15)
    alone = score_images(None, ["a"], scores=[0.1])
    assert alone["mean_object_score"].to_list() == [0.1], "as it is, not the larger of 0.1 and 0.9"
    assert alone.select(
        "entropy", "least_confidence", "margin", "variance"
    ).null_count().sum_horizontal().to_list() == [4]


@pytest.mark.parametrize("image_ids", [None, ["a", "b", "c"]])
def test_a_function_of_ones_own_may_have_no_score(monkeypatch, toy_function, image_ids):
    def first_where_small(class_probs):
        return np.where(class_probs[:, 0] < 0.4, class_probs[:, 0], np.nan)

    own = replace(toy_function, scores=first_where_small)
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, own.name, own)
    result = score_images(MATRIX, image_ids)
    assert result.columns == [*COLUMNS, own.name]
    assert result[own.name].to_list() == [None, 0.125, 0.0]


def test_no_rows_are_no_images():
    assert score_images(np.empty((0, 3))).height == 0
    assert score_images(pa.array([], pa.list_(pa.float32())), pa.array([], pa.string())).height == 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"class_probs": [[0.5, 0.5]]}, TypeError, "is a list, expected a NumPy array"),
        ({"class_probs": np.array([0.5, 0.5])}, TypeError, r"has shape \(2,\)"),
        ({"class_probs": np.array([["a", "b"]])}, TypeError, "and numbers"),
        ({"class_probs": pl.Series([0.5])}, TypeError, "expected lists of numbers"),
        ({"class_probs": pl.Series([["a"]])}, TypeError, "and numbers"),
        ({"class_probs": None}, TypeError, "needs class_probs"),
        ({"class_probs": MATRIX, "scores": [0.1] * 3}, ValueError, "image_ids are missing"),
        ({"class_probs": np.ones((3, 1))}, ValueError, "2 classes or more"),
        ({"class_probs": np.ones((3, 0))}, ValueError, "2 classes or more"),
        ({"class_probs": pl.Series([[0.5, 0.5], [1.0]])}, ValueError, "row 1 has 1 class prob"),
        ({"class_probs": pl.Series([[0.5, 0.5], None])}, ValueError, "row 1 is null"),
        ({"class_probs": masked([[0.5, 0.5]] * 3, [[0, 0], [0, 1], [1, 1]])}, ValueError, "row 1 has a masked value"),
        ({"class_probs": MATRIX, "image_ids": masked(["a", "b", "c"], [0, 1, 0])}, ValueError, "image_ids: row 1 is null"),
        ({"class_probs": None, "image_ids": ["a", "b"], "scores": masked([0.5, 0.5], [0, 1])}, ValueError, "row 1 is null"),
        ({"class_probs": pl.Series([[0.5, 0.5], [0.5, None]])}, ValueError, "row 1 has a null"),
        ({"class_probs": np.array([[0.5, 0.5], [np.nan, 1]])}, ValueError, "row 1 is .*finite"),
        ({"class_probs": np.array([[0.5, 0.5], [np.inf, 1]])}, ValueError, "row 1 is .*finite"),
        ({"class_probs": np.array([[1.1, -0.1]])}, ValueError, "row 0 is .*at least 0"),
        ({"class_probs": np.array([[1.1, 0.0]])}, ValueError, "row 0 is .*at most 1"),
        ({"class_probs": np.array([[0.5, 0.25]])}, ValueError, "sums to 0.75; expected a sum of 1"),
        ({"class_probs": MATRIX, "image_ids": ["a"]}, ValueError, "image_ids has 1 rows, expected 3"),
        ({"class_probs": MATRIX, "image_ids": ["a", None, "b"]}, ValueError, "image_ids: row 1 is null"),
        ({"class_probs": MATRIX, "image_ids": [1, 2, 3], "scores": [0.1]}, ValueError, "scores has 1 rows"),
        ({"class_probs": None, "image_ids": ["a"], "scores": [1.5]}, ValueError, "row 0 is 1.5"),
        ({"class_probs": None, "image_ids": ["a"], "scores": [np.nan]}, ValueError, "row 0 is nan"),
        ({"class_probs": None, "image_ids": ["a"], "scores": ["x"]}, TypeError, "expected numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        score_images(**arguments)


def test_a_mask_that_masks_nothing_is_no_matter():
    masked = np.ma.array(MATRIX, mask=np.zeros(np.shape(MATRIX), bool))
    assert score_images(masked).equals(score_images(MATRIX))


@pytest.mark.parametrize(
    "file",
    ["label_errors/mnist", "label_errors/cifar10", "label_errors/imdb", "cifar10_networks/lenet5"],
)
def test_real_predictions(real_predictions, file):
    class_probs = np.load(real_predictions / f"{file}_probabilities.npy")
    result = score_images(class_probs)
    reference = prediction_scores(class_probs)
    tolerance = 1e-12 if class_probs.dtype == np.float64 else 2e-6
    for name in ROW_SCORES[:4]:
        np.testing.assert_allclose(result[name], reference[name], rtol=0, atol=tolerance)
