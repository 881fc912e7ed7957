"""Files that this package writes: whole or not at all, and what is said where they cannot be."""

import os
import shutil
import subprocess
import sys

import pytest

from dagster_active_learning.errors import StorageError
from dagster_active_learning.files.answers import FILES_AT_A_TIME
from dagster_active_learning.files.storage import Storage
from in_place import content


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


def a_file_above(folder):
    folder.write_text("mine")


def a_file_in_between(folder):
    folder.mkdir()
    (folder / "scores").write_text("mine")


def a_folder_in_its_place(folder):
    (folder / "scores/a").mkdir(parents=True)


IN_THE_WAY = [a_file_above, a_file_in_between, a_folder_in_its_place]


@pytest.mark.parametrize("prepare", IN_THE_WAY)
def test_what_stands_in_the_way_of_a_file_is_named_and_stays(tmp_path, prepare):
    prepare(tmp_path / "storage")
    before = content(tmp_path)
    with pytest.raises(StorageError) as caught:
        Storage(str(tmp_path / "storage")).write("scores/a", b"x")
    assert f"{tmp_path}/storage/scores/a cannot be written: " in str(caught.value)
    assert "move it away, or give the pool another storage" in str(caught.value)
    assert content(tmp_path) == before


def test_a_name_that_is_too_long_is_said_so(tmp_path):
    with pytest.raises(StorageError, match=r"xx/a cannot be written: .*; give .* a shorter path"):
        Storage(str(tmp_path / ("x" * 300))).write("a", b"x")


# A folder that nobody may write to; the superuser may write to all but what the kernel has.
def test_a_folder_that_is_not_writable_is_said_so(tmp_path):
    if os.geteuid():
        tmp_path.chmod(0o500)
        folder = tmp_path / "storage"
    else:
        folder = "/sys/storage"
    with pytest.raises(
        StorageError, match=r"storage/a cannot be written: .*; let the user of this"
    ):
        Storage(str(folder)).write("a", b"x")


WRITE = """
import resource, signal, sys
from dagster_active_learning.errors import StorageError
from dagster_active_learning.files.storage import Storage

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with Storage(sys.argv[1]).writing("scores/a") as file:
        for _ in range(30):
            file.write(bytes(5_000))
except StorageError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_keeps_the_former_file_and_no_half_of_another(tmp_path):
    Storage(str(tmp_path)).write("scores/a", b"the former")
    done = subprocess.run(
        [sys.executable, "-c", WRITE, tmp_path], check=True, capture_output=True, text=True
    )
    assert f"{tmp_path}/scores/a cannot be written: File too large; " in done.stdout
    assert "MiB are left there: make room" in done.stdout
    assert content(tmp_path) == {"scores/a": b"the former"}


def test_what_a_block_raises_is_no_error_of_the_file(tmp_path):
    error = OSError(28, "No space left on device")
    with (
        pytest.raises(OSError, match="No space left") as caught,
        Storage(str(tmp_path)).writing("a"),
    ):
        raise error
    assert caught.value is error
    assert content(tmp_path) == {}
