"""COCO results: what is read from them, what is refused, and how much memory it takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.quarantine import Reason

BOX = [1, 2.5, 3, 4]
ROW = {"image_id": 7, "category_id": 0, "bbox": BOX, "score": 0.5}
RLE = {"size": [4, 4], "counts": "61X"}
IMAGES = [{"id": 7, "file_name": "a.jpg"}, {"id": "8", "file_name": "b.jpg"}]
CATEGORIES = [{"id": 0, "name": "cat"}, {"id": 90, "name": "dog"}, {"id": 5, "name": "cat"}]
TABLES = {"images": IMAGES, "categories": CATEGORIES}


def write(path: Path, content) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def rows_of(path: Path, **options) -> list[dict]:
    stream = read_predictions(path, format="coco", **options)
    return [row for batch in stream for row in batch.to_pylist()]


def without(row: dict, *keys: str) -> dict:
    return {key: value for key, value in row.items() if key not in keys}


# A row of the file, the options, and what it is read as.
GOOD_ROWS = {
    "box": (ROW, {"image_id": "7", "category": "0", "score": 0.5, "bbox": BOX, "segmentation": None, "class_probs": None}),
    "image_id as text": (ROW | {"image_id": "a/b.jpg"}, {"image_id": "a/b.jpg"}),
    "category id as text": (ROW | {"category_id": "cat"}, {"category": "cat"}),
    "extra keys": (ROW | {"iscrowd": 0, "area": None, "x": {"y": [1]}}, {"image_id": "7", "score": 0.5}),
    "score 0": (ROW | {"score": 0}, {"score": 0.0}),
    "run-length encoding": (ROW | {"segmentation": RLE}, {"bbox": BOX, "segmentation": json.dumps(RLE)}),
    "polygons": (ROW | {"segmentation": [[0, 0, 1.5, 0, 1, 1]]}, {"segmentation": "[[0, 0, 1.5, 0, 1, 1]]"}),
    "empty segmentation": (ROW | {"segmentation": []}, {"segmentation": None}),
    "mask without a box": (without(ROW, "bbox") | {"segmentation": RLE}, {"bbox": None, "segmentation": json.dumps(RLE)}),
    "no box": (without(ROW, "bbox"), {"bbox": None, "segmentation": None, "score": 0.5}),
    "no box and an empty segmentation": (without(ROW, "bbox") | {"segmentation": []}, {"bbox": None, "segmentation": None}),
    "its own file name": (without(ROW, "image_id") | {"file_name": "x/a.jpg"}, {"image_id": "x/a.jpg"}),
    "its own file name beside null": (ROW | {"image_id": None, "file_name": "a.jpg"}, {"image_id": "a.jpg"}),
    "its own file name beside an image_id": (ROW | {"file_name": "a.jpg"}, {"image_id": "7"}),
    "box outside of the image": (ROW | {"bbox": [-1, -2, 1e6, 4]}, {"bbox": [-1, -2, 1e6, 4]}),
    "class vector and score": (ROW | {"class_probs": [0.25, 0.75]}, {"class_probs": [0.25, 0.75], "score": 0.5}),
    "class vector without a score": (without(ROW, "score") | {"class_probs": [1, 0]}, {"class_probs": [1, 0], "score": None}),
    "class vector null": (ROW | {"class_probs": None}, {"class_probs": None, "score": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD_ROWS)
@pytest.mark.parametrize("in_object", [False, True])
def test_a_detection_is_read_from_both_kinds_of_file(tmp_path, case, in_object):
    row, expected = GOOD_ROWS[case]
    path = write(tmp_path / "r.json", {"annotations": [row]} if in_object else [row])
    (read,) = rows_of(path)
    assert {name: read[name] for name in expected} == expected
    assert (read["row_number"], read["reason"], read["raw"]) == (1, None, None)


def test_an_instances_file_gives_the_names(tmp_path):
    instances = write(tmp_path / "i.json", {"annotations": [{}], **TABLES, "info": {"x": [1]}})
    rows = [
        ROW,
        ROW | {"image_id": "7", "category_id": 5},
        ROW | {"image_id": 8, "category_id": 90},
    ]
    path = write(tmp_path / "r.json", rows)
    read = rows_of(path, instances=str(instances))
    assert [(row["image_id"], row["category"]) for row in read] == [
        ("a.jpg", "cat"),
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
    ], "no row for an image without objects: the manifest knows of it"


# The table of images, the image_id of a row, and the image that the row is about or why it is none.
NAMED_IMAGES = [
    (IMAGES, 8, "b.jpg", None),
    (IMAGES, "8", "b.jpg", None),
    (IMAGES, "b.jpg", "b.jpg", None),
    (IMAGES, "b", "b.jpg", None),
    ([{"id": 1, "file_name": "x/b.jpg"}, {"id": 2, "file_name": "y/c.jpg"}], "b", "x/b.jpg", None),
    ([{"id": 1, "file_name": "x/b.jpg"}, {"id": 2, "file_name": "y/b.jpg"}], "y/b", "y/b.jpg", None),
    ([{"id": 1, "file_name": "x\\b.jpg"}], "x/b", "x\\b.jpg", None),
    ([{"id": 1, "file_name": "x/b.jpg"}, {"id": 2, "file_name": "y/b.jpg"}], "b", "b", Reason.AMBIGUOUS_IMAGE),
    ([{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "1.jpg"}], 1, "2.jpg", None),
    ([{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "1.jpg"}], "1", "1", Reason.AMBIGUOUS_IMAGE),
    ([{"id": 1, "file_name": "000007.jpg"}], "000007", "000007.jpg", None),
    ([{"id": 1, "file_name": "000007.jpg"}], 7, "7", Reason.UNKNOWN_IMAGE),
    ([{"id": 1, "coco_url": "http://x.org/val/a.jpg"}], 1, "a.jpg", None),
    ([{"id": 1, "coco_url": "http://x.org/val/a.jpg", "file_name": None}], "a", "a.jpg", None),
    ([{"id": 1}, {"id": "x"}], 1, "1", None),
]  # fmt: skip


@pytest.mark.parametrize(("images", "image_id", "expected", "reason"), NAMED_IMAGES)
@pytest.mark.parametrize("own", [False, True])
def test_an_image_is_named_by_its_id_its_file_or_the_stem(
    tmp_path, images, image_id, expected, reason, own
):
    tables = {"images": images, "categories": CATEGORIES}
    row = ROW | {"image_id": image_id}
    if own:
        path, options = write(tmp_path / "r.json", tables | {"annotations": [row]}), {}
    else:
        path = write(tmp_path / "r.json", [row])
        options = {"instances": str(write(tmp_path / "i.json", tables))}
    read, *empty = rows_of(path, **options)
    assert (read["image_id"], read["reason"]) == (expected, reason)
    # The others have no object; of two that may be meant nothing is known.
    names = {entry.get("file_name") or f"{entry['id']}" for entry in images}
    if own and reason is None and "coco_url" not in images[0]:
        assert {one["image_id"] for one in empty} == names - {expected}
    elif reason == Reason.AMBIGUOUS_IMAGE:
        assert empty == []


@pytest.mark.parametrize("tables_first", [True, False])
def test_own_tables_give_the_names_and_the_images_without_objects(tmp_path, tables_first):
    rows = {"annotations": [ROW, ROW | {"score": None, "image_id": 9}]}
    tables = TABLES | {"images": [*IMAGES, {"id": 9, "file_name": "c.jpg"}]}
    path = write(tmp_path / "r.json", tables | rows if tables_first else rows | tables)
    read = rows_of(path)
    assert [(row["image_id"], row["row_number"], row["reason"]) for row in read] == [
        ("a.jpg", 1, None),
        ("c.jpg", 2, Reason.SCORE_NULL),
        ("b.jpg", None, None),
    ]


def test_an_instances_file_goes_before_own_tables(tmp_path):
    other = {"images": [{"id": 7, "file_name": "other.jpg"}], "categories": CATEGORIES}
    instances = write(tmp_path / "i.json", other)
    path = write(tmp_path / "r.json", TABLES | {"annotations": [ROW]})
    assert [row["image_id"] for row in rows_of(path, instances=str(instances))] == ["other.jpg"]


def test_the_part_says_what_it_knows(tmp_path):
    instances = write(tmp_path / "i.json", TABLES)
    path = write(tmp_path / "r.json", [ROW])
    stream = read_predictions(path, format="coco", instances=str(instances))
    list(stream)
    assert (stream.class_names, stream.bbox_unit) == (None, "pixel")
    assert stream.sha256() == content_sha256([path, instances])()
    assert stream.sha256() != read_predictions(path, format="coco").sha256()
    named = read_predictions(path, format="coco", class_names=["a", "b"])
    assert named.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("tables", "class_names", "unknown"),
    [
        (TABLES, ["cat", "dog"], [False, False]),
        (TABLES, ["dog"], [True, False]),
        (TABLES, ["0", "90"], [True, True]),
        ({}, ["0", "90"], [False, False]),
        ({}, ["90"], [True, False]),
    ],
)
def test_a_category_must_be_one_of_the_classes_where_they_are_given(
    tmp_path, tables, class_names, unknown
):
    rows = [ROW, ROW | {"category_id": 90}]
    read = rows_of(
        write(tmp_path / "r.json", tables | {"annotations": rows}), class_names=class_names
    )
    objects = [row for row in read if row["row_number"]]
    assert [row["reason"] == Reason.UNKNOWN_CATEGORY for row in objects] == unknown


@pytest.mark.parametrize(
    "shape",
    [{"keypoints": [1, 2, 2] * 17}, {"rbox": [50, 50, 20, 10, 0.3]}, {"poly": [0, 0, 1, 1]}],
)
def test_the_score_of_a_shape_that_is_not_kept_is_read(tmp_path, shape):
    (row,) = rows_of(write(tmp_path / "r.json", [without(ROW, "bbox") | shape]))
    assert (row["score"], row["bbox"], row["segmentation"]) == (ROW["score"], None, None)
    assert row["reason"] is None


# Rows that are no detection: the row, the reason, the image_id kept.
BAD_ROWS = [
    (1, Reason.NO_OBJECT, None),
    (None, Reason.NO_OBJECT, None),
    ([ROW], Reason.NO_OBJECT, None),
    ({}, "the object has no key 'image_id'", None),
    (without(ROW, "image_id"), "the object has no key 'image_id'", None),
    (ROW | {"image_id": None}, Reason.IMAGE_ID_NULL, None),
    (ROW | {"image_id": ""}, Reason.IMAGE_ID_NULL, None),
    (ROW | {"image_id": 1.5}, Reason.IMAGE_ID_NOT_TEXT, None),
    (ROW | {"image_id": True}, Reason.IMAGE_ID_NOT_TEXT, None),
    (ROW | {"image_id": [7]}, Reason.IMAGE_ID_NOT_TEXT, None),
    (ROW | {"image_id": 70}, Reason.UNKNOWN_IMAGE, "70"),
    (without(ROW, "category_id"), "the object has no key 'category_id'", "a.jpg"),
    (ROW | {"category_id": 0.5}, "the value of the key 'category_id' is of the wrong type", "a.jpg"),
    (ROW | {"category_id": 1}, Reason.UNKNOWN_CATEGORY, "a.jpg"),
    (without(ROW, "score"), Reason.SCORE_NULL, "a.jpg"),
    (ROW | {"score": None}, Reason.SCORE_NULL, "a.jpg"),
    (ROW | {"score": "0.5"}, Reason.SCORE_NOT_NUMBER, "a.jpg"),
    (ROW | {"score": True}, Reason.SCORE_NOT_NUMBER, "a.jpg"),
    (ROW | {"score": "x", "class_probs": [0.5, 0.5]}, Reason.SCORE_NOT_NUMBER, "a.jpg"),
    (ROW | {"bbox": [1, 2, 3]}, Reason.BBOX_NOT_FOUR_NUMBERS, "a.jpg"),
    (ROW | {"bbox": [1, 2, 3, "4"]}, Reason.BBOX_NOT_FOUR_NUMBERS, "a.jpg"),
    (ROW | {"bbox": [1, 2, 3, None]}, Reason.BBOX_NOT_FOUR_NUMBERS, "a.jpg"),
    (ROW | {"bbox": {"x": 1}}, Reason.BBOX_NOT_FOUR_NUMBERS, "a.jpg"),
    (ROW | {"bbox": [1, 2, 3, -4]}, Reason.BBOX_NEGATIVE, "a.jpg"),
    (ROW | {"segmentation": "61X"}, "the value of the key 'segmentation' is of the wrong type", "a.jpg"),
    (ROW | {"segmentation": {"counts": "61X"}}, "the value of the key 'segmentation' is of the wrong type", "a.jpg"),
    (ROW | {"class_probs": 0.5}, Reason.CLASS_PROBS_NOT_LIST, "a.jpg"),
    (ROW | {"class_probs": []}, Reason.CLASS_PROBS_EMPTY, "a.jpg"),
    (ROW | {"class_probs": [0.5, None]}, Reason.PROBABILITY_NULL, "a.jpg"),
    (ROW | {"class_probs": [0.5, "0.5"]}, Reason.PROBABILITY_NOT_NUMBER, "a.jpg"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason", "image_id"), BAD_ROWS, ids=[f"{row}"[:80] for row, _, _ in BAD_ROWS]
)
def test_a_row_that_is_no_detection_keeps_its_place_with_a_reason(tmp_path, row, reason, image_id):
    instances = write(tmp_path / "i.json", TABLES)
    path = write(tmp_path / "r.json", [ROW, row, ROW])
    read = rows_of(path, instances=str(instances))
    assert [one["row_number"] for one in read] == [1, 2, 3]
    assert [one["reason"] for one in read] == [None, reason, None]
    assert [one["image_id"] for one in read] == ["a.jpg", image_id, "a.jpg"]
    assert json.loads(read[1]["raw"]) == row


ROWS_TEXT = json.dumps([ROW] * 5).encode()

# What a results file can be instead: its content, words of the error.
BROKEN_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n ", "begins with"),
    "text": (b"image_id,score\n", "begins with b'image_id"),
    "a number": (b"7", "expected the JSON of a COCO file"),
    "UTF-16": (ROWS_TEXT.decode().encode("utf-16"), "is not UTF-8 text"),
    "UTF-16 without a mark": (ROWS_TEXT.decode().encode("utf-16-le"), "is not UTF-8 text"),
    "Latin-1": ('[{"image_id": "é"}]'.encode("latin-1"), "after 0 detections: lexical error: invalid bytes in UTF8"),
    "cut in a row": (ROWS_TEXT[:-20], "after 4 detections: parse error: premature EOF"),
    "cut between rows": (ROWS_TEXT[:-1], "after 5 detections: parse error"),
    "cut object": (json.dumps({"annotations": [ROW] * 5}).encode()[:-20], "after 4 detections: parse error"),
    "half a surrogate pair": (b'[{"image_id": "\\udc00"}]', "has half of a surrogate pair"),
    "something after the array": (ROWS_TEXT + b"[]", "after 5 detections: parse error: trailing garbage"),
    "nothing but brackets": (b"[" * 100_000, "nests lists and objects more than 200 deep"),
    "an object without annotations": (json.dumps(TABLES).encode(), "has no list 'annotations': expected a JSON object with 'annotations'"),
    "a wrapper": (json.dumps({"predictions": [ROW], "info": "x: y"}).encode(), "; its keys are ['predictions', 'info']"),
    "annotations that are no array": (b'{"annotations": {}}', "'annotations' is no array"),
    "annotations twice": (b'{"annotations": [], "annotations": []}', "has the key 'annotations' twice"),
    "images that are no array": (b'{"images": 1, "annotations": []}', "'images' is no array"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_an_error_that_names_it_and_the_place(tmp_path, case):
    content, words = BROKEN_FILES[case]
    path = write(tmp_path / "r.json", content)
    with pytest.raises(PredictionReadError) as error:
        rows_of(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_annotations_that_are_no_array_are_refused_beside_an_instances_file(tmp_path):
    instances = write(tmp_path / "i.json", TABLES)
    for content in ({"annotations": 1}, {"annotation": [ROW]}):
        path = write(tmp_path / "r.json", content)
        with pytest.raises(PredictionReadError, match=f"{re.escape(str(path))} .*'annotations'"):
            rows_of(path, instances=str(instances))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(PredictionReadError, match="is a folder"):
        rows_of(tmp_path)


# What an instances file can be instead: its content (None: it is not there), words of the error.
BROKEN_INSTANCES = {
    "missing": (None, "does not exist"),
    "empty": (b"", "is empty"),
    "an array": ([ROW], "is a JSON array: expected a JSON object with 'images'"),
    "cut": (json.dumps(TABLES).encode()[:-3], "after 2 images: parse error"),
    "UTF-16": (json.dumps(TABLES).encode("utf-16"), "is not UTF-8 text"),
    "no images": (without(TABLES, "images"), "has no list 'images'"),
    "no categories": (without(TABLES, "categories"), "has no list 'categories'"),
    "images twice": (b'{"images": [], "images": []}', "has the key 'images' twice"),
    "an image id twice": (TABLES | {"images": [*IMAGES, {"id": "7", "file_name": "c.jpg"}]}, "images has the id 7 twice, for 'a.jpg' and, as entry 3, for 'c.jpg'"),
    "a category id twice": (TABLES | {"categories": [*CATEGORIES, {"id": 0, "name": "cow"}]}, "categories has the id 0 twice, for 'cat' and, as entry 4, for 'cow'"),
    "a file name twice": (TABLES | {"images": [*IMAGES, {"id": 9, "file_name": "a.jpg"}]}, "the images 7 and 9 have the same file_name 'a.jpg'"),
    "a key twice": (b'{"images": [{"id": 1, "id": 2, "file_name": "a"}]}', "entry 1 of images has the key 'id' twice"),
    "an image without a name": (TABLES | {"images": [*IMAGES, {"id": 1}]}, "entry 3 of images is {\"id\": 1}: expected an object with an id and a file_name"),
    "a category without an id": (TABLES | {"categories": [{"name": "x"}]}, "entry 1 of categories"),
    "an image that is no object": (TABLES | {"images": ["a.jpg"]}, 'entry 1 of images is "a.jpg"'),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_INSTANCES)
def test_a_broken_instances_file_is_an_error_that_names_it(tmp_path, case):
    content, words = BROKEN_INSTANCES[case]
    instances = tmp_path / "i.json"
    if content is not None:
        write(instances, content)
    with pytest.raises(PredictionReadError) as error:
        rows_of(write(tmp_path / "r.json", [ROW]), instances=str(instances))
    assert words in str(error.value)
    assert str(instances) in str(error.value)


def test_an_instances_file_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(PredictionReadError, match="is no file: the option instances"):
        rows_of(write(tmp_path / "r.json", [ROW]), instances=str(tmp_path))


# Real files: results, instances, rows, images, rows with a mask.
REAL_FILES = [
    ("coco_detections/faster_rcnn_resnet50_results.json", "coco_detections/instances.json", 12274, 1518, 0),
    ("coco_detections/rfcn_resnet101_results.json", "coco_detections/instances.json", 10421, 1512, 0),
    ("coco_detections/ssd_inception_v2_results.json", "coco_detections/instances.json", 7396, 1504, 0),
    ("voc_four_formats/dets/coco_format/coco_dets.json", None, 452, 98, 0),
    ("mask_rcnn_rle/val_coco_instances_results.json", None, 206, None, 206),
    ("mask_rcnn_rle/test_coco_instances_results.json", None, 108, None, 108),
    ("sahi_results/result.json", "sahi_results/dataset.json", 89, 2, 0),
    ("coco_format_samples/instances_val2014_fakebbox100_results.json", None, 734, None, 0),
    ("coco_format_samples/instances_val2014_fakesegm100_results.json", None, 734, None, 734),
]  # fmt: skip


@pytest.mark.parametrize(("results", "instances", "count", "images", "masks"), REAL_FILES)
def test_real_results_are_read_whole(real_predictions, results, instances, count, images, masks):
    options = {} if instances is None else {"instances": str(real_predictions / instances)}
    rows = rows_of(real_predictions / results, **options)
    assert [row["row_number"] for row in rows] == list(range(1, count + 1))
    assert {row["reason"] for row in rows} == {None}
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert sum(row["segmentation"] is not None for row in rows) == masks
    assert images is None or len({row["image_id"] for row in rows}) == images


def test_real_values_arrive_as_they_are(real_predictions):
    path = real_predictions / "coco_detections" / "faster_rcnn_resnet50_results.json"
    written = json.loads(path.read_text())
    read = rows_of(path)
    assert [(row["image_id"], row["category"], row["bbox"], row["score"]) for row in read] == [
        (str(row["image_id"]), str(row["category_id"]), row["bbox"], row["score"])
        for row in written
    ]


def test_ground_truth_has_no_scores_and_says_so(real_predictions):
    rows = rows_of(real_predictions / "sahi_results" / "dataset.json")
    assert {row["reason"] for row in rows} == {Reason.SCORE_NULL}


def test_metrics_of_a_model_are_no_results(real_predictions):
    path = real_predictions / "mask_rcnn_rle" / "test_results.json"
    with pytest.raises(PredictionReadError, match=r"test_results\.json has no list 'annotations'"):
        rows_of(path)


# Not getrusage: its peak of a new process begins with that of the process that started it.
READ_IN_A_PROCESS = """
import re, sys, time
from pathlib import Path
from dagster_active_learning import read_predictions
import pyarrow, polars, ijson
status = Path("/proc/self/status")
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1]) / 1024
before, start = peak(), time.perf_counter()
rows = sum(len(batch) for batch in read_predictions(sys.argv[1], format="coco"))
print(rows, peak() - before, rows / (time.perf_counter() - start))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("in_object", [False, True])
def test_a_large_file_is_never_in_memory(tmp_path, in_object):
    path, count = tmp_path / "large.json", 2_000_000
    with path.open("w") as opened:
        opened.write('{"info": {}, "annotations": [' if in_object else "[")
        for number in range(count):
            row = f'{{"image_id": {number // 10}, "category_id": {number % 90}, "bbox": [{number % 600}.25, 7.5, 100.125, 50.5], "score": 0.{number:012d}}}'
            opened.write(f"{',' if number else ''}{row}")
        opened.write("]}" if in_object else "]")
    assert path.stat().st_size > 190e6
    command = [sys.executable, "-c", READ_IN_A_PROCESS, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows, grown, speed = map(float, answer.split())
    print(f"{path.stat().st_size / 1e6:.0f} MB: {grown:.0f} MiB more, {speed:,.0f} rows/s")
    assert rows == count
    assert grown < 300
