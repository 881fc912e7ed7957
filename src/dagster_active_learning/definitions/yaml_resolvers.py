"""How the settings of a pool in YAML become the objects of Python."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from os import PathLike
from typing import Any, TypeVar

import dagster as dg
from dagster.components.resolved import core_models
from pydantic import BaseModel

from dagster_active_learning.definitions.batches import LabelingBatch, NearDuplicates
from dagster_active_learning.definitions.churn import ModelChurn
from dagster_active_learning.definitions.evaluations import RuleEvaluation
from dagster_active_learning.definitions.labeling import LabelStudio
from dagster_active_learning.definitions.manifests import PoolImages
from dagster_active_learning.definitions.op_settings import OpSettings
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.sensors import PredictionFileSensor
from dagster_active_learning.definitions.sources import (
    PredictionAsset,
    PredictionFiles,
    PredictionQuery,
    PredictionSource,
)
from dagster_active_learning.definitions.yaml_errors import checked_model, refuse
from dagster_active_learning.definitions.yaml_models import (
    DynamicPartitionsModel,
    LabelingBatchModel,
    LabelingModel,
    LocalWorkersModel,
    ManifestModel,
    ModelChurnModel,
    OpModel,
    PredictionAssetModel,
    PredictionFilesModel,
    PredictionQueryModel,
    RayTasksModel,
    RuleEvaluationModel,
    SensorModel,
)
from dagster_active_learning.engines.local_workers import LocalWorkers
from dagster_active_learning.engines.ray_tasks import RayTasks
from dagster_active_learning.errors import SettingError
from dagster_active_learning.files.addresses import at_home, is_address
from dagster_active_learning.text import did_you_mean

_Model = TypeVar("_Model", bound=BaseModel)

_POOL_SETTINGS = ["pool", *(field.name for field in fields(Pool) if field.name != "name")]

_PARTITIONS = {
    "dynamic": DynamicPartitionsModel,
    "static": core_models.StaticPartitionsDefinitionModel,
    "hourly": core_models.HourlyPartitionsDefinitionModel,
    "daily": core_models.DailyPartitionsDefinitionModel,
    "weekly": core_models.WeeklyPartitionsDefinitionModel,
    "time_window": core_models.TimeWindowPartitionsDefinitionModel,
}


_ENGINES = {"local": (LocalWorkersModel, LocalWorkers), "ray": (RayTasksModel, RayTasks)}


def resolve_text(context: dg.ResolutionContext, value: Any) -> Any:
    """Fill in templates, in the items of a list or a mapping too.

    Text without a template stays as it is: Dagster would make the number 7 of the class name "7".
    """
    if isinstance(value, list):
        return [resolve_text(context.at_path(place), item) for place, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _resolved(context.at_path(name), name, item) for name, item in value.items()}
    if not isinstance(value, str) or not ("{{" in value or "{%" in value):
        return value
    from jinja2 import StrictUndefined, UndefinedError
    from jinja2.nativetypes import NativeEnvironment

    # Dagster's own way makes nothing of a name that it does not know, and so another path; and of a
    # text that looks like Python, such as a commit 12e4567, it makes another value.
    template = NativeEnvironment(undefined=StrictUndefined).from_string(value)
    try:
        parts = list(template.root_render_func(template.new_context(dict(context.scope))))
        resolved: Any = parts[0] if len(parts) == 1 else "".join(map(str, parts))
        text = str(resolved)
    except UndefinedError as error:
        raise ValueError(
            f"the template {value!r}: {error}; there are {', '.join(context.scope)}, and what a "
            "template_vars_module adds"
        ) from error
    if isinstance(resolved, list):
        return resolved
    if not isinstance(resolved, (str, int, float, PathLike)):
        raise ValueError(f"the template {value!r} gives {resolved!r}, expected text")
    return text


def _resolved(context: dg.ResolutionContext, name: str, value: Any) -> Any:
    """The value of a key with its templates filled in; an error has its line."""
    try:
        return resolve_text(context, value)
    except ValueError as error:
        refuse(context, name, str(error))


def resolve_predictions(context: dg.ResolutionContext, value: Any) -> PredictionSource:
    """The source of predictions that the YAML describes."""
    kinds = {"path": PredictionFilesModel, "asset": PredictionAssetModel}
    kinds |= {"query": PredictionQueryModel}
    said = [name for name in kinds if isinstance(value, Mapping) and name in value]
    if len(said) != 1:
        has = f"has {' and '.join(said)}" if said else f"is {value!r}"
        place = context.at_path(said[1]) if said else context
        refuse(
            place,
            "predictions",
            f"predictions {has}, expected an object with path and format, asset, or query: one of "
            "the three",
        )
    (kind,) = said
    settings = _settings(context, kinds[kind], value, "predictions")
    with _at_line(context, "predictions"):
        if kind == "asset":
            return PredictionAsset(dg.AssetKey.from_user_string(settings.pop("asset")), **settings)
        if kind == "query":
            return PredictionQuery(**settings)
        for name in {"path", "instances"} & settings.keys():
            settings[name] = _path(context, settings[name])
        return PredictionFiles(**settings)


def resolve_images(context: dg.ResolutionContext, value: Any) -> PoolImages | None:
    """The manifest that the YAML describes, by a path alone or with all that is said of it."""
    if value is None:
        return None
    settings = (
        {"path": resolve_text(context, value)}
        if isinstance(value, str)
        else _settings(context, ManifestModel, value, "images")
    )
    for name in {"path", "labeled"} & settings.keys():
        if isinstance(settings[name], str):
            settings[name] = _path(context, settings[name])
    with _at_line(context, "images"):
        return PoolImages(**settings)


def resolve_functions(context: dg.ResolutionContext, value: Any) -> Any:
    """The names of acquisition functions, which the pool checks."""
    return None if value is None else resolve_text(context, value)


def resolve_sensor(context: dg.ResolutionContext, value: Any) -> PredictionFileSensor | None:
    """The sensor that the YAML describes."""
    if value is None:
        return None
    settings = _settings(context, SensorModel, value, "sensor")
    if "default_status" in settings:
        settings["default_status"] = dg.DefaultSensorStatus(settings["default_status"])
    return PredictionFileSensor(**settings)


def resolve_batch(context: dg.ResolutionContext, value: Any) -> LabelingBatch | None:
    """The labeling batch that the YAML describes."""
    if value is None:
        return None
    settings = _settings(context, LabelingBatchModel, value, "batch")
    if "export" in settings:
        settings["export"] = _paths_of(context, settings["export"])
    duplicates = settings.get("near_duplicates")
    if duplicates is not None:
        embeddings = _given(duplicates)
        for name in {"path", "image_ids"} & embeddings.keys():
            embeddings[name] = _path(context, embeddings[name])
        if "asset" in embeddings:
            embeddings["asset"] = dg.AssetKey.from_user_string(embeddings["asset"])
        with _at_line(context.at_path("near_duplicates"), "near_duplicates"):
            settings["near_duplicates"] = NearDuplicates(**embeddings)
    with _at_line(context, "batch"):
        return LabelingBatch(**settings)


def resolve_evaluation(context: dg.ResolutionContext, value: Any) -> RuleEvaluation | None:
    """The evaluation of rules that the YAML describes."""
    if value is None:
        return None
    settings = _settings(context, RuleEvaluationModel, value, "evaluation")
    if "boxes" in settings:
        settings["boxes"] = _path(context, settings["boxes"])
    with _at_line(context, "evaluation"):
        return RuleEvaluation(**settings)


def resolve_churn(context: dg.ResolutionContext, value: Any) -> ModelChurn | None:
    """The comparison of prediction sets that the YAML describes."""
    if value is None:
        return None
    with _at_line(context, "churn"):
        return ModelChurn(**_settings(context, ModelChurnModel, value, "churn"))


def resolve_engine(context: dg.ResolutionContext, value: Any) -> LocalWorkers | RayTasks | None:
    """What runs the tasks over files in place, as the YAML describes it."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in _ENGINES:
        words = f"one of {', '.join(_ENGINES)}, for example {{type: local, workers: 8}}"
        if kind is not None:
            meant = did_you_mean(kind, _ENGINES)
            refuse(context.at_path("type"), "type", f"type is {kind!r}, expected {words}{meant}")
        refuse(context, "engine", f"engine is {value!r}, expected an object with type, {words}")
    model, engine = _ENGINES[kind]
    settings = _settings(context, model, value, "engine")
    del settings["type"]
    with _at_line(context, "engine"):
        return engine(**settings)


