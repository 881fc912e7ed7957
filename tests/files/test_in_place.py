"""Files that are to stay what they are."""

import os
import shutil
from threading import Thread

import fsspec
import pytest

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import FileElsewhere, FileInPlace


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "may.parquet"
    path.write_bytes(b"what it is")
    return path


def known(file):
    now = FileInPlace.now_at(str(file))
    return FileInPlace(now.path, now.size, now.mark, now.sha256())


def rewrite(file):
    file.write_bytes(b"WHAT IT IS")


def replace(file):
    other = file.with_name("other")
    other.write_bytes(b"WHAT IT IS")
    os.replace(other, file)


def grow(file):
    file.write_bytes(b"what it is not")


@pytest.mark.parametrize("keep_times", [False, True])
@pytest.mark.parametrize("change", [rewrite, replace, grow])
@pytest.mark.parametrize("of", [known, lambda file: FileInPlace.now_at(str(file))])
def test_another_content_is_seen_also_with_the_size_and_time_of_the_former(
    file, change, keep_times, of
):
    former, times = of(file), (os.stat(file).st_atime_ns, os.stat(file).st_mtime_ns)
    change(file)
    if keep_times:
        os.utime(file, ns=times)
    with pytest.raises(PredictionReadError, match=r"may\.parquet changed since it was read"):
        former.check()


def touch(file):
    os.utime(file, ns=(1, 1))


def move_there_and_back(file):
    file.rename(file.with_name("aside"))
    file.with_name("aside").rename(file)


def restore(file):
    shutil.copy(file, file.with_name("backup"))
    file.unlink()
    shutil.copy(file.with_name("backup"), file)


@pytest.mark.parametrize("change", [touch, move_there_and_back, restore])
def test_the_same_content_with_other_times_is_the_file_it_was(file, change):
    former = known(file)
    change(file)
    assert FileInPlace.now_at(str(file)) != former
    former.check()


def test_each_thread_has_its_own_place_in_a_file():
    fsspec.filesystem("memory").pipe("/digits", b"0123456789")
    file = FileElsewhere("memory://digits")
    file.seek(2)
    thread = Thread(target=lambda: (file.seek(-1, 2), file.read(1)))
    thread.start()
    thread.join()
    assert (file.read(3), file.tell(), file.read()) == (b"234", 5, b"56789")
