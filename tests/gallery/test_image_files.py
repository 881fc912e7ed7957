"""Image files are read whole or not at all, and nothing that only looks like one holds up a run."""

import contextlib
import os
import time

import fsspec
import pytest
from websites import website

from dagster_active_learning.gallery import ImageRoots, image_files
from dagster_active_learning.gallery.image_files import MAX_FILE_BYTES, read_image_file
from dagster_active_learning.gallery.not_shown import NotShownError

CONTENT = b"\x89PNG and so on"
ANYWHERE = ImageRoots(["/", "memory://gallery", "nothing://x"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "a b#c?d%41.png").write_bytes(CONTENT)
    (tmp_path / "x::y.png").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FOUND = {
    "path": "{folder}/a b#c?d%41.png",
    "relative path": "a b#c?d%41.png",
    "a name that looks like a chain of file systems": "x::y.png",
    "file URI": "file://{folder}/a%20b%23c%3Fd%2541.png",
    "file URI that is not quoted": "file://{folder}/a b#c?d%2541.png",
    "file URI with a host": "file://localhost{folder}/a%20b%23c%3Fd%2541.png",
    "scheme in capitals": "FILE://{folder}/a%20b%23c%3Fd%2541.png",
    "another file system": "memory://gallery/a.png",
}


@pytest.mark.parametrize("case", FOUND)
def test_files_are_read_from_paths_and_uris(folder, case):
    with fsspec.open("memory://gallery/a.png", "wb") as file:
        file.write(CONTENT)
    assert read_image_file(FOUND[case].format(folder=folder), ANYWHERE) == CONTENT


def large(path, size=MAX_FILE_BYTES + 1):
    with path.open("wb") as file:
        file.truncate(size)


def loop(path):
    path.symlink_to(path)


REFUSED = {
    "missing": (None, "{path}", "no such file"),
    "below a missing folder": (None, "{path}/a.png", "no such file"),
    "folder": (os.mkdir, "{path}", "a folder"),
    "pipe": (os.mkfifo, "{path}", "no regular file"),
    "pipe as a URI": (os.mkfifo, "file://{path}", "no regular file"),
    "device": (None, "/dev/zero", "no regular file"),
    "too large": (large, "{path}", "too large: 64 MB, read up to 64"),
    "link to itself": (loop, "{path}", "cannot be read: "),
    "null byte": (None, "{path}\0.png", "cannot be read: "),
    "name too long": (None, "{path}" + "x" * 5000, "cannot be read: "),
    "unknown scheme": (None, "nothing://x/a.png", "cannot be read: "),
    "missing in another file system": (None, "memory://gallery/none.png", "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_has_a_reason(tmp_path, case):
    make, uri, reason = REFUSED[case]
    path = tmp_path / "file"
    if make is not None:
        make(path)
    started = time.monotonic()
    with pytest.raises(NotShownError) as error:
        read_image_file(uri.format(path=path), ANYWHERE)
    assert reason in str(error.value)
    assert time.monotonic() - started < 5


def test_a_file_of_exactly_the_limit_is_read(tmp_path):
    large(tmp_path / "file", MAX_FILE_BYTES)
    assert len(read_image_file(str(tmp_path / "file"), ANYWHERE)) == MAX_FILE_BYTES


def test_a_large_file_of_another_file_system_is_not_read(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 100)
    with fsspec.open("memory://gallery/large.png", "wb") as file:
        file.write(bytes(101))
    with pytest.raises(NotShownError, match="too large"):
        read_image_file("memory://gallery/large.png", ANYWHERE)


def test_a_file_without_permission_has_a_reason(tmp_path):
    (tmp_path / "file").touch(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(NotShownError, match="no permission"):
            read_image_file(str(tmp_path / "file"), ANYWHERE)
    finally:
        os.seteuid(user)


def test_no_file_stays_open(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(CONTENT)
    before = len(os.listdir("/proc/self/fd"))
    for uri in (tmp_path, tmp_path / "pipe", tmp_path / "file", "/dev/zero"):
        for _ in range(5):
            with contextlib.suppress(NotShownError):
                read_image_file(str(uri), ANYWHERE)
    assert len(os.listdir("/proc/self/fd")) <= before
