"""A format from outside: one module, and one line in the registry."""

import sys
from types import ModuleType

import pytest

from dagster_active_learning import PredictionFiles, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.formats import FORMATS, Format
from dagster_active_learning.readers.objects import DetectedObject, object_part, objects_of_lines
from dagster_active_learning.readers.options import ObjectOptions
from dagster_active_learning.readers.quarantine import Reason


def open_file(path, options):
    """Open a file of a line per object: its class and its score."""

    def read_object(row_number, line):
        category, *rest = line.decode().split()
        if len(rest) != 1:
            return Reason.UNREADABLE_OBJECT
        return DetectedObject(
            row_number=row_number, image_id=path.stem, score=float(rest[0]), category=category
        )

    return object_part(
        str(path),
        lambda: objects_of_lines(path, read_object),
        options,
        class_names=options.class_names,
        bbox_unit=None,
        sha256=content_sha256([path]),
    )


@pytest.fixture
def toy(monkeypatch):
    """A format that this package does not know."""
    module = ModuleType("toy_format")
    module.open_file = open_file
    monkeypatch.setitem(sys.modules, "toy_format", module)
    monkeypatch.setitem(
        FORMATS,
        "toy",
        Format("toy_format", ObjectOptions, files_in_folder="*.toy", images_named="one"),
    )


@pytest.fixture
def folder(tmp_path):
    for name, text in {"a": "cat 80\ndog 20\ncat\n", "b": "", "c": "dog 50\n"}.items():
        (tmp_path / f"{name}.toy").write_text(text)
    (tmp_path / "notes.md").write_text("no predictions")
    return tmp_path


@pytest.mark.usefixtures("toy")
def test_a_format_from_outside_is_read_by_its_name_alone(folder):
    stream = read_predictions(folder, format="toy", score_transform="percent")
    rows = [row for batch in stream for row in batch.to_pylist()]
    assert [(row["image_id"], row["category"], row["score"], row["reason"]) for row in rows] == [
        ("a", "cat", 0.8, None),
        ("a", "dog", 0.2, None),
        ("a", None, None, Reason.UNREADABLE_OBJECT),
        ("b", None, None, None),
        ("c", "dog", 0.5, None),
    ]
    assert [row["row_number"] for row in rows] == [1, 2, 3, None, 1]
    assert rows[2]["raw"] == "cat"


@pytest.mark.usefixtures("toy")
def test_a_format_from_outside_has_its_options_checked_and_its_folder_watched(folder):
    with pytest.raises(ValueError, match="format 'toy' has no option 'box'"):
        PredictionFiles(folder, "toy", box="xyxy")
    (files,) = PredictionFiles(folder, "toy").find(partitioned=False).values()
    assert sorted(files.versions) == [str(folder / f"{name}.toy") for name in "abc"]
    with pytest.raises(PredictionReadError, match=r"holds no \*.toy files"):
        read_predictions(folder.parent, format="toy")
