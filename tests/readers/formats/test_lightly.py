"""Lightly predictions: what is read, what is quarantined, and what broken files say."""

import json
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.quarantine import Reason

# Ids are neither from 0 nor in order: the order of the list is the order of the classes.
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def prediction(**changes) -> dict:
    """A prediction; a change to ``...`` takes the key out."""
    found = {
        "category_id": 3,
        "bbox": [140, 100, 80, 90],
        "score": 0.8,
        "probabilities": [0.2, 0.8],
    }
    return {key: value for key, value in {**found, **changes}.items() if value is not ...}


def write_json(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def write_task(folder: Path, images: dict, *, task="object-detection", key="task_type") -> Path:
    write_json(folder / "schema.json", {key: task, "categories": CATEGORIES})
    for name, predictions in images.items():
        write_json(
            folder / f"{Path(name).stem}.json", {"file_name": name, "predictions": predictions}
        )
    return folder


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="lightly", **options)
    return [row for batch in stream for row in batch.to_pylist()]


@pytest.mark.parametrize("key", ["task_type", "task_description"])
@pytest.mark.parametrize("batch_rows", [None, 1])
def test_a_folder_holds_one_file_an_image_and_the_schema(tmp_path, key, batch_rows):
    write_task(
        tmp_path,
        {
            "a.png": [prediction(), prediction(category_id=7, score=1, probabilities=...)],
            "z.png": [prediction(probabilities=None)],
        },
        key=key,
    )
    stream = read_predictions(tmp_path, format="lightly", batch_rows=batch_rows)
    rows = [row for batch in stream for row in batch.to_pylist()]
    columns = ("image_id", "row_number", "category", "score", "class_probs")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("a.png", 1, "dog", 0.8, [0.2, 0.8]),
        ("a.png", 2, "cat", 1.0, None),
        ("z.png", 1, "dog", 0.8, None),
    ]
    assert [row["bbox"] for row in rows] == [[140.0, 100.0, 80.0, 90.0]] * 3
    assert {Path(row["source"]).name for row in rows} == {"a.json", "z.json"}
    assert {row["reason"] for row in rows} == {None}
    assert stream.class_names == ("cat", "dog")
    assert stream.bbox_unit == "pixel"


@pytest.mark.parametrize(
    ("task", "given", "read"),
    [
        ("classification", prediction(bbox=...), (0.8, [0.2, 0.8], None, None)),
        (
            "object-detection",
            prediction(score=...),
            (None, [0.2, 0.8], [140.0, 100.0, 80.0, 90.0], None),
        ),
        (
            "instance-segmentation",
            prediction(segmentation=[1, 2]),
            (0.8, [0.2, 0.8], [140.0, 100.0, 80.0, 90.0], "[1, 2]"),
        ),
        (
            "semantic-segmentation",
            prediction(bbox=..., segmentation={"counts": "é"}, probabilities=...),
            (0.8, None, None, '{"counts": "\\u00e9"}'),
        ),
    ],
)
def test_each_task_brings_what_it_has(tmp_path, task, given, read):
    (row,) = rows_of(write_task(tmp_path, {"a.png": [given]}, task=task))
    assert (row["score"], row["class_probs"], row["bbox"], row["segmentation"]) == read
    assert row["reason"] is None


def test_an_image_without_objects_counts_as_seen(tmp_path):
    (row,) = rows_of(write_task(tmp_path, {"a.png": []}))
    assert (row["image_id"], row["row_number"], row["reason"]) == ("a.png", None, None)


def test_the_list_of_tasks_is_no_prediction_but_an_image_of_that_name_is(tmp_path):
    write_json(tmp_path / "tasks.json", ["detect"])
    write_task(tmp_path / "detect", {"a.png": [prediction()], "tasks.png": [prediction()]})
    rows = rows_of(tmp_path / "**" / "*.json")
    assert [row["image_id"] for row in rows] == ["a.png", "tasks.png"]


def test_images_in_folders_are_read_with_the_nearest_schema_above(tmp_path):
    write_task(tmp_path / "detect", {"a.png": [prediction()]})
    write_json(tmp_path / "schema.json", {"categories": [{"id": 3, "name": "farther"}]})
    for name in ("day/b.png", "day/1/c.png", "night/b.png"):
        document = {"file_name": name, "predictions": [prediction()]}
        write_json(tmp_path / "detect" / Path(name).with_suffix(".json"), document)
    stream = read_predictions(tmp_path / "detect", format="lightly")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert stream.class_names == ("cat", "dog")
    assert [(row["image_id"], row["category"], row["row_number"]) for row in rows] == [
        ("a.png", "dog", 1),
        ("day/1/c.png", "dog", 1),
        ("day/b.png", "dog", 1),
        ("night/b.png", "dog", 1),
    ]


