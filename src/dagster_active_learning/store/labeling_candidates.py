"""The table ``labeling_candidates``: one row per image in each ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.findings import EXAMPLES, Findings, findings
from dagster_active_learning.store.image_scores import score_columns
from dagster_active_learning.store.in_place_sets import check_files
from dagster_active_learning.store.in_place_views import known_classes
from dagster_active_learning.store.kept_predictions import keep_predictions, of_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool
from dagster_active_learning.store.predicted_classes import predicted_classes_sql
from dagster_active_learning.store.prediction_sets import PredictionSet, chosen_prediction_set
from dagster_active_learning.store.rankings import replace_rankings
from dagster_active_learning.store.set_rows import of_sets

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 65_536

DELETE_CANDIDATES = """
DELETE FROM labeling_candidates WHERE prediction_set = $prediction_set
    AND list_contains($acquisition_functions, acquisition_function)
"""

INSERT_WITH_CLASSES = """
INSERT INTO labeling_candidates BY NAME
SELECT $prediction_set AS prediction_set, c.*, $run_id AS run_id FROM incoming c
ORDER BY c.acquisition_function, c.rank
"""

INSERT_CANDIDATES = """
INSERT INTO labeling_candidates BY NAME
{predicted_classes}
SELECT $prediction_set AS prediction_set, c.acquisition_function, c.rank, c.image_id, c.score,
    c.uncertainty, c.prediction_count, p.class AS predicted_class, $run_id AS run_id
FROM incoming c LEFT JOIN predicted p ON c.image_id = p.image_id
ORDER BY c.acquisition_function, c.rank
"""


def replace_candidates(
    store: PoolStore,
    prediction_set: str,
    candidates: Mapping[str, pl.DataFrame],
    run_id: str,
    *,
    limit: int,
    objects: bool,
) -> None:
    """Store functions' candidates by their names, of each function ``limit`` at the most.

    They have the columns rank, image_id, score, uncertainty and prediction_count.
    """
    functions = list(candidates)
    store.connection.execute(
        DELETE_CANDIDATES, {"prediction_set": prediction_set, "acquisition_functions": functions}
    )
    replace_rankings(store, prediction_set, functions, run_id, limit=limit)
    import polars as pl

    # Together, for the classes of their images are looked up in all predictions.
    incoming = pl.concat(
        ranked.with_columns(acquisition_function=pl.lit(name))
        for name, ranked in candidates.items()
    )
    classes = known_classes(store, prediction_set)
    if classes is not None:
        unknown = incoming.join(classes, on="image_id", how="anti")
        if not unknown.height or unknown["prediction_count"].max() == 0:
            check_files(store, [prediction_set], "predictions")
            known = incoming.join(classes, on="image_id", how="left").to_arrow()
            values = {"prediction_set": prediction_set, "run_id": run_id}
            store.insert(INSERT_WITH_CLASSES, known, **values)
            return
    statement = INSERT_CANDIDATES.format(predicted_classes=predicted_classes_sql(objects=objects))
    images = incoming.unique("image_id").select("image_id", "prediction_count")
    keep_predictions(store, prediction_set, images)
    (query,), kept = of_images(store, prediction_set, images["image_id"], [statement])
    values = {"prediction_set": prediction_set, "run_id": run_id}
    store.insert(query, incoming.to_arrow(), kept=kept, **values)


# The manifest counts where the ranking was made with one. Where it is not known, it may have been.
RANKED_IMAGES = """
FROM labeling_candidates c
LEFT JOIN rankings r
    ON c.prediction_set = r.prediction_set AND c.acquisition_function = r.acquisition_function
LEFT JOIN images i ON c.image_id = i.image_id AND r.in_manifest IS NOT FALSE
"""

IS_DONE = "coalesce(i.labeled, r.in_manifest, false)"

OF_FUNCTIONS = f"""
WHERE c.prediction_set = $prediction_set
    AND list_contains($acquisition_functions, c.acquisition_function)
    AND ($limit IS NULL OR c.rank <= $limit)
    AND NOT ($still_to_label AND {IS_DONE})
