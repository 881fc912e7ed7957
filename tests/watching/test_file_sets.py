"""Which files belong together, when they are other files, and what they hold."""

import hashlib
import itertools
import os
import time

import fsspec
import pytest

from dagster_active_learning.readers import find_files
from dagster_active_learning.watching.file_sets import find_file_sets

KEY = "{partition_key}"

FILES = [
    "may.csv", "june.csv", "may.txt", ".hidden.csv", "a [1].csv", "a-b.csv", "a-b-1.csv", "a-2.csv",
    "runs/may/x.csv", "runs/may/y.csv", "runs/june/x.csv", "runs/june/deep/z.csv", "runs/.old/x.csv",
    "labels/may/1.txt", "labels/may/2.txt", "labels/may/2.png", "labels/june/1.txt",
    "twice/may/may.csv", "twice/may/june.csv", "pre.csv", "prefix.csv", "p.b*.csv",
]  # fmt: skip

CASES = {
    "a file each": (
        f"pre{KEY}.csv",
        {},
        {"fix": ["prefix.csv"]},
    ),
    "a folder each": (
        f"runs/{KEY}/*.csv",
        {},
        {"may": ["runs/may/x.csv", "runs/may/y.csv"], "june": ["runs/june/x.csv"]},
    ),
    "folders at any depth": (
        f"runs/{KEY}/**/z.csv",
        {},
        {"june": ["runs/june/deep/z.csv"]},
    ),
    "a folder of files": (
        f"labels/{KEY}",
        {"files_in_folder": "*.txt"},
        {"may": ["labels/may/1.txt", "labels/may/2.txt"], "june": ["labels/june/1.txt"]},
    ),
    "the key twice": (f"twice/{KEY}/{KEY}.csv", {}, {"may": ["twice/may/may.csv"]}),
    "the key as short as can be": (
        f"{KEY}-*.csv",
        {},
        {"a": ["a-2.csv", "a-b-1.csv", "a-b.csv"]},
    ),
    "special characters": (f"p.{KEY}.csv", {}, {"b*": ["p.b*.csv"]}),
    "a list beside each": (
        f"{KEY}.txt",
        {"beside": "{stem}.csv"},
        {"may": ["may.csv", "may.txt"]},
    ),
    "no key": ("runs/*/x.csv", {}, {"": ["runs/june/x.csv", "runs/may/x.csv"]}),
    "one file": ("may.csv", {}, {"": ["may.csv"]}),
    "nothing": ("*.parquet", {}, {}),
    "no such folder": (f"nowhere/{KEY}/x.csv", {}, {}),
    "a folder that is no file": (f"runs/{KEY}", {}, {}),
}


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    """Where the same files are, on a local disk and elsewhere."""
    if request.param == "local":
        filesystem, path, address = fsspec.filesystem("file"), str(tmp_path), str(tmp_path)
    else:
        filesystem, path = fsspec.filesystem("memory"), f"/{tmp_path.name}"
        address = f"memory:/{path}"
    for file in FILES:
        filesystem.makedirs(os.path.dirname(f"{path}/{file}"), exist_ok=True)
        filesystem.pipe_file(f"{path}/{file}", file.encode())
    yield filesystem, path, address
    filesystem.rm(path, recursive=True)


def names(sets, path):
    return {
        name: sorted(file.removeprefix(f"{path}/") for file in files.versions)
        for name, files in sets.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_files_are_found_by_what_stands_in_the_place_of_the_key(case, root):
    _, path, address = root
    pattern, options, expected = CASES[case]
    placeholder = KEY if KEY in pattern else None
    sets = find_file_sets(f"{address}/{pattern}", placeholder=placeholder, **options)
    assert names(sets, path) == expected


def test_what_is_found_locally_is_what_is_read(tmp_path):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    (tmp_path / "linked").symlink_to(tmp_path / "runs")
    (tmp_path / "link.csv").symlink_to(tmp_path / "may.csv")
    for pattern in (
        "*a*.csv",
        "[!p]*.csv",
        "linked/*/x.csv",
        "**/x.csv",
        "**/**/x.csv",
        "a [1].csv",
        "l*.csv",
    ):
        found = find_file_sets(f"{tmp_path}/{pattern}")[""]
        assert sorted(found.versions) == [str(file) for file in find_files(tmp_path / pattern)]


def test_a_link_to_nothing_is_no_file(tmp_path):
    (tmp_path / "broken.csv").symlink_to(tmp_path / "nowhere.csv")
    assert find_file_sets(f"{tmp_path}/*.csv") == {}


def test_a_relative_path_is_found_where_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "may.csv").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert list(find_file_sets(f"{KEY}.csv", placeholder=KEY)["may"].versions) == ["may.csv"]


def test_the_version_changes_with_any_file_and_with_nothing_else(root):
    filesystem, path, address = root

    def version():
        return find_file_sets(f"{address}/runs/{KEY}/*.csv", placeholder=KEY)["may"].version

    versions = [version()]
    assert version() == versions[0]
    filesystem.pipe_file(f"{path}/runs/june/x.csv", b"another set")
    assert version() == versions[0]
    filesystem.pipe_file(f"{path}/runs/may/x.csv", b"another size")
    versions.append(version())
    time.sleep(0.01)
    filesystem.pipe_file(f"{path}/runs/may/x.csv", b"another SIZE")
    versions.append(version())
    filesystem.pipe_file(f"{path}/runs/may/z.csv", b"one more")
    versions.append(version())
    filesystem.rm(f"{path}/runs/may/z.csv")
    assert version() == versions[2]
    assert len(set(versions)) == 4


def test_the_hash_of_one_file_is_that_of_its_bytes(root):
    filesystem, path, address = root
    content = os.urandom(3_000_001)
    filesystem.pipe_file(f"{path}/may.csv", content)
    files = find_file_sets(f"{address}/{KEY}.csv", placeholder=KEY)["may"]
    assert files.sha256() == hashlib.sha256(content).hexdigest()
    assert files.sha256(deadline=time.monotonic() - 1) is None
    filesystem.rm(f"{path}/may.csv")
    with pytest.raises(FileNotFoundError):
        files.sha256()


def test_the_hash_of_several_files_is_another_for_other_bytes_or_names(root):
    filesystem, path, address = root
    hashes = []
    for name, content in itertools.product(("x.csv", "z.csv"), (b"1", b"2")):
        for file in filesystem.find(f"{path}/runs/may"):
            filesystem.rm(file)
        filesystem.pipe_file(f"{path}/runs/may/y.csv", b"same")
        filesystem.pipe_file(f"{path}/runs/may/{name}", content)
        (files,) = find_file_sets(f"{address}/runs/may/*.csv").values()
        hashes.append(files.sha256())
    assert len(set(hashes)) == 4


def test_a_name_that_leads_out_of_the_folder_is_not_downloaded(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/up/ok.csv", b"x")
    found = find_file_sets("memory://up/*.csv")[""]
    hostile = type(found)(found.filesystem, {"/up/../../out.csv": "1"})
    with pytest.raises(ValueError, match="expected a name without empty"):
        hostile.download(tmp_path / "copies")
    assert found.download(tmp_path / "copies") == {
        str(tmp_path / "copies/up/ok.csv"): "memory:///up/ok.csv"
    }
    assert (tmp_path / "copies/up/ok.csv").read_bytes() == b"x"
    memory.rm("/up", recursive=True)