def test_a_relative_path_has_its_schema_above_the_working_directory(tmp_path, monkeypatch):
    write_task(tmp_path, {})
    (tmp_path / "day").mkdir()
    write_json(tmp_path / "day" / "a.json", {"file_name": "a.png", "predictions": [prediction()]})
    monkeypatch.chdir(tmp_path / "day")
    assert [row["image_id"] for row in rows_of(Path("*.json"))] == ["a.png"]


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({"probabilities": [1.0]}, 0.8, None),
        ({"probabilities": [0.25]}, 0.8, None),
        ({"probabilities": [1.0], "score": ...}, None, Reason.SCORE_NULL),
        ({"probabilities": [0.5, 0.5]}, None, Reason.OTHER_CLASS_COUNT),
        ({"probabilities": ["1"]}, None, Reason.PROBABILITY_NOT_NUMBER),
    ],
)
def test_of_one_category_only_the_score_says_something(tmp_path, changes, expected, reason):
    write_task(tmp_path, {"a.png": [prediction(**changes)]})
    write_json(tmp_path / "schema.json", {"categories": CATEGORIES[1:]})
    (row,) = rows_of(tmp_path)
    assert (row["class_probs"], row["score"], row["reason"]) == (None, expected, reason)


def test_one_file_is_read_with_the_schema_beside_it(tmp_path):
    write_task(tmp_path, {"a.png": [prediction()], "b.png": [prediction()]})
    stream = read_predictions(tmp_path / "a.json", format="lightly")
    assert sum(map(len, stream)) == 1
    before = stream.sha256()
    write_json(tmp_path / "schema.json", {"categories": CATEGORIES[::-1]})
    again = read_predictions(tmp_path / "a.json", format="lightly")
    assert again.class_names == ("dog", "cat"), "a schema that changed is read again"
    assert again.sha256() != before, "the schema is part of what was read"


WRONG_CATEGORY = "the value of the key 'category_id' is of the wrong type"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (prediction(category_id=9), Reason.UNKNOWN_CATEGORY),
        (prediction(category_id="3"), WRONG_CATEGORY),
        (prediction(category_id=True), WRONG_CATEGORY),
        (prediction(category_id=...), "the object has no key 'category_id'"),
        (prediction(score=..., probabilities=...), Reason.SCORE_NULL),
        (prediction(score=None, probabilities=None), Reason.SCORE_NULL),
        (prediction(score="0.8"), Reason.SCORE_NOT_NUMBER),
        (prediction(score=True), Reason.SCORE_NOT_NUMBER),
        (prediction(bbox=...), "the object has no key 'bbox'"),
        (prediction(bbox=None), Reason.BBOX_NOT_FOUR_NUMBERS),
        (prediction(bbox=[1, 2, 3]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (prediction(bbox=[1, 2, 3, "4"]), Reason.BBOX_NOT_FOUR_NUMBERS),
        (prediction(bbox=[1, 2, -3, 4]), Reason.BBOX_NEGATIVE),
        (prediction(probabilities=[]), Reason.CLASS_PROBS_EMPTY),
        (prediction(probabilities=0.8), Reason.CLASS_PROBS_NOT_LIST),
        (prediction(probabilities=[1]), Reason.OTHER_CLASS_COUNT),
        (prediction(probabilities=[0.2, 0.3, 0.5]), Reason.OTHER_CLASS_COUNT),
        (prediction(probabilities=[0.2, None]), Reason.PROBABILITY_NULL),
        (prediction(probabilities=[0.2, "0.8"]), Reason.PROBABILITY_NOT_NUMBER),
        (["x"], Reason.NO_OBJECT),
        (None, Reason.NO_OBJECT),
    ],
)
def test_a_bad_prediction_keeps_its_place_with_a_reason(tmp_path, bad, reason):
    rows = rows_of(write_task(tmp_path, {"a.png": [prediction(), bad, prediction()]}))
    assert [(row["row_number"], row["image_id"]) for row in rows] == [
        (1, "a.png"),
        (2, "a.png"),
        (3, "a.png"),
    ]
    assert [row["reason"] for row in rows] == [None, reason, None]
    assert json.loads(rows[1]["raw"]) == bad


@pytest.mark.parametrize("predictions", [[prediction()] * 2, []])
def test_two_files_about_one_image_are_an_error(tmp_path, predictions):
    write_task(tmp_path, {"a.png": predictions, "b.png": predictions})
    write_json(tmp_path / "day" / "c.json", {"file_name": "a.png", "predictions": predictions})
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path)
    assert f"{tmp_path}/a.json and {tmp_path}/day/c.json are both about the image 'a.png'" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("file_name", "reason"),
    [
        (None, Reason.IMAGE_ID_NULL),
        ("", Reason.IMAGE_ID_NULL),
        (7, Reason.IMAGE_ID_NOT_TEXT),
        ("\ud800.png", Reason.IMAGE_ID_NOT_UTF8),
    ],
)
def test_a_file_without_an_image_is_one_row(tmp_path, file_name, reason):
    write_task(tmp_path, {"b.png": [prediction()]})
    write_json(tmp_path / "a.json", {"file_name": file_name, "predictions": [prediction()] * 2})
    rows = rows_of(tmp_path)
    assert [(row["image_id"], row["row_number"], row["reason"]) for row in rows] == [
        (None, 1, reason),
        ("b.png", 1, None),
    ]


