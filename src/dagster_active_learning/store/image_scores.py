"""The view ``image_scores`` and its tables: a row per image, a column per function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.schemas import image_score_schema
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.limits import DEFAULT_BATCH_ROWS
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.alike_ids import ALIKE_IDS, sets_with_other_ids
from dagster_active_learning.store.empty_images import has_empty_images
from dagster_active_learning.store.findings import Findings, findings
from dagster_active_learning.store.in_place_sets import keep_statistics, kept_statistics
from dagster_active_learning.store.in_place_views import best_images
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.schema import quoted, with_rows
from dagster_active_learning.store.score_counts import ScoreCounts, join_counts
from dagster_active_learning.store.set_rows import append, of_sets, of_tables
from dagster_active_learning.store.set_tables import SetTables, drop_table, make_table

if TYPE_CHECKING:
    import polars as pl


def score_columns(store: PoolStore, functions: Iterable[str]) -> list[str]:
    """The columns of functions' scores, as SQL takes them.

    Raises:
        PoolStateError: If the pool lacks a column: nothing was written to it since the function
            has been added.
    """
    stored = {column.name for column in store.columns("image_scores")}
    columns = [*functions]
    missing = [name for name in columns if name not in stored]
    if missing:
        raise PoolStateError(
            f"pool {store.pool!r} has no scores by {', '.join(missing)} yet: materialize "
            f"{store.pool}/image_scores"
        )
    return [quoted(name) for name in columns]


def replace_image_scores(
    store: PoolStore, tables: SetTables, scores: Iterable[pa.RecordBatch]
) -> None:
    """Store batches of ``image_score_schema`` in place of the set's scores, as they come.

    The views are to be renewed after it.
    """
    drop_table(store.connection, tables, "image_scores")
    make_table(store.connection, tables, "image_scores")
    append(store, tables, "image_scores", image_score_schema(), scores)


def add_image_scores(store: PoolStore, tables: SetTables, scores: pa.Table) -> None:
    """Store the scores of further images."""
    append(store, tables, "image_scores", scores.schema, scores.to_batches())


# The score of no object is 0; those of class probabilities are null without any.
IMAGES_WITHOUT_PREDICTIONS = """
SELECT image_id, 0 AS prediction_count, {scores} FROM (
    SELECT image_id,
        -- Objects that could not be read are not objects that are not there.
        CASE WHEN $objects AND image_id NOT IN (
            SELECT image_id FROM quarantined_predictions
            WHERE prediction_set = $prediction_set AND image_id IS NOT NULL
            {alike}
        ) THEN 0::DOUBLE END AS score_of_no_object
    FROM (
        SELECT image_id FROM images WHERE $in_manifest
        UNION
        SELECT image_id FROM empty_images
        WHERE prediction_set = $prediction_set AND NOT $in_manifest
    )
    WHERE image_id NOT IN (SELECT image_id FROM {{image_scores}})
)
ORDER BY image_id
"""

OR_NEARLY_NAMED = "UNION ALL SELECT image_id FROM ({alike})"


def images_without_predictions(store: PoolStore, tables: SetTables, rules: Rules) -> pa.Table:
    """The scores of each image that has none yet, with the columns that are not null.

    Those are images of the manifest, or without one images in which the model found nothing. One
    that predictions nearly name is unknown: it has no score, as one with rows in quarantine.
    """
    prediction_set = tables.prediction_set
    # DuckDB would hash the ids of all scores also where there is no image to look for.
    if not rules.in_manifest and not has_empty_images(store, prediction_set):
        return pa.table({})
    columns = [quoted(name) for name in _functions("object")]
    of_objects = [f"score_of_no_object AS {column}" for column in columns]
    values: dict[str, object] = {
        "prediction_set": prediction_set,
        "in_manifest": rules.in_manifest,
        "objects": rules.objects,
    }
    alike = ""
    if rules.objects and rules.in_manifest and sets_with_other_ids(store, [prediction_set]):
        alike = OR_NEARLY_NAMED.format(alike=ALIKE_IDS)
        values["prediction_sets"] = [prediction_set]
    query = IMAGES_WITHOUT_PREDICTIONS.format(scores=", ".join(of_objects), alike=alike)
    return store.relation(of_tables(store, tables, query), **values).to_arrow_table()


def has_scores(store: PoolStore, prediction_set: str) -> bool:
    """True if a prediction set has been scored."""
    if (kept := kept_statistics(store, prediction_set)) is not None:
        return kept["images"] > 0
    query = of_sets(store, [prediction_set], "SELECT EXISTS (FROM {image_scores})")
    return store.rows(query)[0][0]


@dataclass(frozen=True)
class ScoreStatistics:
    """The scores of a prediction set, in numbers.

    Attributes:
        images: Images with a row of scores.
        without_predictions: Those of them that have no prediction.
        means: The mean score by each acquisition function, None if no image has one.
        counts: Of a set in place what was counted of its scores; None where that was not done.
    """

    images: int
    without_predictions: int
    means: Mapping[str, float | None]
    counts: Mapping[str, ScoreCounts] | None = None


SCORE_STATISTICS = """
SELECT count(*), count(*) FILTER (prediction_count = 0), {means} FROM {{image_scores}}
"""


def score_statistics(store: PoolStore, prediction_set: str) -> ScoreStatistics:
    """The scores of a prediction set, in numbers."""
    kept = kept_statistics(store, prediction_set)
    if kept is not None and kept["means"].keys() == ACQUISITION_FUNCTIONS.keys():
        numbers = (kept["images"], kept["without_predictions"], kept["means"])
        return ScoreStatistics(*numbers, _counts(kept))
    return _count_scores(store, prediction_set)


def counts_of_scores(store: PoolStore, prediction_set: str) -> Mapping[str, ScoreCounts] | None:
    """What was counted of the scores of a set in place; None where they are to be read."""
    kept = kept_statistics(store, prediction_set)
    return None if kept is None else _counts(kept)


def _counts(kept: Mapping[str, Any]) -> Mapping[str, ScoreCounts] | None:
    counts = kept["counts"]
    return None if counts is None else join_counts([counts])


def keep_score_statistics(
    store: PoolStore,
    prediction_set: str,
    counts: Mapping[str, ScoreCounts] | None,
    *,
    images: int,
    without_predictions: int,
) -> None:
    """Keep the scores of a set that is read in place in numbers, so that nothing counts them.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        counts: What was counted of all its scores; without it they are read here, once.
        images: Images with a row of scores.
        without_predictions: Those of them that have no prediction.
    """
    if counts is None:
        statistics = _count_scores(store, prediction_set)
    else:
        means = {
            name: counts[name].mean if name in counts else None for name in ACQUISITION_FUNCTIONS
        }
        statistics = ScoreStatistics(images, without_predictions, means, counts)
    keep_statistics(store, prediction_set, asdict(statistics))


def _count_scores(store: PoolStore, prediction_set: str) -> ScoreStatistics:
    functions = [*ACQUISITION_FUNCTIONS]
    columns = score_columns(store, functions)
    # The error of a sum by avg() depends on the order of the threads.
    means = ", ".join(f"fsum({column}) / count({column})" for column in columns)
    query = of_sets(store, [prediction_set], SCORE_STATISTICS.format(means=means))
    ((images, without, *values),) = store.rows(query)
    return ScoreStatistics(images, without, dict(zip(functions, values, strict=True)))


# Of all images: to look up those to choose from takes seconds for ten million.
SCORE_ENDS = "SELECT {ends} FROM {{image_scores}}"


def score_ends(
    store: PoolStore, prediction_set: str, functions: Sequence[str]
) -> list[tuple[float | None, float | None]]:
    """The lowest and the highest score of a set by each function, None if no image has one."""
    counts = counts_of_scores(store, prediction_set)
    if counts is not None:
        found = (counts.get(name) for name in functions)
        return [(None, None) if one is None else (one.lowest, one.highest) for one in found]
    columns = score_columns(store, functions)
    query = SCORE_ENDS.format(ends=", ".join(f"min({one}), max({one})" for one in columns))
    (ends,) = store.rows(of_sets(store, [prediction_set], query))
    return list(zip(ends[::2], ends[1::2], strict=True))


@dataclass(frozen=True)
class MemberCounts:
    """The members of a committee.

    Attributes:
        members: How many most images have, 0 without an image.
        most: The largest number that an image has.
        images_with_fewer: Images with fewer members than most have, and not without any.
    """

    members: int
    most: int
    images_with_fewer: int


MEMBER_COUNTS = """
WITH counted AS (
    SELECT prediction_count, count(*) AS images FROM {image_scores}
    WHERE prediction_count > 0 GROUP BY prediction_count
),
usual AS (SELECT max_by(prediction_count, (images, prediction_count)) AS members FROM counted)
SELECT coalesce(any_value(members), 0), coalesce(max(prediction_count), 0),
    coalesce(sum(images) FILTER (prediction_count < members), 0)::BIGINT
