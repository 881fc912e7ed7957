"""What rankings have in common: those of other functions, and those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dagster_active_learning.store.labeling_candidates import of_ranking
from dagster_active_learning.store.pool_store import PoolStore

COMMON_CANDIDATES = """
WITH own AS (
    SELECT image_id FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
)
SELECT o.acquisition_function, count(own.image_id) AS common
FROM labeling_candidates o LEFT JOIN own ON o.image_id = own.image_id
WHERE o.prediction_set = $prediction_set AND list_contains($others, o.acquisition_function)
GROUP BY o.acquisition_function
"""


def common_candidates(
    store: PoolStore, prediction_set: str, function: str, others: Sequence[str]
) -> Mapping[str, int]:
    """Number of candidates that each of the others shares with a function, if it has any."""
    values = of_ranking(prediction_set, function)
    return dict(store.rows(COMMON_CANDIDATES, **values, others=list(others)))


@dataclass(frozen=True)
class FormerCandidates:
    """A ranking to compare another one with.

    Attributes:
        prediction_set: The set whose images were ranked.
        image_ids: The column image_id of the images.
    """

    prediction_set: str
    image_ids: pa.Table


SET_RANKED_BEFORE = """
SELECT before.prediction_set FROM prediction_sets before, prediction_sets this
WHERE this.prediction_set = $prediction_set AND before.generation < this.generation
    AND before.prediction_set IN (
        SELECT prediction_set FROM labeling_candidates
        WHERE acquisition_function = $acquisition_function
    )
ORDER BY before.generation DESC LIMIT 1
"""


def set_ranked_before(store: PoolStore, prediction_set: str, function: str) -> str | None:
    """The prediction set that was read last before another one and has candidates, if any."""
    rows = store.rows(SET_RANKED_BEFORE, **of_ranking(prediction_set, function))
    return rows[0][0] if rows else None


CANDIDATE_IDS = """
SELECT image_id FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
"""


def former_candidates(
    store: PoolStore, prediction_set: str, function: str, *, other_set: bool
) -> FormerCandidates | None:
    """The ranking before one that is to come.

    Args:
        store: The pool.
        prediction_set: The set that is to be ranked.
        function: The acquisition function.
        other_set: Whether it is that of the set that was read before this one, and not the one of
            this set that will be replaced.

    Returns:
        None if there is none or no image in it.
    """
    if other_set:
        before = set_ranked_before(store, prediction_set, function)
        if before is None:
            return None
        prediction_set = before
    values = of_ranking(prediction_set, function)
    ids = store.relation(CANDIDATE_IDS, **values).to_arrow_table()
    return FormerCandidates(prediction_set, ids) if ids.num_rows else None


COMMON_WITH = """
SELECT count(*) FROM labeling_candidates c SEMI JOIN active_learning__incoming USING (image_id)
WHERE c.prediction_set = $prediction_set AND c.acquisition_function = $acquisition_function
"""


def common_with(
    store: PoolStore, prediction_set: str, function: str, former: FormerCandidates
) -> int:
    """Number of candidates that a ranking shares with a former one."""
    # The statement finds it as the variable of that name.
    active_learning__incoming = former.image_ids  # noqa: F841 # pyright: ignore[reportUnusedVariable]
    values = of_ranking(prediction_set, function)
    return store.connection.execute(COMMON_WITH, values).fetchall()[0][0]
