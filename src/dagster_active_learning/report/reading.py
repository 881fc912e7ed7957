"""What a page shows of the pool's tables: rankings and batches, with reasons and objects."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.explanation.phrase import candidate_reason
from dagster_active_learning.exporters.labeling_images import polygons
from dagster_active_learning.exporters.masks import is_run_lengths
from dagster_active_learning.gallery.objects import MAX_OBJECTS
from dagster_active_learning.report.contents import (
    PageCandidate,
    PageImage,
    PageList,
    PageObject,
)
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.labeling_batches import batch_rows
from dagster_active_learning.store.labeling_candidates import candidate_count, candidate_rows
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet, prediction_set
from dagster_active_learning.store.predictions import each_image_predictions
from dagster_active_learning.store.quarantined_predictions import quarantined_of_first
from dagster_active_learning.store.rankings import has_ranking
from dagster_active_learning.store.score_bins import score_bins
from dagster_active_learning.store.score_counts import ScoreBins
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    import polars as pl

MOST_CANDIDATES = 10_000
"""Images of the list that a page is about."""

MOST_BESIDE = 1_000
"""Images of a list that can stand beside it."""

NAME_BYTES = 60


@dataclass(frozen=True)
class Lists:
    """Lists of images that have a prediction set in common.

    Attributes:
        by_name: The lists by the names of their acquisition functions.
        images: Their images by their ids.
        class_names: The classes of the set in their order.
    """

    by_name: Mapping[str, PageList]
    images: Mapping[str, PageImage]
    class_names: Sequence[str]


@dataclass(frozen=True)
class _Wanted:
    """A row of a list, and the function that gives the reason for it."""

    function: AcquisitionFunction
    row: Mapping[str, Any]


def read_rankings(
    store: PoolStore,
    name: str,
    functions: Sequence[AcquisitionFunction],
    *,
    rules: Rules,
    limit: int,
    suffix: str = "",
) -> Lists:
    """The rankings of a prediction set, of those functions that have one.

    Args:
        store: The pool.
        name: The prediction set.
        functions: The acquisition functions.
        rules: How the images were scored.
        limit: The last rank of each that is read.
        suffix: What stands behind the name of each list.
    """
    stored = prediction_set(store, name)
    names = [function.name for function in functions]
    rows: dict[str, list[Mapping[str, Any]]] = {}
    with candidate_rows(store, name, names, limit=limit) as reader:
        for row in reader.read_all().to_pylist():
            rows.setdefault(row["acquisition_function"], []).append(row)
    in_quarantine = quarantined_of_first(store, name, names, limit)
    wanted = [
        _Wanted(function, row) for function in functions for row in rows.get(function.name, ())
    ]
    candidates = _candidates(store, stored, wanted, rules, in_quarantine)
    bins = score_bins(store, name, names, rules)
    lists = {
        function.name: _list(
            stored,
            function,
            rules,
            name=function.name + suffix,
            candidates=[
                candidates[function.name, row["rank"]] for row in rows.get(function.name, ())
            ],
            count=candidate_count(store, [name], function),
            bins=bins.get(function.name),
        )
        for function in functions
        if has_ranking(store, name, function.name)
    }
    images = {each.row["image_id"]: _image(each.row) for each in wanted}
    return Lists(lists, images, stored.class_names)


def read_batch(
    store: PoolStore, batch: int, name: str, function: AcquisitionFunction, *, rules: Rules
) -> Lists:
    """A labeling batch, whose images still are to be labeled.

    Args:
        store: The pool.
        batch: Its number.
        name: The prediction set whose ranking it was made of.
        function: The acquisition function of that ranking.
        rules: How the images were scored.
    """
    stored = prediction_set(store, name)
    with batch_rows(store, batch) as reader:
        rows: list[dict[str, Any]] = reader.read_all().to_pylist()
    wanted = [_Wanted(function, row) for row in rows[:MOST_CANDIDATES]]
    candidates = _candidates(store, stored, wanted, rules, set())
    made = _list(
        stored,
        function,
        rules,
        name=f"batch {batch}",
        candidates=[candidates[function.name, row["rank"]] for row in rows[:MOST_CANDIDATES]],
        count=len(rows),
        bins=score_bins(store, name, [function.name], rules).get(function.name),
    )
    images = {row["image_id"]: _image(row) for row in rows}
    return Lists({function.name: made}, images, stored.class_names)


def _list(
    stored: PredictionSet,
    function: AcquisitionFunction,
    rules: Rules,
    *,
    name: str,
    candidates: Sequence[PageCandidate],
    count: int,
    bins: ScoreBins | None,
) -> PageList:
    unit = function.unit_under(rules.aggregation)
    return PageList(
        name=name,
        score_label=f"{function.formula_of(rules.inputs)}, {unit}",
        label_first=function.label_first_under(rules.aggregation),
        candidates=candidates,
        candidate_count=count,
        bbox_unit="relative" if stored.bbox_unit == "relative" else "pixel",
        counts=() if bins is None else bins.counts.tolist(),
        edges=() if bins is None else bins.edges.tolist(),
    )


def _image(row: Mapping[str, Any]) -> PageImage:
    size = (row["width"], row["height"]) if row["width"] and row["height"] else None
    return PageImage(uri=row["uri"], size=size)


def _candidates(
    store: PoolStore,
    stored: PredictionSet,
    wanted: Sequence[_Wanted],
    rules: Rules,
    in_quarantine: set[str],
) -> dict[tuple[str, int], PageCandidate]:
    """The images of lists by function and rank, whose predictions are read once for all lists."""
    class_names = [shown(name, NAME_BYTES) for name in stored.class_names]
    by_image: dict[str, list[_Wanted]] = defaultdict(list)
    for each in wanted:
        by_image[each.row["image_id"]].append(each)
    made: dict[tuple[str, int], PageCandidate] = {}

    def add(image_id: str, predictions: pl.DataFrame | None) -> None:
        objects = () if predictions is None or not rules.objects else _objects(predictions, stored)
        count = 0 if predictions is None else predictions["prediction_count"][0]
        for each in by_image[image_id]:
            reason = candidate_reason(
                each.function,
                predictions,
                class_names=class_names,
                rules=rules,
                has_quarantined=image_id in in_quarantine,
            )
            row = each.row
            made[each.function.name, row["rank"]] = PageCandidate(
                rank=row["rank"],
                image_id=image_id,
                score=row["score"],
                predicted_class=row["predicted_class"],
                reason=reason + _queue_rank(row),
                chosen_by=row.get("chosen_by"),
                objects=objects,
                object_count=count if rules.objects else 0,
            )

    ids = list(by_image)
    predicted: set[str] = set()
    masks = rules.task == "segmentation"
    for image_id, predictions in each_image_predictions(
        store, stored, ids, per_image=MAX_OBJECTS, masks=masks
    ):
        add(image_id, predictions)
        predicted.add(image_id)
    for image_id in ids:
        if image_id not in predicted:
            add(image_id, None)
    return made


def _queue_rank(row: Mapping[str, Any]) -> str:
    rank = row.get("queue_rank")
    return "" if rank is None else f"; rank {rank:,} in the queue"


def _objects(predictions: pl.DataFrame, stored: PredictionSet) -> tuple[PageObject, ...]:
    import polars as pl

    class_probs = pl.col("class_probs")
    has_masks = "segmentation" in predictions.columns
    rows = predictions.select(
        "bbox",
        "category",
        class_index=class_probs.list.arg_max(),
        score=pl.coalesce("score", class_probs.list.max()),
        mask="segmentation" if has_masks else pl.lit(None, pl.String),
    )
    relative = stored.bbox_unit != "pixel"
    found: list[PageObject] = []
    for bbox, category, class_index, score, mask in rows.iter_rows():
        drawn = None if mask is None else _mask(mask, relative=relative)
        if bbox is None and drawn is None:
            continue
        label = (
            category
            if category is not None
            else (None if class_index is None else stored.class_names[int(class_index)])
        )
        found.append(
            PageObject(
                label=label,
                score=score,
                bbox=None if bbox is None else tuple(bbox),
                mask=drawn,
            )
        )
    return tuple(found)


def _mask(text: str, *, relative: bool) -> Any:
    """Outlines or run lengths, as the text of a mask has them; None where it is neither."""
    try:
        mask = json.loads(text)
        return mask if is_run_lengths(mask) else polygons(mask, relative=relative) or None
    # Numbers that no computer has, lists a thousand deep: a page is made all the same.
    except (ValueError, OverflowError, RecursionError):
        return None
