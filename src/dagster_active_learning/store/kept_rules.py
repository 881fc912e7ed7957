"""The rules under which predictions were read and scores were made, as the tables keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_active_learning.rules import Rules


def kept_rules(rules: Rules, names: Sequence[str]) -> dict[str, Any]:
    """Some of the rules by the names of their columns."""
    return {name: getattr(rules, name) for name in names}


def differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The rules that are others than the wanted ones, as the end of a sentence; None without any.

    For example ``with aggregation 'mean', and the pool has aggregation 'max'``.
    """
    names = [name for name, value in wanted.items() if kept[name] != value]
    if not names:
        return None
    had, has = (
        ", ".join(f"{name} {values[name]!r}" for name in names) for values in (kept, wanted)
    )
    return f"with {had}, and the pool has {has}"
