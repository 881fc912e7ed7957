"""Which files belong together, when they are other files, and what they hold."""

import hashlib
import io
import itertools
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem

from dagster_active_learning.files.file_sets import find_file_sets
from dagster_active_learning.files.find import find_files
from websites import website

KEY = "{partition_key}"

FILES = [
    "may.csv", "june.csv", "may.txt", ".hidden.csv", "a [1].csv", "a-b.csv", "a-b-1.csv", "a-2.csv",
    "runs/may/x.csv", "runs/may/y.csv", "runs/june/x.csv", "runs/june/deep/z.csv", "runs/.old/x.csv",
    "labels/may/1.txt", "labels/may/2.txt", "labels/may/2.png", "labels/june/1.txt",
    "task/schema.json", "task/may/1.json", "task/may/deep/2.json", "task/june/3.json",
    "task/june/schema.json", "task/july/schema.json", "twice/may/may.csv", "twice/may/june.csv", "pre.csv", "prefix.csv", "p.b*.csv",
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
    "a folder of files at any depth": (
        f"task/{KEY}",
        {"files_in_folder": "**/*.json", "schema_file": "schema.json"},
        {
            "may": ["task/may/1.json", "task/may/deep/2.json", "task/schema.json"],
            "june": ["task/june/3.json", "task/june/schema.json"],
        },
    ),
    "a schema above": (
        f"task/{KEY}/**/2.json",
        {"schema_file": "schema.json"},
        {"may": ["task/may/deep/2.json", "task/schema.json"]},
    ),
    "no schema": (
        "runs/may/x.csv",
        {"schema_file": "schema.json"},
        {"": ["runs/may/x.csv"]},
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
        {"companion": "{stem}.csv"},
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


# A path or a glob, and the glob of the files that a folder stands for.
MEANINGS = [
    ("*a*.csv", None),
    ("[!p]*.csv", None),
    ("a [1].csv", None),
    ("a [[]1].csv", None),
    ("p.b*.csv", None),
    ("pre?ix.csv", None),
    ("**/x.csv", None),
    ("**/**/x.csv", None),
    ("**/may/**/*.csv", None),
    (".*.csv", None),
    ("runs/.old/*.csv", None),
    ("runs/.*/x.csv", None),
    ("labels/*/*", None),
    ("labels/may", "*.txt"),
    ("labels/*", "*.txt"),
    ("task", "**/*.json"),
    ("runs", "**/*.csv"),
    ("runs/.old", "*.csv"),
]


@pytest.mark.parametrize(("pattern", "files_in_folder"), MEANINGS)
def test_a_path_means_the_same_files_wherever_they_are(root, tmp_path, pattern, files_in_folder):
    _, path, address = root
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    sets = find_file_sets(f"{address}/{pattern}", files_in_folder=files_in_folder)
    files = find_files(tmp_path / pattern, files_in_folder)
    expected = sorted(file.relative_to(tmp_path).as_posix() for file in files)
    assert names(sets, path) == {"": expected}


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
        return find_file_sets(f"{address}/runs/{KEY}/*.csv", placeholder=KEY)["may"].version()

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


class Told(AbstractFileSystem):
    """Listings and looks at one file tell what ``said`` has, of how often the file was written."""

    protocol = "told"
    cachable = False
    files: ClassVar = {}
    said: ClassVar = ({}, {})
    read: ClassVar = []
    looks = itertools.count()

    def ls(self, path, detail=True, **_):  # noqa: ARG002
        return [self._say(file, 0) for file in self.files]

    def info(self, path, **_):
        return self._say(path, 1)

    def open(self, path, *_, **__) -> Any:
        self.read.append(path)
        return io.BytesIO(self.files[path][0])

    def _say(self, path, which):
        content, written = self.files[path]
        said = {key: value.format(written) for key, value in self.said[which].items()}
        # When it was last read, and an address that is good for a while.
        volatile = {"time": next(self.looks), "url": f"https://host/{next(self.looks)}"}
        return {"name": path, "type": "file", "size": len(content), **volatile, **said}


SAID = {
    "S3": ({"ETag": "{}", "LastModified": "2024-05-0{}"}, {}),
    "Google": ({"md5Hash": "{}", "generation": "{}"}, {}),
    "Azure": ({"last_modified": "2024-05-0{}"}, {}),
    "FTP": ({"modify": "2024050{}"}, {}),
    "SFTP": ({"mtime": "{}"}, {}),
    "WebHDFS": ({"modificationTime": "{}"}, {}),
    "GitHub": ({"sha": "{}"}, {}),
    "git": ({"hex": "{}"}, {}),
    "zip": ({"CRC": "{}"}, {}),
    "a web page": ({"size": ""}, {"Last-Modified": "Wed, 0{} May 2024"}),
    "a web page with ETags": ({"size": ""}, {"ETag": "W/{}"}),
    "a web page with hashes": ({"size": ""}, {"Content-MD5": "{}"}),
    "digests": ({"size": ""}, {"Digest": "sha-256={}"}),
    "only sizes": ({}, {}),
    "not even sizes": ({"size": ""}, {"size": ""}),
}


@pytest.mark.parametrize("filesystem", SAID)
def test_a_file_of_the_same_size_is_seen_by_what_its_filesystem_says(filesystem, monkeypatch):
    fsspec.register_implementation("told", Told, clobber=True)
    monkeypatch.setattr(Told, "said", SAID[filesystem])
    monkeypatch.setattr(Told, "files", {"may.npy": (b"1", 1), "june.npy": (b"1", 1)})
    monkeypatch.setattr(Told, "read", [])

    def version():
        return find_file_sets("told://{key}.npy", placeholder="{key}")["may"].version()

    first = version()
    assert version() == first
    Told.files["may.npy"] = (b"2", 2)
    assert version() != first
    # To read a file at each look is for where nothing else is said.
    assert bool(Told.read) == filesystem.endswith("sizes")


def test_a_file_that_cannot_be_watched_says_so(monkeypatch):
    fsspec.register_implementation("told", Told, clobber=True)
    monkeypatch.setattr(Told, "files", {"may.npy": (b"1", 1)})
    files = find_file_sets("told://may.npy")[""]
    with pytest.raises(TimeoutError, match="told://may.npy is too large to be watched"):
        files.version(deadline=time.monotonic() - 1)


@pytest.mark.parametrize("path", ["may.csv", f"{KEY}.csv"])
@pytest.mark.parametrize("without", [(), ("Last-Modified",), ("Last-Modified", "Content-Length")])
def test_files_on_a_website_are_watched_and_fetched(path, without, tmp_path, tmp_path_factory):
    (tmp_path / "june.csv").write_text("another")
    placeholder = KEY if KEY in path else None
    versions = []
    with website(tmp_path, without=without) as address:
        for second, content in enumerate(["half", "whole file", "other file"]):
            (tmp_path / "may.csv").write_text(content)
            # Websites say when a file was written to the second.
            os.utime(tmp_path / "may.csv", (second, second))
            for _ in range(2):
                sets = find_file_sets(f"{address}/{path}", placeholder=placeholder)
                files = sets["may" if placeholder else ""]
                versions.append(files.version())
            copies = files.download(tmp_path_factory.mktemp("copies"))
            assert [Path(copy).read_text() for copy in copies] == [content]
            assert list(copies.values()) == [f"{address}/may.csv"]
    assert versions[::2] == versions[1::2]
    assert len(set(versions)) == 3


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


@pytest.mark.parametrize("change", ["content", "gone"])
def test_a_local_file_is_a_part_of_every_set_that_is_there(root, tmp_path, change):
    *_, address = root
    local = tmp_path / "instances [1].json"
    local.write_text("{}")

    def told(pattern):
        sets = find_file_sets(f"{address}/{pattern}", placeholder=KEY, local_file=str(local))
        return {name: (files.version(), files.sha256()) for name, files in sets.items()}

    before = told(f"runs/{KEY}/*.csv")
    assert set(before) == {"may", "june"}
    assert told(f"runs/{KEY}/*.csv") == before
    assert told(f"{KEY}.parquet") == {}
    if change == "gone":
        local.unlink()
    else:
        local.write_text("{ }")
    after = told(f"runs/{KEY}/*.csv")
    for name in before:
        assert all(one != other for one, other in zip(before[name], after[name], strict=True))


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