FROM counted, usual
"""


def member_counts(store: PoolStore, prediction_set: str) -> MemberCounts:
    """The members of a scored committee, and of how many images some are missing."""
    return MemberCounts(*store.rows(of_sets(store, [prediction_set], MEMBER_COUNTS))[0])


# Without a manifest there is no image to look for: the ids of ten million take a quarter second.
STILL_TO_LABEL = " SEMI JOIN (FROM images WHERE NOT labeled) i ON s.image_id = i.image_id"


def unlabeled_scores(rules: Rules) -> str:
    """The scores of images that have no label yet and, with a manifest, still are in it."""
    return "FROM {image_scores} s" + STILL_TO_LABEL * rules.in_manifest


def unlabeled_count(store: PoolStore, prediction_set: str, rules: Rules) -> int:
    """Number of images with scores that have no label yet and, with a manifest, still are in it."""
    kept = kept_statistics(store, prediction_set)
    if kept is not None and not rules.in_manifest:
        return kept["images"]
    query = f"SELECT count(*) {unlabeled_scores(rules)}"
    return store.rows(of_sets(store, [prediction_set], query))[0][0]


SCORE_AT_CUT = """
SELECT s.{score} {unlabeled} WHERE s.prediction_count > 0 AND s.{score} IS NOT NULL
ORDER BY s.{score} {direction} LIMIT 1 OFFSET $beyond
"""

# Two scans: as alternatives in one, neither could pass over what it does not need.
CONTENDERS = """
SELECT s.image_id, s.{score} AS score, s.prediction_count {unlabeled}
WHERE s.prediction_count > 0 AND ($cut IS NULL OR s.{score} {as_good_as} $cut)
UNION ALL
SELECT s.image_id, s.{score} AS score, s.prediction_count {unlabeled} WHERE s.prediction_count = 0
"""


def contenders(
    store: PoolStore, prediction_set: str, function: AcquisitionFunction, first: int, rules: Rules
) -> Iterator[pl.DataFrame]:
    """Columns image_id, score and prediction_count of images without a label.

    Images whose score cannot be among the ``first`` are left out; those without predictions are
    not. Of a set in place the best images are kept: where the ``first`` are among them, no other
    score is read.
    """
    import polars as pl

    (score,) = score_columns(store, [function.name])
    highest = function.label_first_under(rules.aggregation) == "highest"
    words = {
        "score": score,
        "direction": "DESC" if highest else "ASC",
        "as_good_as": ">=" if highest else "<=",
        "unlabeled": unlabeled_scores(rules),
    }
    at_cut, of_contenders = SCORE_AT_CUT.format(**words), CONTENDERS.format(**words)
    best = best_images(store, prediction_set, function.name, highest_first=highest)
    cut: list[Any] = []
    if best is not None:
        cut = store.rows(_of_rows(best.rows, at_cut), beyond=first - 1)
    if best is not None and (cut or best.are_all):
        of_contenders = _of_rows(best.rows, of_contenders)
    else:
        # Of those that are kept, too many have a label by now, or equal scores at their cut.
        cut = store.rows(of_sets(store, [prediction_set], at_cut), beyond=first - 1)
        of_contenders = of_sets(store, [prediction_set], of_contenders)
    relation = store.relation(of_contenders, cut=cut[0][0] if cut else None)
    waiting: list[pa.RecordBatch] = []
    # DuckDB gives a batch per part of the table, with the few rows that are as good as the cut.
    for batch in relation.to_arrow_reader(DEFAULT_BATCH_ROWS):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= DEFAULT_BATCH_ROWS:
            yield pl.DataFrame(pa.Table.from_batches(waiting))
            waiting = []
    if waiting:
        yield pl.DataFrame(pa.Table.from_batches(waiting))


def _of_rows(rows: str, statement: str) -> str:
    return with_rows(statement, lambda _: rows)


# What sums of 64-bit hashes tell without grouping: each image's hash, as often as it has
# predictions. In halves, so that a product fits an integer. Two scans of the scores, as a filter of
# an aggregate costs more than the aggregate.
SCORED_AS_EXPECTED = """
WITH predicted AS (
    SELECT sum(hash >> 32) AS high, sum(hash & 4294967295) AS low FROM (
        SELECT hash(image_id) AS hash FROM {{predictions}}
    )
),
scored AS (
    SELECT count(*) AS images, sum(prediction_count * (hash >> 32)) AS high,
        sum(prediction_count * (hash & 4294967295)) AS low, sum(hash) AS ids, {score_counts}
    FROM (
        SELECT *, hash(image_id) AS hash FROM {{image_scores}} WHERE prediction_count > 0
    )
),
empty AS (
    SELECT count(*) AS images, sum(hash(image_id)) AS ids FROM {{image_scores}}
    WHERE prediction_count <= 0
),
expected_empty AS (
    SELECT count(*) AS images, sum(hash(image_id)) AS ids FROM (
        SELECT DISTINCT image_id FROM empty_images WHERE prediction_set = $prediction_set
    ) e ANTI JOIN (FROM {{image_scores}} WHERE prediction_count > 0) USING (image_id)
    WHERE NOT $in_manifest
),
manifest AS (
    SELECT count(*) AS images, sum(hash(image_id)) AS ids FROM images WHERE $in_manifest
)
SELECT s.images = d.image_count
    AND coalesce(s.high, 0) = coalesce(p.high, 0) AND coalesce(s.low, 0) = coalesce(p.low, 0)
    AND CASE WHEN $in_manifest
        THEN s.images + e.images = m.images
            AND coalesce(s.ids, 0) + coalesce(e.ids, 0) = coalesce(m.ids, 0)
        ELSE e.images = x.images AND e.ids IS NOT DISTINCT FROM x.ids END
    AND {object_scores_fit}
    AND ({class_scores_there}
        OR {class_scores_missing} AND d.score_only_count > 0 AND NOT $binary)
