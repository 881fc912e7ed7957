"""Folders and addresses that image files may be read from.

A manifest is often written by somebody else. Its uris must not make a run read private files, or
send requests to servers that only the run's machine can reach.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from os import PathLike
from typing import NamedTuple
from urllib.parse import unquote
from urllib.request import url2pathname

from dagster_active_learning.files.addresses import at_home
from dagster_active_learning.gallery.not_shown import NotShownError

# A protocol of one letter is a drive of Windows.
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
# ASCII only: other letters may look like these, or become them on the way to the server.
_AUTHORITY = re.compile(r"(?:(?P<user>[^@\s]*)@)?(?P<host>[A-Za-z0-9._:-]*)")
_LOCAL_PROTOCOLS = ("file", "local")
_WEBSITE_PORTS = {"http": ":80", "https": ":443"}
_LONGEST_ADDRESS = 8_000
_MOST_ENCODINGS = 4


class ImageRoots:
    """Folders and addresses below which image files may be read.

    Args:
        roots: Local folders or files, and addresses such as ``"s3://bucket/images"`` or
            ``"https://example.org"``. An address stands for its protocol, its host with the port,
            and all that is below its path. A uri may have a user and a password only if they are
            those of its root.

    Attributes:
        roots: The roots as text.

    Raises:
        ValueError: If a root is empty, or an address that may be read in several ways.
    """

    def __init__(self, roots: Iterable[str | PathLike[str]]) -> None:
        self.roots = tuple(map(at_home, roots))
        self._folders: list[str] = []
        self._addresses: list[_Address] = []
        for number, root in enumerate(self.roots, start=1):
            try:
                path = _local_path(root)
                if path is None:
                    self._addresses.append(_address(root))
                elif path:
                    self._folders.append(path)
                else:
                    raise NotShownError("it is empty")
            except NotShownError as error:
                # The root itself may hold a password, and not where one looks for it.
                raise ValueError(
                    f"entry {number} of image_roots cannot be used: {error}; expected a folder, or "
                    "an address such as 's3://bucket/images'"
                ) from error

    @classmethod
    def of_manifest(
        cls, manifest: str | PathLike[str], more: Iterable[str | PathLike[str]] = ()
    ) -> ImageRoots:
        """The folder that a manifest is in, or a folder of images itself, and further roots.

        Args:
            manifest: Path or address of a manifest, or path of a folder of images.
            more: Further folders and addresses.

        Raises:
            ValueError: If a root is empty, or an address that may be read in several ways.
        """
        text = os.fspath(manifest)
        if _ADDRESS.match(text):
            folder = text.partition("?")[0].rpartition("/")[0]
        else:
            folder = text if os.path.isdir(text) else os.path.dirname(text) or os.curdir
        further = cls(more).roots  # An error counts from the first of these.
        return cls([folder, *further])

    def place_of(self, uri: str) -> str:
        """The place of a uri's file: a path without links, or the address as it is.

        Looks for links, so it may take as long as the disk takes.

        Args:
            uri: A path, a file:// URI or an address.

        Raises:
            NotShownError: If it is not below a root.
            OSError: If the file system does not say where a path leads.
            ValueError: If it is no path.
        """
        path = _local_path(uri)
        if path is not None:
            return self._place_on_disk(path)
        address = _address(uri)
        roots = [root for root in self._addresses if address.is_below(root)]
        if not roots:
            # With a password that has a slash in it, the user would be taken for the host.
            is_plain = uri.count("@") == (1 if address.user else 0)
            server = f": {address.server}/…" if is_plain else ""
            raise NotShownError(f"outside of image_roots{server}")
        if not any(address.user in ("", root.user) for root in roots):
            raise NotShownError("its uri has a user or a password that image_roots do not have")
        return uri

    def _place_on_disk(self, path: str) -> str:
        place = os.path.realpath(path)
        if any(_is_below(place, os.path.realpath(folder)) for folder in self._folders):
            return place
        written = os.path.abspath(path)
        if any(_is_below(written, os.path.abspath(folder)) for folder in self._folders):
            raise NotShownError("a link to a place outside of image_roots")
        raise NotShownError("outside of the manifest's folder and of image_roots")


def server_of(uri: str) -> str:
    """Protocol and host of a uri, without user and password; empty for a local file."""
    match = _ADDRESS.match(uri)
    if match is None or match["protocol"].lower() in _LOCAL_PROTOCOLS:
        return ""
    host = re.split(r"[/?#\\]", match["rest"], maxsplit=1)[0].rpartition("@")[2]
    return f"{match['protocol'].lower()}://{host.lower()}"


class _Address(NamedTuple):
    protocol: str
    user: str
    host: str
    folders: list[str]

    @property
    def server(self) -> str:
        return f"{self.protocol}://{self.host}"

    def is_below(self, root: _Address) -> bool:
        return self.server == root.server and self.folders[: len(root.folders)] == root.folders


def _local_path(uri: str) -> str | None:
    """The path of a local file; None for an address."""
    match = _ADDRESS.match(uri)
    if match is None:
        return uri
    if match["protocol"].lower() not in _LOCAL_PROTOCOLS:
        return None
    path = match["rest"]
    if path.startswith("localhost/"):
        path = path.removeprefix("localhost")
    if not path.startswith("/"):
        raise NotShownError("a file of another machine")
    return url2pathname(path)


def _address(uri: str) -> _Address:
    """The parts of an address.

    Raises:
        NotShownError: If a server or a library may take it for the address of another file.
    """
    match = _ADDRESS.match(uri)
    if match is None or len(uri) > _LONGEST_ADDRESS:
        raise NotShownError("its uri is too long")
    if "::" in uri:
        raise NotShownError("its uri is a chain of file systems")
    protocol, rest = match["protocol"].lower(), match["rest"]
    is_website = protocol in _WEBSITE_PORTS
    if is_website:
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    authority, _, path = rest.partition("/")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise NotShownError("its uri has no host in plain letters")
    _check_path(path)
    host = parts["host"]
    folders = path.removesuffix("/").split("/") if path else []
    if is_website:
        host = host.lower().removesuffix(_WEBSITE_PORTS[protocol])
        folders = [unquote(folder) for folder in folders]
    return _Address(protocol, parts["user"] or "", host, folders)


def _check_path(path: str) -> None:
    """Raise if a part of a path leads up, in any encoding that a server may take off."""
    for _ in range(_MOST_ENCODINGS):
        plain = unicodedata.normalize("NFKC", path)
        if "\\" in plain or any(ord(character) < 32 for character in plain):
            raise NotShownError("its uri has a backslash or a control character")
        # Some servers take what follows a semicolon off.
        if any(part.partition(";")[0] in (".", "..") for part in plain.split("/")):
            raise NotShownError("its uri has a part that is . or ..")
        decoded = unquote(path)
        if decoded == path:
            return
        path = decoded
    raise NotShownError("its uri is encoded more than once")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))
