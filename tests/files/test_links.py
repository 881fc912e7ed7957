"""Links in a folder of predictions: those that lead out of it are not read, and show nothing."""

import gzip
import os
import traceback

import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.file_sets import find_file_sets
from dagster_active_learning.files.links import Folder, named_folder
from dagster_active_learning.readers.remote import read_remote_predictions

SECRET = "HUNTER2secret"
CONTENT = "image_id,p_a,p_b\nx,0.5,0.5\n"
KEY = "{partition_key}"


@pytest.fixture
def inside(tmp_path):
    """A folder ``in`` with good files and folders, and beside it ``out`` with another's."""
    for file in ("in/a.csv", "in/may/a.csv", "in/may/deep/a.csv", "out/b.csv", "in2/b.csv"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(CONTENT)
    (tmp_path / "out/secret.conf").write_text(f"db_password = {SECRET}\nother = 1\n")
    return tmp_path / "in"


FOLDERS = [
    ("in/*.csv", "in"), ("in/may/a.csv", None), ("in", "in"), ("in/m*/a.csv", "in"),
    ("in/**/x.csv", "in"), ("in/[ab].csv", "in"), ("*/a.csv", "."), ("nowhere/a.csv", None),
    ("in/a?.csv", "in"), ("*.csv", "."), ("in/may/../*.csv", "in/may/.."),
]  # fmt: skip


@pytest.mark.parametrize(("path", "folder"), FOLDERS)
def test_the_folder_that_a_path_names(inside, monkeypatch, path, folder):
    monkeypatch.chdir(inside.parent)
    assert named_folder(path) == folder
    absolute = None if folder is None else str(inside.parent / folder).removesuffix("/.")
    assert named_folder(f"{inside.parent}/{path}") == absolute


def test_a_glob_names_the_folder_before_it_whatever_is_called_like_the_glob(inside):
    (inside / "*.csv").write_text(CONTENT)
    assert named_folder(f"{inside}/*.csv") is None
    assert named_folder(f"{inside}/*.csv", is_glob=True) == str(inside)
    assert named_folder("/*.csv") == "/"


# A link, what it points to, and whether it leads out of the folder.
LINKS = [
    ("l.csv", "a.csv", False),
    ("l.csv", "may/deep/a.csv", False),
    ("l.csv", "{inside}/may/a.csv", False),
    ("l.csv", "../in/a.csv", False),
    ("l.csv", "../in/../in/may/../a.csv", False),
    ("l.csv", "../out/b.csv", True),
    ("l.csv", "{out}/b.csv", True),
    ("l.csv", "../in2/b.csv", True),
    ("l.csv", "/etc/passwd", True),
    ("l.csv", "may/again.csv", True),
    ("l.csv", "may/back.csv", False),
    ("may/l.csv", "../a.csv", False),
    ("may/l.csv", "../../out/b.csv", True),
    ("folder/b.csv", "../out", True),
    ("folder/a.csv", "may", False),
    ("may/folder/b.csv", "{out}", True),
    ("may/folder/a.csv", "{inside}", False),
]


@pytest.mark.parametrize("through", ["path", "link", "relative", "dots"])
@pytest.mark.parametrize(("link", "target", "leads_out"), LINKS)
def test_a_link_leads_out_of_a_folder_or_not(inside, monkeypatch, link, target, leads_out, through):
    (inside / "may/again.csv").symlink_to("../../out/b.csv")
    (inside / "may/back.csv").symlink_to(inside.parent / "out/back.csv")
    (inside.parent / "out/back.csv").symlink_to(inside / "a.csv")
    is_folder = "folder" in link
    target = target.format(inside=inside, out=inside.parent / "out")
    planted = link.rpartition("/")[0] if is_folder else link
    (inside / planted).symlink_to(target)
    assert (inside / link).is_file()
    folder = {
        "path": inside,
        "link": inside.parent / "mount",
        "relative": "in",
        "dots": "in2/../in",
    }
    (inside.parent / "mount").symlink_to(inside)
    monkeypatch.chdir(inside.parent)
    named = str(folder[through])
    assert Folder(named).is_left_by(f"{named}/{link}") == leads_out
    assert not Folder(named).is_left_by(f"{named}/may/deep/a.csv")


def test_a_folder_of_another_name_is_the_same_folder(inside, monkeypatch):
    """As where names differ in capitals only, or a disk is mounted twice."""
    (inside / "l.csv").symlink_to("/IN/a.csv")
    real = os.path.realpath
    monkeypatch.setattr(
        os.path, "realpath", lambda path: "/IN/a.csv" if path.endswith("l.csv") else real(path)
    )
    stat = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **options: stat(inside if path == "/IN" else path, **options)
    )
    assert not Folder(str(inside)).is_left_by(f"{inside}/l.csv")


