"""The checks of ``<pool>/predictions``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)

from dagster_active_learning.definitions.checks.check import (
    ERROR,
    EXAMPLES_SHOWN,
    WARN,
    CheckRun,
    check,
)
from dagster_active_learning.files.addresses import shown_address
from dagster_active_learning.text import quoted_pair, shown

if TYPE_CHECKING:
    from dagster_active_learning.store.prediction_sets import PredictionSet

CLASS_NAMES_KEPT = 1_000
CLASS_NAME_BYTES = 60
"""Number of class names that an evaluation keeps, and their length: an event takes 100 KB."""

EVALUATIONS_SEARCHED = 100


@check(
    "valid_class_probabilities",
    lambda pool: (
        f"At most {pool.max_quarantined_share:.2%} of the rows cannot be scored and are in "
        "quarantine. Above that nothing is scored or ranked in the same run."
    ),
    blocking=True,
)
def valid_class_probabilities(run: CheckRun) -> dg.AssetCheckResult:
    """Too large a share of a set in quarantine."""
    from dagster_active_learning.store.quarantined_predictions import quarantined_by_reason

    allowed = run.pool.max_quarantined_share
    by_share = sorted(run.sets, key=_quarantined_share, reverse=True)
    worst, share = by_share[0], _quarantined_share(by_share[0])
    reasons = [
        {"prediction_set": stored.prediction_set, **reason}
        for stored in by_share[:EXAMPLES_SHOWN]
        if stored.quarantined_count
        for reason in quarantined_by_reason(run.store, stored.prediction_set).to_dicts()
    ]
    where = f" of the prediction set {shown(worst.prediction_set)!r}" * run.pool.partitioned
    return run.result(
        share <= allowed,
        f"{worst.quarantined_count:,} of {_row_count(worst):,} rows{where} cannot be scored: "
        f"{share:.2%}, at most {allowed:.2%} may be",
        {
            "rows": sum(map(_row_count, run.sets)),
            "quarantined": sum(stored.quarantined_count for stored in run.sets),
            "quarantined_share": share,
            "max_quarantined_share": allowed,
        },
        reasons,
    )


@check(
    "no_duplicate_predictions",
    lambda _: (
        "No prediction says the same about the same image as another one. Of objects, those with a "
        "box or a mask are compared."
    ),
)
def no_duplicate_predictions(run: CheckRun) -> dg.AssetCheckResult:
    """The same prediction of the same image twice."""
    from dagster_active_learning.store.predictions import duplicate_predictions

    objects = run.pool.rules.objects
    duplicates = duplicate_predictions(run.store, run.sets, objects=objects)
    predictions = sum(stored.prediction_count for stored in run.sets)
    return run.result(
        not duplicates.count,
        f"{duplicates.count:,} of {predictions:,} predictions repeat another one of the same image",
        {"predictions": predictions, "duplicates": duplicates.count},
        duplicates.examples,
        # Members of an ensemble may agree to the last digit about an image they are sure of.
        ERROR if objects else WARN,
    )


@check(
    "no_undeclared_committee",
    lambda pool: (
        (
            "No image has several different predictions. Votes of a committee, which are several, "
            "are declared: committee: true."
        )
        if not pool.rules.objects and not pool.committee
        else None
    ),
)
def no_undeclared_committee(run: CheckRun) -> dg.AssetCheckResult:
    """Several different predictions of an image, which nobody has declared to be votes."""
    from dagster_active_learning.store.findings import Findings
    from dagster_active_learning.store.predictions import differing_predictions

    several = [
        stored.prediction_set for stored in run.sets if stored.image_count < stored.prediction_count
    ]
    differing = differing_predictions(run.store, several) if several else Findings(0, [])
    images = sum(stored.image_count for stored in run.sets)
    description = f"{differing.count:,} of {images:,} images have several different predictions"
    if differing.count:
        example = differing.examples[0]
        description += (
            f", such as {shown(example['image_id'])!r} with {example['predictions']:,}, and have "
            "the mean of their scores: where they are votes of several models, set committee: "
            "true; where not, read each model's rows as a prediction set, for example by a query"
        )
    return run.result(
        not differing.count,
        description,
        {"images": images, "images_with_different_predictions": differing.count},
        differing.examples,
        WARN,
    )


@check(
    "class_names_unchanged",
    lambda _: "The classes are those of the prediction set that was read before, in their order.",
)
def class_names_unchanged(run: CheckRun) -> dg.AssetCheckResult:
    """Other classes than in the set that was read before, or the same in another order."""
    changes: list[dict[str, Any]] = []
    changed: list[PredictionSet] = []
    compared = 0
    for stored in run.sets:
        now, before = _ClassNames.of(stored.class_names), _class_names_before(run, stored)
        if before is None:
            continue
        compared += 1
        if now.sha256 == before.sha256:
            continue
        changed.append(stored)
        changes += [
            {
                "prediction_set": stored.prediction_set,
                "class_index": index,
                "before": old,
                "now": new,
            }
            for index, (old, new) in enumerate(zip_longest(before.first, now.first))
            if old != new
        ]
    last = run.sets[-1]
    names = _ClassNames.of(last.class_names)
    numbers = {
        "compared": compared,
        "changed": len(changed),
        "classes": len(last.class_names),
        "class_names": dg.MetadataValue.json(names.first),
        "class_names_sha256": names.sha256,
        "predictions_run_id": last.run_id,
    }
    if not compared:
        description = "there is no former prediction set to compare with"
    elif not changed:
        description = "the classes are those of the set that was read before"
    else:
        description = (
            f"{len(changed)} of {compared} prediction sets have other classes, or another order of "
            "them, than the set that was read before"
        )
    # Objects without class probabilities have the classes that happen to be found.
    by_chance = not any(stored.has_class_probs for stored in changed)
    return run.result(not changed, description, numbers, changes, WARN if by_chance else ERROR)


@check(
    "pool_coverage",
    lambda pool: (
        (
            f"At least {pool.wanted_coverage:.2%} of the manifest's images without a label have "
            "predictions, or the source says that the model found nothing in them."
        )
        if pool.manifest
        else None
    ),
)
def pool_coverage(run: CheckRun) -> dg.AssetCheckResult:
    """Images of the manifest without predictions."""
    from dagster_active_learning.store.coverage import coverage, uncovered_images

    wanted = run.pool.wanted_coverage
    covered = coverage(run.store, run.names)
    shares = {
        of_set.prediction_set: 1 - of_set.without_count / of_set.image_count for of_set in covered
    }
    share = min(shares.values(), default=1.0)
    short = [name for name, of_set in shares.items() if of_set < wanted]
    images = sum(of_set.image_count for of_set in covered)
    without = sum(of_set.without_count for of_set in covered)
    where = " of the worst prediction set" * run.pool.partitioned
    examples = uncovered_images(run.store, short or run.names)
    return run.result(
        not short,
        f"{without:,} of {images:,} images without a label have no predictions: {share:.2%}{where} "
        f"are covered, {wanted:.2%} should be",
        {
            "images_without_label": images,
            "images_without_predictions": without,
            "coverage": share,
            "min_coverage": wanted,
        },
        [{**image, "uri": image["uri"] and shown_address(image["uri"])} for image in examples],
        WARN,
    )


@check(
    "ids_as_in_the_manifest",
    lambda pool: (
        (
            "No image of the manifest without predictions has an id that differs in form only from "
            "one that the predictions name: by separators, Unicode normal form, case, suffix, "
            "leading zeros or a folder."
        )
        if pool.manifest
        else None
    ),
)
def ids_as_in_the_manifest(run: CheckRun) -> dg.AssetCheckResult:
    """Predictions that nearly name an image of the manifest: nobody knows what is in it."""
    from dagster_active_learning.store.alike_ids import alike_ids

    counts: Counter[str] = Counter()
    pairs: dict[str, tuple[str, str]] = {}
    examples: list[dict[str, Any]] = []
    for alike in alike_ids(run.store, run.names):
        predicted, in_manifest = quoted_pair(alike.predicted_id, alike.image_id)
        counts[alike.difference] += alike.image_count
        pairs.setdefault(alike.difference, (predicted, in_manifest))
        examples.append(
            {
                "prediction_set": alike.prediction_set,
                "difference": alike.difference,
                "images": alike.image_count,
                "predicted_id": predicted,
                "image_id": in_manifest,
            }
        )
    description = f"{counts.total():,} images of the manifest are named in another form only"
    if counts:
        description += ": " + "; ".join(
            f"{counts[difference]:,} by {difference} ({predicted} in the predictions, "
            f"{in_manifest} in the manifest)"
            for difference, (predicted, in_manifest) in pairs.items()
        )
    numbers = {"nearly_named": counts.total()}
    return run.result(not counts, description, numbers, examples, WARN)


@check(
    "boxes_inside_images",
    lambda pool: (
        "No box leaves its image by more than a pixel, where the image's size is known."
        if pool.rules.objects
        else None
    ),
)
def boxes_inside_images(run: CheckRun) -> dg.AssetCheckResult:
    """Boxes beyond the edges of their images: most often boxes in another format."""
    from dagster_active_learning.store.boxes import boxes_outside

    relative = [stored.prediction_set for stored in run.sets if stored.bbox_unit == "relative"]
    in_manifest = run.pool.rules.in_manifest
    found = boxes_outside(run.store, run.names, relative=relative, in_manifest=in_manifest)
    counts = found.counts
    description = (
        f"{counts.outside:,} of {counts.sized:,} boxes in images of known size leave their image"
    )
    if counts.outside:
        first = found.examples[0]
        description += (
            f", such as {first['bbox']} in {shown(first['image_id'])!r} of {first['width']} x "
            f"{first['height']}; boxes that are not x, y, width and height do (box)"
        )
    if counts.turned:
        description += (
            f"; {counts.turned:,} of them fit if width and height are exchanged, as they are in "
            "the manifest of an image that its EXIF orientation turns"
        )
    return run.result(
        not counts.outside,
        description,
        {
            "boxes": counts.boxes,
            "boxes_in_images_of_known_size": counts.sized,
            "boxes_outside": counts.outside,
        },
        found.examples,
        WARN,
    )


CHECKS = (
    valid_class_probabilities,
    no_duplicate_predictions,
    no_undeclared_committee,
    class_names_unchanged,
    pool_coverage,
    ids_as_in_the_manifest,
    boxes_inside_images,
)


@dataclass(frozen=True)
class _ClassNames:
    """Class names as an evaluation keeps them: the hash of all, and the first to be shown."""

    sha256: str
    first: Sequence[str]

    @staticmethod
    def of(names: Sequence[str]) -> _ClassNames:
        sha256 = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
        first = [shown(name, CLASS_NAME_BYTES) for name in names[:CLASS_NAMES_KEPT]]
        return _ClassNames(sha256, first)


def _class_names_before(run: CheckRun, stored: PredictionSet) -> _ClassNames | None:
    """The class names of the set that was read before this one, where they are known.

    In a pool with partitions it is in the database. Where it was overwritten, the check itself
    remembers it: the last evaluation of predictions that another run had read.
    """
    from dagster_active_learning.store.prediction_sets import former_class_names

    names = former_class_names(run.store, stored.prediction_set)
    if names is not None:
        return _ClassNames.of(names)
    history = run.context.instance.event_log_storage.get_asset_check_execution_history(
        run.key,
        limit=EVALUATIONS_SEARCHED,
        status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    )
    for record in history:
        event = record.event.dagster_event if record.event else None
        known = event.asset_check_evaluation_data.metadata if event else {}
        values: dict[str, Any] = {name: value.value for name, value in known.items()}
        if values.get("predictions_run_id", stored.run_id) != stored.run_id:
            return _ClassNames(values["class_names_sha256"], values["class_names"])
    return None


def _row_count(stored: PredictionSet) -> int:
    return stored.prediction_count + stored.quarantined_count


def _quarantined_share(stored: PredictionSet) -> float:
    return stored.quarantined_count / max(_row_count(stored), 1)
