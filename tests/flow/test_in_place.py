"""A set in place is what the same files are when they are copied, bit for bit."""

import math
import random
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import flow
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.flow import bucket_scores, file_scores, scored_files
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from in_place import (
    ROWS_PER_FILE,
    InThisProcess,
    add_manifest,
    assert_equal,
    commit,
    content,
    copied,
    in_place,
    pool_store,
    random_probs,
    scored,
    tables,
    write,
)


def sorted_ids(rng, file):
    return [f"{file}-{row:05d}" for row in range(300)]


def shuffled_ids(rng, file):
    return rng.permutation(sorted_ids(rng, file)).tolist()


def spread_ids(rng, file):
    return [f"image {number}" for number in rng.integers(400, size=300)]


def apart_ids(rng, file):
    """Images of a file alone, each with rows apart from each other."""
    return [f"{file}-{number}" for number in rng.integers(130, size=300)]


def runs_of_ids(rng, file):
    """Images with rows side by side, the last of them going on in the next file."""
    return [f"{(300 * file + row) // 7:05d}" for row in range(300)]


IDS = [sorted_ids, shuffled_ids, spread_ids, apart_ids, runs_of_ids]

BROKEN = [None, [], [0.5, 0.5], [math.nan] * 5, [0.3] * 5, [2.0, -1.0, 0, 0, 0]]


def classification(folder, ids, seed=0, kind=np.float32, **columns):
    """Three files, the second with rows that are no predictions and the last without rows."""
    rng = np.random.default_rng(seed)
    arrow = pa.from_numpy_dtype(kind)
    for file in range(3):
        probs = random_probs(rng, 300, kind=kind).tolist()
        image_ids = ids(rng, file)
        if file == 1:
            for place, broken in enumerate(BROKEN):
                probs[place * 40] = broken
            image_ids[13] = None
        write(folder / f"p{file}.parquet", image_ids, probs, 150, kind=arrow)
    write(folder / "p9.parquet", [], [], kind=arrow)
    return str(folder / "*.parquet")


def objects(folder, seed=0, *, score_only=False):
    """Objects of images that are spread over the files, with boxes; some scores are broken."""
    rng = np.random.default_rng(seed)
    for file in range(3):
        boxes = rng.uniform(0, 100, (300, 4))
        boxes[:, 2:] += boxes[:, :2]
        boxes[5, 2] = -1
        scores = rng.uniform(0, 1, 300)
        scores[[3, 60]] = math.nan, 7
        columns = {
            "score": pa.array(scores),
            "category": pa.array(rng.choice(["cat", "dog", "eel"], 300)),
            "box": pa.array(boxes.tolist()),
        }
        probs = [
            None if score_only or row % 5 == 0 else one
            for row, one in enumerate(random_probs(rng, 300).tolist())
        ]
        write(folder / f"p{file}.parquet", spread_ids(rng, file), probs, 150, **columns)
    return str(folder / "*.parquet")


OF_OBJECTS = {
    "score_column": "score",
    "category_column": "category",
    "bbox_column": "box",
    "box": "xyxy",
}


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize(
    "rules",
    [Rules(), Rules(aggregation="max"), Rules(aggregation="sum"), Rules(committee=True)],
    ids=["mean", "max", "sum", "committee"],
)
def test_classification_is_equal(tmp_path, ids, rules):
    path = classification(tmp_path, ids)
    assert_equal(
        tables(in_place(path, tmp_path / "storage", rules), rules),
        tables(copied(path, rules), rules),
    )


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_precisions_are_equal(tmp_path, kind):
    rules = Rules(sum_tolerance=0.01)
    path = classification(tmp_path, shuffled_ids, kind=kind)
    assert_equal(
        tables(in_place(path, tmp_path / "storage", rules), rules),
        tables(copied(path, rules), rules),
    )


def test_independent_probabilities_in_a_column_per_class_are_equal(tmp_path):
    rng = np.random.default_rng(0)
    for file in range(2):
        probs = rng.uniform(0, 1, (300, 3))
        columns = {f"p_{name}": probs[:, place] for place, name in enumerate("abc")}
        pq.write_table(
            pa.table({"key": spread_ids(rng, file), **columns}), tmp_path / f"{file}.parquet"
        )
    options = {"image_id_column": "key", "class_column_prefix": "p_"}
    rules, path = Rules(inputs="independent"), tmp_path / "*.parquet"
    assert_equal(
        tables(in_place(path, tmp_path / "storage", rules, **options), rules),
        tables(copied(path, rules, **options), rules),
    )


