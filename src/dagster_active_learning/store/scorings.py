"""The table ``scorings``: how the images were scored the last time, one row per prediction set."""

from __future__ import annotations

from dagster_active_learning.rules import SCORING_RULES, Rules
from dagster_active_learning.store.kept_rules import differences, kept_rules
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_statistics import has_scores

INSERT_SCORING = """
INSERT INTO scorings BY NAME
SELECT prediction_set, nextval('generations') AS generation, generation AS predictions_generation,
    run_id AS prediction_run_id, {rules}, $run_id AS run_id, now() AS scored_at
FROM prediction_sets WHERE prediction_set = $prediction_set
"""


def replace_scoring(store: PoolStore, prediction_set: str, rules: Rules, run_id: str) -> None:
    """Record that a set's predictions, as this transaction sees them, were scored under rules."""
    store.connection.execute(
        "DELETE FROM scorings WHERE prediction_set = $prediction_set",
        {"prediction_set": prediction_set},
    )
    kept = kept_rules(rules, SCORING_RULES)
    store.connection.execute(
        INSERT_SCORING.format(rules=", ".join(f"${name} AS {name}" for name in kept)),
        {"prediction_set": prediction_set, "run_id": run_id, **kept},
    )


SCORING = """
SELECT s.*, s.predictions_generation = d.generation AS of_stored_predictions,
    d.run_id AS stored_prediction_run_id
FROM scorings s JOIN prediction_sets d ON s.prediction_set = d.prediction_set
WHERE s.prediction_set = $prediction_set
"""


def scoring_problem(store: PoolStore, prediction_set: str, rules: Rules) -> str | None:
    """The reason why a set's scores are not those of its predictions under rules, as a sentence.

    Returns:
        None where the scores are those.
    """
    name = f"prediction set {prediction_set!r} of pool {store.pool!r}"
    if not has_scores(store, prediction_set):
        return f"{name} has no scores"
    scorings = store.relation(SCORING, prediction_set=prediction_set).to_arrow_table().to_pylist()
    if not scorings:
        return f"{name} has scores of an earlier version, which did not keep their rules"
    (scoring,) = scorings
    scores = f"the scores of {name}"
    if not scoring["of_stored_predictions"]:
        return (
            f"{scores} were made of the predictions that run {scoring['prediction_run_id']} read, "
            f"and those that run {scoring['stored_prediction_run_id']} read are stored"
        )
    other = differences(scoring, kept_rules(rules, SCORING_RULES))
    return f"{scores} were made {other}" if other else None
