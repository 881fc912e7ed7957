"""Compressed files, in every format that is text."""

import bz2
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.compression import open_binary, stem

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}
ROW = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
MEGADETECTOR = {
    "images": [{"file": "7", "detections": [{"category": "1", "conf": 0.5, "bbox": [0, 0, 1, 1]}]}],
    "detection_categories": {"1": "cat"},
}
RVC = {"classes": ["cat"], "detections": [[{"bbox": [1, 2, 3, 4], "label_probs": [0.5]}]]}
KITTI = "Car -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10 0.5"

# The format, a file's name, its text, and its options.
FILES = {
    "csv": ("p.csv", "image_id,score\n7,0.5\n", {"score_column": "score"}),
    "jsonl": ("p.jsonl", '{"image_id": 7, "score": 0.5}\n', {"score_column": "score"}),
    "coco": ("p.json", json.dumps([ROW]), {}),
    "open_images": ("p.csv", "ImageID,LabelName,Conf,XMin,XMax,YMin,YMax\n7,a,0.5,0,1,0,1\n", {}),
    "megadetector": ("p.json", json.dumps(MEGADETECTOR), {}),
    "rvc": ("7.json", json.dumps(RVC), {}),
    "yolo": ("7.txt", "0 0.5 0.5 0.25 0.5 0.5", {}),
    "kitti": ("7.txt", KITTI, {}),
}


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_file_is_read_like_a_plain_one(tmp_path, format, suffix):
    name, text, options = FILES[format]
    (tmp_path / name).write_text(text)
    (tmp_path / f"{name}{suffix}").write_bytes(PACK[suffix](text.encode()))
    plain, packed = (
        [
            row
            for batch in read_predictions(path, format=format, **options)
            for row in batch.to_pylist()
        ]
        for path in (tmp_path / name, tmp_path / f"{name}{suffix}")
    )
    assert len(plain) == 1
    assert plain[0]["score"] == 0.5
    assert [row | {"source": None} for row in packed] == [row | {"source": None} for row in plain]


@pytest.mark.parametrize("format", ["csv", "jsonl", "coco", "megadetector", "rvc", "yolo"])
@pytest.mark.parametrize("suffix", PACK)
def test_a_file_that_is_not_packed_as_its_suffix_says_is_an_error_that_names_it(
    tmp_path, format, suffix
):
    name, text, options = FILES[format]
    path = tmp_path / f"{name}{suffix}"
    for content in (text.encode(), PACK[suffix](text.encode() * 9_999)[:-30]):
        path.write_bytes(content)
        with pytest.raises(PredictionReadError) as error:
            list(read_predictions(path, format=format, **options))
        assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", ["", *PACK])
@pytest.mark.parametrize("size", [0, 1, 300_001])
def test_what_is_read_is_what_was_packed(tmp_path, suffix, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = tmp_path / f"a.b.txt{suffix}"
    path.write_bytes(PACK[suffix](content) if suffix else content)
    with open_binary(path) as file:
        assert file.read(1000) + file.readline() + file.read() == content
    assert stem(path) == "a.b"
    assert stem(Path("p.npy")) == "p"


def test_a_packed_manifest_is_read(tmp_path):
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"image_id": "a"}\n{"image_id": "b"}\n'))
    rows, _ = PoolImages(path, format="jsonl").read()
    assert rows["image_id"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    ("name", "content"),
    [("m.csv", b"image_id\na\nb\n"), ("m.JSON", b'{"images": [{"id": "a"}, {"id": "b"}]}')],
)
def test_the_format_of_a_packed_manifest_is_seen_from_its_name(tmp_path, suffix, name, content):
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(PACK[suffix](content))
    images, _ = PoolImages(path).read()
    assert images.column("image_id").to_pylist() == ["a", "b"]