def test_half_a_surrogate_pair_in_a_bad_row_is_kept_as_far_as_text_can(tmp_path):
    (row,) = rows_of(write_task(tmp_path, {"a.png": ["\ud800"]}))
    assert (row["reason"], row["raw"]) == (Reason.NO_OBJECT, "?")


# What a prediction file can be instead: its bytes, words of the error.
BROKEN_FILES = {
    "empty": (b"", "not readable UTF-8 JSON"),
    "cut in the middle": (json.dumps({"file_name": "a", "predictions": [prediction()]}).encode()[:50], "char "),
    "UTF-16": ('{"file_name": "a", "predictions": []}'.encode("utf-16"), "can't decode byte"),
    "UTF-16 without a mark": ('{"file_name": "a", "predictions": []}'.encode("utf-16-le"), "not readable UTF-8 JSON"),
    "Latin-1": (b'{"file_name": "\xe9", "predictions": []}', "can't decode byte"),
    "a list": (b"[1, 2]", "expected the predictions of one image"),
    "null": (b"null", "expected the predictions of one image"),
    "without predictions": (b'{"file_name": "a"}', "expected the predictions of one image"),
    "predictions an object": (b'{"file_name": "a", "predictions": {}}', "expected the predictions of one image"),
    "nested too deep": (b"[" * 100_000, "more than 200 deep"),
    "a number of too many digits": (b'{"file_name": "a", "predictions": [' + b"9" * 5_000 + b"]}", "digits"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, case):
    content, words = BROKEN_FILES[case]
    write_task(tmp_path, {"b.png": [prediction()]})
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path)
    assert words in str(error.value)
    assert str(tmp_path / "a.json") in str(error.value)


# Files that are broken, and whether they end too soon.
ENDS = [
    (b"", True),
    (b" \n", True),
    (b'{"file_name": "a', True),
    (b'{"file_name": "\xc3', True),
    (b'{"file_name": "a", "predictions": [{"score": ', True),
    (b'{"file_name": "a", "predictions": []', True),
    (b'{"file_name": "a", "predictions": [,]}', False),
    (b'{"file_name": "\xe9", "predictions": []}', False),
    (b'{"file_name": "a", "predictions": []}}', False),
    (b"file_name: a", False),
]


@pytest.mark.parametrize(("content", "ends_too_soon"), ENDS)
def test_only_a_file_that_ends_too_soon_is_called_incomplete(tmp_path, content, ends_too_soon):
    write_task(tmp_path, {"b.png": [prediction()]})
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PredictionReadError, match="is not readable UTF-8 JSON") as error:
        rows_of(tmp_path / "a.json")
    assert ("expected a file that is complete" in str(error.value)) == ends_too_soon


# What a schema can be instead: the document, words of the error.
BROKEN_SCHEMAS = {
    "a list": ([], "no list of categories"),
    "without categories": ({"task_type": "classification"}, "no list of categories"),
    "no category": ({"categories": []}, "no list of categories"),
    "a category that is text": ({"categories": ["cat"]}, "category 0 is"),
    "an id that is text": ({"categories": [{"id": "1", "name": "cat"}]}, "an integer as id"),
    "without a name": ({"categories": [{"id": 1}]}, "text as name"),
    "an id twice": ({"categories": [*CATEGORIES, {"id": 7, "name": "eel"}]}, "each id once"),
    "a name twice": ({"categories": [*CATEGORIES, {"id": 8, "name": "cat"}]}, "each name once"),
}


@pytest.mark.parametrize("case", BROKEN_SCHEMAS)
def test_a_broken_schema_is_an_error_that_names_it(tmp_path, case):
    document, words = BROKEN_SCHEMAS[case]
    write_task(tmp_path, {"a.png": [prediction()]})
    schema = write_json(tmp_path / "schema.json", document)
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path / "a.json")
    assert words in str(error.value)
    assert str(schema) in str(error.value)


def test_without_a_schema_the_error_says_where_it_was_expected(tmp_path):
    write_task(tmp_path, {"a.png": [prediction()]})
    (tmp_path / "schema.json").unlink()
    with pytest.raises(PredictionReadError) as error:
        rows_of(tmp_path)
    assert f"expected {tmp_path / 'schema.json'}" in str(error.value)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: folder, "holds no **/*.json files"),
        (lambda folder: write_task(folder, {}), "holds no predictions"),
        (lambda folder: write_task(folder / "x.json", {}).parent, "is a folder"),
    ],
    ids=["empty folder", "a schema alone", "a folder named as a file"],
)
def test_a_folder_without_prediction_files_is_an_error(tmp_path, prepare, words):
    with pytest.raises(PredictionReadError) as error:
        rows_of(prepare(tmp_path))
    assert words in str(error.value)
