"""The pictures of a step, within a budget of time."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from dagster_active_learning.gallery.image_roots import ImageRoots, server_of
from dagster_active_learning.gallery.not_shown import NotShownError
from dagster_active_learning.gallery.picture_process import NotReadInTimeError, PictureProcess
from dagster_active_learning.gallery.sheet import Layout
from dagster_active_learning.gallery.thumbnails import Thumbnail

STEP_SECONDS = 60.0
"""The time that a step spends on image files, whatever they are and however many."""

MOST_KEPT = 500
"""Pictures kept for further sheets: 27 MB."""

LARGEST = Layout(6).stage


class Thumbnails:
    """The pictures of image files, each read and decoded once for all the sheets that it is on.

    One of these is for a whole step, and a context manager: with its end the process that reads
    and decodes is gone.

    Args:
        roots: Where image files may be read.
        size: The largest width and height of a picture.
        seconds: The time for all files together.
    """

    def __init__(
        self,
        roots: ImageRoots,
        *,
        size: tuple[int, int] = LARGEST,
        seconds: float = STEP_SECONDS,
    ) -> None:
        self._roots = roots
        self._size = size
        self._seconds_left = seconds
        self._made: dict[str, Thumbnail | str] = {}
        self._silent_servers: set[str] = set()
        self._process: PictureProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process that reads and decodes, if there is one."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def of(self, uri: str | None) -> Thumbnail | str:
        """The picture in a file, or the reason why there is none."""
        if not uri:
            return "the pool's manifest has no uri for it"
        if uri not in self._made:
            if len(self._made) >= MOST_KEPT:
                del self._made[next(iter(self._made))]
            started = time.monotonic()
            self._made[uri] = self._make(uri)
            self._seconds_left -= time.monotonic() - started
        return self._made[uri]

    def _make(self, uri: str) -> Thumbnail | str:
        server = server_of(uri)
        if server in self._silent_servers:
            return f"not read in time, as another file of {server or 'this machine'}"
        if self._seconds_left <= 0:
            return "not read: the time for pictures is over"
        try:
            if self._process is None or self._process.is_ended:
                self._process = PictureProcess(self._roots, self._size)
            return self._process.thumbnail(uri, self._seconds_left)
        except NotReadInTimeError as error:
            self._silent_servers.add(server)
            return str(error)
        except NotShownError as error:
            return str(error)
        except OSError as error:
            return f"no process can be started to read it: {error.strerror}"
