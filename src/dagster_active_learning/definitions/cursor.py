"""The memory of a sensor from tick to tick."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

CURSOR_FORMAT = 1


@dataclass(frozen=True)
class Cursor:
    """The versions of the file sets of the last tick, by name; of those that are gone, nothing.

    Attributes:
        done: Those that are done with.
        waiting: Those that were new or changed.
    """

    done: Mapping[str, str] = field(default_factory=dict[str, str])
    waiting: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def load(cls, text: str | None) -> Cursor:
        """The cursor that ``dump`` wrote; an empty one if it is none, or another version's.

        To begin anew costs one look at every file. It starts no run a second time: the sensor knows
        the last run of each file set by its tags.
        """
        try:
            saved: Any = json.loads(text or "{}")
        except ValueError:
            return cls()
        if not isinstance(saved, dict) or saved.get("format") != CURSOR_FORMAT:
            return cls()
        return cls(saved["done"], saved["waiting"])

    def dump(self) -> str:
        """The cursor as text, some 30 characters and the name for each file set."""
        return json.dumps(
            {"format": CURSOR_FORMAT, "done": self.done, "waiting": self.waiting},
            separators=(",", ":"),
        )

    def settled(self, versions: Mapping[str, str]) -> list[str]:
        """The new and changed file sets that are as they were at the last tick, by name."""
        return sorted(
            name
            for name, version in versions.items()
            if self.done.get(name) != version and self.waiting.get(name) == version
        )

    def gone(self, versions: Mapping[str, str]) -> list[str]:
        """The file sets that are there no more."""
        return sorted(self.done.keys() - versions.keys())

    def after(self, versions: Mapping[str, str], done: Collection[str]) -> Cursor:
        """The next tick's cursor, once ``done`` of what was settled is done with."""
        finished = {
            name: version
            for name, version in versions.items()
            if name in done or self.done.get(name) == version
        }
        return Cursor(finished, {name: versions[name] for name in versions if name not in finished})
