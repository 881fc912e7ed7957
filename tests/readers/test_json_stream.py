"""Large JSON files read in parts: what is found in them, at any size of a chunk, and what is not."""

import codecs
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers import json_stream as reader
from dagster_active_learning.readers.json_stream import (
    DEEPEST_NESTING,
    LONGEST_OUTLINE,
    NoListError,
    ShallowFile,
    UnreadableJsonError,
    json_items,
    json_value,
)


def write(folder: Path, content: bytes) -> Path:
    (folder / "f.json").write_bytes(content)
    return folder / "f.json"


# A file, the key of its list, and the elements.
LISTS = [
    (b'{"a": [1, [2], {"a": [3]}]}', "a", [1, [2], {"a": [3]}]),
    (b'{"b": {"a": [0]}, "a": [1], "c": "a"}', "a", [1]),
    (b'{"b": [[{"a": [0]}]], "c": 1.5, "a":[]}', "a", []),
    (b'{"\\"": "[", "b": "\\\\", "a": ["]", "{\\""]}', "a", ["]", '{"']),
    (b'{"c": {"a": 1, "a": 2}, "a": [1]}', "a", [1]),
    (b'\f{"a"\v: [1] ,"b": {}}\n', "a", [1]),
    (b" [1, [2]]", None, [1, [2]]),
    (b"[]", None, []),
]


@pytest.mark.parametrize(("content", "key", "items"), LISTS)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_list_is_read_wherever_it_stands(tmp_path, content, key, items, mark):
    assert list(json_items(write(tmp_path, mark + content), key, "items")) == items


# A file that has no list "a", the error, words of it.
NO_LISTS = [
    (b"{}", NoListError, "has no list 'a': expected a JSON object with 'a'"),
    (b'{"b": {"a": [1]}}', NoListError, "has no list 'a': expected"),
    (b'{"b": [], "c": "a"}', NoListError, "has no list 'a': expected"),
    (b'[{"a": [1]}]', NoListError, "is a JSON array: expected a JSON object with 'a'"),
    (b" 7 ", NoListError, "has no list 'a': expected"),
    (b'{"a": null}', PredictionReadError, "'a' is no array"),
    (b'{"a": "[]"}', PredictionReadError, "'a' is no array"),
    (b'{"a": {"item": 1}}', PredictionReadError, "'a' is no array"),
    (b'{"a": [1], "b": 2, "a": [3]}', PredictionReadError, "has the key 'a' twice"),
    (b'{"a": [1], "a": null}', PredictionReadError, "has the key 'a' twice"),
    (b'{"a": [1, 2]', UnreadableJsonError, "not readable UTF-8 JSON after 2 items: parse error: premature EOF"),
    (b'{"a": [1, 2]} x', UnreadableJsonError, "after 2 items: parse error: trailing garbage"),
    (b'{"a": [1, 2]}": ', UnreadableJsonError, "to its end: Extra data"),
    (b"", UnreadableJsonError, "after 0 items: parse error: premature EOF, within the first 0 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "error", "words"), NO_LISTS)
def test_a_file_without_the_list_is_an_error_that_says_what_it_is(tmp_path, content, error, words):
    path = write(tmp_path, content)
    with pytest.raises(PredictionReadError) as raised:
        list(json_items(path, "a", "items"))
    assert type(raised.value) is error
    assert words in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("behind", [b'"', b' "', b'\n"[1]', b'"\\"'])
def test_a_quote_behind_a_list_is_an_error(tmp_path, behind):
    path = write(tmp_path, b'["a", 1]' + behind)
    with pytest.raises(UnreadableJsonError, match="to its end: there is a quote behind the list"):
        list(json_items(path, None, "items"))


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path):
    for read in (lambda path: json_value(path, "a"), lambda path: list(json_items(path, "a", "b"))):
        with pytest.raises(PredictionReadError, match=r"none\.json cannot be read: "):
            read(tmp_path / "none.json")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_brackets_are_counted_outside_of_text_wherever_a_chunk_ends(tmp_path, size):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list('[{]}"\\n'), 60)) for _ in range(40)]
    document = texts
    for _ in range(150):
        document = [document]
    path = tmp_path / "deep.json"
    for extra, fits in ((0, True), (60, False)):
        nested = document
        for _ in range(extra):
            nested = {"[": nested}
        path.write_text(json.dumps(nested))
        with path.open("rb") as opened:
            file = ShallowFile(path, opened)
            read = iter(lambda file=file: file.read(size), b"")
            if fits:
                assert b"".join(read) == path.read_bytes()
            else:
                with pytest.raises(PredictionReadError, match="nests lists and objects"):
                    list(read)