PATHS = [
    ("in/*.csv", "csv", None),
    ("in/**/*.csv", "csv", None),
    ("in/[l].csv", "csv", None),
    ("in", "yolo", None),
    ("in", "kitti", None),
    ("i?/l.csv", "csv", "everything"),
]


@pytest.mark.parametrize("address", ["", "file://"])
@pytest.mark.parametrize(("path", "format", "allowed"), PATHS)
def test_a_link_out_of_a_folder_is_refused_by_name(inside, path, format, allowed, address):
    suffix = "csv" if format == "csv" else "txt"
    link = inside / f"l.{suffix}"
    link.symlink_to("../out/secret.conf")
    options = {"class_column_prefix": "p_"} if format == "csv" else {}
    read = read_remote_predictions if address else read_predictions
    with pytest.raises(PredictionReadError) as error:
        list(read(f"{address}{inside.parent}/{path}", format=format, **options))
    text = "".join(traceback.format_exception(error.value))
    assert (SECRET in text) == (allowed == "everything"), "it is in the folder that is named"
    if allowed is None:
        assert f"{link} leads out of {inside} through a link" in str(error.value)
        assert "copy the file there, or give its own folder" in str(error.value)
        (file_set,) = find_file_sets(
            f"{address}{inside.parent}/{path}", files_in_folder="*.txt"
        ).values()
        assert file_set.link_fault == str(error.value).removeprefix(
            f"{address}{inside.parent}/{path} cannot be fetched: "
        )


@pytest.mark.parametrize("target", ["a.csv", "../in/may/a.csv"])
@pytest.mark.parametrize("mounted", [False, True])
def test_a_link_in_a_folder_and_a_folder_that_is_a_link_are_read(inside, target, mounted):
    (inside / "l.csv").symlink_to(target)
    (inside.parent / "mount").symlink_to(inside)
    path = f"{inside.parent}/{'mount' if mounted else 'in'}/*.csv"
    rows = sum(map(len, read_predictions(path, format="csv", class_column_prefix="p_")))
    assert rows == 2
    assert find_file_sets(path)[""].link_fault is None


def test_a_file_named_by_its_path_may_be_any_link(inside):
    (inside / "l.csv").symlink_to("../out/b.csv")
    path = inside / "l.csv"
    assert sum(map(len, read_predictions(path, format="csv", class_column_prefix="p_"))) == 1
    with pytest.raises(PredictionReadError, match="leads out of"):
        read_predictions(path, format="csv", class_column_prefix="p_", within=inside)


@pytest.mark.parametrize(
    ("format", "suffix"),
    [
        ("csv", "csv"), ("jsonl", "jsonl"), ("parquet", "parquet"), ("npy", "npy"), ("npz", "npz"),
        ("coco", "json"), ("megadetector", "json"), ("rvc", "json"), ("open_images", "csv"),
    ],
)  # fmt: skip
def test_the_error_of_a_link_shows_nothing_of_what_it_points_to(inside, format, suffix):
    secret = inside.parent / "out/secret.conf"
    (inside / f"l.{suffix}").symlink_to("../out/secret.conf")
    (inside / "l.ids.txt").write_text("x\n")
    for content in (secret.read_text(), f'{{"{SECRET}": 1}}\n', f"{SECRET},{SECRET}\n{SECRET},1\n"):
        secret.write_text(content)
        with pytest.raises(PredictionReadError) as error:
            list(read_predictions(inside / f"l.{suffix}", format=format))
        assert SECRET not in "".join(traceback.format_exception(error.value))
        with pytest.raises(PredictionReadError) as remote_error:
            list(read_remote_predictions(f"file://{inside}/l.{suffix}", format=format))
        assert SECRET not in "".join(traceback.format_exception(remote_error.value))
        assert f"{inside}/l.{suffix} is a link to a file in another folder" in str(error.value)


