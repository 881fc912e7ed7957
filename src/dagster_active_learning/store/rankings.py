"""The table ``rankings``: how the images were ranked the last time, one row per ranking."""

from __future__ import annotations

from collections.abc import Sequence

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.pool_store import PoolStore

DELETE_RANKINGS = """
DELETE FROM rankings WHERE prediction_set = $prediction_set
    AND list_contains($acquisition_functions, acquisition_function)
"""

INSERT_RANKINGS = """
INSERT INTO rankings BY NAME
SELECT $prediction_set AS prediction_set, unnest($acquisition_functions) AS acquisition_function,
    $limit AS candidate_limit, $run_id AS run_id, now() AS ranked_at
"""


def replace_rankings(
    store: PoolStore, prediction_set: str, functions: Sequence[str], run_id: str, *, limit: int
) -> None:
    """Record that functions have ranked a set now, ``limit`` images each at the most."""
    of_functions = {
        "prediction_set": prediction_set,
        "acquisition_functions": list(functions),
    }
    store.connection.execute(DELETE_RANKINGS, of_functions)
    values = {**of_functions, "limit": limit, "run_id": run_id}
    store.connection.execute(INSERT_RANKINGS, values)


OLDER_RANKINGS = """
SELECT r.prediction_set, r.run_id AS ranked_by_run, d.run_id AS predictions_read_by_run,
    make_timestamp(epoch_us(d.ingested_at)) || ' UTC' AS predictions_read_at,
    count(*) OVER () AS finding_count
FROM rankings r JOIN prediction_sets d ON r.prediction_set = d.prediction_set
WHERE r.prediction_set IN $prediction_sets AND r.acquisition_function = $acquisition_function
    AND r.ranked_at < d.ingested_at
ORDER BY r.prediction_set LIMIT $first
"""


def older_rankings(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> Findings:
    """Rankings that were made before the predictions were read that are there now."""
    values = {"prediction_sets": prediction_sets, "acquisition_function": function.name}
    return findings(store, OLDER_RANKINGS, **values)
