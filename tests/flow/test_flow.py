"""Ingest, score and rank, without Dagster: every row is kept, and the numbers are right."""

import math
import shutil
from dataclasses import replace

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow, read_predictions
from dagster_active_learning.errors import PoolStateError, PredictionReadError
from dagster_active_learning.flow import progress
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import prediction_set
from dagster_active_learning.store.prediction_sources import sources
from pools import RULES, in_memory, ingest, rank, rows, score
from reference import ROW_SCORES, image_scores, prediction_scores

CLASS_SCORES = ROW_SCORES[:4]


# One invalid row of each kind, after the columns image_id and class_probs of a good one.
INVALID_ROWS = [
    ("x", [0.5, math.nan, 0.5], Reason.NAN),
    ("x", [0.5, math.inf, 0.5], Reason.INFINITE),
    ("x", [0.5, -math.inf, 0.5], Reason.INFINITE),
    ("x", [-0.1, 0.6, 0.5], Reason.NEGATIVE),
    ("x", [1.1, 0.0, 0.0], Reason.ABOVE_ONE),
    ("x", [0.25, 0.25, 0.0], Reason.WRONG_SUM),
    ("x", [1.0], Reason.TOO_FEW_CLASSES),
    ("x", [0.5, 0.5], Reason.OTHER_CLASS_COUNT),
    (None, [0.5, 0.25, 0.25], Reason.IMAGE_ID_NULL),
    ("x", [], Reason.CLASS_PROBS_EMPTY),
    ("x", None, Reason.CLASS_PROBS_NULL),
    ("x", [0.5, None, 0.5], Reason.PROBABILITY_NULL),
    ("x", ["0.5", "abc", "0.5"], Reason.PROBABILITY_NOT_NUMBER),
]


@pytest.mark.parametrize(
    ("image_id", "probs", "reason", "text", "batch_rows"),
    [
        (*row, text, batch_rows)
        for row in INVALID_ROWS
        # It is a batch alone, the first of two, or one among good ones.
        for text, batch_rows in [(False, 1), (True, 2), (False, 1000)]
        if text or row[2] is not Reason.PROBABILITY_NOT_NUMBER
    ],
)
def test_an_invalid_row_goes_to_quarantine_with_reason_file_and_row(
    store, tmp_path, image_id, probs, reason, text, batch_rows
):
    good = [0.5, 0.25, 0.25]
    lists = [good, good, probs, good]
    if text:
        lists = [one and [None if p is None else str(p) for p in one] for one in lists]
    kind = pa.list_(pa.string() if text else pa.float64())
    path = tmp_path / "p.parquet"
    pq.write_table(
        pa.table({"image_id": ["a", "b", image_id, "d"], "class_probs": pa.array(lists, kind)}),
        path,
    )
    stored = ingest(store, read_predictions(path, format="parquet", batch_rows=batch_rows))
    assert (stored.prediction_count, stored.quarantined_count, stored.image_count) == (3, 1, 3)
    assert rows(
        store, "SELECT source, row_number, image_id, reason FROM quarantined_predictions"
    ) == [(str(path), 3, image_id, str(reason))]
    assert rows(store, "SELECT image_id, prediction_index FROM predictions") == [
        ("a", 0), ("b", 1), ("d", 3),
    ]  # fmt: skip
    (raw,) = rows(store, "SELECT raw FROM quarantined_predictions")[0]
    assert raw.startswith('{"image_id": ')


@pytest.mark.parametrize(
    "probs",
    [
        [0.1] * 10,
        [1 / 3 + 3e-4] * 3,
        [1.0005, -0.0004],
        [0.5 + 4e-4, 0.5 + 4e-4],
        [1e-45, 1.0],
    ],
)
def test_what_models_really_write_is_no_reason_for_quarantine(store, probs):
    stored = ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [probs]})))
    assert stored.quarantined_count == 0


def test_one_broken_first_row_does_not_decide_the_number_of_classes(store):
    lists = [[0.5, 0.5]] + [[0.5, 0.25, 0.25]] * 3
    table = pa.table({"image_id": list("abcd"), "class_probs": lists})
    stored = ingest(store, in_memory(table))
    assert (stored.prediction_count, stored.class_names) == (3, ["0", "1", "2"])