@pytest.mark.parametrize("score_only", [False, True])
@pytest.mark.parametrize("aggregation", ["mean", "min", "sum"])
def test_objects_are_equal(tmp_path, score_only, aggregation):
    path = objects(tmp_path, score_only=score_only)
    rules = Rules(task="detection", aggregation=aggregation)
    assert_equal(
        tables(in_place(path, tmp_path / "storage", rules, **OF_OBJECTS), rules),
        tables(copied(path, rules, **OF_OBJECTS), rules),
    )


@pytest.mark.parametrize("ids", [sorted_ids, spread_ids])
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_images_that_only_one_of_manifest_and_predictions_has_are_equal(tmp_path, ids, task):
    path = classification(tmp_path, ids)
    known = {name for file in range(3) for name in ids(np.random.default_rng(5), file)}
    manifest = [*sorted(known)[::2], "never seen", "nor this"]
    rules = Rules(in_manifest=True, task=task)
    expected = copied(path, rules, manifest=manifest)
    found = in_place(path, tmp_path / "storage", rules, manifest=manifest)
    assert_equal(tables(found, rules), tables(expected, rules))


@pytest.mark.parametrize("ids", [sorted_ids, runs_of_ids])
def test_images_that_came_into_the_manifest_since_have_no_predictions_and_no_class(tmp_path, ids):
    path = classification(tmp_path, ids)
    known = sorted({name for file in range(3) for name in ids(np.random.default_rng(5), file)})
    rules = Rules(in_manifest=True, images_without_predictions="first")
    found = in_place(path, tmp_path / "storage", rules, manifest=known[::2])
    expected = copied(path, rules, manifest=known[::2])
    for store in (found, expected):
        add_manifest(store, known[1::4])
    flow.score_in_place(found, "set", rules=rules, run_id="run")
    flow.score_prediction_set(expected, "set", rules=rules, run_id="run", report=lambda _: None)
    assert_equal(tables(found, rules), tables(expected, rules))


def reversed_tasks(tasks):
    return list(reversed(tasks))


def shuffled_tasks(tasks):
    return random.Random(0).sample(tasks, len(tasks))


@pytest.mark.parametrize("order", [reversed_tasks, shuffled_tasks])
@pytest.mark.parametrize("rows", [97, 10_000])
def test_neither_the_order_of_tasks_nor_the_size_of_parts_counts(
    tmp_path, monkeypatch, order, rows
):
    path = classification(tmp_path, spread_ids)
    monkeypatch.setattr(file_scores, "ROWS_BETWEEN_BUCKETS", rows)
    monkeypatch.setattr(scored_files, "ROWS_PER_BUCKET", rows)
    found = in_place(path, tmp_path / "storage", engine=InThisProcess(order))
    assert_equal(tables(found), tables(copied(path)))


class Threads:
    """Another engine, as a user writes one."""

    def run(self, function, tasks, report):
        report(f"{len(tasks)} tasks in threads")
        with ThreadPoolExecutor(4) as pool:
            for done in as_completed([pool.submit(function, task) for task in tasks]):
                yield done.result()


def test_another_engine_gives_what_is_equal_though_its_tasks_share_a_process(tmp_path, monkeypatch):
    path = classification(tmp_path, spread_ids)
    monkeypatch.setattr(scored_files, "ROWS_PER_BUCKET", 200)
    found = in_place(path, tmp_path / "storage", engine=Threads())
    assert_equal(tables(found), tables(copied(path)))


def test_buckets_of_a_committee_are_as_large_as_their_class_probabilities(tmp_path, monkeypatch):
    path = classification(tmp_path, spread_ids)
    row_bytes = 5 * 4
    monkeypatch.setattr(scored_files, "BUCKET_BYTES", 100 * row_bytes)
    monkeypatch.setattr(file_scores, "PART_BYTES", 50 * row_bytes)
    rules, engine = Rules(committee=True), InThisProcess()
    found = in_place(path, tmp_path / "storage", rules, engine=engine)
    rows = sum(pq.read_metadata(file).num_rows for file in tmp_path.glob("*.parquet"))
    buckets = [task for task in engine.tasks if isinstance(task, bucket_scores.BucketTask)]
    assert len(buckets) == math.ceil(rows / 100)
    assert_equal(tables(found, rules), tables(copied(path, rules), rules))