"""

CANDIDATE_ROWS = f"""
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.uri, i.width, i.height,
    c.score, c.uncertainty, c.prediction_count, c.predicted_class, c.run_id
{RANKED_IMAGES} {OF_FUNCTIONS}
ORDER BY list_position($acquisition_functions, c.acquisition_function), c.rank
"""


def candidate_rows(
    store: PoolStore,
    prediction_set: str,
    functions: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    still_to_label: bool = False,
) -> pa.RecordBatchReader:
    """The candidates of functions, one after the other, in the order of their ranks, in batches.

    They are what is committed. Read them to the end or close the reader: as long as it is open, the
    database is.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        functions: Names of the acquisition functions; all without it.
        limit: The last rank of each function; all ranks without it.
        still_to_label: Whether images are left out that have their label by now, or have left the
            manifest.

    Returns:
        The columns prediction_set, acquisition_function, rank, image_id, uri, width, height, score,
        uncertainty, prediction_count, predicted_class and run_id.

    Raises:
        ValueError: If there is no such acquisition function or the limit is below 1.
    """
    values = {
        **_ranked_values(prediction_set, functions, limit),
        "still_to_label": still_to_label,
    }
    return store.committed_rows(CANDIDATE_ROWS, BATCH_ROWS, **values)


# Images of which nothing is known look all alike: a detector may have found nothing in thousands.
FIRST_CANDIDATES = """
WITH of_function AS (
    FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
),
first_of_them AS (
    FROM of_function WHERE prediction_count > 0 OR rank <= coalesce((
        SELECT rank FROM of_function WHERE prediction_count = 0
        ORDER BY rank LIMIT 1 OFFSET $without_predictions - 1
    ), rank)
    ORDER BY rank LIMIT $first
)
SELECT c.rank, c.image_id, i.uri, i.width, i.height, c.score, c.prediction_count, c.predicted_class
FROM first_of_them c
LEFT JOIN rankings r
    ON c.prediction_set = r.prediction_set AND c.acquisition_function = r.acquisition_function
LEFT JOIN images i ON c.image_id = i.image_id AND r.in_manifest IS NOT FALSE
ORDER BY c.rank
"""


def first_candidates(
    store: PoolStore, prediction_set: str, function: str, first: int, *, without_predictions: int
) -> list[dict[str, Any]]:
    """The first candidates of a function, of those without predictions only some.

    Returns:
        Their rank, image_id, uri, width, height, score, prediction_count and predicted_class.
    """
    values = {
        **_of_ranking(prediction_set, function),
        "first": first,
        "without_predictions": without_predictions,
    }
    return store.relation(FIRST_CANDIDATES, **values).to_arrow_table().to_pylist()


RANKED_IDS = f"SELECT DISTINCT c.image_id {RANKED_IMAGES} {OF_FUNCTIONS}"

CANDIDATE_PREDICTIONS = f"""
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.uri, i.width, i.height,
    c.score, c.uncertainty, c.prediction_count, c.predicted_class, c.run_id,
    p.prediction_index, p.class_probs::{{value_type}} AS class_probs, p.score AS prediction_score,
    p.category, p.bbox, p.segmentation
{RANKED_IMAGES}
LEFT JOIN {{{{predictions}}}} p ON c.prediction_set = p.prediction_set AND c.image_id = p.image_id
{OF_FUNCTIONS}
ORDER BY list_position($acquisition_functions, c.acquisition_function), c.rank, p.prediction_index
"""


def candidate_predictions(
    store: PoolStore,
    prediction_set: PredictionSet,
    functions: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    still_to_label: bool = False,
) -> pa.RecordBatchReader:
    """The candidates as ``candidate_rows`` gives them, one row per prediction of each.

    The predictions of a candidate stand together, in their order; a candidate without predictions
    has a single row.

    Returns:
        The columns of ``candidate_rows`` and prediction_index, class_probs, prediction_score,
        category, bbox and segmentation, null where the candidate has no predictions.

    Raises:
        ValueError: If there is no such acquisition function or the limit is below 1.
    """
    values = {
        **_ranked_values(prediction_set.prediction_set, functions, limit),
        "still_to_label": still_to_label,
    }
    (query,), kept = of_images(
        store,
        prediction_set.prediction_set,
        store.relation(RANKED_IDS, **values).pl()["image_id"],
        [CANDIDATE_PREDICTIONS.format(value_type=prediction_set.value_type)],
    )
    batch_rows = rows_for(len(prediction_set.class_names) * 8)
    return store.committed_rows(query, batch_rows, kept=kept, **values)


DONE_CANDIDATES = f"""
SELECT c.prediction_set, c.acquisition_function, c.rank, c.image_id, i.label,
    i.image_id IS NULL AS left_the_manifest, count(*) OVER () AS finding_count
{RANKED_IMAGES}
WHERE c.prediction_set IN $prediction_sets
    AND list_contains($acquisition_functions, c.acquisition_function) AND {IS_DONE}
