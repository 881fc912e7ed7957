"""The reasons why an image is a labeling candidate, or is none, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.files.addresses import shown_address
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.images import image_counts
from dagster_active_learning.store.lineage import ImageRecord, image_record
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.pools import Database, existing_pool
from dagster_active_learning.store.prediction_sets import PredictionSet

CLASSES_SHOWN = 3
ROWS_SHOWN = 20


def explain_candidate(
    database: Database,
    image_id: str,
    *,
    pool: str,
    prediction_set: str | None = None,
    acquisition_function: str | None = None,
) -> str:
    """The chain from an image's rank to the rows of the files its predictions are in.

    Ids, names and paths are shown as Python writes them, with quotes and escapes, so that a line
    break or a control character in one cannot pass for text of this report. Addresses are shown
    without user, password and query, which may be the right to read them.

    Args:
        database: An open connection, which is left as it is, or the path of the database.
        image_id: The image.
        pool: The pool's name.
        prediction_set: Name of the prediction set; a pool with only one needs no name.
        acquisition_function: Explain only the rank under this function; under all without it.

    Returns:
        Text of several lines, to be printed: ranks, scores and formulas, or why the image is no
        candidate; each prediction with its likeliest classes, file, SHA-256 and row in the file;
        rows in quarantine with the reasons; the model and the Dagster runs.

    Raises:
        PoolStateError: If the database does not have the pool, or the pool not the prediction set
            or anything about the image.
        ValueError: If there is no such acquisition function.

    Example:
        >>> explanation = explain_candidate(
        ...     "labeling.duckdb", "digit_0", pool="digits", acquisition_function="margin"
        ... )
        >>> print(explanation)
        image 'digit_0' of pool 'digits', prediction set '2026-05'
          file: not given, not labeled
        margin: rank 1 of 3 candidates
          score 0 (probability), uncertainty 1
          formula p(1) - p(2), mean over the image's predictions
          the lowest scores are labeled first
          predicted class '1'
          ranked by Dagster run ...
        predictions: 1
          '1' 0.5, '7' 0.5
            row 1 of ...2026-05.csv', SHA-256 b5bc77...
        model: 'resnet18'
        source: ...
    """
    if acquisition_function is not None and acquisition_function not in ACQUISITION_FUNCTIONS:
        raise ValueError(
            f"acquisition_function is {acquisition_function!r}, expected one of "
            f"{', '.join(ACQUISITION_FUNCTIONS)}"
        )
    with existing_pool(database, pool) as store:
        chosen = prediction_sets.chosen_prediction_set(store, prediction_set)
        stored = prediction_sets.prediction_set(store, chosen)
        record = image_record(store, stored.prediction_set, image_id)
        # The table outlives a manifest that the pool has no longer.
        has_manifest = stored.in_manifest is not False and image_counts(store).images > 0
        if not _is_known(record):
            raise PoolStateError(
                f"image {image_id!r} is not in pool {pool!r}: prediction set "
                f"{stored.prediction_set!r} has no row about it"
                + (", nor has the manifest" if has_manifest else "")
            )
        sections = [
            _image(store, stored, record, image_id, has_manifest=has_manifest),
            _ranks(store, record, acquisition_function, has_manifest=has_manifest),
            _predictions(stored, record),
            _quarantined(record),
            _origin(stored),
        ]
    return "\n".join(line for section in sections for line in section)


def _is_known(record: ImageRecord) -> bool:
    ranked = any(ranking["rank"] is not None for ranking in record.rankings.values())
    return bool(
        record.manifest or record.predictions or record.quarantined or record.is_empty or ranked
    )


def _image(
    store: PoolStore,
    stored: PredictionSet,
    record: ImageRecord,
    image_id: str,
    *,
    has_manifest: bool,
) -> Iterator[str]:
    yield f"image {image_id!r} of pool {store.pool!r}, prediction set {stored.prediction_set!r}"
    if record.manifest is not None:
        uri, label = record.manifest["uri"], record.manifest["label"]
        labeled = "labeled" if record.manifest["labeled"] else "not labeled"
        as_what = f" as {label!r}" if label is not None else ""
        shown = None if uri is None else shown_address(uri)
        yield f"  file: {_given(shown)}, {labeled}{as_what}"
    elif has_manifest:
        yield "  not in the pool's manifest"


def _ranks(
    store: PoolStore, record: ImageRecord, only: str | None, *, has_manifest: bool
) -> Iterator[str]:
    names = [only] if only else [name for name in ACQUISITION_FUNCTIONS if name in record.rankings]
    if not names:
        yield (
            "ranks: no candidates yet, or no image could be one: materialize "
            f"{store.pool}/labeling_candidates"
        )
    for name in names:
        function, ranking = ACQUISITION_FUNCTIONS[name], record.rankings.get(name)
        if ranking is not None and ranking["rank"] is not None:
            yield from _rank(store, record, function, ranking)
        else:
            why = _why_no_candidate(store, record, function, ranking, has_manifest=has_manifest)
            yield f"{name}: no candidate: {why}"


def _rank(
    store: PoolStore, record: ImageRecord, function: AcquisitionFunction, ranking: dict[str, Any]
) -> Iterator[str]:
    yield f"{function.name}: rank {ranking['rank']:,} of {ranking['candidates']:,} candidates"
    score, uncertainty = ranking["score"], ranking["uncertainty"]
    if score is None:
        yield "  no score: the image has no predictions"
    else:
        unit = function.unit_under(ranking["aggregation"])
        yield f"  score {_number(score)} ({unit}), uncertainty {_number(uncertainty)}"
    if ranking["inputs"] is not None:
        formula = function.whole_formula(
            ranking["inputs"], ranking["aggregation"], committee=ranking["committee"]
        )
        yield f"  formula {formula}"
    yield f"  the {function.label_first_under(ranking['aggregation'])} scores are labeled first"
    if ranking["predicted_class"] is not None:
        yield f"  predicted class {ranking['predicted_class']!r}"
    yield f"  ranked by Dagster run {ranking['run_id']}"
    if not ranking["of_stored_predictions"]:
        yield from _former_origin(ranking)
    again = f"materialize {store.pool}/labeling_candidates/{function.name} again"
    if record.manifest is not None and record.manifest["labeled"]:
        yield f"  labeled since then: {again}"
    if record.scores is None:
        yield (
            f"  this rank is older than the predictions: materialize {store.pool}/image_scores, "
            f"then {again}"
        )
    elif (now := record.scores.get(function.name)) != score:
        yield f"  this rank is old, the score is {_number(now)} now: {again}"
    elif not ranking["is_current"]:
        yield f"  its predictions or scores were made again since: {again}"


def _former_origin(ranking: dict[str, Any]) -> Iterator[str]:
    """The predictions that an image was ranked by, where they are not those that are stored."""
    if ranking["prediction_run_id"] is None:
        yield "  ranked by an earlier version, which did not keep what the rank was made of"
        return
    model, source = ranking["model"], ranking["source"]
    yield (
        f"  made of predictions that were replaced since: model {_given(model)}, source "
        f"{source!r}, SHA-256 {ranking['source_sha256']}, read by Dagster run "
        f"{ranking['prediction_run_id']}"
    )


def _why_no_candidate(  # noqa: PLR0911 - a table
    store: PoolStore,
    record: ImageRecord,
    function: AcquisitionFunction,
    ranking: dict[str, Any] | None,
    *,
    has_manifest: bool,
) -> str:
    if record.manifest is None and has_manifest:
        return "the image is not in the pool's manifest"
    if record.manifest is not None and record.manifest["labeled"]:
        return "the image is labeled"
    if record.scores is None:
        if record.predictions or record.is_empty or not record.quarantined:
            return f"the image has no scores yet: materialize {store.pool}/image_scores"
        return "all rows about the image are in quarantine"
    # A pool has no column of a function that was added after it was written.
    score, count = record.scores.get(function.name), record.scores["prediction_count"]
    if score is None and count:
        alike = [
            name for name, other in ACQUISITION_FUNCTIONS.items() if other.level == function.level
        ]
        if any(record.scores.get(name) is not None for name in alike):
            return f"the image has no score by it yet: materialize {store.pool}/image_scores"
        return {
            "image": "its predictions have no class probabilities",
            "object": "a prediction about a whole image has no object score",
            "committee": "its predictions are not declared to be votes of a committee",
        }[function.level]
    if ranking is None:
        return (
            "nothing is ranked by this function: materialize "
            f"{store.pool}/labeling_candidates/{function.name}"
        )
    aggregation = ranking["aggregation"]
    with_unit = f"its score of {_number(score)} ({function.unit_under(aggregation)})"
    listed = f"the list of {ranking['candidates']:,}"
    if not count:
        in_quarantine = " but rows in quarantine" if record.quarantined else ""
        return (
            f"the image has no predictions{in_quarantine}; images_without_predictions left it "
            f"out or put it behind {listed}"
        )
    last = ranking["last_score"]
    if score == last:
        return (
            f"{with_unit} is that of the last in {listed}, and "
            "equal scores are ordered by a seeded hash of the id"
        )
    if last is None or (score > last) == (function.label_first_under(aggregation) == "highest"):
        return (
            f"{with_unit} is newer than {listed}: materialize "
            f"{store.pool}/labeling_candidates/{function.name} again"
        )
    return f"{with_unit} is behind {listed}, in which {_number(last)} is the last"


def _predictions(stored: PredictionSet, record: ImageRecord) -> Iterator[str]:
    if not record.predictions:
        why = ": the model found no object in the image" if record.is_empty else ""
        yield f"predictions: none{why}"
        return
    yield f"predictions: {len(record.predictions):,}"
    for row in record.predictions[:ROWS_SHOWN]:
        parts = [
            *([f"category {row['category']!r}"] if row["category"] is not None else []),
            *([f"score {_number(row['score'])}"] if row["score"] is not None else []),
            *(_likeliest(row["class_probs"], stored.class_names) if row["class_probs"] else []),
        ]
        yield f"  {', '.join(parts)}"
        yield f"    row {row['row_number']:,} of {row['source']!r}, SHA-256 {row['source_sha256']}"
    yield from _more(record.predictions)


def _likeliest(class_probs: list[float], class_names: list[str]) -> Iterator[str]:
    order = sorted(range(len(class_probs)), key=lambda index: (-class_probs[index], index))
    for index in order[:CLASSES_SHOWN]:
        yield f"{class_names[index]!r} {_number(class_probs[index])}"
    if len(order) > CLASSES_SHOWN:
        yield f"{len(order) - CLASSES_SHOWN:,} more"


def _quarantined(record: ImageRecord) -> Iterator[str]:
    if record.quarantined:
        yield f"rows in quarantine: {len(record.quarantined):,}"
    for row in record.quarantined[:ROWS_SHOWN]:
        yield f"  row {row['row_number']:,} of {row['source']!r}: {row['reason']}"
    yield from _more(record.quarantined)


def _more(rows: list[Any]) -> Iterator[str]:
    if len(rows) > ROWS_SHOWN:
        yield f"  and {len(rows) - ROWS_SHOWN:,} more"


def _origin(stored: PredictionSet) -> Iterator[str]:
    yield f"model: {_given(stored.model)}"
    yield f"source: {stored.source!r}, SHA-256 {stored.source_sha256}"
    yield f"  read by Dagster run {stored.run_id}"


def _given(text: str | None) -> str:
    return "not given" if text is None else repr(text)


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"