@pytest.mark.parametrize("ids", [sorted_ids, spread_ids])
def test_only_what_is_not_done_is_done_again_with_the_same_bytes(tmp_path, ids):
    path = classification(tmp_path / "", ids)
    storage = tmp_path / "storage"
    engine = InThisProcess()
    before = scored(path, storage, engine=engine)
    files = content(storage)
    (lost,) = storage.glob("*/done/00000001.json")
    lost.unlink()
    after = scored(path, storage, engine=engine)
    assert content(storage) == files
    assert [file.is_new for file in after.files] == [False, True, False, False]
    assert tables_of(after) == tables_of(before)


def tables_of(files):
    store = pool_store()
    commit(store, files)
    return store.connection.sql("FROM image_scores ORDER BY image_id").fetchall()


@pytest.mark.parametrize(
    ("ids", "buckets"), [(sorted_ids, 0), (shuffled_ids, 0), (runs_of_ids, 1), (spread_ids, 1)]
)
def test_a_second_wave_is_there_where_files_may_share_images(tmp_path, ids, buckets):
    engine = InThisProcess()
    scored(classification(tmp_path, ids), tmp_path / "storage", engine=engine)
    waves = [type(task) for task in engine.tasks]
    assert waves == [file_scores.FileTask] * 4 + [bucket_scores.BucketTask] * buckets


def test_rows_of_all_footers_are_scored_or_in_quarantine(tmp_path):
    path = classification(tmp_path, spread_ids)
    store = in_place(path, tmp_path / "storage")
    broken = [0, len(BROKEN) + 1, 0, 0]
    footers = [pq.read_metadata(file).num_rows for file in sorted(tmp_path.glob("*.parquet"))]
    assert [row[1:] for row in store.rows(ROWS_PER_FILE)] == [
        (rows, rows - refused, refused) for rows, refused in zip(footers, broken, strict=True)
    ]


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def break_pages(file):
    content = bytearray(file.read_bytes())
    content[100:3000] = bytes(2900)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, break_pages])
def test_a_damaged_file_names_itself_and_nothing_is_committed(tmp_path, damage):
    path = classification(tmp_path, sorted_ids)
    store = in_place(path, tmp_path / "storage")
    before = store.rows("SELECT * FROM prediction_sets")
    damage(tmp_path / "p1.parquet")
    with pytest.raises(PredictionReadError, match="p1.parquet"):
        commit(store, scored(path, tmp_path / "storage"))
    assert store.rows("SELECT * FROM prediction_sets") == before


def write_again(file):
    table = pq.read_table(file)
    pq.write_table(table, file, compression="none")


def remove(file):
    file.unlink()


@pytest.mark.parametrize(("change", "fault"), [(write_again, "changed"), (remove, "is gone")])
def test_a_file_that_changes_before_the_commit_names_itself(tmp_path, change, fault):
    path = classification(tmp_path, sorted_ids)
    files = scored(path, tmp_path / "storage")
    store = pool_store()
    change(tmp_path / "p1.parquet")
    with pytest.raises(PredictionReadError, match=f"p1.parquet {fault}"):
        commit(store, files)
    assert store.rows("FROM prediction_sets") == []


@pytest.mark.parametrize(
    ("columns", "options", "fault"),
    [
        ({"class_probs": [["0.5", "0.5"]]}, {}, "'class_probs' is of type"),
        ({"class_probs": [{"a": 0.5, "b": 0.5}]}, {}, "beside the names"),
        ({"class_probs": [0.5]}, {"single_probability": True}, "single probability"),
        ({"class_probs": [[0.5, 0.5]], "image_id": [7]}, {}, "'image_id' is of type int64"),
        ({"score": [[0.5]]}, {"score_column": "score"}, "several objects"),
        ({"score": [50.0]}, {"score_column": "score", "score_transform": "percent"}, "changed"),
    ],
)
def test_what_a_view_cannot_show_is_refused(tmp_path, columns, options, fault):
    pq.write_table(pa.table({"image_id": ["a"], **columns}), tmp_path / "p.parquet")
    with pytest.raises(PredictionReadError, match=f"cannot be read in place.*{fault}"):
        open_in_place(str(tmp_path / "p.parquet"), **options)
