"""The pool's manifest: what is read from it, and what is refused."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.formats import csv

ROWS = [
    {"image_id": "007", "uri": "a.png", "width": 8, "height": 9, "labeled": True, "label": "cat"},
    {"image_id": "8", "uri": None, "width": None, "height": 9, "labeled": False, "label": None},
]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_kind_of_manifest_reads_the_same(tmp_path, suffix):
    frame = pl.DataFrame(ROWS).with_columns(extra=1)
    path = tmp_path / f"m.{suffix}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](
        path
    )
    rows, sha256 = PoolImages(path).read()
    assert rows.to_pylist() == ROWS
    assert len(sha256) == 64


def test_only_the_id_is_needed(tmp_path):
    (tmp_path / "m.csv").write_text("image_id\nx\n")
    rows, _ = PoolImages(tmp_path / "m.csv").read()
    assert rows.to_pylist() == [dict.fromkeys(ROWS[0]) | {"image_id": "x"}]


@pytest.mark.parametrize(
    ("text", "labeled"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        ("false", False),
        ("FALSE", False),
        ("0", False),
        ("", None),
    ],
)
def test_labeled_is_true_or_false_in_the_usual_words(tmp_path, text, labeled):
    (tmp_path / "m.csv").write_text(f"image_id,labeled\nx,{text}\n")
    rows, _ = PoolImages(tmp_path / "m.csv").read()
    assert rows.to_pylist()[0]["labeled"] is labeled


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("row", "labeled"),
    [
        ({"label": "cat"}, True),
        ({"label": "cat", "labeled": None}, True),
        ({"label": "cat", "labeled": False}, False),
        ({"label": "cat", "labeled": True}, True),
        ({"label": ""}, None),
        ({"label": None, "labeled": True}, True),
        ({"label": None}, None),
    ],
)
def test_an_image_with_a_label_is_labeled_unless_its_row_says_otherwise(
    tmp_path, suffix, row, labeled
):
    other = {"label": "dog", "labeled": True} if "labeled" in row else {"label": "dog"}
    path = write_rows(
        tmp_path / f"m.{suffix}", [{"image_id": "x", **row}, {"image_id": "y", **other}]
    )
    rows, _ = PoolImages(path).read()
    assert [image["labeled"] for image in rows.to_pylist()] == [labeled, True]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "", "not a readable UTF-8 CSV file"),
        ("m.csv", "image_id,labeled\nx,true\ny\n", "Expected 2 columns, got 1"),
        ("m.csv", "image_id,labeled,labeled\nx,true,false\n", "more than one column 'labeled'"),
        ("m.csv", "id\nx\n", "no column 'image_id'"),
        ("m.csv", "image_id,labeled\nx,true\ny,maybe\n", "row 2: labeled is 'maybe', expected true or false"),
        ("m.csv", "image_id,width\nx,wide\n", "row 1: width is 'wide', expected a number of pixels"),
        ("m.csv", "image_id,width\nx,-3\n", "row 1: width is '-3', expected a number of pixels"),
        ("m.csv", 'image_id,uri\na,u\nb,"u\nc,u\n', "quote"),
        ("m.csv", 'image_id,uri\na,u\nb,"u', "quote"),
        ("m.csv", "image_id\n", "holds no images: expected at least one row"),
        ("m.csv", "image_id, labeled\nx,true\n", "has the column ' labeled': expected 'labeled'"),
        ("m.jsonl", '{"image_id": "x", "width": 3.7}', "row 1: width is 3.7, expected a number of"),
        ("m.jsonl", '{"image_id": {"a": 1}}', "image_id is of the type Struct"),
        ("m.jsonl", '{"image_id": true}', "image_id is of the type Boolean"),
        ("m.jsonl", '{"image_id": [1]}', "image_id is of the type List"),
        ("m.jsonl", '{"image_id": 1.5}', "image_id is of the type Float64"),
        ("m.csv", "image_id,width\nx,1\n,2\n", "row 2: the image has no image_id"),
        ("m.csv", "image_id\nx\ny\nx\n", "row 3: image_id 'x' stands in row 1 already"),
        ("m.jsonl", "{", "not a readable jsonl manifest"),
        ("m.parquet", "x", "not a readable parquet manifest"),
        ("none.csv", None, "does not exist"),
    ],
)  # fmt: skip
def test_a_broken_manifest_is_an_error_that_names_the_row(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(PredictionReadError) as error:
        PoolImages(tmp_path / name).read()
    assert words in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A manifest that is read in several blocks."""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".parquet":
        pq.write_table(frame.to_arrow(), path, row_group_size=700)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# A manifest of 20,000 rows: what is wrong in its last row but one, and words of the error.
