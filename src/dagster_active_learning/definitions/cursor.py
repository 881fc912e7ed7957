"""The memory of a sensor from tick to tick, and where it is kept.

Dagster stores a sensor's cursor again with every tick, so that what grows with the number of files
is in the instance's key-value storage, in parts of which a tick writes those that changed. The
cursor has what must not be believed before Dagster has stored it: the runs that were asked for. The
next tick, to which the cursor comes back, notes them as done.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster._core.storage.daemon_cursor import DaemonCursorStorage

CURSOR_FORMAT = 2

BUCKETS = 256
"""Parts of the memory. Of 100,000 file sets each has 400, some 20 kB; MySQL's values end at 64."""

FILE_SETS_IN_CURSOR = 1_000
"""File sets that a cursor remembers where there is no key-value storage: some 50 kB."""


@dataclass(frozen=True)
class Memory:
    """The versions of the file sets of the last tick, by name; of those that are gone, nothing.

    Attributes:
        done: Those that are done with.
        waiting: Those that were new or changed.
    """

    done: Mapping[str, str] = field(default_factory=dict[str, str])
    waiting: Mapping[str, str] = field(default_factory=dict[str, str])

    def settled(self, versions: Mapping[str, str]) -> list[str]:
        """The new and changed file sets that are as they were at the last tick, by name."""
        return sorted(
            name
            for name, version in versions.items()
            if self.done.get(name) != version and self.waiting.get(name) == version
        )

    def gone(self, names: Collection[str]) -> list[str]:
        """The file sets that are there no more, ``names`` being those that are."""
        return sorted(self.done.keys() - set(names))

    def after(self, versions: Mapping[str, str], done: Collection[str]) -> Memory:
        """The next tick's memory, once ``done`` of what was settled is done with."""
        finished = {
            name: version
            for name, version in versions.items()
            if name in done or self.done.get(name) == version
        }
        return Memory(finished, {name: versions[name] for name in versions if name not in finished})

    def with_done(self, versions: Mapping[str, str]) -> Memory:
        """The memory with these versions as done."""
        return Memory({**self.done, **versions}, self.waiting)


@dataclass(frozen=True)
class Cursor:
    """The text that Dagster keeps from tick to tick.

    Attributes:
        id: Name of the memory that belongs to it: who takes the cursor away begins anew.
        requested: The versions for which the tick asked for runs.
        memory: The memory itself, where there is no key-value storage for it.
        start: Where to go on in the names of the file sets, where the memory has not room for all.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    requested: Mapping[str, str] = field(default_factory=dict[str, str])
    memory: Memory = field(default_factory=Memory)
    start: str = ""

    @classmethod
    def load(cls, text: str | None) -> Cursor:
        """The cursor that ``dump`` wrote; a new one if it is none, or an unknown version's.

        To begin anew costs one look at every file. It starts no run a second time: the sensor knows
        the last run of each file set by its tags.
        """
        try:
            saved: Any = json.loads(text or "{}")
        except ValueError:
            return cls()
        known_format = saved.get("format") if isinstance(saved, dict) else None
        if known_format == 1:  # The whole memory, and nothing else.
            return cls(memory=Memory(saved["done"], saved["waiting"]))
        if known_format != CURSOR_FORMAT:
            return cls()
        memory = Memory(saved["done"], saved["waiting"])
        return cls(saved["id"], saved["requested"], memory, saved["start"])

    def dump(self) -> str:
        """The cursor as text."""
        return json.dumps(
            {
                "format": CURSOR_FORMAT,
                "id": self.id,
                "requested": self.requested,
                "done": self.memory.done,
                "waiting": self.memory.waiting,
                "start": self.start,
            },
            separators=(",", ":"),
        )

    def window(self, names: Iterable[str]) -> list[str]:
        """The file sets that the cursor has room to remember, by name: as many as are next."""
        ordered = sorted(names)
        if len(ordered) <= FILE_SETS_IN_CURSOR:
            return ordered
        following = ordered[bisect_left(ordered, self.start) :]
        return (following or ordered)[:FILE_SETS_IN_CURSOR]


class StoredMemory:
    """A sensor's memory in Dagster's key-value storage.

    Args:
        storage: The storage of the instance.
        owner: What tells the sensor from all others of the instance.
        cursor_id: Name of the cursor that the memory belongs to.
    """

    def __init__(self, storage: DaemonCursorStorage, owner: str, cursor_id: str) -> None:
        self._storage = storage
        self._cursor_id = cursor_id
        # MySQL tells keys apart by their first 64 characters.
        prefix = f"active_learning/{hashlib.sha256(owner.encode()).hexdigest()[:32]}"
        self._keys = [f"{prefix}/{bucket}" for bucket in range(BUCKETS)]
        self._stored: Mapping[str, str] = {}

    def load(self) -> Memory | None:
        """What ``save`` stored; nothing of another cursor's. None where there is no such storage.

        A value that is missing or damaged costs a look at its file sets.
        """
        stored: Any
        try:
            stored = self._storage.get_cursor_values(set(self._keys))
        except NotImplementedError:
            return None
        if not isinstance(stored, Mapping):  # Dagster+ returns the error.
            return None
        self._stored = stored
        done: dict[str, str] = {}
        waiting: dict[str, str] = {}
        for value in stored.values():
            try:
                saved: Any = json.loads(value)
            except ValueError:
                continue
            if isinstance(saved, dict) and saved.get("cursor") == self._cursor_id:
                done.update(saved["done"])
                waiting.update(saved["waiting"])
        return Memory(done, waiting)

    def save(self, memory: Memory) -> None:
        """Store what is another than was loaded."""
        parts: dict[str, dict[str, dict[str, str]]] = {}
        for kind, versions in (("done", memory.done), ("waiting", memory.waiting)):
            for name in sorted(versions):
                part = parts.setdefault(self._key(name), {"done": {}, "waiting": {}})
                part[kind][name] = versions[name]
        empty: dict[str, dict[str, str]] = {"done": {}, "waiting": {}}
        changed: dict[str, str] = {}
        for key in parts.keys() | self._stored.keys():
            part = {"cursor": self._cursor_id, **parts.get(key, empty)}
            value = json.dumps(part, separators=(",", ":"))
            if self._stored.get(key) != value:
                changed[key] = value
        # SQLite's storage inserts all of the keys or else updates those that are there.
        for is_stored in (False, True):
            pairs = {key: changed[key] for key in changed if (key in self._stored) == is_stored}
            if pairs:
                self._storage.set_cursor_values(pairs)

    def _key(self, name: str) -> str:
        return self._keys[zlib.crc32(name.encode(errors="surrogatepass")) % BUCKETS]
