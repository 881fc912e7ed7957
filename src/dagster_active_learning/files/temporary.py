"""Temporary folders that go even where the process that made them is killed.

Each is locked as long as it is in use, and the kernel takes the lock from a process that ends: who
makes the next folder of the kind removes those that nobody holds. Containers of one machine see
each other's locks. What is locked is the folder itself, for a file in it would come after it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from os import PathLike
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no folder is locked, and none removed.
    fcntl = None

SECONDS_UNTIL_ABANDONED = 24 * 60 * 60.0
"""Time without a change after which a folder is nobody's although another machine made it, or this
one before it was started again: not every network file system shows a machine others' locks."""


class TemporaryFolder:
    """A new folder, in use until it is removed.

    Args:
        parent: Where to make it.
        prefix: The beginning of its name. Leftovers of this name go first.

    Raises:
        OSError: If it cannot be made.
    """

    def __init__(self, parent: str | PathLike[str], prefix: str) -> None:
        remove_leftovers(parent, prefix)
        self._lock: int | None = None
        while self._lock is None:
            self.path = Path(tempfile.mkdtemp(dir=parent, prefix=f"{prefix}{_kernel()}_"))
            try:
                self._lock = _locked(self.path)
            except (BlockingIOError, FileNotFoundError):
                continue  # Another process took it for a leftover before it had its lock.
            except OSError:
                # A file system without locks: under another name it is nobody's leftover.
                self.path.rmdir()
                self.path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
                return

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def temporary_folder(parent: str | PathLike[str], prefix: str) -> Generator[Path]:
    """Make a ``TemporaryFolder`` for a block, and give its path."""
    folder = TemporaryFolder(parent, prefix)
    try:
        yield folder.path
    finally:
        folder.remove()


def remove_leftovers(parent: str | PathLike[str], prefix: str) -> None:
    """Remove the folders of a name that killed processes of this user left, and no others."""
    name = re.compile(rf"{re.escape(prefix)}([0-9a-f]{{8}})_\w{{8}}")
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if match := name.fullmatch(entry.name):
                _remove_leftover(Path(entry.path), match[1])


def _remove_leftover(folder: Path, kernel: str) -> None:
    try:
        lock = _locked(folder)
    except OSError:  # In use, gone, another user's, or a link.
        return
    try:
        is_ours = os.fstat(lock).st_uid == os.geteuid()
        if is_ours and (kernel == _kernel() or _is_abandoned(folder)):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _locked(folder: Path) -> int:
    """Lock a folder; the lock ends with the file descriptor.

    Raises:
        BlockingIOError: If another one has it.
        FileNotFoundError: If the folder is gone.
        OSError: If it is no folder, cannot be opened, or folders cannot be locked here.
    """
    if fcntl is None:
        raise OSError(f"{folder} cannot be locked on this system")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(f"{folder} is gone")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_abandoned(folder: Path) -> bool:
    changes = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
    return time.time() - max(changes) > SECONDS_UNTIL_ABANDONED


@cache
def _kernel() -> str:
    """A name of this machine since it was started: its processes see each other's locks."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:8]
