"""The code versions of assets: what of their settings their content depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CODE_VERSION = "1"
"""Part of every asset's code version; another one means other results for the same input."""


def changed(settings: DataclassInstance, *names: str) -> dict[str, Any]:
    """The settings of a dataclass that differ from their defaults, by name.

    Args:
        settings: The dataclass.
        names: Those that matter; all of them without it.
    """
    of_interest = [field for field in fields(settings) if not names or field.name in names]
    values = {field.name: (getattr(settings, field.name), field.default) for field in of_interest}
    return {
        name: value
        for name, (value, default) in values.items()
        if default is MISSING or value != default
    }


def code_version(settings: Mapping[str, Any]) -> str:
    """The code version of an asset whose content depends on some settings.

    It is made of their names and values alone: a setting that does not matter to the asset, or has
    its default, is not among them and changes nothing.
    """
    if not settings:
        return CODE_VERSION
    text = json.dumps(settings, sort_keys=True, default=str)
    return f"{CODE_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
