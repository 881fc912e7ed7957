"""Files of labeling tools, read back by other libraries, or by plain readers of the test's own."""

import json
import math
import os
import subprocess
import zipfile
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from globox import AnnotationSet
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters import export_candidates
from dagster_active_learning.exporters.label_studio_config import labeling_config
from dagster_active_learning.exporters.masks import (
    bounding_box,
    brush_bytes,
    mask_pixels,
    run_lengths_by_row,
)
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from ranked_pools import manifest, ranked, ranked_files, write_files

WIDTH, HEIGHT = 640, 480
NAMES = ["bus", "car", 'a "b" & <c>']
OF_OBJECTS = {
    "score_column": "score",
    "category_column": "category",
    "bbox_column": "bbox",
    "class_names": NAMES,
}


def objects(count=50, seed=0):
    """Boxes of images ``folder/N.png``, none of them in every fifth one."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        for _ in range(random.integers(1, 5) if number % 5 else 0):
            x, y = random.uniform(0, 600), random.uniform(0, 440)
            width, height = random.uniform(1, WIDTH - x), random.uniform(1, HEIGHT - y)
            rows.append(
                {
                    "image_id": f"folder/{number}.png",
                    "score": float(random.uniform()),
                    "category": NAMES[random.integers(3)],
                    "bbox": [x, y, width, height],
                }
            )
    return [f"folder/{number}.png" for number in range(count)], rows


@pytest.fixture
def detections(store, tmp_path):
    """A ranked pool of objects, and what its files must hold."""
    image_ids, rows = objects()
    path = tmp_path / "objects.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    replace_images(store, manifest(image_ids))
    ranked(
        store,
        read_predictions(path, format="jsonl", **OF_OBJECTS),
        rules=Rules(task="detection"),
        in_manifest=True,
    )
    return store, rows


def in_order(store, function="mean_object_score"):
    query = "SELECT image_id FROM labeling_candidates WHERE acquisition_function = $1 ORDER BY rank"
    return [image_id for (image_id,) in store.connection.execute(query, [function]).fetchall()]


def export(store, path, exporter, function="mean_object_score"):
    count = export_candidates(
        store, path, exporter=exporter, prediction_set="set", functions=[function]
    )
    assert count == len(in_order(store, function))
    return path


def close(values, expected):
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(values, expected, strict=True))


def test_coco_is_read_by_pycocotools_and_globox(detections, tmp_path):
    store, rows = detections
    path = export(store, tmp_path / "objects.json", "coco")
    read = COCO(str(path))
    images: list[Any] = read.loadImgs(read.getImgIds())
    assert [image["image_id"] for image in images] == in_order(store)
    assert [image["id"] for image in images] == list(range(1, 51))
    assert {(image["width"], image["height"]) for image in images} == {(WIDTH, HEIGHT)}
    assert [one["name"] for one in read.loadCats(read.getCatIds())] == NAMES
    for image in images:
        found: list[Any] = read.loadAnns(read.getAnnIds([image["id"]]))
        expected = [row for row in rows if row["image_id"] == image["image_id"]]
        assert [one["bbox"] for one in found] == [row["bbox"] for row in expected]
        assert [one["score"] for one in found] == [row["score"] for row in expected]
        assert [NAMES[one["category_id"] - 1] for one in found] == [row["category"] for row in expected]  # fmt: skip
    assert globox_boxes(AnnotationSet.from_coco(path)) == expected_boxes(rows)


def expected_boxes(rows, names=NAMES):
    return sorted(
        (row["image_id"], names[NAMES.index(row["category"])], round(row["score"], 9), *(round(side, 6) for side in row["bbox"]))
        for row in rows
    )  # fmt: skip


def globox_boxes(annotations):
    return sorted(
        (image.image_id, box.label, round(box.confidence, 9), *(round(side, 6) for side in box.ltwh))
        for image in annotations
        for box in image.boxes
    )  # fmt: skip


def test_yolo_is_read_by_globox(detections, tmp_path):
    store, rows = detections
    with zipfile.ZipFile(export(store, tmp_path / "objects.zip", "yolo")) as archive:
        archive.extractall(tmp_path / "yolo")
    images = (tmp_path / "yolo" / "images.txt").read_text().splitlines()
    assert images == [f"images/{image_id}" for image_id in in_order(store)]
    folder = tmp_path / "yolo" / "labels" / "folder"
    assert len(list(folder.iterdir())) == 50
    read = AnnotationSet.from_yolo_v5(
        folder, image_folder=png_files(tmp_path / "png"), image_extension=".png"
    )
    numbers = ["0", "1", "2"]
    expected = [(name.removeprefix("folder/"), *rest) for name, *rest in expected_boxes(rows, numbers)]  # fmt: skip
    assert globox_boxes(read) == sorted(expected)
    lines = (tmp_path / "yolo" / "data.yaml").read_text().splitlines()
    assert [json.loads(line.partition(": ")[2]) for line in lines[-3:]] == NAMES


def png_files(folder):
    from PIL import Image

    folder.mkdir()
    for number in range(50):
        Image.new("L", (WIDTH, HEIGHT)).save(folder / f"{number}.png")
    return folder


def test_yolo_is_the_same_bytes_for_the_same_candidates_and_our_reader_reads_it(detections, tmp_path):  # fmt: skip
    store, rows = detections
    first, second = (export(store, tmp_path / name, "yolo") for name in ("a.zip", "b.zip"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        archive.extractall(tmp_path / "yolo")
    path = str(tmp_path / "yolo" / "labels" / "**" / "*.txt")
    stream = read_predictions(path, format="yolo", class_names=NAMES)
    read = [row for batch in stream for row in batch.to_pylist() if row["category"]]
    assert sorted((row["category"], row["score"]) for row in read) == sorted(
        (row["category"], row["score"]) for row in rows
    )


def test_cvat_is_xml_with_the_boxes_and_scores_in_the_order_of_the_ranks(detections, tmp_path):
    store, rows = detections
    root = ElementTree.parse(export(store, tmp_path / "annotations.xml", "cvat")).getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/size") == "50"
    assert [one.text for one in root.findall("meta/task/labels/label/name")] == NAMES
    images = root.findall("image")
    assert [image.get("name") for image in images] == in_order(store)
    assert [image.get("id") for image in images] == [str(number) for number in range(50)]
    for image in images:
        expected = [row for row in rows if row["image_id"] == image.get("name")]
        for box, row in zip(image.findall("box"), expected, strict=True):
            x, y, width, height = row["bbox"]
            corners = [float(box.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
            assert corners == [x, y, x + width, y + height]
            assert box.get("label") == row["category"]
            assert float(box.findtext("attribute[@name='score']")) == row["score"]
    lines = export(store, tmp_path / "manifest.jsonl", "cvat_manifest").read_text().splitlines()
    version, kind, *entries = map(json.loads, lines)
    assert (version, kind) == ({"version": "1.1"}, {"type": "images"})
    assert [entry["name"] + entry["extension"] for entry in entries] == in_order(store)


def test_label_studio_has_a_task_per_image_with_boxes_in_percent(detections, tmp_path):
    store, rows = detections
    tasks = json.loads(export(store, tmp_path / "tasks.json", "label_studio").read_text())
    assert [task["data"]["image_id"] for task in tasks] == in_order(store)
    assert [task["meta"]["rank"] for task in tasks] == list(range(1, 51))
    scores = [task["predictions"][0]["score"] for task in tasks]
    # Its "Uncertainty sampling" begins with the lowest.
    assert all(one <= other for one, other in pairwise(scores))
    for task in tasks:
        assert set(task["data"]) == {"image", "image_id"}
        regions = task["predictions"][0]["result"]
        expected = [row for row in rows if row["image_id"] == task["data"]["image_id"]]
        assert [region["score"] for region in regions] == [row["score"] for row in expected]
        for region, row in zip(regions, expected, strict=True):
            value = region["value"]
            pixels = [value[name] / 100 * side for name, side in (("x", WIDTH), ("y", HEIGHT), ("width", WIDTH), ("height", HEIGHT))]  # fmt: skip
            assert close(pixels, row["bbox"])
            assert value["rectanglelabels"] == [row["category"]]


@pytest.fixture
def classes(store, tmp_path):
    """A ranked pool of 50 images in three classes; the last image has no prediction."""
    vectors = np.random.default_rng(0).dirichlet(np.ones(3), 49)
    image_ids = [f"{number}.png" for number in range(49)]
    replace_images(store, manifest([*image_ids, "none.png"]))
    path = write_files(tmp_path / "files", list(zip(image_ids, vectors.tolist(), strict=True)))
    ranked_files(store, path, in_manifest=True)
    return store, dict(zip(image_ids, vectors, strict=True))


def test_a_class_of_the_whole_image_is_a_choice_or_a_tag(classes, tmp_path):
    store, vectors = classes
    order = in_order(store, "margin")
    tasks = json.loads(export(store, tmp_path / "t.json", "label_studio", "margin").read_text())
    root = ElementTree.parse(export(store, tmp_path / "a.xml", "cvat", "margin")).getroot()
    assert [task["data"]["image_id"] for task in tasks] == order
    assert [image.get("name") for image in root.findall("image")] == order
    assert tasks[0]["data"]["image"] == f"s3://images/{order[0]}"
    for task, image in zip(tasks, root.findall("image"), strict=True):
        regions = task["predictions"][0]["result"]
        vector = vectors.get(task["data"]["image_id"])
        if vector is None:
            assert regions == image.findall("tag") == []
            assert "score" not in task["predictions"][0]
            continue
        ((region,), (tag,)) = regions, image.findall("tag")
        assert region["value"] == {"choices": [str(vector.argmax())]}
        assert region["score"] == float(tag.findtext("attribute")) == vector.max()
        assert tag.get("label") == str(vector.argmax())


@pytest.mark.parametrize(("exporter", "format"), [("coco", "COCO"), ("yolo", "YOLO")])
def test_files_of_objects_hold_no_classes_of_images(classes, tmp_path, exporter, format):
    with pytest.raises(PoolStateError, match=f"{format} files hold objects, .* of whole images"):
        export(classes[0], tmp_path / "file", exporter, "margin")


def test_an_image_of_several_functions_is_written_once(classes, tmp_path):
    path = tmp_path / "tasks.json"
    assert export_candidates(classes[0], path, exporter="label_studio", prediction_set="set") == 50
    read = [task["data"]["image_id"] for task in json.loads(path.read_text())]
    # At its place under the first function.
    assert read == in_order(classes[0], "entropy")


L_SHAPE = np.zeros((HEIGHT, WIDTH), bool)
L_SHAPE[10:40, 20:25] = L_SHAPE[35:40, 20:60] = True


@pytest.fixture
def segments(store, tmp_path):
    """An object with two outlines, one with run lengths, one with a box alone."""
    coded = coco_masks.encode(np.asfortranarray(L_SHAPE.astype(np.uint8)))
    run_lengths = {"size": coded["size"], "counts": coded["counts"].decode()}
    return store, *ranked_segments(store, tmp_path, run_lengths)


def ranked_segments(store, tmp_path, run_lengths):
    outlines = [[1, 2, 30, 2, 30.5, 40], [100, 100, 110, 100, 110, 110, 100, 110]]
    common = {"image_id": 1, "category_id": 1, "score": 0.5}
    results = [
        common | {"bbox": [1, 2, 109, 108], "segmentation": outlines},
        common | {"bbox": [20, 10, 40, 30], "segmentation": run_lengths},
        common | {"bbox": [5, 5, 10, 20]},
    ]
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": results,
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    replace_images(store, manifest(["1.png"]))
    ranked(
        store,
        read_predictions(path, format="coco", class_names=["car"]),
        rules=Rules(task="segmentation"),
        in_manifest=True,
    )
    return outlines, run_lengths


def test_masks_are_polygons_or_pixels(segments, tmp_path):
    store, outlines, run_lengths = segments
    annotations = json.loads(export(store, tmp_path / "c.json", "coco").read_text())["annotations"]
    assert [one.get("segmentation") for one in annotations] == [outlines, run_lengths, None]
    (image,) = (
        ElementTree.parse(export(store, tmp_path / "a.xml", "cvat")).getroot().findall("image")
    )
    polygons = image.findall("polygon")
    points = [[float(x) for pair in one.get("points", "").split(";") for x in pair.split(",")] for one in polygons]  # fmt: skip
    assert points == outlines
    assert {one.get("group_id") for one in polygons} == {"1"}
    (mask,), (box,) = image.findall("mask"), image.findall("box")
    left, top, width, height = (int(mask.get(name)) for name in ("left", "top", "width", "height"))
    lengths = [int(one) for one in mask.get("rle", "").split(",")]
    pixels = np.zeros_like(L_SHAPE)
    pixels[top : top + height, left : left + width] = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)  # fmt: skip
    assert np.array_equal(pixels, L_SHAPE)
    assert float(box.get("xbr")) == 15
    (task,) = json.loads(export(store, tmp_path / "t.json", "label_studio").read_text())
    kinds = [region["type"] for region in task["predictions"][0]["result"]]
    assert kinds == ["polygonlabels", "polygonlabels", "brushlabels", "polygonlabels"]
    # What has no mask is the outline of its box.
    corners = task["predictions"][0]["result"][-1]["value"]["points"]
    assert close([x / 100 * WIDTH for x, _ in corners], [5, 15, 15, 5])


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_those_of_pycocotools(seed):
    random = np.random.default_rng(seed)
    shape = random.integers(1, 40, 2)
    pixels = random.uniform(size=shape) < random.choice([0, 0.05, 0.5, 1])
    coded = coco_masks.encode(np.asfortranarray(pixels.astype(np.uint8)))
    run_lengths = {"size": coded["size"], "counts": coded["counts"].decode()}
    assert np.array_equal(mask_pixels(run_lengths), pixels)
    if pixels.any():
        assert [*bounding_box(pixels)] == coco_masks.toBbox(coded).tolist()
    lengths = run_lengths_by_row(pixels)
    assert np.array_equal(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths), pixels.ravel())
    assert np.array_equal(brush_pixels(brush_bytes(pixels)), np.repeat(pixels.ravel(), 4) * 255)


def brush_pixels(coded):
    """As the SDK of Label Studio reads it: a slow reader of bits."""
    bits = iter("".join(f"{one:08b}" for one in coded))

    def number(count):
        return int("".join(next(bits) for _ in range(count)), 2)

    size, word = number(32), number(5) + 1
    widths = [number(4) + 1 for _ in range(4)]
    values = []
    while len(values) < size:
        repeated = number(1)
        length = number(widths[number(2)]) + 1
        values += [number(word)] * length if repeated else [number(word) for _ in range(length)]
    return values


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([3, 4], "a mask of 2 x 3 pixels has run lengths of 7 pixels, expected 6"),
        ([9, -3], "expected 6"),
        ("2P", "the run lengths of a mask end within a number: '2P'"),
        ([1.5, 4.5], r"the run lengths of a mask are \[1.5, 4.5\], expected a text or a list"),
        (6, "the run lengths of a mask are 6, expected a text or a list of whole numbers"),
    ],
)
def test_run_lengths_that_cannot_be_are_refused(counts, words):
    with pytest.raises(PoolStateError, match=words):
        mask_pixels({"size": [2, 3], "counts": counts})


@pytest.mark.parametrize("size", [[10**9, 10**9], [-1, -6], [6], "2 x 3", [2.0, 3.0], None])
@pytest.mark.parametrize("exporter", ["coco", "cvat", "label_studio"])
def test_a_mask_of_no_possible_size_is_refused_and_names_its_image(store, tmp_path, exporter, size):
    ranked_segments(store, tmp_path, {"size": size, "counts": [10**18]})
    words = r"the image '1.png': a mask has the size .*, expected a height and a width in pixels"
    with pytest.raises(PoolStateError, match=words):
        export(store, tmp_path / "file", exporter, "mean_object_score")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("images", "exporter", "words"),
    [
        ({"width": None}, "yolo", "'a.png' has the width None and the height 480, expected its size"),
        ({"height": None}, "cvat", "expected its size in pixels: give the manifest the columns width"),
        ({"height": None}, "cvat_manifest", "expected its size in pixels"),
        ({"height": None}, "label_studio", "expected its size in pixels"),
        ({"uri": None}, "label_studio", "'a.png' has no uri, at which Label Studio could show it"),
        ({"uri": "s3://b/x/same.png"}, "yolo", "'b.png' and 'a.png' have the same file name 'same.png'"),
        ({"uri": "s3://b/x/same.png"}, "cvat", "by which the tool tells them apart: give them ids"),
        ({"uri": "s3://b/new%0Aline.png"}, "cvat", r"'a.png' has the file 'new\\\\nline.png', expected a name"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named(store, tmp_path, images, exporter, words):
    path = tmp_path / "o.jsonl"
    rows = [
        {"image_id": name, "score": 0.5 if name == "a.png" else 0.1, "category": "car", "bbox": [1, 2, 3, 4]}
        for name in ("a.png", "b.png")
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    table = manifest(["a.png", "b.png"])
    for name, value in images.items():
        column = table.column(name).to_pylist()
        changed = [value, *(["s3://b/same.png"] if value and "same" in value else column[1:])]
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array(changed, table.schema.field(name).type))
    replace_images(store, table)
    stream = read_predictions(path, format="jsonl", **OF_OBJECTS)
    ranked(store, stream, rules=Rules(task="detection"), in_manifest=True)
    with pytest.raises(PoolStateError, match=words):
        export(store, tmp_path / "file", exporter)
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("task", "controls"),
    [
        ("classification", {"Choices": "Choice"}),
        ("detection", {"RectangleLabels": "Label"}),
        ("segmentation", {"PolygonLabels": "Label", "BrushLabels": "Label"}),
    ],
)
def test_the_interface_has_the_classes(task, controls):
    root = ElementTree.fromstring(labeling_config(task, NAMES))
    assert root.findall("Image")[0].attrib == {"name": "image", "value": "$image"}
    assert {one.tag: one[0].tag for one in root if one.tag != "Image"} == controls
    for control in controls:
        assert [one.get("value") for one in root.findall(control)[0]] == NAMES
    with pytest.raises(PoolStateError, match=r"the class 'a\\\\nb' has a control character"):
        labeling_config(task, ["a\nb"])


VALIDATE = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
config, tasks = (open(path, encoding="utf-8").read() for path in sys.argv[1:])
interface, checked = LabelInterface(config), 0
for task in json.loads(tasks):
    for prediction in task["predictions"]:
        errors = interface.validate_prediction(prediction, return_errors=True)
        assert not errors, errors
        checked += 1
print(checked)
"""