LATE_FAULTS = [
    ({"image_id": "3"}, "row 19999: image_id '3' stands in row 4 already"),
    ({"image_id": "19997"}, "row 19999: image_id '19997' stands in row 19998 already"),
    ({"image_id": None}, "row 19999: the image has no image_id"),
    ({"width": -5}, "row 19999: width is"),
]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("fault", "words"), LATE_FAULTS)
def test_a_fault_far_behind_is_an_error_that_names_its_row(tmp_path, monkeypatch, suffix, fault, words):  # fmt: skip
    monkeypatch.setattr(csv, "BLOCK_BYTES", 10_000)
    rows = [{"image_id": str(row), "width": row} for row in range(20_000)]
    path = write_rows(tmp_path / f"m.{suffix}", rows)
    assert PoolImages(path).read()[0]["width"].to_pylist() == list(range(20_000))
    rows[-2] |= fault
    with pytest.raises(PredictionReadError) as error:
        PoolImages(write_rows(path, rows)).read()
    assert f"{path}, {words}" in str(error.value)


def test_lines_of_a_manifest_may_hold_other_keys_and_other_types_than_those_before(tmp_path):
    first = [{"image_id": row, "note": {"a": row}} for row in range(9_000)]
    rows = [*first, *({"image_id": f"x{row}", "labeled": True} for row in range(9_000))]
    read, _ = PoolImages(write_rows(tmp_path / "m.jsonl", rows)).read()
    assert read["image_id"].to_pylist() == [str(row["image_id"]) for row in rows]
    assert read["labeled"].to_pylist() == [None] * 9_000 + [True] * 9_000


# Wrong options, and words of the error: nothing of it waits for the manifest to be there.
WRONG_OPTIONS = [
    ("m.txt", {}, "expected one of csv, jsonl, parquet, coco, folder"),
    ("m.csv", {"format": "xml"}, "the format of the manifest m.csv is 'xml', expected one of"),
    ("m.json", {"image_id": "stem"}, "image_id is 'stem', expected one of 'id', 'file_name'"),
    ("m", {"image_id": "file_name"}, "image_id is 'file_name', expected one of 'path', 'stem'"),
    ("m.csv", {"image_id": "id"}, "which has a column image_id: leave the option out"),
    ("m.csv", {"labeled": ["a", 7]}, "labeled has 7: expected ids as text"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "options", "words"), WRONG_OPTIONS)
def test_wrong_options_are_refused_at_once(path, options, words):
    with pytest.raises(ValueError, match="(?s).*") as error:
        PoolImages(path, **options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("m.csv", "csv"),
        ("m.CSV", "csv"),
        ("m.ndjson", "jsonl"),
        ("m.json", "coco"),
        ("not/there/yet", "folder"),
        ("images.v1", "folder"),
    ],
)
def test_the_format_is_seen_from_the_path(tmp_path, name, format):
    (tmp_path / "images.v1").mkdir()
    assert PoolImages(tmp_path / name).format == format
    assert PoolImages(str(tmp_path / name)).format == format


def test_a_file_without_a_suffix_is_no_folder(tmp_path):
    (tmp_path / "m").write_text("x")
    with pytest.raises(ValueError, match="expected one of csv"):
        PoolImages(tmp_path / "m")


