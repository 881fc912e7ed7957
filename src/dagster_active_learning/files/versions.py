"""What files hold, as hashes, and whether they are still what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from dagster_active_learning.errors import PredictionReadError


def content_sha256(files: Sequence[Path]) -> Callable[[], str]:
    """Watch files from now on; the function returned gives the SHA-256 of what they hold.

    One file's hash is that of its bytes; of several it is the hash of their hashes. The function
    raises PredictionReadError if a file is no longer the one it was: what was read in between
    would then not be what the hash says.
    """
    before = [_identity(file) for file in files]

    def sha256() -> str:
        hashes: list[str] = []
        for file, identity in zip(files, before, strict=True):
            try:
                with file.open("rb") as opened:
                    hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
            except FileNotFoundError as error:
                raise changed_file(file) from error
            except OSError as error:
                raise PredictionReadError(f"{file} cannot be read again: {error}") from error
            if _identity(file) != identity:
                raise changed_file(file)
        return combined_sha256(hashes)

    return sha256


def changed_file(file: object) -> PredictionReadError:
    """The error of a file that is no longer the one it was when it was opened."""
    return PredictionReadError(
        f"{file} changed while it was read: expected a file that is complete; write it under "
        "another name and rename it when it is"
    )


def _identity(file: Path) -> tuple[int, int, int] | None:
    """What is another for another content; None for a file that is gone."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def combined_sha256(hashes: Sequence[str]) -> str:
    """The hash itself if there is one, else the SHA-256 of all of them, a line each."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(f"{one}\n" for one in hashes).encode()).hexdigest()
