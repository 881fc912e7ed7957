"""The one probability of a binary classifier, in every shape in which tools write it."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import PredictionAsset, PredictionFiles, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions

P = [0.75, 0.5, 0.0, 1.0, 0.125]
IDS = ["a", "b", "c", "d", "e"]
SINGLE = {"single_probability": True}


def as_csv(folder, p):
    pd.DataFrame({"image_id": IDS, "prob": p}).to_csv(folder / "p.csv", index=False)
    return folder / "p.csv"


def as_parquet(folder, column):
    pq.write_table(pa.table({"image_id": IDS, "prob": column}), folder / "p.parquet")
    return folder / "p.parquet"


def as_jsonl(folder, values):
    rows = [{"image_id": name, "prob": p} for name, p in zip(IDS, values, strict=True)]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "p.jsonl"


def as_npy(folder, array):
    np.save(folder / "p.npy", array)
    (folder / "p.ids.txt").write_text("\n".join(IDS))
    return folder / "p.npy"


def as_npz(folder, array):
    np.savez(folder / "p.npz", class_probs=array, image_ids=np.array(IDS))
    return folder / "p.npz"


COLUMN = {"class_columns": ["prob"]}
LIST = SINGLE | {"class_probs_column": "prob"}
LISTS = [[p] for p in P]

# How the file is written, its options, and the class names.
SHAPES = {
    "a class column of CSV": (lambda f: as_csv(f, P), COLUMN, ("not prob", "prob")),
    "a class column of Parquet": (lambda f: as_parquet(f, P), COLUMN, ("not prob", "prob")),
    "a class column of JSON Lines": (lambda f: as_jsonl(f, P), COLUMN, ("not prob", "prob")),
    "a prefix": (lambda f: as_csv(f, P), SINGLE | {"class_column_prefix": "pr"}, ("not ob", "ob")),
    "numbers in CSV": (lambda f: as_csv(f, P), LIST, None),
    "numbers in Parquet": (lambda f: as_parquet(f, P), LIST, ("not prob", "prob")),
    "numbers in JSON Lines": (lambda f: as_jsonl(f, P), LIST, ("not prob", "prob")),
    "lists in CSV": (lambda f: as_csv(f, [f"[{p}]" for p in P]), LIST, None),
    "lists in Parquet": (lambda f: as_parquet(f, LISTS), LIST, None),
    "lists of fixed size": (
        lambda f: as_parquet(f, pa.array(LISTS, pa.list_(pa.float32(), 1))), LIST, None,
    ),
    "lists in JSON Lines": (lambda f: as_jsonl(f, LISTS), LIST, None),
    "an array": (lambda f: as_npy(f, np.array(P)), SINGLE, None),
    "an array of one column": (lambda f: as_npy(f, np.array(LISTS, np.float32)), SINGLE, None),
    "an archive": (lambda f: as_npz(f, np.array(P)), SINGLE, None),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("names", [None, ["no", "yes"]])
def test_a_single_probability_is_that_of_the_second_of_two_classes(tmp_path, case, names):
    write, options, own_names = SHAPES[case]
    path = write(tmp_path)
    given = {} if names is None else {"class_names": names}
    stream = read_predictions(path, format=path.suffix[1:], **options, **given)
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [row["class_probs"] for row in rows] == [[1 - p, p] for p in P]
    assert [row["image_id"] for row in rows] == IDS
    assert {row["reason"] for row in rows} == {None}
    assert stream.class_names == (own_names if names is None else tuple(names))


def test_a_row_without_its_probability_is_refused_and_one_out_of_range_is_kept_as_it_is(tmp_path):
    table = pa.table({"image_id": list("abcd"), "prob": [None, 1.5, -0.5, float("nan")]})
    stream = read_table(table, name="t", options=TableOptions(class_columns=["prob"]))
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [row["reason"] for row in rows] == ["a class probability is null", None, None, None]
    assert [row["class_probs"] for row in rows[1:3]] == [[0.0, 1.5], [1.0, -0.5]]
    assert np.isnan(rows[3]["class_probs"]).all()


def test_what_is_no_single_probability_is_an_error_that_says_so(tmp_path):
    pairs = as_npy(tmp_path, np.array([[0.5, 0.5]] * 5))
    with pytest.raises(PredictionReadError, match=r"of shape \(n_predictions,\) or"):
        read_predictions(pairs, format="npy", **SINGLE)
    with pytest.raises(PredictionReadError, match="single_probability=True takes shape"):
        read_predictions(as_npy(tmp_path, np.array(P)), format="npy")
    with pytest.raises(PredictionReadError) as error:
        read_predictions(as_csv(tmp_path, P), format="csv", class_column_prefix="pr")
    assert "1 class columns for class_column_prefix='pr', expected at least 2" in str(error.value)
    with pytest.raises(ValueError, match="second of two classes, but class_names has 3"):
        PredictionFiles("p.npy", "npy", class_names=["a", "b", "c"], **SINGLE)


@pytest.mark.parametrize(
    "source",
    [
        PredictionFiles("p.csv", "csv", class_columns=["prob"]),
        PredictionFiles("p.npy", "npy", **SINGLE),
        PredictionAsset("p", class_columns=["prob"]),
    ],
)
def test_a_single_probability_is_no_logit(source):
    source.check_inputs("probabilities")
    with pytest.raises(ValueError, match=r"a single probability p is read as \[1 - p, p\]"):
        source.check_inputs("logits")