ORDER BY c.prediction_set, list_position($acquisition_functions, c.acquisition_function), c.rank
LIMIT $first
"""


def done_candidates(
    store: PoolStore, prediction_sets: Sequence[str], functions: Sequence[str]
) -> Findings:
    """Candidates whose image has its label by now, or has left the manifest."""
    values = {"prediction_sets": prediction_sets, "acquisition_functions": list(functions)}
    return findings(store, DONE_CANDIDATES, **values)


def _ranked_values(
    prediction_set: str, functions: Sequence[str] | None, limit: int | None
) -> dict[str, Any]:
    names = list(ACQUISITION_FUNCTIONS if functions is None else functions)
    if unknown := [name for name in names if name not in ACQUISITION_FUNCTIONS]:
        raise ValueError(
            f"acquisition_function is {unknown[0]!r}, expected one of "
            f"{', '.join(ACQUISITION_FUNCTIONS)}"
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")
    return {"prediction_set": prediction_set, "acquisition_functions": names, "limit": limit}


def load_candidates(
    database: Database,
    *,
    pool: str,
    acquisition_function: str | None = None,
    prediction_set: str | None = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The labeling candidates of a pool.

    Args:
        database: The path of the database, opened read-only and closed again, or an open
            connection, which is left as it is.
        pool: The pool's name.
        acquisition_function: The function that ranked them; those of all functions, one after the
            other, without it.
        prediction_set: Name of the prediction set; a pool with only one needs no name.
        limit: The last rank wanted of each function.

    Returns:
        The columns prediction_set, acquisition_function, rank, image_id, uri, width, height (of the
        manifest), score, uncertainty, prediction_count, predicted_class and run_id, in the order of
        the ranks; no rows if no image is a candidate.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool not the prediction set,
            or none is named and there are several.
        ValueError: If there is no such acquisition function or the limit is below 1.

    Example:
        >>> candidates = load_candidates(
        ...     "labeling.duckdb", pool="digits", acquisition_function="margin", limit=2
        ... )
        >>> candidates.select("rank", "image_id", "score").rows()
        [(1, 'digit_0', 0.0), (2, 'digit_2', 0.5)]
    """
    import polars as pl

    functions = None if acquisition_function is None else [acquisition_function]
    with existing_pool(database, pool) as store:
        chosen = chosen_prediction_set(store, prediction_set)
        # All of them at once: an open reader would keep the database open.
        return pl.DataFrame(candidate_rows(store, chosen, functions, limit=limit).read_all())


CANDIDATES_BY_CLASS = """
SELECT predicted_class, count(*) AS candidates FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
GROUP BY predicted_class ORDER BY candidates DESC, predicted_class
"""


def candidates_by_class(
    store: PoolStore, prediction_set: str, function: str
) -> list[tuple[str | None, int]]:
    """Each predicted class and its number of candidates, the most frequent first."""
    return store.rows(CANDIDATES_BY_CLASS, **_of_ranking(prediction_set, function))


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
    of_ranking = _of_ranking(prediction_set, function)
    return dict(store.rows(COMMON_CANDIDATES, **of_ranking, others=list(others)))


CANDIDATES_WITHOUT_PREDICTIONS = """
SELECT count(*) FROM labeling_candidates
WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
    AND prediction_count = 0
"""


def candidates_without_predictions(store: PoolStore, prediction_set: str, function: str) -> int:
    """Number of candidates that have no predictions."""
    of_ranking = _of_ranking(prediction_set, function)
    return store.rows(CANDIDATES_WITHOUT_PREDICTIONS, **of_ranking)[0][0]


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
    rows = store.rows(SET_RANKED_BEFORE, **_of_ranking(prediction_set, function))
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
    of_ranking = _of_ranking(prediction_set, function)
    ids = store.relation(CANDIDATE_IDS, **of_ranking).to_arrow_table()
    return FormerCandidates(prediction_set, ids) if ids.num_rows else None


