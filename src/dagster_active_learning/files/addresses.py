"""Addresses of files on filesystems that fsspec knows, and how they are shown: without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from urllib.parse import unquote, unquote_plus

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]")
_SCHEME = re.compile(r"[\w+.-]+://|(?:md|motherduck):")
_HOST = re.compile(r"(\[[^\]/]*\]|[^/@:]*)(:\d*)?(?=/|$)")
"""The part of an address before its path, where there is neither a user nor a password."""

# From the beginning of a word only: each character of a long one is looked at once.
_IN_TEXT = re.compile(rf"(?<![\w+.-])(?:{_SCHEME.pattern})[^\s'\"<>`]+")

_CONTAINER_SCHEMES = ("abfs://", "abfss://", "wasb://", "wasbs://")
"""In Azure's addresses a container, not a user, stands before the ``@``."""

_CONTAINER = re.compile(
    rf"(?P<scheme>{'|'.join(_CONTAINER_SCHEMES)})[^/@:]+@(?P<account>[^/@]+)/", re.IGNORECASE
)

_WEBSITES = ("http://", "https://")

SHORTEST_SECRET = 3
"""Characters of what is taken out of texts: fewer are in every text, and protect nothing."""


def is_address(path: str) -> bool:
    """True for a path that is an address such as ``"s3://bucket/may.parquet"``, for fsspec."""
    return "://" in path


def at_home(path: str | PathLike[str]) -> str:
    """A path with the home folder in place of a ``~`` in front, as DuckDB takes it too.

    Where there is no such home, the path stays as it is.
    """
    return os.path.expanduser(os.fspath(path))


def with_account(address: str, path: str) -> str:
    """The address of a file with the account of Azure that the path it was found by names, if any.

    Example:
        >>> with_account("abfs://bucket/may.csv", "abfss://bucket@mine.dfs.core.windows.net/*.csv")
        'abfss://bucket@mine.dfs.core.windows.net/may.csv'
    """
    named = _CONTAINER.match(path)
    if named is None:
        return address
    _, container, below = re.split("://|(?<=[^:/])/", address, maxsplit=2)
    return f"{named['scheme']}{container}@{named['account']}/{below}"


def located_uri(uri: str | None, folder: str | PathLike[str] | None) -> str | None:
    """The place of a manifest's uri: a relative one starts from the manifest's ``folder``."""
    if not uri or folder is None or _ABSOLUTE.match(uri):
        return uri
    return str(Path(folder) / uri)


def shown_address(path: str) -> str:
    """A path or address without user, password and query, as it is stored and shown.

    The query of a presigned address is the right to read it. A ``?`` elsewhere than on a website
    may be a wildcard: there a query is what begins as ``?name=``. Local paths stay as they are.

    Example:
        >>> shown_address("https://me:secret@host/may.parquet?X-Amz-Signature=0f3a")
        'https://host/may.parquet'
    """
    return "::".join(shown for shown, _ in _links(path))


@contextmanager
def without_secrets(path: str) -> Generator[None]:
    """Errors of the block repeat no secret of a path or address.

    Libraries put the whole address into errors, their causes and their attributes. Where it holds a
    secret, another error with the shown text takes their place.

    Raises:
        OSError: In place of any error but an ImportError.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if not _secrets(path):
            raise
        raise OSError(redacted(f"{type(error).__name__}: {error}", path)) from None


def redacted(text: str, path: str = "") -> str:
    """A text without the secrets of any address in it, wherever it repeats those of ``path``."""
    text = _IN_TEXT.sub(lambda match: shown_address(match[0]), text)
    for secret in sorted(_secrets(path), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _secrets(path: str) -> set[str]:
    """The secrets of an address in the ways in which they may stand in a text."""
    pieces = {hidden for _, all_hidden in _links(path) for hidden in all_hidden}
    pieces |= {piece for hidden in pieces for piece in re.split("[:&#]", hidden)}
    pieces |= {piece.partition("=")[2] for piece in pieces}
    pieces |= {unquote(piece) for piece in pieces} | {unquote_plus(piece) for piece in pieces}
    return {piece for piece in pieces if len(piece) >= SHORTEST_SECRET}


def _links(path: str) -> list[tuple[str, list[str]]]:
    """The addresses of a path, each as it is shown and with the parts that are hidden.

    There are several where one filesystem is in another: ``zip://*.csv::https://host/may.zip``.
    """
    return [_split(link) for link in re.split(r"::(?=[A-Za-z][\w+.-]*(?:://|::|$))", path)]


def _split(address: str) -> tuple[str, list[str]]:
    scheme = _SCHEME.match(address)
    if scheme is None:
        return address, []
    rest = address[scheme.end() :]
    hidden: list[str] = []
    if not _HOST.match(rest):
        # A password may have characters that should have been written as %2F or %3F.
        before_path, before_query = rest.partition("/")[0], rest.partition("?")[0]
        ends = [part.rfind("@") for part in (before_path, before_query, rest) if "@" in part]
        # What is left begins with a host: behind "me:@/secret" there is none.
        with_host = (end for end in ends if (host := _HOST.match(rest[end + 1 :])) and host[1])
        end = next(with_host, max(ends, default=-1))
        is_container = address.lower().startswith(_CONTAINER_SCHEMES) and ":" not in rest[:end]
        if end >= 0 and not is_container:
            hidden.append(rest[:end])
            rest = rest[end + 1 :]
    query = re.search(r"[?#]" if scheme[0].lower() in _WEBSITES else r"\?(?=[\w.%~-]+=)", rest)
    if query is not None:
        hidden.append(rest[query.end() :])
        rest = rest[: query.start()]
    return f"{scheme[0]}{rest}", hidden