READ_CVAT = """
import json, sys
from datumaro.components.dataset import Dataset
read = []
for item in Dataset.import_from(sys.argv[1], "cvat"):
    for one in item.annotations:
        read.append([item.id, one.type.name, one.attributes.get("score"), *one.get_bbox()])
print(json.dumps(read))
"""


def judge(variable, script, *arguments):
    """What a script prints that runs in the environment of a judge with many requirements."""
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name the Python of an environment with the judge")
    command = [os.environ[variable], "-c", script, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "function", "count"), [("detections", "mean_object_score", 50), ("classes", "margin", 50), ("segments", "mean_object_score", 1)])  # fmt: skip
def test_the_sdk_of_label_studio_finds_no_error(pool, function, count, tmp_path, request):
    store, *_ = request.getfixturevalue(pool)
    files = [export(store, tmp_path / name, name, function) for name in ("label_studio_config", "label_studio")]  # fmt: skip
    assert judge("LABEL_STUDIO_PYTHON", VALIDATE, *files) == count


@pytest.mark.slow
def test_datumaro_reads_cvat(detections, tmp_path):
    store, rows = detections
    folder = tmp_path / "cvat"
    png_files(tmp_path / "png")
    folder.mkdir()
    (folder / "images").mkdir()
    (tmp_path / "png").rename(folder / "images" / "folder")
    export(store, folder / "annotations.xml", "cvat")
    read = judge("DATUMARO_PYTHON", READ_CVAT, folder)
    expected = [[row["image_id"].removesuffix(".png"), "bbox", row["score"], *row["bbox"]] for row in rows]  # fmt: skip
    found = [[one[0], one[1], float(one[2]), *one[3:]] for one in read]
    # It rounds to hundredths.
    for one, row in zip(sorted(found), sorted(expected), strict=True):
        assert one[:3] == row[:3]
        assert np.allclose(one[3:], row[3:], atol=0.011)
