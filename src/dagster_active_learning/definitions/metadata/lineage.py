"""The origin of content: the model, the files, the runs, the rule, and the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import Metadata, rows_table

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet

SOURCES_SHOWN = 20


def lineage_metadata(
    store: PoolStore, stored: PredictionSet, rule: Sequence[tuple[str, str]] = ()
) -> Metadata:
    """The lineage that a person asks for first: model, file, run, and the ``rule``."""
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
        *rule,
    ]
    return {"lineage": rows_table([{"what": what, "value": value} for what, value in rows])}


def ranking_rule(function: AcquisitionFunction, rules: Rules) -> list[tuple[str, str]]:
    """The rule by which images are ranked, for ``lineage_metadata``."""
    formula = function.whole_formula(rules.inputs, rules.aggregation, committee=rules.committee)
    return [
        ("acquisition function", function.title),
        ("formula", f"{formula}, {function.unit_under(rules.aggregation)}"),
        ("labeled first", f"{function.label_first_under(rules.aggregation)} score"),
    ]


def column_lineage(origins: Mapping[str, Sequence[tuple[dg.AssetKey, str]]]) -> Metadata:
    """The columns of which assets each column is computed from."""
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(asset_key=key, column_name=name) for key, name in deps]
                for column, deps in origins.items()
            }
        )
    }
