"""A process of its own that reads and decodes image files.

Storage that does not answer cannot be interrupted, nor can a decoder in C, and the memory that one
takes shows only afterwards. A process can be ended at any time, and leaves no thread behind.

It speaks JSON and bare pixels: nothing that comes from a decoder under attack is executed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from dagster_active_learning.gallery.image_files import read_image_file
from dagster_active_learning.gallery.image_roots import ImageRoots
from dagster_active_learning.gallery.not_shown import NotShownError
from dagster_active_learning.gallery.thumbnails import MAX_PIXELS, Thumbnail, make_thumbnail

START_SECONDS = 30.0
READ_SECONDS = 10.0
DECODE_SECONDS = 5.0

MEMORY_BYTES = 640 * 2**20
"""The limit of the process: a file, the memory of its decoder, Python and its libraries."""

_END_SECONDS = 5.0
_MOST_MESSAGE_BYTES = 2**20
_SERVE = "from dagster_active_learning.gallery.picture_process import serve; serve()"


class NotReadInTimeError(NotShownError):
    """The storage of an image file did not answer in time."""


class PictureProcess:
    """The process, as the one that wants pictures has it.

    Args:
        roots: Where image files may be read.
        size: The largest width and height of a picture.

    Attributes:
        is_ended: Whether the process is gone and cannot be asked again.

    Raises:
        OSError: If no process can be started.
    """

    def __init__(self, roots: ImageRoots, size: tuple[int, int]) -> None:
        self._connection, theirs = Pipe()
        modules = os.pathsep.join(filter(None, map(str, sys.path)))
        with theirs:
            # A new interpreter, not a copy of this one: threads and their locks do not survive a
            # copy, and multiprocessing would run a script without a main guard again.
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", _SERVE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": modules},
            )
        self.is_ended = False
        self._is_ready = False
        self._settings: dict[str, Any] = {"roots": roots.roots, "size": size}

    def thumbnail(self, uri: str, seconds: float) -> Thumbnail:
        """The picture in a file.

        Args:
            uri: Where the file is.
            seconds: The most that this may take, if that is less than the limits of this module.

        Raises:
            NotShownError: If there is no picture.
        """
        until = time.monotonic() + seconds
        try:
            if not self._is_ready:
                self._send(self._settings)
                self._receive(until, START_SECONDS, NotShownError("no time left to read it"))
                self._is_ready = True
            self._send(uri)
            self._receive(until, READ_SECONDS, NotReadInTimeError("not read in time"))
            made = self._receive(until, DECODE_SECONDS, NotShownError("not decoded in time"))
            width, height = self._settings["size"]
            return _as_thumbnail(made, self._connection.recv_bytes(3 * width * height))
        # The other end is closed, or a decoder that was led astray sent something else.
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self.end()
            raise NotShownError("broken: the process that decodes it ended") from error

    def end(self) -> None:
        """End the process at once; it has nothing to lose."""
        self.is_ended = True
        self._connection.close()
        self._process.kill()
        # What waits for a disk that is gone ends with the wait.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def _send(self, message: Any) -> None:
        self._connection.send_bytes(json.dumps(message).encode())

    def _receive(self, until: float, limit: float, late: NotShownError) -> Any:
        if not self._connection.poll(min(limit, max(until - time.monotonic(), 0.0))):
            self.end()
            raise late
        message = json.loads(self._connection.recv_bytes(_MOST_MESSAGE_BYTES))
        if "reason" in message:
            raise NotShownError(str(message["reason"]))
        return message


def _as_thumbnail(made: Any, pixels: bytes) -> Thumbnail:
    width, height = made["size"]
    stored_width, stored_height = made["stored_size"]
    orientation = made["orientation"]
    numbers = (width, height, stored_width, stored_height, orientation)
    if not all(isinstance(number, int) and 0 < number < 2**31 for number in numbers):
        raise ValueError(f"{numbers} are not the sizes of a picture")
    if orientation > 8 or len(pixels) != 3 * width * height:
        raise ValueError(f"orientation {orientation}, {len(pixels)} bytes of pixels")
    picture = Image.frombytes("RGB", (width, height), pixels)
    return Thumbnail(
        picture=picture, stored_size=(stored_width, stored_height), orientation=orientation
    )


def serve() -> None:
    """Answer on standard input, a socket, until its other end is closed."""
    connection = Connection(0)
    with suppress(EOFError):
        settings = json.loads(connection.recv_bytes())
        roots, size = ImageRoots(settings["roots"]), tuple(settings["size"])
        _limit_memory()
        # Pillow refuses images of twice as many, some before they are opened.
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        connection.send_bytes(b"{}")
        while True:
            uri = json.loads(connection.recv_bytes())
            # Without this the process would outlive one that was killed while it waited.
            signal.setitimer(signal.ITIMER_REAL, READ_SECONDS + DECODE_SECONDS + _END_SECONDS)
            _answer(connection, uri, roots, size)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(connection: Connection, uri: str, roots: ImageRoots, size: tuple[int, int]) -> None:
    try:
        content = read_image_file(uri, roots)
        connection.send_bytes(b"{}")
        thumbnail = make_thumbnail(content, size)
    except NotShownError as error:
        connection.send_bytes(json.dumps({"reason": str(error)}).encode())
        return
    made = {
        "size": thumbnail.picture.size,
        "stored_size": thumbnail.stored_size,
        "orientation": thumbnail.orientation,
    }
    connection.send_bytes(json.dumps(made).encode())
    connection.send_bytes(thumbnail.picture.tobytes())


def _limit_memory() -> None:
    import resource

    # Data, not addresses, of which libraries reserve many that they never use. macOS does not hold
    # this limit and may refuse it: what headers show is the bound there.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