COMMON_WITH = """
SELECT count(*) FROM labeling_candidates c SEMI JOIN incoming USING (image_id)
WHERE c.prediction_set = $prediction_set AND c.acquisition_function = $acquisition_function
"""


def common_with(
    store: PoolStore, prediction_set: str, function: str, former: FormerCandidates
) -> int:
    """Number of candidates that a ranking shares with a former one."""
    # The statement finds `incoming` as the variable of that name.
    incoming = former.image_ids  # noqa: F841 # pyright: ignore[reportUnusedVariable]
    values = _of_ranking(prediction_set, function)
    return store.connection.execute(COMMON_WITH, values).fetchall()[0][0]


CANDIDATE_COUNT = """
SELECT count(*) FROM labeling_candidates
WHERE prediction_set IN $prediction_sets AND acquisition_function = $acquisition_function
"""


def candidate_count(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> int:
    """Number of candidates under a function."""
    return store.rows(CANDIDATE_COUNT, **_of_rankings(prediction_sets, function))[0][0]


LABELED_CANDIDATES = """
SELECT c.prediction_set, c.rank, c.image_id, i.label, count(*) OVER () AS finding_count
FROM labeling_candidates c JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set IN $prediction_sets AND c.acquisition_function = $acquisition_function
    AND i.labeled
ORDER BY c.prediction_set, c.rank LIMIT $first
"""


def labeled_candidates(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> Findings:
    """Candidates that the manifest says have their label."""
    return findings(store, LABELED_CANDIDATES, **_of_rankings(prediction_sets, function))


# An image's place in a ranking: the lowest comes first.
PLACE = """
CASE WHEN prediction_count = 0 AND $place_of_empty IS NOT NULL THEN $place_of_empty::DOUBLE
    ELSE coalesce({sign}score, 'inf'::DOUBLE) END
"""

BROKEN_RANKS = """
WITH candidates AS (
    SELECT *, {place} AS place FROM labeling_candidates
    WHERE prediction_set IN $prediction_sets AND acquisition_function = $acquisition_function
),
ordered AS (
    SELECT prediction_set, coalesce(lag(rank) OVER ranking, 0) AS rank_before, rank, image_id,
        lag(score) OVER ranking AS score_before, score, place < lag(place) OVER ranking AS too_late,
        count(*) OVER (PARTITION BY prediction_set, image_id) AS times_in_ranking
    FROM candidates WINDOW ranking AS (PARTITION BY prediction_set ORDER BY rank, image_id)
)
SELECT * EXCLUDE (too_late), count(*) OVER () AS finding_count
FROM ordered WHERE rank != rank_before + 1 OR times_in_ranking > 1 OR too_late
ORDER BY prediction_set, rank, image_id LIMIT $first
"""


def broken_ranks(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction, rules: Rules
) -> Findings:
    """Ranks that do not follow the rank before, or whose image should come before that of it.

    So are the ranks of an image that has several.
    """
    return findings(
        store,
        BROKEN_RANKS.format(place=_place(function, rules)),
        place_of_empty=_place_of_empty(rules),
        **_of_rankings(prediction_sets, function),
    )


# Unchanged candidates are among the images that are as good as the last: those are few.
UNCHANGED_CANDIDATES = """
WITH candidates AS (
    FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
),
scores AS (
    FROM {{image_scores}} WHERE prediction_count = 0 OR {score} IS NULL
        OR {score} {as_good_as} (SELECT {worst}(score) FROM candidates WHERE prediction_count > 0)
)
SELECT count(*) = (SELECT count(*) FROM candidates)
FROM candidates c JOIN scores s ON c.image_id = s.image_id
LEFT JOIN images i ON c.image_id = i.image_id
WHERE c.score IS NOT DISTINCT FROM s.{score} AND c.prediction_count = s.prediction_count
    AND NOT ($in_manifest AND i.image_id IS NULL)
"""

OUTDATED_CANDIDATES = """
SELECT c.prediction_set, c.rank, c.image_id, c.score AS score_ranked_by, s.{score} AS score_now,
    c.prediction_count AS predictions_ranked_by, s.prediction_count AS predictions_now,
    $in_manifest AND i.image_id IS NULL AS left_the_manifest, count(*) OVER () AS finding_count
FROM labeling_candidates c
LEFT JOIN {{image_scores}} s ON c.prediction_set = s.prediction_set AND c.image_id = s.image_id
LEFT JOIN images i ON c.image_id = i.image_id
WHERE c.prediction_set IN $prediction_sets AND c.acquisition_function = $acquisition_function
    AND (c.score IS DISTINCT FROM s.{score}
        OR c.prediction_count IS DISTINCT FROM s.prediction_count OR left_the_manifest)
ORDER BY c.prediction_set, c.rank LIMIT $first
"""


def outdated_candidates(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction, rules: Rules
) -> Findings:
    """Candidates whose image has another score now, or none, or has left the manifest."""
    (score,) = score_columns(store, [function.name])
    highest = function.label_first_under(rules.aggregation) == "highest"
    unchanged = UNCHANGED_CANDIDATES.format(
        score=score, as_good_as=">=" if highest else "<=", worst="min" if highest else "max"
    )
    suspects = [
        name
        for name in prediction_sets
        if store.rows(
            of_sets(store, [name], unchanged),
            in_manifest=rules.in_manifest,
            **_of_ranking(name, function.name),
        )
        != [(True,)]
    ]
    if not suspects:
        return Findings(0, [])
    return findings(
        store,
        of_sets(store, suspects, OUTDATED_CANDIDATES.format(score=score)),
        in_manifest=rules.in_manifest,
        **_of_rankings(suspects, function),
    )


# Images that would be ranked now: there is room, or the last candidate stands behind them. One set
# at a time, so that the scores of most images are never looked at.
MISSING_CANDIDATES = """
WITH candidates AS (
    SELECT *, {place} AS place FROM labeling_candidates
    WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
),
ends AS (
    SELECT max(place) AS last_place, coalesce((
        SELECT candidate_limit FROM rankings
        WHERE prediction_set = $prediction_set AND acquisition_function = $acquisition_function
    ), $limit) - count(*) AS room FROM candidates
),
scores AS (
    SELECT *, {place} AS place FROM (
        SELECT prediction_set, image_id, {score} AS score, prediction_count FROM {{image_scores}}
        WHERE CASE WHEN prediction_count = 0 THEN $ranks_empty ELSE {score} IS NOT NULL END
    )
    WHERE (SELECT room FROM ends) > 0 OR place < (SELECT last_place FROM ends)
)
SELECT * EXCLUDE (place), count(*) OVER () AS finding_count FROM (
    SELECT s.* FROM scores s
    ANTI JOIN candidates c ON s.image_id = c.image_id
    LEFT JOIN images i ON s.image_id = i.image_id
    WHERE NOT ($in_manifest AND coalesce(i.labeled, true))
    QUALIFY place < (SELECT last_place FROM ends)
        OR row_number() OVER (ORDER BY place, s.image_id) <= (SELECT room FROM ends)
)
ORDER BY place, image_id LIMIT $first
"""


def missing_candidates(
    store: PoolStore,
    prediction_sets: Sequence[str],
    function: AcquisitionFunction,
    rules: Rules,
    *,
    limit: int,
) -> Findings:
    """Images that are no candidates and would be, were they ranked again.

    ``limit`` is that of rankings which have never been made.
    """
    (score,) = score_columns(store, [function.name])
    query = MISSING_CANDIDATES.format(score=score, place=_place(function, rules))
    values = {
        "place_of_empty": _place_of_empty(rules),
        "ranks_empty": rules.images_without_predictions != "exclude",
        "in_manifest": rules.in_manifest,
        "limit": limit,
    }
    found = [
        findings(store, of_sets(store, [name], query), **values, **_of_ranking(name, function.name))
        for name in sorted(prediction_sets)
    ]
    return Findings(
        sum(of_set.count for of_set in found),
        [example for of_set in found for example in of_set.examples][:EXAMPLES],
    )


def _place(function: AcquisitionFunction, rules: Rules) -> str:
    return PLACE.format(
        sign="-" if function.label_first_under(rules.aggregation) == "highest" else ""
    )


def _place_of_empty(rules: Rules) -> float | None:
    """The place of all images without predictions; None where their scores say it."""
    return {"first": -math.inf, "last": math.inf}.get(rules.images_without_predictions or "")


def _of_ranking(prediction_set: str, function: str) -> dict[str, str]:
    return {"prediction_set": prediction_set, "acquisition_function": function}


def _of_rankings(prediction_sets: Sequence[str], function: AcquisitionFunction) -> dict[str, Any]:
    return {"prediction_sets": prediction_sets, "acquisition_function": function.name}
