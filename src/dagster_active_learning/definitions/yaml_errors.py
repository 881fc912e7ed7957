"""Errors of YAML settings in words: the line, what was expected, and what may have been meant."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar, get_args

import dagster as dg
from pydantic import BaseModel, ValidationError

from dagster_active_learning.text import did_you_mean

_Model = TypeVar("_Model", bound=BaseModel)

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
}


class PoolSettings(BaseModel):
    """The name under which Dagster's errors speak of what they were made from."""


def refuse(context: dg.ResolutionContext, setting: str, message: str) -> NoReturn:
    """Raise the error of a setting, with the line of the context."""
    raise context.build_resolve_fn_exc([message], setting, PoolSettings()) from None


def checked_model(
    context: dg.ResolutionContext,
    model_type: type[_Model],
    value: Any,
    setting: str,
    pool_settings: Sequence[str],
) -> _Model:
    """The model of a mapping in YAML, of which an error names the line and what was meant.

    Args:
        context: The place of the setting.
        model_type: The model.
        value: What the YAML has, templates filled in.
        setting: Name of the setting.
        pool_settings: Settings of the pool: one of them may stand too deep.
    """
    if not isinstance(value, Mapping):
        names = ", ".join(model_type.model_fields)
        needed = any(field.is_required() for field in model_type.model_fields.values())
        empty = "" if needed else "; it may be empty: {}"
        refuse(context, setting, f"{setting} is {value!r}, expected an object of {names}{empty}")
    try:
        return model_type.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A name that is not known may be the one that is missing.
    first = min(errors, key=lambda each: each["type"] != "extra_forbidden")
    place, within = context, model_type
    *path, name = first["loc"]
    for part in path:
        place = place.at_path(part)
        setting, within = str(part), _model_below(within, part) or within
    name = str(name)
    if first["type"] == "missing":
        description = within.model_fields[name].description or ""
        refuse(place, name, f"{setting} lacks {name}: {description}")
    refuse(place.at_path(name), name, _words(first, setting, name, within, pool_settings))


def _words(
    error: Any, setting: str, name: str, within: type[BaseModel], pool_settings: Sequence[str]
) -> str:
    value = error["input"]
    kind = error["type"]
    if kind == "extra_forbidden":
        known = list(within.model_fields)
        text = f"{setting} has no setting {name!r}"
        if name in pool_settings:
            return f"{text}: it is a setting of the pool, and stands beside {setting}"
        return f"{text}, expected one of {', '.join(known)}{did_you_mean(name, known)}"
    if kind == "literal_error":
        known = list(get_args(_without_none(within.model_fields[name].annotation)))
        listed = ", ".join(map(repr, known))
        return f"{name} is {value!r}, expected one of {listed}{did_you_mean(value, known)}"
    expected = _EXPECTED.get(kind.split("_")[0])
    said = f"expected {expected}" if expected else error["msg"]
    return f"{name} is {value!r}, {said}"


def _model_below(model_type: type[BaseModel], name: Any) -> type[BaseModel] | None:
    field = model_type.model_fields.get(name)
    kind = None if field is None else _without_none(field.annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _without_none(kind: Any) -> Any:
    """The type of which an optional one is made."""
    others = [each for each in get_args(kind) if each is not type(None)]
    return others[0] if type(None) in get_args(kind) and len(others) == 1 else kind
