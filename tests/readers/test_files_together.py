"""Thousands of small files are read at once: they say what each of them says alone."""

import json
import random

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers import objects, stream
from dagster_active_learning.readers.formats import lightly

NAMES = ["cat", "dog", "polar bear"]
FIELDS = ["0", "1", "2.0", "-0", "0.5", ".25", "1e-3", "+1", "1.", "1_0", "nan", "inf", "cat", "dog", "x", "\\xff", "é", "1e300", "-1e308", "99999999999999999999", "0x1"]  # fmt: skip


def yolo_line(rng, oddness):
    label = rng.choice(["0", "1", "2", "1.0"]) if rng.random() > oddness else rng.choice(FIELDS)
    count = rng.choice([5, 5, 6, 4, 7, 8]) if rng.random() < oddness else 5
    return [label, *numbers(rng, count, oddness)]


def kitti_line(rng, oddness):
    label = rng.choice(["Car", "cat"]) if rng.random() > oddness else rng.choice(FIELDS)
    count = rng.choice([14, 15, 16]) if rng.random() < oddness else 15
    fields = numbers(rng, count, oddness)
    if rng.random() > oddness:
        fields[3:7] = ["1", "2.5", "30", "4e1"]
    return [label, *fields]


def numbers(rng, count, oddness):
    return [
        rng.choice(FIELDS) if rng.random() < oddness / 3 else f"{rng.random():.6g}"
        for _ in range(count)
    ]


def some_file(rng, line):
    oddness = rng.choice([0, 0, 0.1, 0.5])
    blank = rng.choice([" ", "\t", "  "])
    blank = rng.choice([",", ", ", "\v", blank]) if rng.random() < oddness else blank
    lines = [blank.join(line(rng, oddness)) for _ in range(rng.randrange(6))]
    lines = [one for each in lines for one in ([each, " "] if rng.random() < oddness else [each])]
    text = rng.choice(["\n", "\r\n"]).join(lines) + rng.choice(["", "\n", " \n\n"])
    text = "\ufeff" * (rng.random() < oddness) + text
    return text.encode().replace(b"\\xff", b"\xff")


def outcome(path, format, options):
    source = read_predictions(path, format=format, **options)
    rows = [repr(row) for batch in source for row in batch.to_pylist()]
    return rows, source.sha256(), [part.sha256() for part in source.parts], source.class_names


OPTIONS = {
    "yolo": [
        {}, {"class_names": NAMES}, {"confidence": "second", "box": "xyxy", "bbox_unit": "pixel"},
        {"box": "xywh", "score_transform": "percent"},
    ],
    "kitti": [{}, {"class_names": ["Car"], "score_transform": "sigmoid"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "options"), [(name, one) for name, several in OPTIONS.items() for one in several]
)
def test_files_read_together_give_what_each_gives_alone(tmp_path, monkeypatch, format, options):
    rng = random.Random(f"{format} {options}")
    line = yolo_line if format == "yolo" else kitti_line
    for number in range(120):
        content = some_file(rng, line)
        if format == "yolo" and content.strip():
            # Without it some would be the classes of an image, which are read alone.
            content = b"1 0.5 0.5 0.25 0.5 0.9\n" + content
        (tmp_path / f"{number:03d}.txt").write_bytes(content)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "large.txt").write_text("1 0.5 0.5 0.25 0.5 0.9\n" * 500)
    alone = outcome(tmp_path, format, options)
    assert len(alone[0]) > 200
    monkeypatch.setattr(stream, "FEWEST_TOGETHER", 2)
    for files, size in ((4_096, 2**20), (7, 2**10)):
        monkeypatch.setattr(stream, "FILES_TOGETHER", files)
        monkeypatch.setattr(objects, "BYTES_TOGETHER", size)
        together = outcome(tmp_path, format, options)
        assert together == alone
    monkeypatch.setattr(stream, "FILES_TOGETHER", 50)
    source = read_predictions(tmp_path, format=format, batch_rows=64, **options)
    assert max(len(batch) for batch in source) == 64


DEEP = json.loads("[" * 190 + "]" * 190)
VALUES = {
    "category_id": [0, 1, 1.0, 2, "0", None, True],
    "bbox": [[1, 2, 3, 4], [0, 0.5, 1e300, 1], [1, 2, -3, 4], [1, 2, 3], None, "x", ["1", 2, 3, 4]],
    "score": [0.5, 1, 0, -1, None, "0.5", 1e400, float("nan")],
    "probabilities": [[0.25, 0.75], [1, 0], [0.5], [0.5, None], None, "x"],
    "segmentation": [[[1, 2, 3, 4, 5, 6]], {"size": [1, 2], "counts": "x"}, None, DEEP],
}