@pytest.mark.parametrize("batch_rows", [100, 100_000])
def test_the_number_of_classes_is_found_behind_many_broken_rows(store, tmp_path, batch_rows):
    lists = [[]] * 3_000 + [[0.5, 0.5], [0.2, 0.3, 0.5], [0.1, 0.9]]
    table = pa.table(
        {
            "image_id": [str(i) for i in range(len(lists))],
            "class_probs": pa.array(lists, pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    stored = ingest(
        store, read_predictions(tmp_path / "p.parquet", format="parquet", batch_rows=batch_rows)
    )
    assert (stored.prediction_count, stored.quarantined_count) == (2, 3_001)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_rows_read_are_rows_stored_and_rows_in_quarantine(empty_pool, tmp_path_factory, data):
    probability = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, 2.0, math.nan, math.inf, None])
    prediction = st.one_of(st.just([0.5, 0.25, 0.25]), st.none(), st.lists(probability, max_size=4))
    lists = data.draw(st.lists(prediction, min_size=1, max_size=40))
    ids = data.draw(
        st.lists(st.sampled_from(["a", "b", None, ""]), min_size=len(lists), max_size=len(lists))
    )
    table = pa.table(
        {
            "image_id": pa.array(ids, pa.string()),
            "class_probs": pa.array(lists, pa.list_(pa.float64())),
        }
    )
    path = tmp_path_factory.mktemp("rows") / "pool.duckdb"
    shutil.copy(empty_pool, path)
    with duckdb.connect(str(path)) as connection:
        store = PoolStore(connection, "pool")
        try:
            stored = ingest(store, in_memory(table))
        except PredictionReadError:
            assert rows(store, "SELECT count(*) FROM quarantined_predictions") == [(0,)]
            return
        assert stored.prediction_count + stored.quarantined_count == len(lists)
        indices = rows(store, "SELECT prediction_index FROM predictions")
        numbers = rows(store, "SELECT row_number - 1 FROM quarantined_predictions")
        assert sorted(indices + numbers) == [(row,) for row in range(len(lists))]
        assert score(store)["image_id"].n_unique() == stored.image_count


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([[0.5, 0.6], [math.nan, 1.0]], ["do not sum to 1 (1 rows, the first is row 1 of", "is NaN (1 rows, the first is row 2"]),
        ([[], None], ["is empty (1 rows", "is null (1 rows"]),
    ],
)  # fmt: skip
def test_a_source_without_one_valid_row_is_an_error_and_nothing_changes(store, lists, words):
    ingest(store, in_memory(pa.table({"image_id": ["a"], "class_probs": [[0.5, 0.5]]})))
    table = pa.table(
        {"image_id": ["a", "b"], "class_probs": pa.array(lists, pa.list_(pa.float64()))}
    )
    with pytest.raises(PredictionReadError) as error:
        ingest(store, in_memory(table))
    assert all(word in str(error.value) for word in words)
    assert rows(store, "SELECT class_probs FROM predictions") == [([0.5, 0.5],)]
    assert rows(store, "SELECT count(*) FROM quarantined_predictions") == [(0,)]


def test_the_same_prediction_set_again_replaces_its_rows(store, write_predictions):
    first = write_predictions([[0.5, 0.5]] * 5 + [[0.5, 0.6]])
    for _ in range(2):
        stored = ingest(store, read_predictions(first, format="parquet"))
        scores = score(store)
        rank(store, "margin")
    assert (stored.prediction_count, stored.quarantined_count, scores.height) == (5, 1, 5)
    assert rows(store, "SELECT count(*) FROM labeling_candidates") == [(5,)]
    assert rows(store, "SELECT count(*) FROM prediction_sets") == [(1,)]
    shrunk = write_predictions([[0.5, 0.5]])
    ingest(store, read_predictions(shrunk, format="parquet"))
    assert (score(store).height, len(rank(store, "margin")[1])) == (1, 1)
    assert rows(store, "SELECT count(*) FROM quarantined_predictions") == [(0,)]


