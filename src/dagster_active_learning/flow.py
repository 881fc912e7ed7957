"""The steps of a pool, one way only: predictions -> scores -> candidates, each in one transaction.

Plain functions over an open store: the Dagster assets call them, and so may anything else.
"""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.kernels import (
    Validity,
    add_by_image,
    check_class_probs,
    score_class_probs,
)
from dagster_active_learning.acquisition.scoring import class_prob_matrix, mean_scores
from dagster_active_learning.errors import PoolStateError, PredictionReadError
from dagster_active_learning.ranking import rank_images
from dagster_active_learning.readers.reasons import Reason
from dagster_active_learning.readers.stream import (
    DEFAULT_BATCH_ROWS,
    PredictionStream,
    raw_text,
    rows_for,
)
from dagster_active_learning.store import PoolStore, PredictionSet, SourceFile

ROWS_THAT_DECIDE_CLASS_COUNT = 1_024
"""How many first predictions are looked at for the number of classes, where no names give it."""

SECONDS_BETWEEN_REPORTS = 5.0

_REASONS = {
    Validity.NEGATIVE: Reason.NEGATIVE,
    Validity.ABOVE_ONE: Reason.ABOVE_ONE,
    Validity.WRONG_SUM: Reason.WRONG_SUM,
}

Report = Callable[[str], None]
"""What is told how far a long step has come."""


@dataclass(frozen=True)
class Ranking:
    """What a ranking came to, in numbers.

    Attributes:
        candidate_count: Images ranked.
        image_count: Images that were ranked or could have been: those without a label.
        score_at_cut: Score of the last candidate, None if it has none.
        mean_score: Mean score of the candidates that have one.
        mean_uncertainty: The same as uncertainty.
        sha256: Hash of the ranked images and their scores: the same list has the same hash.
    """

    candidate_count: int
    image_count: int
    score_at_cut: float | None
    mean_score: float | None
    mean_uncertainty: float | None
    sha256: str


def ingest_predictions(
    store: PoolStore,
    stream: PredictionStream,
    *,
    prediction_set: str,
    model: str | None,
    run_id: str,
    in_manifest: bool,
    report: Report,
) -> PredictionSet:
    """Store a source's predictions as a prediction set, in place of what the set was before.

    Every row is stored: as a prediction, or in quarantine with the reason.

    Args:
        store: The pool.
        stream: The predictions.
        prediction_set: Name of the set.
        model: The model that made the predictions.
        run_id: What reads them, for the record.
        in_manifest: Whether only images of the pool's manifest may have predictions.
        report: Told how many rows have been read.

    Raises:
        PredictionReadError: If the source cannot be read, changes while it is read, or no row of
            it can be scored. The database then stays as it was.
    """
    progress = _Progress("read", report)
    positions = _Positions()
    with store.transaction():
        store.clear_prediction_set(prediction_set, stream.value_type)
        n_classes, batches = _class_count(stream)
        for batch in batches:
            source = batch.column("source")[0].as_py()
            if n_classes is None:
                readable = _readable_lengths(batch)
                n_classes = int(readable[0]) if readable.size else None
            first_index = positions.advance(source, batch.num_rows)
            accepted, quarantined = _sort_out(batch, n_classes, first_index)
            if accepted.num_rows:
                store.add_predictions(prediction_set, accepted)
            if quarantined is not None:
                store.add_quarantined(prediction_set, quarantined)
            progress.add(batch.num_rows)
        if n_classes is None:
            raise PredictionReadError(_why_nothing_was_stored(store, stream, prediction_set))
        hashes = {part.source: part.sha256() for part in stream.parts}
        for source, (first_index, row_count) in positions.sources.items():
            store.add_source(
                prediction_set, SourceFile(source, hashes[source], first_index, row_count)
            )
        if in_manifest:
            store.quarantine_images_not_in_manifest(prediction_set, Reason.NOT_IN_MANIFEST)
        stored = store.add_prediction_set(
            prediction_set,
            model=model,
            source=stream.name,
            source_sha256=stream.sha256(),
            class_names=list(stream.class_names or map(str, range(n_classes))),
            run_id=run_id,
        )
        if not stored.prediction_count:
            raise PredictionReadError(_why_nothing_was_stored(store, stream, prediction_set))
    progress.finish()
    return stored