def test_the_error_of_any_other_file_says_what_is_wrong(inside):
    (inside / "l.csv").symlink_to("may/wrong.csv")
    (inside / "may/wrong.csv").write_text("image_id,wrong\n")
    for file in ("may/wrong.csv", "l.csv"):
        with pytest.raises(PredictionReadError, match="wrong"):
            list(read_predictions(inside / file, format="csv"))


MANIFESTS = {
    "an id twice": ("image_id\n{long}\n{long}\n", "row 2: image_id '", "one row per image"),
    "a label": ("image_id,labeled\na,{long}\n", "row 1: labeled is '", "expected true or false"),
    "a field too many": ("image_id,uri\na,{long},{long}\n", "row 1: ", ""),
    "a column": ("{long},uri\na,b\n", "has no column 'image_id'", ""),
}


@pytest.mark.parametrize(("manifest", "first", "last"), MANIFESTS.values(), ids=MANIFESTS)
def test_an_error_does_not_grow_with_what_is_in_a_file(tmp_path, manifest, first, last):
    (tmp_path / "m.csv").write_text(manifest.format(long="é" * 500_000))
    with pytest.raises(PredictionReadError) as error:
        PoolImages(tmp_path / "m.csv").read()
    whole = "".join(traceback.format_exception(error.value))
    assert len(whole) < 20_000
    assert first in str(error.value)
    assert str(error.value).endswith(last)


def test_a_link_in_the_place_of_a_companion_is_refused(inside):
    """The list of ids, or the schema, in the same folder; one that the user put elsewhere is not."""
    (inside / "task").mkdir()
    (inside / "task/1.json").write_text('{"file_name": "1.png", "predictions": []}')
    (inside / "task/schema.json").symlink_to("../../out/secret.conf")
    for path in ("task", "task/*.json", "*/1.json"):
        with pytest.raises(PredictionReadError, match=r"schema\.json leads out of"):
            list(read_predictions(inside / path, format="lightly"))
        (sets,) = find_file_sets(
            f"{inside}/{path}", files_in_folder="**/*.json", schema_file="schema.json"
        ).values()
        assert "schema.json leads out of" in str(sets.link_fault)
    (inside / "schema.json").symlink_to("../out/schema.json")
    (inside.parent / "out/schema.json").write_text('{"categories": [{"id": 0, "name": "cat"}]}')
    (inside / "task/schema.json").unlink()
    assert len(list(read_predictions(inside / "task", format="lightly"))) == 1


@pytest.mark.parametrize(("image_ids", "refused"), [("{stem}.txt", True), ("../ids.txt", False)])
def test_a_list_of_ids_that_is_a_link(inside, image_ids, refused):
    (inside / "m.json").write_text("[]")
    (inside / "m.txt").symlink_to("../out/secret.conf")
    (inside.parent / "ids.txt").symlink_to("out/secret.conf")
    (found,) = find_file_sets(f"{inside}/m*.json", companion=image_ids).values()
    assert bool(found.link_fault) == refused
    with pytest.raises(PredictionReadError) as error:
        list(read_predictions(f"{inside}/m*.json", format="rvc", image_ids=image_ids))
    assert ("m.txt leads out of" in str(error.value)) == refused


def test_the_sets_of_a_watched_folder_are_refused_one_by_one(inside):
    (inside / "may/l.csv").symlink_to("../../out/b.csv")
    (inside / "june").symlink_to("../out")
    (inside / "july").symlink_to("may/deep")
    sets = find_file_sets(f"{inside}/{KEY}/*.csv", placeholder=KEY)
    assert {name: bool(files.link_fault) for name, files in sets.items()} == {
        "may": True,
        "june": True,
        "july": False,
    }


def test_a_list_of_ids_of_a_compressed_file_that_is_a_link(inside):
    """Its name is that of the file without both suffixes."""
    with gzip.open(inside / "m.json.gz", "wt") as packed:
        packed.write('{"classes": ["a"], "detections": []}')
    (inside / "m.txt").symlink_to("../out/secret.conf")
    with pytest.raises(PredictionReadError, match="link") as error:
        list(read_predictions(f"{inside}/m*.gz", format="rvc", image_ids="{stem}.txt"))
    assert str(inside / "m.txt") in str(error.value)