def resolve_op(context: dg.ResolutionContext, value: Any) -> OpSettings | None:
    """What the steps are run with, as the YAML describes it."""
    if value is None:
        return None
    settings = _settings(context, OpModel, value, "op")
    if "retry_policy" in settings:
        policy = _given(settings["retry_policy"])
        for name, choices in (("backoff", dg.Backoff), ("jitter", dg.Jitter)):
            if policy.get(name):
                policy[name] = choices[policy[name]]
                if policy.get("delay") is None:
                    words = f"{name} changes the delay of retry_policy, which has none"
                    refuse(context.at_path("retry_policy").at_path(name), name, words)
        settings["retry_policy"] = dg.RetryPolicy(**policy)
    with _at_line(context, "op"):
        return OpSettings(**settings)


def resolve_labeling(context: dg.ResolutionContext, value: Any) -> LabelStudio | None:
    """The labeling tool that the YAML describes."""
    if value is None:
        return None
    tool = _settings(context, LabelingModel, value, "labeling")["label_studio"]
    settings = _given(tool)
    if "export" in settings:
        settings["export"] = _paths_of(context, settings["export"])
    if "local_files_root" in settings:
        settings["local_files_root"] = _path(context, settings["local_files_root"])
    if "default_status" in settings:
        settings["default_status"] = dg.DefaultSensorStatus(settings["default_status"])
    with _at_line(context.at_path("label_studio"), "label_studio"):
        return LabelStudio(**settings)