def score_prediction_set(
    store: PoolStore,
    prediction_set: str,
    *,
    batch_rows: int | None = None,
    report: Report,
) -> PredictionSet:
    """Compute the scores of every image of a prediction set, in place of those it had.

    The predictions are about whole images, so that mean_object_score is null.

    Raises:
        PoolStateError: If the prediction set is not in the database.
    """
    stored = store.prediction_set(prediction_set)
    n_classes = len(stored.class_names)
    progress = _Progress("scored", report)
    with store.transaction():
        store.index_images(prediction_set)
        totals = np.zeros((len(ACQUISITION_FUNCTIONS), stored.image_count), dtype=np.float64)
        counts = np.zeros(stored.image_count, dtype=np.int64)
        rows = batch_rows or rows_for(n_classes * 8)
        for batch in store.indexed_predictions(stored, rows):
            scores, _ = score_class_probs(class_prob_matrix(batch.column("class_probs")))
            add_by_image(scores, batch.column("image_index").to_numpy(), totals, counts)
            progress.add(batch.num_rows)
        means = mean_scores(totals, counts).with_columns(mean_object_score=pl.lit(None, pl.Float64))
        store.replace_image_scores(prediction_set, means.with_row_index("image_index"))
    progress.finish()
    return stored


def rank_candidates(
    store: PoolStore,
    prediction_set: str,
    function: AcquisitionFunction,
    *,
    limit: int,
    seed: int,
    run_id: str,
) -> Ranking:
    """Rank the images without a label under one acquisition function.

    The caller holds the transaction, so that several functions are ranked together.

    Raises:
        PoolStateError: If the prediction set is not in the database or has no scores.
    """
    stored = store.prediction_set(prediction_set)
    if not store.score_statistics(prediction_set)[0]:
        raise PoolStateError(
            f"prediction set {prediction_set!r} of pool {store.pool!r} has no scores: materialize "
            f"{store.pool}/image_scores first"
        )
    image_count = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal image_count
        for batch in store.unlabeled_scores(prediction_set, function.name, DEFAULT_BATCH_ROWS):
            image_count += batch.height
            yield batch

    ranked = rank_images(counted(), function, limit=limit, seed=seed)
    n_classes = len(stored.class_names)
    candidates = ranked.with_columns(
        pl.col("score")
        .map_elements(lambda score: function.uncertainty(score, n_classes), return_dtype=pl.Float64)
        .alias("uncertainty")
    )
    store.replace_candidates(prediction_set, function.name, candidates, run_id)
    scores = candidates["score"].drop_nulls()
    return Ranking(
        candidate_count=candidates.height,
        image_count=image_count,
        score_at_cut=candidates["score"][-1] if candidates.height else None,
        mean_score=float(scores.mean()) if len(scores) else None,  # pyright: ignore[reportArgumentType]
        mean_uncertainty=(
            float(candidates["uncertainty"].drop_nulls().mean())  # pyright: ignore[reportArgumentType]
            if len(scores)
            else None
        ),
        sha256=hashlib.sha256(ranked.write_csv().encode()).hexdigest(),
    )


class _Progress:
    """Rows done and rows a second, told every few seconds and at the end."""

    def __init__(self, verb: str, report: Report) -> None:
        self._verb = verb
        self._report = report
        self._rows = 0
        self._start = self._last = time.monotonic()

    def add(self, rows: int) -> None:
        self._rows += rows
        if time.monotonic() - self._last >= SECONDS_BETWEEN_REPORTS:
            self._last = time.monotonic()
            self._tell()

    def finish(self) -> None:
        self._tell()

    def _tell(self) -> None:
        rate = self._rows / max(time.monotonic() - self._start, 1e-9)
        self._report(f"{self._verb} {self._rows:,} predictions, {rate:,.0f} a second")


class _Positions:
    """Which positions of a prediction set the rows of each source have."""

    def __init__(self) -> None:
        self.sources: dict[str, tuple[int, int]] = {}
        self._rows = 0

    def advance(self, source: str, rows: int) -> int:
        """Count the next rows of a source; returns the position of the first of them."""
        position = self._rows
        first, before = self.sources.get(source, (position, 0))
        self.sources[source] = (first, before + rows)
        self._rows += rows
        return position