@pytest.mark.parametrize("levels", [DEEPEST_NESTING, DEEPEST_NESTING + 1])
def test_brackets_may_nest_as_deep_as_is_said(tmp_path, levels):
    path = write(tmp_path, b"[" * levels + b"]" * levels)
    if levels == DEEPEST_NESTING:
        assert len(list(json_items(path, None, "items"))) == 1
    else:
        with pytest.raises(PredictionReadError, match="more than 200 deep"):
            list(json_items(path, None, "items"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_outline_is_the_outermost_object_wherever_a_chunk_ends(tmp_path, size, indent):
    rng = np.random.default_rng(1)

    def text() -> str:
        return "".join(rng.choice(list('[{]}":,\\né '), 9))

    values = [1.5, None, True, [], {}, [[text()], {text(): text()}], {text(): [text()]}, [text()]]
    document = {f"{number} {text()}": value for number, value in enumerate(values)}
    document |= {"text": text(), "last": [1]}
    path = write(tmp_path, json.dumps(document, indent=indent, ensure_ascii=False).encode())
    with path.open("rb") as opened:
        file = ShallowFile(path, opened)
        for _ in iter(lambda: file.read(size), b""):
            pass

    def without_escaped(one: str) -> str:
        return "".join(character for character in one if character not in '"\\')

    expected = {
        without_escaped(key): type(value)() if isinstance(value, (list, dict)) else value
        for key, value in document.items()
    }
    expected["text"] = without_escaped(document["text"])
    assert json.loads(file.outline) == expected


@pytest.mark.parametrize(("more", "fits"), [(-100, True), (100, False)])
def test_an_object_that_is_not_all_lists_is_not_held_in_memory(tmp_path, more, fits):
    text = b"x" * (LONGEST_OUTLINE + more)
    path = write(tmp_path, b'{"a": [1], "b": "' + text + b'"}')
    if fits:
        assert list(json_items(path, "a", "items")) == [1]
    else:
        with pytest.raises(PredictionReadError, match=r"f\.json holds more than 1,048,576 bytes"):
            list(json_items(path, "a", "items"))
    inside = write(tmp_path, b'{"a": ["' + text + b'"]}')
    assert len(list(json_items(inside, "a", "items"))) == 1


# JSON texts in which a surrogate has its pair, is no surrogate, or is no escape.
WHOLE = [
    r"\ud83e\udd8a", r"\uD83E\uDD8A", r"\\ud800", r"\\\ud83e\udd8a", r"\ud7ff", r"\ue000", r"\u00e9\n\"", "ud800",
    r"\ud83e\udd8a\ud83e\udd8a", "\U0001f98a", r"\\\\ud800 \/",
]  # fmt: skip

# Half of a surrogate pair, and what the error calls it.
HALVES = [
    (r"\ud800", r"\ud800"),
    (r"\uDFFF", r"\uDFFF"),
    (r"\\\ud801", r"\ud801"),
    (r"\ud802\ud83e\udd8a", r"\ud802"),
    (r"\ud83e\udd8a\udd8b", r"\udd8b"),
    (r"\ud803\u0041", r"\ud803"),
    (r"\ud804\n", r"\ud804"),
    (r"\ud805 \udd8a", r"\ud805"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_what_stands_for_a_character_is_read_wherever_a_chunk_ends(tmp_path, monkeypatch, size):
    monkeypatch.setattr(reader.ijson, "items", partial(reader.ijson.items, buf_size=size))
    for text in WHOLE:
        path = write(tmp_path, f'["{text}", {{"{text}": 1}}]'.encode())
        assert list(json_items(path, None, "items")) == json.loads(path.read_bytes())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(("text", "half"), HALVES)
@pytest.mark.parametrize("end", ["", "x" * 20])
def test_half_of_a_surrogate_pair_is_an_error(tmp_path, monkeypatch, size, text, half, end):
    r"""Where it is not, ``a\ud800`` and ``a\ud801`` become one."""
    monkeypatch.setattr(reader.ijson, "items", partial(reader.ijson.items, buf_size=size))
    path = write(tmp_path, f'["a{text}{end}"]'.encode())
    with pytest.raises(PredictionReadError) as error:
        list(json_items(path, None, "items"))
    assert f"f.json has half of a surrogate pair, {half}, within" in str(error.value)


BOX = [1, 2, 3, 4]

# A file of predictions for each reader of JSON, and the schema that stands beside it.
PREDICTIONS = {
    "coco": [{"image_id": 7, "category_id": 0, "bbox": BOX, "score": 0.5}],
    "lightly": {"file_name": "a", "predictions": [{"category_id": 0, "bbox": BOX, "score": 0.5}]},
    "megadetector": {
        "detection_categories": {"1": "cat"},
        "images": [{"file": "a", "detections": [{"category": "1", "conf": 0.5, "bbox": BOX}]}],
    },
    "rvc": {"classes": ["cat"], "detections": [[{"bbox": BOX, "label_probs": [0.5]}]]},
}
SCHEMA = {"task_type": "object-detection", "categories": [{"id": 0, "name": "cat"}]}
MANIFEST = {"images": [{"id": 7, "file_name": "a.jpg"}]}


@pytest.mark.parametrize(
    ("format", "key"), [("megadetector", "detection_categories"), ("rvc", "classes")]
)
@pytest.mark.parametrize("content", ["[]", "[1]", "{}", '{"results": []}'])
def test_a_file_without_classes_is_told_so(tmp_path, format, key, content):
    path = write(tmp_path, content.encode())
    with pytest.raises(
        PredictionReadError, match=rf"f\.json has no value of the key '{key}': expec"
    ):
        read_predictions(path, format=format)


def write_marked(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("format", PREDICTIONS)
def test_a_byte_order_mark_is_no_fault(tmp_path, format):
    write_marked(tmp_path / "schema.json", SCHEMA)
    path = write_marked(tmp_path / "a.json", PREDICTIONS[format])
    (batch,) = read_predictions(path, format=format)
    assert (batch.column("score").to_pylist(), batch.column("reason").to_pylist()) == (
        [0.5],
        [None],
    )


def test_a_byte_order_mark_is_no_fault_of_a_coco_table(tmp_path):
    tables = write_marked(
        tmp_path / "i.json", MANIFEST | {"categories": [{"id": 0, "name": "cat"}]}
    )
    path = write_marked(tmp_path / "a.json", PREDICTIONS["coco"])
    (batch,) = read_predictions(path, format="coco", instances=str(tables))
    assert batch.column("image_id").to_pylist() == ["a.jpg"]
    assert PoolImages(tables).read()[0]["uri"].to_pylist() == ["a.jpg"]
