"""What tasks have done, kept in a set's folder: what is there, whole, is not done again.

A task writes ``done/<its name>.json`` last, with the sizes of the files that it has written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from dagster_active_learning.files.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What is known of a task that has ended.

    Attributes:
        files: Names and sizes in bytes of the files that it has written.
        is_new: Whether it was done now, and not before.
    """

    files: dict[str, int] = field(default_factory=dict[str, int])
    is_new: bool = True


Kind = TypeVar("Kind", bound=Finished)


def finished(storage: Storage, name: str, kind: type[Kind]) -> Kind | None:
    """What was kept of a task; None if it has not ended, or a file of it is gone or cut."""
    content = storage.read(_place(name))
    if content is None:
        return None
    try:
        values: dict[str, Any] = {**json.loads(content), "is_new": False}
        known = kind(**values)
        return None if storage.fault(known.files) else known
    except (ValueError, TypeError, AttributeError):
        return None  # it is cut


def finish(storage: Storage, name: str, known: Finished) -> None:
    """Keep that a task has ended, once all its files are written."""
    storage.write(_place(name), json.dumps(asdict(known)).encode())


def _place(name: str) -> str:
    return f"done/{name}.json"