def _class_count(stream: PredictionStream) -> tuple[int | None, Iterator[pa.RecordBatch]]:
    """The number of classes of a source, and its batches from the first on.

    Without class names it is the most frequent number among the first predictions, so that one
    broken row at the top does not put all the others in quarantine; None if none is readable.
    """
    batches = iter(stream)
    if stream.class_names is not None:
        return len(stream.class_names), batches
    looked_at: list[pa.RecordBatch] = []
    lengths: list[npt.NDArray[np.int64]] = []
    missing = ROWS_THAT_DECIDE_CLASS_COUNT
    for batch in batches:
        looked_at.append(batch)
        lengths.append(_readable_lengths(batch.slice(0, missing)))
        missing -= batch.num_rows
        if missing <= 0:
            break
    found, frequency = np.unique(np.concatenate(lengths), return_counts=True)
    n_classes = int(found[frequency.argmax()]) if found.size else None
    return n_classes, chain(looked_at, batches)


def _readable_lengths(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Numbers of class probabilities of the rows that can be predictions."""
    lengths = _lengths(batch.column("class_probs"))
    return lengths[_is_null(batch.column("reason")) & (lengths >= 2)]


def _sort_out(
    batch: pa.RecordBatch, n_classes: int | None, first_index: int
) -> tuple[pa.Table, pa.Table | None]:
    """The rows of a batch that can be scored, and those that go to quarantine, if any."""
    class_probs = batch.column("class_probs")
    lengths = _lengths(class_probs)
    readable = _is_null(batch.column("reason"))
    fitting = readable & (lengths == n_classes)
    matrix = class_prob_matrix(class_probs if fitting.all() else class_probs.filter(fitting))
    validity = np.full(batch.num_rows, Validity.VALID, dtype=np.uint8)
    validity[fitting] = check_class_probs(matrix) if matrix.size else Validity.VALID
    accepted = fitting & (validity == Validity.VALID)

    predictions = pa.table(
        {
            "image_id": batch.column("image_id"),
            "prediction_index": np.arange(first_index, first_index + batch.num_rows),
            "class_probs": class_probs,
        }
    )
    if accepted.all():
        return predictions, None
    refused = np.flatnonzero(~accepted)
    reasons: list[str] = []
    raws: list[str] = []
    for row in refused.tolist():
        if readable[row]:
            values = class_probs[row].as_py()
            reasons.append(_reason(int(lengths[row]), values, int(validity[row])))
            image_id = batch.column("image_id")[row].as_py()
            raws.append(raw_text({"image_id": image_id, "class_probs": values}))
        else:
            reasons.append(batch.column("reason")[row].as_py())
            raws.append(batch.column("raw")[row].as_py())
    origins = batch.select(["source", "row_number", "image_id"]).take(pa.array(refused))
    quarantined = pa.Table.from_batches([origins])
    quarantined = quarantined.append_column("reason", pa.array(reasons, pa.string()))
    quarantined = quarantined.append_column("raw", pa.array(raws, pa.string()))
    return predictions.filter(pa.array(accepted)), quarantined


def _reason(length: int, values: list[float], validity: int) -> Reason:
    if length < 2:
        return Reason.TOO_FEW_CLASSES
    if validity == Validity.VALID:
        return Reason.OTHER_CLASS_COUNT
    if validity == Validity.NOT_FINITE:
        return Reason.NAN if any(map(math.isnan, values)) else Reason.INFINITE
    return _REASONS[Validity(validity)]


def _lengths(class_probs: pa.ListArray) -> npt.NDArray[np.int64]:
    lengths = pc.fill_null(pc.list_value_length(class_probs), 0)
    return lengths.to_numpy(zero_copy_only=False)


def _is_null(column: pa.Array) -> npt.NDArray[np.bool_]:
    return column.is_null().to_numpy(zero_copy_only=False)


def _why_nothing_was_stored(store: PoolStore, stream: PredictionStream, prediction_set: str) -> str:
    reasons = store.quarantined_by_reason(prediction_set)
    listed = "; ".join(
        f"{row['reason']} ({row['rows']:,} rows, the first is row {row['first_row']} of "
        f"{row['first_source']})"
        for row in reasons.to_dicts()
    )
    return f"{stream.name} holds no prediction that can be scored, nothing was stored: {listed}"
