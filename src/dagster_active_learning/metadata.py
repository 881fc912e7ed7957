"""What a materialization says about itself, in Dagster's words and under its standard keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.acquisition.functions import AcquisitionFunction

if TYPE_CHECKING:
    import polars as pl

    from dagster_active_learning.flow import Ranking
    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store import PoolStore, PredictionSet

Metadata = dict[str, Any]

SOURCES_SHOWN = 20
NAMES_SHOWN = 50
DECIMALS_SHOWN = 6


def table_metadata(store: PoolStore, table: str, row_count: int) -> Metadata:
    """Row count, name and columns of a table of the pool."""
    columns = [
        dg.TableColumn(name, kind, description=comment)
        for name, kind, comment in store.columns(table)
    ]
    return {
        "dagster/row_count": row_count,
        "dagster/table_name": f"{store.database}.{store.pool}.{table}",
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


def column_lineage(deps: Mapping[str, Sequence[tuple[dg.AssetKey, str]]]) -> Metadata:
    """Which columns of which assets each column is computed from."""
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column: [
                    dg.TableColumnDep(asset_key=key, column_name=name) for key, name in origins
                ]
                for column, origins in deps.items()
            }
        )
    }


def lineage_metadata(
    store: PoolStore, stored: PredictionSet, function: AcquisitionFunction | None = None
) -> Metadata:
    """What a person asks first: which model, file and run, and by which rule."""
    rows = [
        ("model", stored.model or "not given"),
        ("source", stored.source),
        ("SHA-256 of the source", stored.source_sha256),
    ]
    files = store.sources(stored.prediction_set)
    if len(files) > 1:
        rows += [(f"file {file.source}", file.source_sha256) for file in files[:SOURCES_SHOWN]]
        if len(files) > SOURCES_SHOWN:
            rows.append((f"{len(files) - SOURCES_SHOWN} more files", "in prediction_sources"))
    rows += [
        ("prediction set", stored.prediction_set),
        ("run that read the predictions", stored.run_id),
    ]
    if function is not None:
        rows += [
            ("acquisition function", function.title),
            ("formula", f"{function.formula}, mean over the image's predictions, {function.unit}"),
            ("labeled first", f"{function.label_first} score"),
        ]
    return {"lineage": rows_table([{"what": what, "value": value} for what, value in rows])}


def unscored_metadata(
    stored: PredictionSet, rules: Rules, function: AcquisitionFunction | None = None
) -> Metadata:
    """Why scores are null, where some are because of what the model gives."""
    alone = stored.score_only_count
    if not alone or rules.score_only or (function is not None and function.level == "object"):
        return {}
    return {
        "without_score": (
            f"{alone:,} of {stored.prediction_count:,} predictions have a score and no class "
            "probabilities: entropy, least confidence, margin and variance are null for their "
            'images; score_only="binary" declares the score to be a probability of two classes'
        )
    }


def prediction_metadata(store: PoolStore, stored: PredictionSet) -> Metadata:
    """What was read, and what of it could not be used."""
    metadata: Metadata = {
        **table_metadata(store, "predictions", stored.prediction_count),
        **lineage_metadata(store, stored),
        "images": stored.image_count,
        "classes": len(stored.class_names),
        "class_names": _first(stored.class_names, NAMES_SHOWN),
        "quarantined": stored.quarantined_count,
        **({"bbox_unit": stored.bbox_unit} if stored.bbox_unit else {}),
    }
    if stored.quarantined_count:
        reasons = store.quarantined_by_reason(stored.prediction_set)
        metadata["quarantined_by_reason"] = rows_table(reasons.to_dicts())
    return metadata


def candidate_metadata(
    store: PoolStore,
    stored: PredictionSet,
    function: AcquisitionFunction,
    ranking: Ranking,
    preview: pl.DataFrame | None,
) -> Metadata:
    """The ranking in numbers that make plots over time, where it comes from, its first ranks."""
    numbers = {
        "score_at_cut": ranking.score_at_cut,
        "mean_score": ranking.mean_score,
        "mean_uncertainty": ranking.mean_uncertainty,
    }
    return {
        **table_metadata(store, "labeling_candidates", ranking.candidate_count),
        **lineage_metadata(store, stored, function),
        "images_to_choose_from": ranking.image_count,
        **{name: number for name, number in numbers.items() if number is not None},
        "preview": rows_table([] if preview is None else preview.to_dicts()),
    }


def _first(names: Sequence[str], count: int) -> str:
    more = [f"… {len(names)} in all"] if len(names) > count else []
    return ", ".join([*names[:count], *more])


def rows_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows for the UI, which shows every digit of a float and no NaN."""
    shown = [
        {
            name: round(value, DECIMALS_SHOWN) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    columns = [
        dg.TableColumn(name, _column_type([row[name] for row in shown]))
        for name in (shown[0] if shown else ())
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in shown], schema=dg.TableSchema(columns)
    )


def _column_type(values: Sequence[Any]) -> str:
    kinds = {bool: "bool", int: "int", float: "float"}
    return next(
        (kinds.get(type(value), "string") for value in values if value is not None), "string"
    )
