"""What is fuzzed: for every reader a file that changes, the files beside it, and valid seeds.

A target is read as a user reads it, and its promise is checked: either PredictionReadError, or
batches that are valid Arrow data in which every row of the file comes exactly once.
"""

import bz2
import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError

IDS = ["a", "b", "c"]
NAMES = ["cat", "dog", "eel"]
PROBS = [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.125, 0.375, 0.5]]
BOX = [10, 20.5, 30, 40]

FILE_OPTIONS = ("instances", "labeled")
"""Options that name another file of the folder."""


@dataclass(frozen=True)
class Target:
    """One way to read one changing file.

    Attributes:
        format: A name in ``FORMATS``, or ``"manifest"``.
        file: Name of the file that changes.
        seeds: Valid contents of that file.
        options: Options of the reader.
        beside: Other files in its folder, which do not change.
        opened: The file that is opened, where it is not the one that changes.
        rows: How many rows a content holds, found in another way than the reader's; None where it
            cannot be told so.
        in_file: What of the content the file holds, for example an archive of it.
    """

    format: str
    file: str
    seeds: list[bytes]
    options: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, bytes] = field(default_factory=dict)
    opened: str | None = None
    rows: Callable[[bytes], int | None] = lambda _: None
    in_file: Callable[[bytes], bytes] = lambda content: content