def lightly_prediction(rng, oddness):
    if rng.random() < oddness / 4:
        return rng.choice([None, 1, "x", []])
    row = {"category_id": 0, "bbox": [1, 2, 3.5, 4], "score": rng.random()}
    if rng.random() < oddness:
        name = rng.choice([*VALUES])
        row[name] = rng.choice(VALUES[name])
    return row


def lightly_document(rng, name):
    oddness = rng.choice([0, 0, 0.1, 0.5])
    rows = [lightly_prediction(rng, oddness) for _ in range(rng.randrange(6))]
    if rng.random() < oddness / 4:
        name = rng.choice([None, "", 1, chr(0xD800)])
    text = json.dumps({"file_name": name, "predictions": rows}, indent=rng.choice([None, 1]))
    return "\ufeff" * (rng.random() < oddness) + text


def test_documents_read_together_give_what_each_gives_alone(tmp_path, monkeypatch):
    rng = random.Random(1)
    options = {"score_transform": "percent"}
    schema = {"task_type": "object-detection", "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}  # fmt: skip
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    for number in range(100):
        document = lightly_document(rng, f"{number}.png")
        (tmp_path / f"{number:03d}.json").write_text(document, "utf-8")
    alone = outcome(tmp_path, "lightly", options)
    assert len(alone[0]) > 150
    monkeypatch.setattr(stream, "FEWEST_TOGETHER", 2)
    for files, objects_per_batch, size in ((4_096, 8_192, 2**20), (7, 10, 300)):
        monkeypatch.setattr(stream, "FILES_TOGETHER", files)
        monkeypatch.setattr(lightly, "OBJECTS_PER_BATCH", objects_per_batch)
        monkeypatch.setattr(lightly, "BYTES_TOGETHER", size)
        assert outcome(tmp_path, "lightly", options) == alone


def documents(folder, count=3):
    schema = {"categories": [{"id": 0, "name": "a"}]}
    (folder / "schema.json").write_text(json.dumps(schema))
    for number in range(count):
        text = json.dumps({"file_name": f"{number}.png", "predictions": []})
        (folder / f"{number}.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 1_000, "nests lists and objects more than 200 deep"),
        ('{"file_name": "a.png", "predictions": [', "expected a file that is complete"),
        ('{"file_name": "a.png"}', "expected the predictions of one image"),
        (None, r"1\.json is not readable"),
    ],
)
def test_a_broken_document_among_many_is_the_error_it_is_alone(
    tmp_path, monkeypatch, content, words
):
    errors: list[str] = []
    for fewest in (1_000, 2):
        monkeypatch.setattr(stream, "FEWEST_TOGETHER", fewest)
        source = read_predictions(documents(tmp_path), format="lightly")
        if content is None:
            (tmp_path / "1.json").unlink()
        else:
            (tmp_path / "1.json").write_text(content)
        with pytest.raises(PredictionReadError, match=words) as error:
            list(source)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("name", ["1.json", "schema.json"])
def test_a_document_that_changes_is_an_error(tmp_path, monkeypatch, name):
    monkeypatch.setattr(stream, "FEWEST_TOGETHER", 2)
    source = read_predictions(documents(tmp_path), format="lightly")
    list(source)
    (tmp_path / name).write_text("{}")
    with pytest.raises(PredictionReadError, match=f"{name} changed while it was read"):
        source.sha256()


def many(folder, count=3):
    for number in range(count):
        (folder / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.5 0.9\n")
    return folder


@pytest.mark.parametrize("moment", ["before it is read", "before its hash is asked for"])
def test_a_file_that_changes_is_an_error(tmp_path, monkeypatch, moment):
    monkeypatch.setattr(stream, "FEWEST_TOGETHER", 2)
    source = read_predictions(many(tmp_path), format="yolo")
    if moment == "before it is read":
        (tmp_path / "1.txt").write_text("0 0.5 0.5 0.25 0.5 0.8\n0 0.5 0.5 0.25 0.5 0.8")
        with pytest.raises(PredictionReadError, match=r"1\.txt changed while it was read"):
            list(source)
    else:
        list(source)
        (tmp_path / "1.txt").write_text("")
        with pytest.raises(PredictionReadError, match=r"1\.txt changed while it was read"):
            source.sha256()


def test_a_file_that_is_gone_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "FEWEST_TOGETHER", 2)
    source = read_predictions(many(tmp_path), format="yolo")
    (tmp_path / "1.txt").unlink()
    with pytest.raises(PredictionReadError, match=r"1\.txt cannot be read after row 0"):
        list(source)


def test_two_files_about_one_image_are_found_among_many(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "FEWEST_TOGETHER", 2)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        many(tmp_path / folder)
    source = read_predictions(tmp_path / "*" / "*.txt", format="yolo")
    with pytest.raises(PredictionReadError, match=r"a/0\.txt and .*b/0\.txt are both about"):
        list(source)