def test_another_prediction_set_is_left_alone(store, write_predictions):
    path = write_predictions([[0.5, 0.5]] * 3)
    ingest(store, read_predictions(path, format="parquet"), prediction_set="other")
    ingest(store, read_predictions(path, format="parquet"))
    ingest(store, read_predictions(write_predictions([[0.5, 0.5]]), format="parquet"))
    assert rows(store, "SELECT prediction_set, count(*) FROM predictions GROUP BY ALL ORDER BY 1") == [
        ("other", 3), ("set", 1),
    ]  # fmt: skip


def test_stored_precision_is_that_of_the_source(store, write_predictions):
    def stored_type():
        return rows(store, "SELECT DISTINCT typeof(class_probs) FROM predictions")

    for dtype in (np.float16, np.float32):
        ingest(
            store,
            read_predictions(write_predictions([[0.25, 0.75]], dtype=dtype), format="parquet"),
        )
        assert stored_type() == [("FLOAT[]",)]
    wide = write_predictions([[0.1, 0.9]], dtype=np.float64)
    ingest(store, read_predictions(wide, format="parquet"), prediction_set="wide")
    assert stored_type() == [("DOUBLE[]",)]
    assert rows(store, "SELECT class_probs FROM predictions WHERE prediction_set = 'wide'") == [
        ([0.1, 0.9],)
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_images", [40, 200])
def test_scores_are_means_over_the_predictions_and_the_same_bits_for_every_batch_size(
    store, write_predictions, dtype, n_images
):
    random = np.random.default_rng(0)
    class_probs = random.dirichlet(np.ones(4), 200).astype(dtype)
    ids = [f"image{one}" for one in random.permutation(200) % n_images]
    path = write_predictions(class_probs, ids, dtype=dtype)
    expected = image_scores(class_probs, ids)
    results = []
    for batch_rows in (1, 7, 50, None):
        ingest(store, read_predictions(path, format="parquet", batch_rows=batch_rows))
        results.append(score(store, batch_rows))
    assert all(result.equals(results[0]) for result in results[1:])
    assert results[0]["image_id"].to_list() == sorted(expected)
    assert results[0]["prediction_count"].sum() == 200
    for name in CLASS_SCORES:
        reference = [expected[image_id][name] for image_id in sorted(expected)]
        tolerance = 1e-12 if dtype == np.float64 else 2e-6
        np.testing.assert_allclose(results[0][name], reference, rtol=0, atol=tolerance)
    assert results[0]["mean_object_score"].null_count() == n_images


def test_labeled_images_are_no_candidates_and_strangers_go_to_quarantine(store, write_predictions):
    manifest = pl.DataFrame(
        {
            "image_id": ["a", "b", "c", "unseen"],
            "uri": None, "width": None, "height": None,
            "labeled": [True, False, None, False],
            "label": None,
        },
        schema_overrides={"uri": pl.String, "width": pl.Int32, "height": pl.Int32, "label": pl.String},
    )  # fmt: skip
    replace_images(store, manifest.to_arrow())
    path = write_predictions(
        [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.5, 0.5]], ["a", "b", "c", "stranger"]
    )
    stored = ingest(store, read_predictions(path, format="parquet"), in_manifest=True)
    assert (stored.prediction_count, stored.quarantined_count) == (3, 1)
    assert rows(
        store, "SELECT source, row_number, image_id, reason FROM quarantined_predictions"
    ) == [(str(path), 4, "stranger", str(Reason.NOT_IN_MANIFEST))]
    scores = score(store, in_manifest=True)
    assert dict(zip(scores["image_id"], scores["prediction_count"], strict=True)) == {
        "a": 1,
        "b": 1,
        "c": 1,
        "unseen": 0,
    }
    ranking, ranked = rank(store, "margin", in_manifest=True)
    assert [(image_id, score and round(score, 6)) for image_id, _, score, *_ in ranked] == [
        ("c", 0.2),
        ("b", 0.6),
        ("unseen", None),
    ]
    assert (ranking.candidate_count, ranking.image_count, ranking.score_at_cut) == (3, 3, None)


def test_candidates_have_uncertainty_and_the_most_probable_class(store):
    lists = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]]
    table = pa.table({"image_id": ["a", "b", "b"], "class_probs": lists}).replace_schema_metadata(
        {"class_names": '["cat", "dog", "eel"]'}
    )
    ingest(store, in_memory(table))
    score(store)
    _, ranked = rank(store, "margin")
    assert [(image_id, predicted) for image_id, *_, predicted in ranked] == [
        ("a", "cat"),
        ("b", "eel"),
    ]
    assert ranked[0][3] == pytest.approx(1 - 0.2)