def write(target: Target, content: bytes, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write the files of a target; the path that is opened, and the reader's options."""
    for name, fixed in target.beside.items():
        (folder / name).write_bytes(fixed)
    (folder / target.file).write_bytes(target.in_file(content))
    options = {
        name: str(folder / value) if name in FILE_OPTIONS else value
        for name, value in target.options.items()
    }
    return folder / (target.opened or target.file), options


def check(target: Target, content: bytes, folder: Path) -> int | None:
    """Read a content in an empty folder; the number of rows, or None if it is refused.

    Raises:
        AssertionError: If rows are lost, doubled, or no valid Arrow data.
        Exception: Whatever else than PredictionReadError leaves the reader.
    """
    path, options = write(target, content, folder)
    if target.format == "manifest":
        return _check_manifest(path, options)
    numbers: list[int] = []
    try:
        stream = read_predictions(path, format=target.format, **options)
        for batch in stream:
            batch.validate(full=True)
            numbers += [one for one in batch.column("row_number").to_pylist() if one is not None]
            ids, reasons = batch.column("image_id"), batch.column("reason")
            assert all(
                reason is not None or image_id
                for image_id, reason in zip(ids.to_pylist(), reasons.to_pylist(), strict=True)
            ), "a row without an id was not rejected"
        stream.sha256()
    except PredictionReadError:
        return None
    assert len(set(numbers)) == len(numbers), f"a row came twice: {numbers[:20]}"
    expected = target.rows(content)
    assert expected in (None, len(numbers)), f"{expected} rows in, {len(numbers)} rows out"
    return len(numbers)


def _check_manifest(path: Path, options: Mapping[str, Any]) -> int | None:
    try:
        images, _ = PoolImages(path, **options).read()
    except PredictionReadError:
        return None
    images.validate(full=True)
    ids = images.column("image_id").to_pylist()
    assert all(ids), "an image without an id"
    assert len(set(ids)) == len(ids), "an image came twice"
    return len(ids)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _lines(*rows: object) -> bytes:
    return b"\n".join(_json(row) for row in rows) + b"\n"


def _filled_lines(content: bytes) -> int:
    return sum(1 for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip())


def _csv_lines(content: bytes) -> int | None:
    """Rows of a CSV text without quotes: its lines behind the header that are not blank."""
    if b'"' in content:
        return None
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return max(0, sum(1 for line in lines if line) - 1)


def _json_rows(key: str | None) -> Callable[[bytes], int | None]:
    """Elements of a list as Python's own parser counts them."""

    def count(content: bytes) -> int | None:
        try:
            document = json.loads(content)
            rows = document if key is None else document[key]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return len(rows) if isinstance(rows, list) else None

    return count


def _objects_of_lines(content: bytes) -> int | None:
    """Objects of rows about an image each, where all of them are told by lists of one length."""
    count = 0
    try:
        for line in content.splitlines():
            lists = {name: value for name, value in json.loads(line).items() if name in LISTS}
            (length,) = {len(listed) for listed in lists.values() if type(listed) is list}
            image_id = json.loads(line).get("image_id")
            if type(image_id) is not str or not image_id or set(lists) != LISTS:
                return None
            count += length
    except (ValueError, AttributeError, RecursionError):
        return None
    return count


def _zst(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def _lightly_rows(content: bytes) -> int | None:
    """The predictions, or one row for all of them where the file names no image."""
    try:
        document = json.loads(content)
        predictions, name = document["predictions"], document.get("file_name")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(name, str) or not name or name.encode("utf-8", "replace").decode() != name:
        return 1
    return len(predictions) if isinstance(predictions, list) else None


def _npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return target.getvalue()


def _parquet(table: pa.Table, **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target, **{"compression": "none", "store_schema": True, **options})
    return target.getvalue()


def _in_metadata(content: bytes) -> bytes:
    """A Parquet file whose metadata has the content as class names."""
    return _parquet(TABLE.replace_schema_metadata({"class_names": content}))


def _parquet_rows(content: bytes) -> int | None:
    """The largest number of rows that any part of the footer claims."""
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    return max(metadata.num_rows, sum(group.num_rows for group in groups))


def _in_archive(name: str) -> Callable[[bytes], bytes]:
    """An .npz archive in which one array is the content."""

    def archive(content: bytes) -> bytes:
        import zipfile

        members = {
            "class_probs": _npy(np.array(PROBS)),
            "image_ids": _npy(np.array(IDS)),
            "class_names": _npy(np.array(NAMES)),
            name: content,
        }
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as opened:
            for member, data in members.items():
                opened.writestr(f"{member}.npy", data)
        return target.getvalue()

    return archive


TABLE = pa.table({"image_id": IDS, "class_probs": PROBS})
WIDE = pa.table(
    {"image_id": IDS, **dict(zip(NAMES, map(list, zip(*PROBS, strict=True)), strict=True))}
)
OBJECTS = pa.table(
    {
        "image_id": IDS,
        "score": [0.5, None, 0.25],
        "category": ["cat", None, "dog"],
        "bbox": [BOX, None, BOX],
    }
)
LISTS = {"score", "category", "bbox"}
IMAGES = pa.table(
    {
        "image_id": IDS,
        "score": [[0.5, 0.25], [], [1.0]],
        "category": [["cat", "dog"], [], ["eel"]],
        "bbox": [[BOX, BOX], [], [BOX]],
    }
)
NAMED = [
    {"image_id": one, "class_probs": dict(zip(NAMES, probs, strict=True))}
    for one, probs in zip(IDS, PROBS, strict=True)
]
PAIRS = [
    {"image_id": one, "class_probs": [{"label": n, "score": p} for n, p in zip(NAMES, probs, strict=True)]}
    for one, probs in zip(IDS, PROBS, strict=True)
]  # fmt: skip
MAPS = pa.table(
    {
        "image_id": IDS,
        "class_probs": pa.array(
            [list(zip(NAMES, probs, strict=True)) for probs in PROBS],
            pa.map_(pa.string(), pa.float64()),
        ),
    }
)
BOX_FIELDS = [
    {"image_id": "a", "score": 0.5, "bbox": {"x": 1, "y": 2, "width": 3, "height": 4}},
    {"image_id": "b", "score": 0.25, "bbox": {"x": 1.5, "y": 2, "width": 3, "height": 4}},
]
CORNERS_CSV = b"image_id,score,x1,y1,x2,y2\na,0.5,1,2,3,4\nb,0.25,1.5,2,30,40\n"
SEMICOLONS_CSV = b"image_id;cat;dog;eel\na;0,5;0,25;0,25\nb;1;0;0\nc;0,125;0,375;0,5\n"
TABS_CSV = b"image_id\tcat\tdog\teel\na\t0.5\t0.25\t0.25\nb\t1\t0\t0\n"
SINGLE_CSV = b"image_id,p\na,0.5\nb,1\nc,0.125\n"
OBJECT_COLUMNS = {"score_column": "score", "category_column": "category", "bbox_column": "bbox"}
WIDE_CSV = b"image_id,cat,dog,eel\na,0.5,0.25,0.25\nb,1,0,0\nc,0.125,0.375,0.5\n"
OBJECTS_CSV = b'image_id,score,category,bbox\na,0.5,cat,"[1,2,3,4]"\nb,0.25,dog,1 2 3 4\n'
OPEN_IMAGES = (
    b"ImageID,LabelName,Conf,XMin,XMax,YMin,YMax\na,/m/cat,0.5,0,0.5,0.1,0.9\nb,/m/dog,1,0,1,0,1\n"
)
DETECTION = {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": BOX}
NAMED_DETECTIONS = [
    {"file_name": "a.jpg", "category_id": 3, "score": 0.5},
    {"image_id": "b", "category_id": "cat", "score": 1.0},
    {"image_id": "b.jpg", "category_id": 3.0, "score": 0.25, "bbox": BOX},
]
MASK = {"image_id": 2, "category_id": 3, "score": 1, "segmentation": [[1, 2, 3, 4, 5, 6]]}
INSTANCES = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": "b.jpg", "width": 640, "height": 480},
    ],
    "categories": [{"id": 3, "name": "cat"}],
}
BY_URL = {
    "images": [{"id": 1, "coco_url": "http://host/a.jpg"}, {"id": 2.0, "coco_url": "http://host/b.jpg"}],
    "categories": [{"id": 3, "name": "cat"}],
}  # fmt: skip
LIGHTLY = {
    "file_name": "a.jpg",
    "predictions": [
        {"category_id": 0, "bbox": BOX, "score": 0.5},
        {"category_id": 1, "bbox": BOX, "score": 0.5, "probabilities": [0.5, 0.5]},
    ],
}
SCHEMA = {
    "task_type": "object-detection",
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
}
MEGADETECTOR = {
    "images": [
        {"file": "a.jpg", "detections": [{"category": "1", "conf": 0.5, "bbox": [0, 0, 0.5, 1]}]},
        {"file": "b.jpg", "detections": []},
        {"file": "c.jpg", "failure": "Failure image access"},
    ],
    "detection_categories": {"1": "animal"},
    "info": {"format_version": "1.4"},
}
SUPPRESSED = {
    **MEGADETECTOR,
    "images": [
        {"file": "a.jpg", "detections": [
            {"category": "1", "conf": -0.5, "bbox": [0, 0, 0.5, 1]},
            {"category": "1", "conf": 0.5, "bbox": [0, 0, 0.5, 1]},
        ]},
        {"file": "b.jpg", "detections": [{"category": "1", "conf": -1, "bbox": [0, 0, 1, 1]}]},
    ],
}  # fmt: skip
RVC = {
    "classes": ["cat", "dog"],
    "detections": [[{"label_probs": [0.5, 0.25], "bbox": [1, 2, 3, 4]}], []],
}
KITTI = b"Car -1 -1 -10 1.0 2.0 3.0 4.0 -1 -1 -1 -1000 -1000 -1000 -10 0.5\n"
YOLO = b"0 0.5 0.5 0.25 0.25 0.9\n1 0.1 0.1 0.2 0.1 0.2 0.2 0.9\n1 0.5 0.5 0.1 0.1 0.3 7\n"
YOLO_NAMES = b"cat 0.5 0.5 0.25 0.25 0.9\ndog,0.5,0.5,0.25,0.25,0.9\n"
YOLO_CLASSES = b"0.75 cat\n0.25 dog\n"
IDS_TEXT = b"a\nb\nc\n"

TARGETS: Mapping[str, Target] = {
    "coco": Target(
        "coco",
        "p.json",
        [_json([DETECTION, MASK]), _json([{**DETECTION, "class_probs": [0.5, 0.5]}])],
        rows=_json_rows(None),
    ),
    "coco_own_tables": Target(
        "coco",
        "p.json",
        [_json({"annotations": [DETECTION, MASK], **INSTANCES})],
        rows=_json_rows("annotations"),
    ),
    "coco_instances": Target(
        "coco",
        "instances.json",
        [_json(INSTANCES)],
        options={"instances": "instances.json"},
        beside={"p.json": _json([DETECTION, MASK])},
        opened="p.json",
    ),
    "coco_names": Target(
        "coco",
        "p.json",
        [_json(NAMED_DETECTIONS)],
        options={"instances": "instances.json"},
        beside={"instances.json": _json(INSTANCES)},
        rows=_json_rows(None),
    ),
    "coco_urls": Target(
        "coco",
        "instances.json",
        [_json(BY_URL)],
        options={"instances": "instances.json"},
        beside={"p.json": _json([DETECTION, MASK])},
        opened="p.json",
    ),
    "coco_bz2": Target(
        "coco",
        "p.json.bz2",
        [_json([DETECTION, MASK])],
        rows=_json_rows(None),
        in_file=bz2.compress,
    ),
    "csv": Target("csv", "p.csv", [WIDE_CSV], {"class_columns": NAMES}, rows=_csv_lines),
    "csv_lists": Target(
        "csv", "p.csv", [b'image_id,class_probs\na,"[0.5, 0.5]"\nb,0.25 0.75\n'], rows=_csv_lines
    ),
    "csv_objects": Target("csv", "p.csv", [OBJECTS_CSV], OBJECT_COLUMNS, rows=_csv_lines),
    "csv_semicolons": Target(
        "csv", "p.csv", [SEMICOLONS_CSV, TABS_CSV], {"class_columns": NAMES}, rows=_csv_lines
    ),
    "csv_single": Target(
        "csv",
        "p.csv",
        [SINGLE_CSV],
        {"class_probs_column": "p", "single_probability": True},
        rows=_csv_lines,
    ),
    "csv_corners": Target(
        "csv",
        "p.csv",
        [CORNERS_CSV],
        {"score_column": "score", "bbox_columns": ["x1", "y1", "x2", "y2"], "box": "xyxy"},
        rows=_csv_lines,
    ),
    "csv_bz2": Target(
        "csv",
        "p.csv.bz2",
        [WIDE_CSV],
        {"class_columns": NAMES},
        rows=_csv_lines,
        in_file=bz2.compress,
    ),
    "csv_gz": Target("csv", "p.csv.gz", [gzip.compress(WIDE_CSV)], {"class_columns": NAMES}),
    "jsonl": Target("jsonl", "p.jsonl", [_lines(*TABLE.to_pylist())], rows=_filled_lines),
    "jsonl_wide": Target(
        "jsonl",
        "p.jsonl",
        [_lines(*WIDE.to_pylist())],
        {"class_columns": NAMES},
        rows=_filled_lines,
    ),
    "jsonl_objects": Target(
        "jsonl", "p.jsonl", [_lines(*OBJECTS.to_pylist())], OBJECT_COLUMNS, rows=_filled_lines
    ),
    "jsonl_images": Target(
        "jsonl", "p.jsonl", [_lines(*IMAGES.to_pylist())], OBJECT_COLUMNS, rows=_objects_of_lines
    ),
    "jsonl_named": Target("jsonl", "p.jsonl", [_lines(*NAMED)], rows=_filled_lines),
    "jsonl_pairs": Target("jsonl", "p.jsonl", [_lines(*PAIRS)], rows=_filled_lines),
    "jsonl_single": Target(
        "jsonl",
        "p.jsonl",
        [_lines({"image_id": "a", "class_probs": 0.5}, {"image_id": "b", "class_probs": [1]})],
        {"single_probability": True},
        rows=_filled_lines,
    ),
    "jsonl_boxes": Target(
        "jsonl",
        "p.jsonl",
        [_lines(*BOX_FIELDS)],
        {"score_column": "score", "bbox_column": "bbox"},
        rows=_filled_lines,
    ),
    "jsonl_array": Target(
        "jsonl",
        "p.json",
        [_json(TABLE.to_pylist())],
        rows=_json_rows(None),
    ),
    "jsonl_zst": Target("jsonl", "p.jsonl.zst", [_zst(_lines(*TABLE.to_pylist()))]),
    "jsonl_gz": Target("jsonl", "p.jsonl.gz", [gzip.compress(_lines(*TABLE.to_pylist()))]),
    "kitti": Target("kitti", "p.txt", [KITTI * 2, b""], rows=_filled_lines),
    "lightly": Target(
        "lightly",
        "p.json",
        [_json(LIGHTLY)],
        beside={"schema.json": _json(SCHEMA)},
        rows=_lightly_rows,
    ),
    "lightly_schema": Target(
        "lightly",
        "schema.json",
        [_json(SCHEMA)],
        beside={"p.json": _json(LIGHTLY)},
        opened="p.json",
        rows=lambda _: 2,
    ),
    "megadetector": Target("megadetector", "p.json", [_json(MEGADETECTOR), _json(SUPPRESSED)]),
    "npy": Target(
        "npy",
        "p.npy",
        [_npy(np.array(PROBS)), _npy(np.array(PROBS, np.float16))],
        beside={"p.ids.txt": IDS_TEXT},
        rows=lambda _: 3,
    ),
    "npy_single": Target(
        "npy",
        "p.npy",
        [_npy(np.array(PROBS)[:, 0]), _npy(np.array(PROBS)[:, :1])],
        {"single_probability": True},
        beside={"p.ids.txt": IDS_TEXT},
        rows=lambda _: 3,
    ),
    "npy_ids": Target(
        "npy",
        "p.ids.txt",
        [IDS_TEXT],
        beside={"p.npy": _npy(np.array(PROBS))},
        opened="p.npy",
        rows=lambda _: 3,
    ),
    "npz": Target(
        "npz",
        "p.npz",
        [_npz(class_probs=np.array(PROBS), image_ids=np.array(IDS))],
        rows=lambda _: 3,
    ),
    "npz_class_probs": Target(
        "npz",
        "p.npz",
        [_npy(np.array(PROBS))],
        rows=lambda _: 3,
        in_file=_in_archive("class_probs"),
    ),
    "npz_image_ids": Target(
        "npz",
        "p.npz",
        [_npy(np.array(IDS)), _npy(np.array([b"a", b"b", b"c"])), _npy(np.arange(3))],
        rows=lambda _: 3,
        in_file=_in_archive("image_ids"),
    ),
    "npz_class_names": Target(
        "npz",
        "p.npz",
        [_npy(np.array(NAMES)), _npy(np.array([b"a", b"b", b"c"]))],
        rows=lambda _: 3,
        in_file=_in_archive("class_names"),
    ),
    "open_images": Target(
        "open_images",
        "p.csv",
        [OPEN_IMAGES, OPEN_IMAGES.replace(b"Conf", b"Score")],
        rows=_csv_lines,
    ),
    "parquet": Target(
        "parquet",
        "p.parquet",
        [_parquet(TABLE), _parquet(TABLE, row_group_size=2, use_dictionary=False)],
        rows=_parquet_rows,
    ),
    "parquet_class_names": Target(
        "parquet", "p.parquet", [_json(NAMES)], rows=lambda _: 3, in_file=_in_metadata
    ),
    "parquet_wide": Target(
        "parquet",
        "p.parquet",
        [_parquet(WIDE), _parquet(WIDE, compression="snappy", data_page_version="2.0")],
        {"class_columns": NAMES},
        rows=_parquet_rows,
    ),
    "parquet_objects": Target(
        "parquet", "p.parquet", [_parquet(OBJECTS)], OBJECT_COLUMNS, rows=_parquet_rows
    ),
    "parquet_images": Target("parquet", "p.parquet", [_parquet(IMAGES)], OBJECT_COLUMNS),
    "parquet_named": Target(
        "parquet",
        "p.parquet",
        [
            _parquet(MAPS),
            _parquet(pa.Table.from_pylist(NAMED)),
            _parquet(pa.Table.from_pylist(PAIRS)),
        ],
        rows=_parquet_rows,
    ),
    "rvc": Target("rvc", "p.json", [_json(RVC)]),
    "rvc_ids": Target(
        "rvc",
        "p.ids.txt",
        [b"a\nb\n"],
        {"image_ids": "{stem}.ids.txt"},
        beside={"p.json": _json(RVC)},
        opened="p.json",
        rows=lambda _: 1,
    ),
    "yolo": Target("yolo", "p.txt", [YOLO, b""], rows=_filled_lines),
    "yolo_names": Target(
        "yolo", "p.txt", [YOLO, YOLO_CLASSES, YOLO_NAMES], {"class_names": ["cat", "dog"]}
    ),
    "manifest_csv": Target(
        "manifest",
        "m.csv",
        [b"image_id,uri,width,height,labeled,label\na,u,640,480,true,cat\nb,,,,0,\n"],
    ),
    "manifest_jsonl": Target(
        "manifest",
        "m.jsonl",
        [_lines({"image_id": "a", "width": 640, "labeled": True}, {"image_id": "b", "uri": "u"})],
    ),
    "manifest_parquet": Target(
        "manifest",
        "m.parquet",
        [_parquet(pa.table({"image_id": IDS, "width": [1, 2, 3], "labeled": [True, False, True]}))],
    ),
    "manifest_array": Target(
        "manifest",
        "m.json",
        [_json([{"image_id": "a", "width": 640.0, "label": "cat"}, {"image_id": 2.0}])],
        {"format": "jsonl"},
    ),
    "manifest_gz": Target(
        "manifest",
        "m.csv.gz",
        [b"image_id;width;label\na;640;cat\n2.0;;\n"],
        in_file=gzip.compress,
    ),
    "manifest_coco": Target("manifest", "m.json", [_json(INSTANCES)]),
    "manifest_labeled": Target(
        "manifest",
        "labeled.txt",
        [b"a\nb\n"],
        {"labeled": "labeled.txt"},
        beside={"m.csv": b"image_id\na\nb\nc\n"},
        opened="m.csv",
    ),
}
