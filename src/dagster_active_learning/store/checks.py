"""What may be wrong in a pool's tables: each function finds one kind of it, and only reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.rules import Rules
from dagster_active_learning.store import check_queries, queries
from dagster_active_learning.store.pool_store import PoolStore, quoted

EXAMPLES = 20


@dataclass(frozen=True)
class Findings:
    """What is wrong.

    Attributes:
        count: How often it is.
        examples: The first ``EXAMPLES`` rows that show it, each with its prediction_set.
    """

    count: int
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class Coverage:
    """How many images without a label a prediction set should cover, and how many it does not."""

    prediction_set: str
    image_count: int
    without_count: int


@dataclass(frozen=True)
class Bounds:
    """Between which numbers the scores of a prediction set are, give or take the tolerance."""

    prediction_set: str
    acquisition_function: str
    lowest: float
    highest: float
    tolerance: float


def duplicate_predictions(
    store: PoolStore, prediction_sets: Sequence[str], *, objects: bool
) -> Findings:
    """Predictions that say the same about the same image as another one.

    The count is that of the rows which could go. Objects without box and mask are left out.
    """
    return _findings(
        store, check_queries.DUPLICATE_PREDICTIONS, prediction_sets=prediction_sets, objects=objects
    )


def former_class_names(store: PoolStore, prediction_set: str) -> list[str] | None:
    """The class names of the set that was read last before this one, if there is one."""
    rows = _rows(store, check_queries.FORMER_CLASS_NAMES, prediction_set=prediction_set)
    return rows[0][0] if rows else None


def coverage(store: PoolStore, prediction_sets: Sequence[str]) -> list[Coverage]:
    """How much of the manifest each set covers, the worst first."""
    rows = _rows(store, check_queries.COVERAGE, prediction_sets=prediction_sets)
    return [Coverage(*row) for row in rows]


def uncovered_images(store: PoolStore, prediction_sets: Sequence[str]) -> list[dict[str, Any]]:
    """The first images of the manifest without a label that a set says nothing about."""
    return _first(store, check_queries.UNCOVERED_IMAGES, prediction_sets=prediction_sets)


def wrongly_scored_images(
    store: PoolStore, prediction_sets: Sequence[str], *, in_manifest: bool, rules: Rules
) -> Findings:
    """Images that are not scored, or not once, or by other predictions than they have.

    An image that there is not is one of them.
    """
    return _findings(
        store,
        check_queries.WRONGLY_SCORED_IMAGES,
        prediction_sets=prediction_sets,
        in_manifest=in_manifest,
        objects=rules.objects,
        binary=rules.score_only == "binary",
    )


def scored_image_count(store: PoolStore, prediction_sets: Sequence[str]) -> int:
    """How many rows image_scores has."""
    return _rows(store, check_queries.SCORED_IMAGE_COUNT, prediction_sets=prediction_sets)[0][0]


def scores_out_of_bounds(store: PoolStore, bounds: Sequence[Bounds]) -> Findings:
    """Scores that cannot be; a set without predictions has no bounds."""
    if not bounds:
        return Findings(0, [])
    return _findings(
        store,
        check_queries.SCORES_OUT_OF_BOUNDS,
        prediction_sets=list({one.prediction_set for one in bounds}),
        bounds=[asdict(one) for one in bounds],
    )


def candidate_count(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> int:
    """How many candidates there are under a function."""
    values = _of_function(prediction_sets, function)
    return _rows(store, check_queries.CANDIDATE_COUNT, **values)[0][0]


def labeled_candidates(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> Findings:
    """Candidates that the manifest says have their label."""
    return _findings(
        store, check_queries.LABELED_CANDIDATES, **_of_function(prediction_sets, function)
    )


def broken_ranks(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction, rules: Rules
) -> Findings:
    """Where the next rank is not the one before and one, or its image should come before it.

    An image with several ranks is found too.
    """
    return _findings(
        store,
        check_queries.BROKEN_RANKS.format(place=_place(function)),
        place_of_empty=_place_of_empty(rules),
        **_of_function(prediction_sets, function),
    )


def outdated_candidates(
    store: PoolStore,
    prediction_sets: Sequence[str],
    function: AcquisitionFunction,
    *,
    in_manifest: bool,
) -> Findings:
    """Candidates whose image has another score now, or none, or has left the manifest."""
    query = check_queries.OUTDATED_CANDIDATES.format(score=quoted(function.name))
    return _findings(
        store, query, in_manifest=in_manifest, **_of_function(prediction_sets, function)
    )


def missing_candidates(
    store: PoolStore,
    prediction_sets: Sequence[str],
    function: AcquisitionFunction,
    rules: Rules,
    *,
    in_manifest: bool,
    limit: int,
) -> Findings:
    """Images that are no candidates and would be, were they ranked again.

    ``limit`` is that of rankings which have never been made.
    """
    words = {"score": quoted(function.name), "place": _place(function)}
    return _findings(
        store,
        check_queries.MISSING_CANDIDATES.format(**words),
        place_of_empty=_place_of_empty(rules),
        ranks_empty=rules.images_without_predictions != "exclude",
        in_manifest=in_manifest,
        limit=limit,
        **_of_function(prediction_sets, function),
    )


def older_rankings(
    store: PoolStore, prediction_sets: Sequence[str], function: AcquisitionFunction
) -> Findings:
    """Rankings that were made before the predictions were read that are there now."""
    return _findings(store, check_queries.OLDER_RANKINGS, **_of_function(prediction_sets, function))


def prediction_set_names(store: PoolStore) -> list[str]:
    """All prediction sets of the pool."""
    return [name for (name,) in _rows(store, queries.PREDICTION_SET_NAMES)]


def _of_function(prediction_sets: Sequence[str], function: AcquisitionFunction) -> dict[str, Any]:
    return {"prediction_sets": prediction_sets, "acquisition_function": function.name}


def _place(function: AcquisitionFunction) -> str:
    return check_queries.PLACE.format(sign="-" if function.label_first == "highest" else "")


def _place_of_empty(rules: Rules) -> float | None:
    """Where all images without predictions stand; None where their scores say it."""
    return {"first": -math.inf, "last": math.inf}.get(rules.images_without_predictions or "")


def _rows(store: PoolStore, query: str, **values: Any) -> list[Any]:
    return store.connection.execute(query, values).fetchall()


def _first(store: PoolStore, query: str, **values: Any) -> list[dict[str, Any]]:
    relation = store.connection.sql(query, params={**values, "first": EXAMPLES})
    return relation.to_arrow_table().to_pylist()


def _findings(store: PoolStore, query: str, **values: Any) -> Findings:
    examples = _first(store, query, **values)
    counts = [example.pop("found") for example in examples]
    return Findings(counts[0] if counts else 0, examples)
