"""Text that is kept or shown: bounded, on one line, and UTF-8."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from dagster_active_learning.limits import RAW_CHARACTERS

CELL_BYTES = 200
"""Bytes of a text in a table, at the most: an event has room for some hundred of them."""


def shown(text: str, limit: int = CELL_BYTES) -> str:
    """Text as it is, on one line and of bounded size: an id may have 10,000 characters.

    Invisible characters are written as in a Python string; of long text the middle is left out.

    Args:
        text: Any text.
        limit: How many bytes it may take in an event, which is ASCII.
    """
    # More than that is cut away in any case.
    text = text if len(text) <= 2 * limit else text[:limit] + text[-limit:]
    literal = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    cut, kept = literal, limit
    while len(json.dumps(cut)) - 2 > limit:
        kept = kept * 3 // 4
        cut = f"{literal[: kept // 2]}…{literal[-(kept // 2) :]}"
    return cut


def quoted_pair(first: str, second: str) -> tuple[str, str]:
    """Two different texts in quotes, as a message shows them: where they look alike, in ASCII.

    Of text longer than ``CELL_BYTES`` the middle is left out.
    """
    write = ascii if _look_alike(first, second) else repr
    return write(_cut(first)), write(_cut(second))


def _look_alike(first: str, second: str) -> bool:
    """True for the same letters in other code points, or letters of two alphabets."""
    one, other = (unicodedata.normalize("NFKC", text.casefold()) for text in (first, second))
    return len(one) == len(other) and all(
        a == b or a.isascii() != b.isascii() for a, b in zip(one, other, strict=True)
    )


def _cut(text: str) -> str:
    kept = CELL_BYTES // 2
    return text if len(text) <= CELL_BYTES else f"{text[:kept]}…{text[-kept:]}"


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """What may have been meant by a name that is not known, as the end of a message; or nothing."""
    names = {each.lower(): each for each in known if isinstance(each, str)}
    near = get_close_matches(name.lower(), names, n=1) if isinstance(name, str) else []
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def is_utf8(text: str) -> bool:
    """False for half a surrogate pair, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe_names(names: Sequence[str] | None) -> str:
    """Class names for a message, the first few of many."""
    if names is None:
        return "no class names"
    shown = ", ".join(repr(name) for name in names[:5])
    return f"[{shown}]" if len(names) <= 5 else f"[{shown}, … {len(names)} in all]"


def raw_text(row: Any) -> str:
    """A row as text for the quarantine table: as it is if it is text, else as JSON.

    Half a surrogate pair, for which UTF-8 has no bytes, becomes a question mark.
    """
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=repr)
    text = text if is_utf8(text) else text.encode("utf-8", "replace").decode()
    if len(text) <= RAW_CHARACTERS:
        return text
    return f"{text[:RAW_CHARACTERS]}… ({len(text)} characters)"