FROM scored s, empty e, predicted p, expected_empty x, manifest m, prediction_sets d
WHERE d.prediction_set = $prediction_set
"""

WRONGLY_SCORED_IMAGES = """
WITH wanted AS (
    SELECT prediction_set, image_id, max(predictions) AS predictions FROM (
        SELECT prediction_set, image_id, count(*) AS predictions FROM {{predictions}} GROUP BY ALL
        UNION ALL
        SELECT prediction_set, image_id, 0 FROM empty_images
        WHERE prediction_set IN $prediction_sets AND NOT $in_manifest
        UNION ALL
        SELECT s.prediction_set, i.image_id, 0
        FROM (SELECT unnest($prediction_sets) AS prediction_set) s, images i WHERE $in_manifest
    ) GROUP BY ALL
),
scored AS (
    SELECT prediction_set, image_id, count(*) AS times, max(prediction_count) AS predictions,
        bool_and({object_scores_fit}) AS object_scores_fit,
        max({class_scores_missing}) AS class_scores_missing
    FROM {{image_scores}} GROUP BY ALL
),
judged AS (
    SELECT prediction_set, image_id, w.predictions, s.predictions AS predictions_scored,
        CASE
            WHEN s.times IS NULL THEN 'no row in image_scores'
            WHEN s.times > 1 THEN 'several rows in image_scores'
            WHEN w.predictions IS NULL THEN 'a row in image_scores and no such image'
            WHEN s.predictions != w.predictions THEN 'scored by another number of predictions'
            WHEN w.predictions > 0 AND NOT (s.object_scores_fit AND (
                s.class_scores_missing = 0
                -- A lone score gives none of them, where it is not declared a probability.
                OR s.class_scores_missing = {class_score_count} AND d.score_only_count > 0
                    AND NOT $binary
            )) THEN 'predictions and not all scores'
        END AS problem
    FROM wanted w FULL JOIN scored s USING (prediction_set, image_id)
    JOIN prediction_sets d USING (prediction_set)
)
SELECT *, count(*) OVER () AS finding_count FROM judged WHERE problem IS NOT NULL
ORDER BY prediction_set, image_id LIMIT $first
"""


def wrongly_scored_images(
    store: PoolStore, prediction_sets: Sequence[str], rules: Rules
) -> Findings:
    """Images that are not scored, or not once, or by other predictions than they have.

    A row about an image that does not exist is one of them. Images are only looked for in sets
    whose sums of hashes differ: a fault is missed once in 2**64 times.
    """
    of_objects = score_columns(store, _functions("object"))
    of_classes = score_columns(
        store, _functions("image") + (_functions("committee") if rules.committee else [])
    )
    values = {
        "in_manifest": rules.in_manifest,
        "objects": rules.objects,
        "binary": rules.score_only == "binary",
    }
    counted = {column: f"scores_{place}" for place, column in enumerate(of_objects + of_classes)}
    summary = SCORED_AS_EXPECTED.format(
        score_counts=", ".join(f"count({column}) AS {count}" for column, count in counted.items()),
        object_scores_fit=" AND ".join(
            f"s.{counted[column]} = CASE WHEN $objects THEN s.images ELSE 0 END"
            for column in of_objects
        ),
        class_scores_there=" AND ".join(f"s.{counted[column]} = s.images" for column in of_classes),
        class_scores_missing=" AND ".join(f"s.{counted[column]} = 0" for column in of_classes),
    )
    suspects = [
        name
        for name in prediction_sets
        if store.rows(of_sets(store, [name], summary), prediction_set=name, **values) != [(True,)]
    ]
    if not suspects:
        return Findings(0, [])
    query = WRONGLY_SCORED_IMAGES.format(
        object_scores_fit=" AND ".join(f"({score} IS NOT NULL) = $objects" for score in of_objects),
        class_scores_missing=" + ".join(f"({score} IS NULL)::INTEGER" for score in of_classes),
        class_score_count=len(of_classes),
    )
    query = of_sets(store, suspects, query)
    return findings(store, query, prediction_sets=suspects, **values)


def scored_image_count(store: PoolStore, prediction_sets: Sequence[str]) -> int:
    """Number of rows of ``image_scores``."""
    return store.rows(of_sets(store, prediction_sets, "SELECT count(*) FROM {image_scores}"))[0][0]


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest score of a prediction set under a function, and their tolerance."""

    prediction_set: str
    acquisition_function: str
    lowest: float
    highest: float
    tolerance: float


