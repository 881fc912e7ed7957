"""Files that are to stay what they are, and those that this package has written."""

import os
import shutil
from threading import Thread

import fsspec
import pytest

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import (
    FILES_AT_A_TIME,
    FileElsewhere,
    FileInPlace,
    Storage,
)


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


@pytest.mark.parametrize("count", [3, FILES_AT_A_TIME + 1])
def test_what_was_written_is_there_with_its_size_until_it_is_gone_or_cut(tmp_path, count):
    storage = Storage(str(tmp_path / "storage"))
    for number in range(count):
        storage.write(f"scores/{number}", b"x" * number)
    storage.write("best", b"best")
    sizes = {**{f"scores/{number}": number for number in range(count)}, "best": 4}
    assert storage.written == sizes
    assert storage.fault(sizes) is None
    assert storage.fault({}) is None
    (tmp_path / "storage/scores/2").write_bytes(b"x")
    assert storage.fault(sizes) == f"{tmp_path}/storage/scores/2 has 1 bytes, and 2 were written"
    (tmp_path / "storage/scores/2").unlink()
    assert storage.fault(sizes) == f"{tmp_path}/storage/scores/2 is gone"
    (tmp_path / "storage/scores/2").mkdir()
    assert storage.fault(sizes) == f"{tmp_path}/storage/scores/2 is gone"
    shutil.rmtree(tmp_path / "storage")
    assert storage.fault(sizes) == f"{tmp_path}/storage/scores/0 is gone"


def test_each_thread_has_its_own_place_in_a_file():
    fsspec.filesystem("memory").pipe("/digits", b"0123456789")
    file = FileElsewhere("memory://digits")
    file.seek(2)
    thread = Thread(target=lambda: (file.seek(-1, 2), file.read(1)))
    thread.start()
    thread.join()
    assert (file.read(3), file.tell(), file.read()) == (b"234", 5, b"56789")
