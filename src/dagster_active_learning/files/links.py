"""Links in a folder of prediction files: none may lead out of it.

Who may only write into the folder could drop a link to any file that the process can read, and see
of it what errors and the quarantine show. A path that the user gave is the user's own: the folder
itself may be a link, and so may a file that is named by its whole path. Hard links cannot be told
from files.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import chain

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import redacted
from dagster_active_learning.limits import RAW_CHARACTERS
from dagster_active_learning.text import shown


def named_folder(path: str, *, is_glob: bool = False) -> str | None:
    """The local folder that a path names: itself, or what stands before its first wildcard.

    Args:
        path: A path or a glob.
        is_glob: Whether it is a glob in any case, also where something has such a name.

    Returns:
        None for the path of one file.
    """
    if not is_glob and os.path.exists(path):
        return path if os.path.isdir(path) else None
    parts = path.split("/")
    for count, part in enumerate(parts):
        if glob.has_magic(part):
            return "/".join(parts[:count]) or ("/" if count else ".")
    return None


class Folder:
    """A folder, which knows the links that lead out of it.

    Folders are told by device and number: by name they may differ in capitals and be the same.
    """

    def __init__(self, path: str) -> None:
        self._path = path or "."
        self._has: dict[str, bool] = {}

    def has(self, folder: str) -> bool:
        """True for the folder itself, and for one in it wherever links lead."""
        if folder not in self._has:
            self._has[folder] = _is_in(os.path.realpath(folder), self._path)
        return self._has[folder]

    def is_left_by(self, file: str) -> bool:
        """True for a file that is elsewhere, and is found in the folder through a link."""
        if self.has(os.path.dirname(file)):
            return os.path.islink(file) and not self.has(os.path.dirname(os.path.realpath(file)))
        # Not through a link where the path itself has "..".
        inside = os.path.relpath(file, self._path)
        straight = os.path.join(os.path.realpath(self._path), inside)
        return os.path.normpath(straight) != os.path.realpath(file)

    def link_fault(self, files: Iterable[str], companions: Iterable[str] = ()) -> str | None:
        """The fault of the first link that leads out of the folder, None if there is none.

        Args:
            files: Files that were found in the folder.
            companions: Files that are read with them, where they or the user's settings say.
        """
        inside = (file for file in companions if self.has(os.path.dirname(file)))
        for file in chain(files, inside):
            if self.is_left_by(file):
                return (
                    f"{file} leads out of {self._path} through a link, and is not read: expected "
                    "files in the folder that the path names; copy the file there, or give its own "
                    "folder as the path"
                )
        return None


def _is_in(inner: str, outer: str) -> bool:
    """True if a real path is a folder's or leads through it."""
    identity = os.stat(outer)
    while not os.path.samestat(os.stat(inner), identity):
        above = os.path.dirname(inner)
        if above == inner:
            return False
        inner = above
    return True


@contextmanager
def content_withheld(files: Sequence[str]) -> Generator[None]:
    """Errors of files of which one is a link to another folder say nothing of what they hold.

    Those of other files repeat no secret of an address in them, and no value of any length.
    """
    try:
        yield
    except PredictionReadError as error:
        links = [file for file in files if os.path.islink(file)]
        leading_out = [file for file in links if Folder(os.path.dirname(file)).is_left_by(file)]
        if not leading_out:
            if all(_fit_to_be_shown(said) == said for said in (str(error), str(error.__cause__))):
                raise
            raise PredictionReadError(_fit_to_be_shown(str(error))) from None
        raise PredictionReadError(
            f"{leading_out[0]} is a link to a file in another folder and cannot be read as what it "
            "was said to be: why is not shown, as it may be anybody's file; give the path of the "
            "file itself to see"
        ) from None


def _fit_to_be_shown(error: str) -> str:
    text = redacted(error)
    return text if len(text) <= RAW_CHARACTERS else shown(text, RAW_CHARACTERS)
