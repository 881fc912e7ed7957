"""Temporary folders: those in use stay, whoever looks; those of killed processes go."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagster_active_learning.files import temporary
from dagster_active_learning.files.temporary import (
    TemporaryFolder,
    remove_leftovers,
    temporary_folder,
)

CHILD = """
import sys
from dagster_active_learning.files.temporary import TemporaryFolder
folder = TemporaryFolder(sys.argv[1], "p_")
(folder.path / "sub").mkdir()
(folder.path / "sub" / "copy").write_text("x")
print(folder.path, flush=True)
sys.stdin.read()
"""


@contextmanager
def child(parent):
    """Another process that has a folder; the process and the folder."""
    command = [sys.executable, "-c", CHILD, str(parent)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_goes_with_its_block(tmp_path):
    def fill(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
        assert list(tmp_path.iterdir()) == [folder]
        raise RuntimeError

    with pytest.raises(RuntimeError), temporary_folder(tmp_path, "p_") as folder:
        fill(folder)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path):
    with child(tmp_path) as (killed, leftover), child(tmp_path) as (living, in_use):
        living.send_signal(signal.SIGSTOP)
        remove_leftovers(tmp_path, "p_")
        assert sorted(tmp_path.iterdir()) == sorted([leftover, in_use])
        killed.kill()
        killed.wait()
        with temporary_folder(tmp_path, "other_"):
            assert leftover.exists(), "of another kind"
        with temporary_folder(tmp_path, "p_") as folder:
            assert sorted(tmp_path.iterdir()) == sorted([in_use, folder])
        assert (in_use / "sub" / "copy").read_text() == "x"
        living.send_signal(signal.SIGCONT)
    remove_leftovers(tmp_path, "p_")
    assert list(tmp_path.iterdir()) == []


def test_folders_of_many_threads_are_their_own(tmp_path):
    faults = []

    def work(number):
        for turn in range(40):
            with temporary_folder(tmp_path, "p_") as folder:
                (folder / "file").write_text(f"{number} {turn}")
                time.sleep(0.001)
                try:
                    assert os.listdir(folder) == ["file"]
                    assert (folder / "file").read_text() == f"{number} {turn}"
                except (OSError, AssertionError) as error:
                    faults.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def leftover(tmp_path):
    """A folder as a killed process leaves it, with its lock free."""
    (tmp_path / "parent").mkdir()
    folder = TemporaryFolder(tmp_path / "parent", "p_")
    assert folder._lock is not None
    os.close(folder._lock)
    (folder.path / "sub").mkdir()
    (folder.path / "sub" / "copy").touch()
    return folder.path


def test_only_folders_of_the_very_name_go(leftover):
    parent = leftover.parent
    name = leftover.name.removeprefix("p_")
    outside = parent.parent / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (parent / f"p_{name[:-1]}").mkdir()
    (parent / f"p_{name}0").mkdir()
    (parent / f"xp_{name}").mkdir()
    (parent / "p_data").mkdir()
    (parent / f"p_{name[:-2]}_f").write_text("a file")
    (parent / f"p_{name[:-2]}_l").symlink_to(outside)
    (leftover / "link").symlink_to(outside)
    before = set(parent.iterdir())
    remove_leftovers(parent, "p_")
    assert before - set(parent.iterdir()) == {leftover}
    assert (outside / "kept").exists()


def test_a_prefix_is_no_pattern(leftover):
    remove_leftovers(leftover.parent, ".*")
    remove_leftovers(leftover.parent, "._")
    assert leftover.exists()


def set_age(folder, hours):
    then = time.time() - hours * 3600
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


@pytest.mark.parametrize(
    ("kernel", "hours", "goes"),
    [("same", 0, True), ("same", 48, True), ("other", 0, False), ("other", 23, False), ("other", 25, True)],
)  # fmt: skip
def test_what_another_machine_made_goes_when_it_is_old(leftover, monkeypatch, kernel, hours, goes):
    set_age(leftover, hours)
    if kernel == "other":
        monkeypatch.setattr(temporary, "_kernel", lambda: "0" * 8)
    remove_leftovers(leftover.parent, "p_")
    assert leftover.exists() != goes


def test_a_change_within_is_a_change(leftover, monkeypatch):
    set_age(leftover, 48)
    os.utime(leftover / "sub" / "copy")
    monkeypatch.setattr(temporary, "_kernel", lambda: "0" * 8)
    remove_leftovers(leftover.parent, "p_")
    assert leftover.exists()


def test_what_another_user_made_stays(leftover, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_leftovers(leftover.parent, "p_")
    assert leftover.exists()


@pytest.mark.parametrize("fault", [OSError(errno.ENOLCK, "no locks"), None])
def test_a_file_system_without_locks_has_folders_that_nobody_removes(tmp_path, monkeypatch, fault):
    with monkeypatch.context() as patch:
        if fault is None:
            patch.setattr(temporary, "fcntl", None)
        else:

            def flock(*_):
                raise fault

            patch.setattr(temporary.fcntl, "flock", flock)
        folder = TemporaryFolder(tmp_path, "p_")
        remove_leftovers(tmp_path, "p_")
    remove_leftovers(tmp_path, "p_")
    assert list(tmp_path.iterdir()) == [folder.path]
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_for_a_leftover_at_once_is_made_again(tmp_path, monkeypatch):
    make = tempfile.mkdtemp
    made = []

    def make_and_lose(**options):
        made.append(make(**options))
        if len(made) < 3:
            remove_leftovers(tmp_path, "p_")
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with temporary_folder(tmp_path, "p_") as folder:
        assert str(folder) == made[2]
        remove_leftovers(tmp_path, "p_")
        assert list(tmp_path.iterdir()) == [folder]


def test_a_parent_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "nowhere", "p_")
    with pytest.raises(FileNotFoundError):
        TemporaryFolder(tmp_path / "nowhere", "p_")