IMAGES = [
    {"id": 7, "file_name": "x/a.jpg", "width": 8, "height": 9, "license": 1},
    {"id": "8", "file_name": "b.jpg", "width": 8.0},
]


def coco(folder: Path, images, name: str = "m.json") -> Path:
    content = images if isinstance(images, bytes) else json.dumps({"images": images}).encode()
    (folder / name).write_bytes(content)
    return folder / name


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / "pool" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "pool" / name).write_bytes(name.encode())
    return folder / "pool"


@pytest.mark.parametrize(
    ("image_id", "ids"),
    [(None, ["7", "8"]), ("id", ["7", "8"]), ("file_name", ["x/a.jpg", "b.jpg"])],
)
def test_a_coco_instances_file_is_a_manifest(tmp_path, image_id, ids):
    rows, sha256 = PoolImages(coco(tmp_path, IMAGES), image_id=image_id).read()
    nothing = {"labeled": None, "label": None}
    assert rows.to_pylist() == [
        {"image_id": ids[0], "uri": "x/a.jpg", "width": 8, "height": 9, **nothing},
        {"image_id": ids[1], "uri": "b.jpg", "width": 8, "height": None, **nothing},
    ]
    assert sha256 == hashlib.sha256((tmp_path / "m.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("odd", ["NaN", "-Infinity", "9" * 30, "1e999"])
def test_an_odd_number_in_a_key_that_nobody_reads_is_no_matter(tmp_path, odd):
    content = f'{{"info": {odd}, "images": [{{"id": 7, "file_name": "a.jpg", "score": {odd}}}]}}'
    rows, _ = PoolImages(coco(tmp_path, content.encode())).read()
    assert rows["image_id"].to_pylist() == ["7"]


@pytest.mark.parametrize("image_id", [None, "file_name"])
def test_a_coco_table_without_file_names_has_urls_or_only_ids(tmp_path, image_id):
    urls = [{"id": number, "coco_url": f"http://x.org/val/{number:03}.jpg"} for number in (7, 8)]
    rows, _ = PoolImages(coco(tmp_path, urls), image_id=image_id).read()
    assert rows["image_id"].to_pylist() == (
        ["7", "8"] if image_id is None else ["007.jpg", "008.jpg"]
    )
    assert rows["uri"].to_pylist() == [image["coco_url"] for image in urls]
    rows, _ = PoolImages(coco(tmp_path, [{"id": 7}, {"id": "b"}]), image_id=image_id).read()
    assert rows["image_id"].to_pylist() == ["7", "b"]
    assert rows["uri"].to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("image_id", "ids"),
    [(None, ["B.JPEG", "a.png", "x/y/c.tif"]), ("stem", ["B", "a", "c"])],
)
def test_a_folder_of_images_is_a_manifest(tmp_path, monkeypatch, image_id, ids):
    left_out = ["a.txt", "x/thumbs.db", "._a.png", "x/.thumbnails/c.tif"]
    folder = folder_of(tmp_path, "x/y/c.tif", "a.png", "B.JPEG", *left_out)
    rows, sha256 = PoolImages(folder, image_id=image_id).read()
    assert rows["image_id"].to_pylist() == ids
    paths = [str(folder / name) for name in ("B.JPEG", "a.png", "x/y/c.tif")]
    assert rows["uri"].to_pylist() == paths
    assert (
        rows.drop_columns(["image_id", "uri"]).to_pylist()
        == [dict.fromkeys(("width", "height", "labeled", "label"))] * 3
    )
    monkeypatch.chdir(tmp_path)
    again, same_sha256 = PoolImages("pool", image_id=image_id).read()
    assert (again["uri"].to_pylist(), same_sha256) == (paths, sha256), "the full path"
    (folder / "a.png").write_bytes(b"another size")
    assert PoolImages(folder, image_id=image_id).read()[1] != sha256


def test_all_kinds_of_manifest_have_the_same_columns(tmp_path):
    (tmp_path / "m.csv").write_text("image_id\nx\n")
    tables = [
        PoolImages(path).read()[0]
        for path in (tmp_path / "m.csv", coco(tmp_path, IMAGES), folder_of(tmp_path, "a.png"))
    ]
    assert tables[0].schema == tables[1].schema == tables[2].schema


# A COCO manifest that is none: its content, options, words of the error.
BROKEN_COCO = {
    "empty": (b"", {}, "is empty"),
    "cut": (json.dumps({"images": IMAGES}).encode()[:-3], {}, "after 1 images: parse error: premature EOF"),
    "results": (b"[{}]", {}, "is a JSON array: expected a JSON object with 'images'"),
    "UTF-16": (json.dumps({"images": IMAGES}).encode("utf-16"), {}, "is not UTF-8 text"),
    "NaN": (b'{"images": [{"id": NaN}]}', {}, 'entry 1 of images is {"id": NaN}: expected an object with an id'),
    "a width of NaN": (b'{"images": [{"id": 1, "width": NaN}]}', {}, "entry 1 of images: width is nan, expected a number of pixels"),
    "a height beyond 64 bits": (b'{"images": [{"id": 1, "height": 99999999999999999999}]}', {}, "height is 99999999999999999999, expected"),
    "no table": (b'{"annotations": []}', {}, "has no list 'images'"),
    "no image": ([], {}, "has an empty table 'images'"),
    "no id": ([{"file_name": "a.jpg"}], {}, "entry 1 of images is"),
    "no file name": ([*IMAGES, {"id": 1}], {}, "entry 3 of images is"),
    "no object": ([7], {}, "entry 1 of images is 7"),
    "an id twice": ([*IMAGES, {"id": 8, "file_name": "c.jpg"}], {}, "'b.jpg' and 'c.jpg' have the same image_id '8'"),
    "a name twice": ([*IMAGES, {"id": 9, "file_name": "b.jpg"}], {"image_id": "file_name"}, "'8' and '9' have the same image_id 'b.jpg'"),
    "a width in words": ([{"id": 1, "file_name": "a", "width": "8"}], {}, "entry 1 of images: width is '8', expected a number of pixels"),
    "a width below 0": ([{"id": 1, "file_name": "a", "width": -8}], {}, "width is -8"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_COCO)
def test_a_broken_coco_manifest_is_an_error_that_names_it(tmp_path, case):
    content, options, words = BROKEN_COCO[case]
    path = coco(tmp_path, content)
    with pytest.raises(PredictionReadError) as error:
        PoolImages(path, **options).read()
    assert words in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("names", "image_id", "words"),
    [
        ((), None, "does not exist: expected a folder"),
        (("a.txt",), None, "holds no image: expected files with one of the suffixes .jpg"),
        (("a.png", "x/a.jpg"), "stem", "'a.png' and 'x/a.jpg' have the same image_id 'a'"),
        ((b"\xff.png".decode("utf-8", "surrogateescape"),), None, "is not UTF-8 text"),
    ],
)
def test_a_folder_that_is_no_pool_is_an_error_that_names_it(tmp_path, names, image_id, words):
    for name in names:
        (tmp_path / "pool" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pool" / name).touch()
    with pytest.raises(PredictionReadError) as error:
        PoolImages(tmp_path / "pool", image_id=image_id).read()
    assert words in str(error.value)
    assert str(tmp_path / "pool") in str(error.value)


LABELED = [
    (["8"], [None, True]),
    (["8", "7", "8"], [True, True]),
    ([], [None, None]),
    (b"8\n", [None, True]),
    (b"\xef\xbb\xbf7\r\n\n8", [True, True]),
    (b"", [None, None]),
]


@pytest.mark.parametrize(("labeled", "expected"), LABELED, ids=[str(one) for one, _ in LABELED])
def test_labeled_images_come_from_a_list_or_a_text_file(tmp_path, labeled, expected):
    if isinstance(labeled, bytes):
        (tmp_path / "ids.txt").write_bytes(labeled)
        labeled = str(tmp_path / "ids.txt")
    rows, _ = PoolImages(coco(tmp_path, IMAGES), labeled=labeled).read()
    assert rows["labeled"].to_pylist() == expected


def test_a_list_of_labeled_images_adds_to_what_the_manifest_marks(tmp_path):
    (tmp_path / "m.csv").write_text("image_id,labeled\na,true\nb,false\nc,\nd,false\n")
    rows, _ = PoolImages(tmp_path / "m.csv", labeled=["b"]).read()
    assert rows["labeled"].to_pylist() == [True, True, None, False]


@pytest.mark.parametrize(
    ("labeled", "words"),
    [
        (["7", "x", "y"], "has no image 'x' and 1 more: the list given as labeled says that it is labeled (2 of its 3 ids"),
        (["x"], "has no image 'x': the list given as labeled"),
        (b"x\n7\n", "ids.txt says that it is labeled (1 of its 2 ids"),
        (b"\xff", "ids.txt is not a readable UTF-8 list of ids"),
        (None, "ids.txt does not exist"),
    ],
)  # fmt: skip
def test_a_labeled_image_that_is_not_in_the_manifest_is_an_error(tmp_path, labeled, words):
    ids = tmp_path / "ids.txt"
    if isinstance(labeled, bytes):
        ids.write_bytes(labeled)
    given = labeled if isinstance(labeled, list) else ids
    with pytest.raises(PredictionReadError) as error:
        PoolImages(coco(tmp_path, IMAGES), labeled=given).read()
    assert words in str(error.value)


@pytest.mark.parametrize("kind", ["coco", "folder"])
def test_the_hash_covers_the_manifest_and_the_labeled_images(tmp_path, kind):
    path = coco(tmp_path, IMAGES) if kind == "coco" else folder_of(tmp_path, "7", "7.png", "8.png")
    options = {} if kind == "coco" else {"image_id": "stem"}
    (tmp_path / "ids.txt").write_text("7\n8\n")
    hashes = [
        PoolImages(path, labeled=labeled, **options).read()[1]
        for labeled in (None, ["7"], ["8", "7"], ["7", "8"], tmp_path / "ids.txt")
    ]
    assert hashes[2] == hashes[3], "the order of the list means nothing"
    assert len(set(hashes)) == 4


def test_real_manifests_are_read_whole(real_predictions):
    rows, _ = PoolImages(real_predictions / "coco_detections" / "instances.json").read()
    assert rows.num_rows == 1525
    assert rows.to_pylist()[0] == {
        "image_id": "397133", "uri": "000000397133.jpg", "width": 640, "height": 640,
        "labeled": None, "label": None,
    }  # fmt: skip


def test_the_manifest_knows_the_real_images_without_a_detection(real_predictions):
    voc = real_predictions / "voc_four_formats"
    manifest = voc / "gts" / "coco_format_v2" / "instances_v2.json"
    images, _ = PoolImages(manifest, image_id="file_name").read()
    stream = read_predictions(voc / "dets" / "coco_format" / "coco_dets.json", format="coco")
    found = {image for batch in stream for image in batch.column("image_id").to_pylist()}
    assert images.num_rows == 100
    assert len(found & set(images["image_id"].to_pylist())) == 98


@pytest.mark.parametrize(
    "ids", [pa.array([b"\xff"]), pa.array([1.5]), pa.array([["a"]])], ids=["bytes", "float", "list"]
)
def test_parquet_ids_that_are_no_text_are_an_error_that_names_the_type(tmp_path, ids):
    pq.write_table(pa.table({"image_id": ids}), tmp_path / "m.parquet")
    with pytest.raises(PredictionReadError, match=r"m.parquet: the column image_id is of the type"):
        PoolImages(tmp_path / "m.parquet").read()
