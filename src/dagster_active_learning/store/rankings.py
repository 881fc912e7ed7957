"""The table ``rankings``: how the images were ranked the last time and what of, one row each."""

from __future__ import annotations

from collections.abc import Sequence

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sources import delete_former_sources

DELETE_RANKINGS = """
DELETE FROM rankings WHERE prediction_set = $prediction_set
    AND list_contains($acquisition_functions, acquisition_function)
"""

# What a ranking is made of is copied, not looked up later: predictions and scores are replaced.
INSERT_RANKINGS = """
INSERT INTO rankings BY NAME
SELECT d.prediction_set, f.acquisition_function, $limit AS candidate_limit,
    nextval('generations') AS generation, d.generation AS predictions_generation,
    s.generation AS scores_generation, d.model, d.source, d.source_sha256,
    d.run_id AS prediction_run_id, d.ingested_at, s.task, s.inputs, s.aggregation, s.score_only,
    s.in_manifest, s.sum_tolerance, s.committee, s.run_id AS scoring_run_id, $run_id AS run_id,
    now() AS ranked_at
FROM (SELECT unnest($acquisition_functions) AS acquisition_function) f
CROSS JOIN prediction_sets d JOIN scorings s ON d.prediction_set = s.prediction_set
WHERE d.prediction_set = $prediction_set
"""


def replace_rankings(
    store: PoolStore, prediction_set: str, functions: Sequence[str], run_id: str, *, limit: int
) -> None:
    """Record that functions have ranked a set now, ``limit`` images each at the most.

    The rankings are made of the predictions and scores that are stored.
    """
    of_functions = {
        "prediction_set": prediction_set,
        "acquisition_functions": list(functions),
    }
    store.connection.execute(DELETE_RANKINGS, of_functions)
    values = {**of_functions, "limit": limit, "run_id": run_id}
    store.connection.execute(INSERT_RANKINGS, values)
    delete_former_sources(store, prediction_set)


DELETE_ALL_OF = "DELETE FROM {table} WHERE prediction_set = $prediction_set"


def delete_rankings(store: PoolStore, prediction_set: str) -> None:
    """Remove all rankings of a prediction set, and the files of predictions that they kept."""
    for table in ("labeling_candidates", "rankings", "former_prediction_sources"):
        statement = DELETE_ALL_OF.format(table=table)
        store.connection.execute(statement, {"prediction_set": prediction_set})


OUTDATED_RANKINGS = """
SELECT r.prediction_set, r.acquisition_function, r.run_id AS ranked_by_run,
    r.prediction_run_id AS of_predictions_read_by_run, d.run_id AS predictions_read_by_run,
    r.scoring_run_id AS of_scores_made_by_run, s.run_id AS scores_made_by_run,
    count(*) OVER () AS finding_count
FROM rankings r JOIN prediction_sets d ON r.prediction_set = d.prediction_set
LEFT JOIN scorings s ON r.prediction_set = s.prediction_set
WHERE r.prediction_set IN $prediction_sets
    AND list_contains($acquisition_functions, r.acquisition_function)
    AND (r.predictions_generation IS DISTINCT FROM d.generation
        OR r.scores_generation IS DISTINCT FROM s.generation)
ORDER BY r.prediction_set, list_position($acquisition_functions, r.acquisition_function)
LIMIT $first
"""


def outdated_rankings(
    store: PoolStore, prediction_sets: Sequence[str], functions: Sequence[str]
) -> Findings:
    """Rankings that were made of other predictions or scores than are stored now."""
    values = {"prediction_sets": prediction_sets, "acquisition_functions": list(functions)}
    return findings(store, OUTDATED_RANKINGS, **values)


def has_ranking(store: PoolStore, prediction_set: str, function: str) -> bool:
    """True if a function has ranked the images of a set."""
    query = """
    SELECT EXISTS (FROM rankings WHERE prediction_set = $prediction_set
        AND acquisition_function = $acquisition_function)
    """
    values = {"prediction_set": prediction_set, "acquisition_function": function}
    return store.rows(query, **values)[0][0]


def check_rankings(store: PoolStore, prediction_set: str, functions: Sequence[str]) -> None:
    """Raise PoolStateError unless a set's rankings are of the predictions and scores stored now."""
    outdated = outdated_rankings(store, [prediction_set], functions).examples
    if not outdated:
        return
    first = outdated[0]
    names = [ranking["acquisition_function"] for ranking in outdated]
    made = (
        "was made by an earlier version, which did not keep what of"
        if first["of_predictions_read_by_run"] is None
        else f"was made of predictions that run {first['of_predictions_read_by_run']} read and "
        f"scores that run {first['of_scores_made_by_run']} made"
    )
    assets = [f"{store.pool}/labeling_candidates/{name}" for name in names]
    scores = f"scores that run {first['scores_made_by_run']} made"
    if first["scores_made_by_run"] is None:
        scores = "no scores of them"
        assets.insert(0, f"{store.pool}/image_scores")
    raise PoolStateError(
        f"the ranking by {names[0]} of prediction set {prediction_set!r} of pool {store.pool!r} "
        f"{made}; predictions that run {first['predictions_read_by_run']} read and {scores} are "
        f"stored: materialize {', '.join(assets)} first"
    )
