"""What a materialization says about itself, in Dagster's words and under its standard keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet

Metadata = dict[str, Any]

SOURCES_SHOWN = 20
COUNTS_SHOWN = 20
NAMES_BYTES = 2_000


def table_metadata(store: PoolStore, table: str, row_count: int) -> Metadata:
    """Row count, name and columns of a table of the pool."""
    columns = [
        dg.TableColumn(column.name, column.type, description=column.comment)
        for column in store.columns(table)
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
    store: PoolStore, stored: PredictionSet, by: Sequence[tuple[str, str]] = ()
) -> Metadata:
    """What a person asks first: which model, file and run, and ``by`` which rule."""
    from dagster_active_learning.store.prediction_sources import sources

    rows = [
        ("model", stored.model or "not given"),
        ("source", stored.source),
        ("SHA-256 of the source", stored.source_sha256),
    ]
    files = sources(store, stored.prediction_set)
    if len(files) > 1:
        rows += [(f"file {file.source}", file.source_sha256) for file in files[:SOURCES_SHOWN]]
        if len(files) > SOURCES_SHOWN:
            rows.append((f"{len(files) - SOURCES_SHOWN} more files", "in prediction_sources"))
    rows += [
        ("prediction set", stored.prediction_set),
        ("run that read the predictions", stored.run_id),
    ]
    return {"lineage": rows_table([{"what": what, "value": value} for what, value in [*rows, *by]])}


def ranking_rule(function: AcquisitionFunction, rules: Rules) -> list[tuple[str, str]]:
    """By which rule images are ranked, for ``lineage_metadata``."""
    formula = function.formula_of(rules.inputs)
    return [
        ("acquisition function", function.title),
        (
            "formula",
            f"{formula}, {rules.aggregation} over the image's predictions, {function.unit}",
        ),
        ("labeled first", f"{function.label_first} score"),
    ]


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
    from dagster_active_learning.store.predictions import predictions_by_class
    from dagster_active_learning.store.quarantined_predictions import quarantined_by_reason

    by_class = predictions_by_class(store, stored.prediction_set)
    metadata: Metadata = {
        **table_metadata(store, "predictions", stored.prediction_count),
        **lineage_metadata(store, stored),
        "images": stored.image_count,
        "classes": len(stored.class_names),
        "class_names": shown(", ".join(stored.class_names), NAMES_BYTES),
        "by_class": counts_table("class", "predictions", by_class),
        "quarantined": stored.quarantined_count,
        **({"bbox_unit": stored.bbox_unit} if stored.bbox_unit else {}),
    }
    if stored.quarantined_count:
        reasons = quarantined_by_reason(store, stored.prediction_set)
        metadata["quarantined_by_reason"] = rows_table(reasons.head(COUNTS_SHOWN).to_dicts())
    return metadata


def rows_table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows for the UI, which shows every digit of a float, every character of a text and no NaN."""
    cells = [{name: _cell(value) for name, value in row.items()} for row in rows]
    columns = [
        dg.TableColumn(name, _column_type([row[name] for row in cells]))
        for name in (cells[0] if cells else ())
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in cells], schema=dg.TableSchema(columns)
    )


def counts_table(
    what: str, unit: str, counts: Sequence[tuple[str | None, int]]
) -> dg.TableMetadataValue:
    """How many rows there are of each name, those beyond ``NAMES_SHOWN`` together."""
    total = sum(count for _, count in counts)
    rest = counts[COUNTS_SHOWN:]
    named = [*counts[:COUNTS_SHOWN]]
    if rest:
        named.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    return rows_table(
        [
            {what: "none" if name is None else name, unit: count, "share": count / total}
            for name, count in named
        ]
    )


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")


def _column_type(values: Sequence[Any]) -> str:
    kinds = {bool: "bool", int: "int", float: "float"}
    return next(
        (kinds.get(type(value), "string") for value in values if value is not None), "string"
    )