def test_files_of_a_set_are_recorded_with_their_rows(store, write_predictions, tmp_path):
    write_predictions([[0.5, 0.5]] * 2, ["a", "b"], "1.parquet")
    write_predictions([[0.5, 0.5]] * 3, ["c", "d", "e"], "2.parquet")
    stored = ingest(store, read_predictions(tmp_path / "*.parquet", format="parquet"))
    files = sources(store, "set")
    assert [(f.source[-9:], f.first_prediction_index, f.row_count) for f in files] == [
        ("1.parquet", 0, 2),
        ("2.parquet", 2, 3),
    ]
    assert stored.source_sha256 not in {file.source_sha256 for file in files}
    score(store)
    rank(store, "entropy")
    files_of_images = dict(rows(store, "SELECT image_id, source[-9:] FROM candidate_lineage"))
    assert files_of_images == dict.fromkeys("ab", "1.parquet") | dict.fromkeys("cde", "2.parquet")


def test_steps_out_of_order_say_what_to_materialize_first(store, write_predictions):
    with pytest.raises(PoolStateError, match="materialize pool/predictions first"):
        score(store)
    ingest(store, read_predictions(write_predictions([[0.5, 0.5]]), format="parquet"))
    with pytest.raises(PoolStateError, match="materialize pool/image_scores first"):
        rank(store, "margin")


def test_progress_is_told_in_rows_and_rows_a_second(store, write_predictions, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 0.0)
    told = []
    flow.ingest_predictions(
        store,
        read_predictions(write_predictions([[0.5, 0.5]] * 4), format="parquet", batch_rows=2),
        prediction_set="set", model=None, run_id="run", rules=RULES, report=told.append,
    )  # fmt: skip
    assert [line.split(",")[0] for line in told] == [
        "read 2 predictions",
        "read 4 predictions",
        "read 4 predictions",
    ]


@pytest.mark.parametrize(
    "file",
    ["label_errors/mnist", "label_errors/cifar10", "label_errors/imdb", "cifar10_networks/lenet5", "cifar10_networks/wideresnet", "cifar10_networks/vgg16"],
)  # fmt: skip
def test_real_predictions_are_all_scored_and_ranked_as_numpy_ranks_them(
    store, real_predictions, tmp_path, file
):
    path = real_predictions / f"{file}_probabilities.npy"
    class_probs = np.load(path)
    ids = [f"{row:05d}" for row in range(len(class_probs))]
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    stored = ingest(
        store, read_predictions(path, format="npy", image_ids=str(tmp_path / "ids.txt"))
    )
    assert (stored.prediction_count, stored.quarantined_count) == (len(class_probs), 0)
    scores = score(store)
    assert scores["image_id"].to_list() == ids
    reference = prediction_scores(class_probs)
    tolerance = 1e-12 if class_probs.dtype == np.float64 else 2e-6
    for name in CLASS_SCORES:
        np.testing.assert_allclose(scores[name], reference[name], rtol=0, atol=tolerance)
        _, ranked = rank(store, name, limit=100)
        stored_scores = scores[name].to_numpy()
        sign = -1 if ACQUISITION_FUNCTIONS[name].label_first == "highest" else 1
        order = np.argsort(sign * stored_scores, kind="stable")[:100]
        assert [one[2] for one in ranked] == stored_scores[order].tolist()
        cut = ranked[-1][2]
        above = {ids[row] for row in order if stored_scores[row] != cut}
        assert above <= {one[0] for one in ranked}
        # The reference's own ranking, except where it cannot tell two images apart.
        by_reference = np.sort(sign * reference[name])[:100]
        np.testing.assert_allclose(
            [sign * reference[name][int(one[0])] for one in ranked],
            by_reference,
            rtol=0,
            atol=2 * tolerance,
        )


def test_ranks_do_not_depend_on_the_run(store, write_predictions):
    class_probs = np.random.default_rng(1).choice([0.25, 0.5, 0.75], 500)
    path = write_predictions(np.column_stack([class_probs, 1 - class_probs]))
    results = []
    for batch_rows in (None, 13):
        ingest(store, read_predictions(path, format="parquet", batch_rows=batch_rows))
        score(store, batch_rows)
        results.append(rank(store, "margin", limit=50))
    assert results[0] == results[1]
    assert rank(store, "margin", limit=50, seed=1)[1] != results[0][1]