SCORES_OUT_OF_BOUNDS = """
WITH bounds AS (SELECT unnest($bounds, recursive := true)),
scores AS (
    UNPIVOT (FROM {{image_scores}})
    ON {scores}
    INTO NAME acquisition_function VALUE score
)
SELECT s.prediction_set, s.image_id, s.acquisition_function, s.score, b.lowest, b.highest,
    count(*) OVER () AS finding_count
FROM scores s JOIN bounds b
    ON s.prediction_set = b.prediction_set AND s.acquisition_function = b.acquisition_function
-- NaN is above everything.
WHERE s.score < b.lowest - b.tolerance OR s.score > b.highest + b.tolerance
ORDER BY s.prediction_set, s.acquisition_function, s.image_id LIMIT $first
"""


def scores_out_of_bounds(store: PoolStore, bounds: Sequence[Bounds]) -> Findings:
    """Scores that cannot be; a set without predictions has no bounds."""
    suspects = [
        of_function
        for prediction_set in dict.fromkeys(each.prediction_set for each in bounds)
        for of_function in _out_of_bounds(
            store, [each for each in bounds if each.prediction_set == prediction_set]
        )
    ]
    if not suspects:
        return Findings(0, [])
    functions = dict.fromkeys(each.acquisition_function for each in suspects)
    query = SCORES_OUT_OF_BOUNDS.format(scores=", ".join(score_columns(store, functions)))
    return findings(
        store,
        of_sets(store, {each.prediction_set for each in suspects}, query),
        bounds=[asdict(each) for each in suspects],
    )


def _out_of_bounds(store: PoolStore, bounds: Sequence[Bounds]) -> Iterator[Bounds]:
    """The bounds of one set's functions that its lowest or highest score is not within."""
    functions = [each.acquisition_function for each in bounds]
    ends = score_ends(store, bounds[0].prediction_set, functions)
    for each, (lowest, highest) in zip(bounds, ends, strict=True):
        # Not the other way round: NaN, the highest for DuckDB, is not within any.
        within = (lowest is None or highest is None) or (
            lowest >= each.lowest - each.tolerance and highest <= each.highest + each.tolerance
        )
        if not within:
            yield each


def _functions(level: str) -> list[str]:
    """The names of the acquisition functions of a level."""
    return [name for name, function in ACQUISITION_FUNCTIONS.items() if function.level == level]