def resolve_partitions_def(
    context: dg.ResolutionContext, value: Any
) -> dg.PartitionsDefinition | None:
    """The partitions that the YAML describes: those Dagster has in YAML, and dynamic ones."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in _PARTITIONS:
        listed = f"one of {', '.join(_PARTITIONS)}, for example {{type: dynamic, name: …}}"
        if kind is not None:
            meant = did_you_mean(kind, _PARTITIONS)
            refuse(context.at_path("type"), "type", f"type is {kind!r}, expected {listed}{meant}")
        words = f"partitions_def is {value!r}, expected an object with the key type, {listed}"
        refuse(context, "partitions_def", words)
    model = _model(context, _PARTITIONS[kind], value, "partitions_def")
    if isinstance(model, DynamicPartitionsModel):
        return dg.DynamicPartitionsDefinition(name=model.name)
    if isinstance(model, core_models.StaticPartitionsDefinitionModel):
        return dg.StaticPartitionsDefinition(list(model.partition_keys))
    return core_models.resolve_partitions_def(context, model)  # pyright: ignore[reportArgumentType]


def resolve_paths(context: dg.ResolutionContext, value: Any) -> list[str]:
    """Paths as the YAML file's folder sees them, and addresses as they are."""
    return [_path(context, path) for path in resolve_text(context, value)]


def resolve_report(context: dg.ResolutionContext, value: Any) -> Any:
    """The folder of reports, as the YAML file's folder sees it, or whether there are any."""
    report = resolve_text(context, value)
    return _path(context, report) if isinstance(report, str) else report


def resolve_export(context: dg.ResolutionContext, value: Any) -> Any:
    """The files of candidates, as the YAML file's folder sees them."""
    return _paths_of(context, resolve_text(context, value))


def _paths_of(context: dg.ResolutionContext, paths: Any) -> Any:
    if isinstance(paths, dict):
        return {name: _paths_of(context, path) for name, path in paths.items()}
    if isinstance(paths, list):
        return [_path(context, path) for path in paths]
    return None if paths is None else _path(context, paths)


@contextmanager
def _at_line(context: dg.ResolutionContext, setting: str) -> Generator[None]:
    """Name the line of a setting that cannot be used."""
    try:
        yield
    except SettingError as error:
        refuse(context.at_path(error.setting), error.setting, str(error))
    except ValueError as error:
        refuse(context, setting, str(error))


def _model(
    context: dg.ResolutionContext, model_type: type[_Model], value: Any, setting: str
) -> _Model:
    """The model of what the YAML has, its templates filled in."""
    filled = resolve_text(context, value) if isinstance(value, Mapping) else value
    return checked_model(context, model_type, filled, setting, _POOL_SETTINGS)


def _settings(
    context: dg.ResolutionContext, model_type: type[BaseModel], value: Any, setting: str
) -> dict[str, Any]:
    """The settings that the YAML gives and does not leave to their defaults."""
    return _given(_model(context, model_type, value, setting))


def _given(model: BaseModel) -> dict[str, Any]:
    settings = {name: getattr(model, name) for name in model.model_fields_set}
    if "deps" in settings:
        settings["deps"] = [dg.AssetKey.from_user_string(key) for key in settings["deps"]]
    return settings


def _path(context: dg.ResolutionContext, path: str) -> str:
    """A path as the YAML file's folder sees it, or in the home folder; an address as it is."""
    if is_address(path):
        return path
    folder = context.resolve_source_relative_path(".")
    return os.path.normpath(folder / at_home(path))