def test_scores_of_predictions_that_are_gone_are_not_ranked(store, write_predictions):
    ingest(store, read_predictions(write_predictions([[0.5, 0.5]], ["a"]), format="parquet"))
    score(store)
    ingest(store, read_predictions(write_predictions([[0.5, 0.3, 0.2]], ["b"]), format="parquet"))
    with pytest.raises(PoolStateError, match="materialize pool/image_scores first"):
        rank(store, "margin")


def test_an_image_that_left_the_manifest_is_no_candidate(store, write_predictions):
    columns = {"uri": None, "width": None, "height": None, "labeled": False, "label": None}
    kinds = {"uri": pl.String, "width": pl.Int32, "height": pl.Int32, "label": pl.String}

    def manifest(*ids):
        rows = [{"image_id": one, **columns} for one in ids]
        return pl.DataFrame(rows, schema_overrides=kinds).to_arrow()

    replace_images(store, manifest("a", "b"))
    path = write_predictions([[0.5, 0.5]] * 2, ["a", "b"])
    ingest(store, read_predictions(path, format="parquet"), in_manifest=True)
    score(store, in_manifest=True)
    replace_images(store, manifest("b"))
    _, ranked = rank(store, "margin", in_manifest=True)
    assert [row[0] for row in ranked] == ["b"]


def test_scores_have_the_precision_of_their_source_whatever_came_between(store, write_predictions):
    class_probs = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    narrow = write_predictions(class_probs.astype(np.float32), name="narrow.parquet")
    wide = write_predictions(class_probs, name="wide.parquet")
    results = []
    for between in (None, wide):
        if between is not None:
            ingest(store, read_predictions(wide, format="parquet"), prediction_set="other")
        ingest(store, read_predictions(narrow, format="parquet"))
        results.append(score(store))
    assert results[0].equals(results[1])


def test_a_set_replaced_while_it_is_scored_is_an_error(store, write_predictions, monkeypatch):
    path = write_predictions([[0.5, 0.5]] * 9)
    ingest(store, read_predictions(path, format="parquet"))
    found = replace(prediction_set(store, "set"), scored_by=None)
    monkeypatch.setattr(
        prediction_sets, "prediction_set", lambda *_: replace(found, prediction_count=10)
    )
    with pytest.raises(PoolStateError, match="replaced while it was scored"):
        score(store)
    assert rows(store, "SELECT count(*) FROM image_scores") == [(0,)]


def test_an_error_while_ranking_is_not_hidden_by_the_rollback(store, write_predictions):
    ingest(store, read_predictions(write_predictions([[0.5, 0.5]] * 9), format="parquet"))
    score(store)
    with pytest.raises(OverflowError):
        rank(store, "margin", seed=2**63)
    assert rows(store, "SELECT count(*) FROM labeling_candidates") == [(0,)]


def test_tables_that_are_not_a_pools_are_left_alone(database):
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA pool; CREATE TABLE pool.images (image_id VARCHAR)")
        with pytest.raises(PoolStateError, match="give the pool another name"):
            PoolStore(connection, "pool")


def test_one_class_is_too_few_also_if_it_has_a_name(store):
    table = pa.table({"image_id": ["a"], "class_probs": [[1.0]]})
    stream = read_table(table, name="t", options=TableOptions(class_names=["cat"]))
    with pytest.raises(PredictionReadError, match="expected at least 2"):
        ingest(store, stream)


def test_a_set_of_numbers_that_compress_well_is_read_in_small_batches(tmp_path):
    one_hot = np.zeros((20_000, 1_000), np.float32)
    one_hot[:, 3] = 1
    ids = [str(row) for row in range(len(one_hot))]
    pq.write_table(
        pa.table({"image_id": ids, "class_probs": list(one_hot)}), tmp_path / "p.parquet"
    )
    largest = max(map(len, read_predictions(tmp_path / "p.parquet", format="parquet")))
    assert largest * one_hot.shape[1] * 4 <= 32 * 2**20
