"""Files of a set in place -> their scores in the pool's storage, by tasks of an engine.

No database is open meanwhile: what is committed is what readers see until all is there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import accumulate, chain, pairwise
from typing import Any

import pyarrow as pa

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS, PACKAGE_FUNCTIONS
from dagster_active_learning.errors import PredictionReadError, SettingError
from dagster_active_learning.files.in_place import FileInPlace
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.flow.best_images import BEST_IMAGES, IMAGES_WITH_PREDICTIONS
from dagster_active_learning.flow.best_of_set import join_best, join_predictions
from dagster_active_learning.flow.bucket_rows import BUCKET_BYTES, rows_within
from dagster_active_learning.flow.bucket_scores import BucketCounts, BucketTask, score_bucket
from dagster_active_learning.flow.engine import Engine
from dagster_active_learning.flow.file_scores import FileCounts, FileTask, score_file
from dagster_active_learning.flow.finished_tasks import Finished
from dagster_active_learning.flow.progress import SECONDS_BETWEEN_REPORTS, Report
from dagster_active_learning.flow.score_tables import scored_functions
from dagster_active_learning.flow.sorted_rows import class_count, readable_lengths
from dagster_active_learning.readers.in_place import SourceInPlace
from dagster_active_learning.rules import READING_RULES, SCORING_RULES, Rules
from dagster_active_learning.store.kept_rules import kept_rules
from dagster_active_learning.store.repeated import Repeated, join_repeated
from dagster_active_learning.store.schema import PACKAGE
from dagster_active_learning.store.score_counts import ScoreCounts, join_counts

MARKER = "set.json"
"""The file by which a folder in the storage is known to be this package's, with what is in it."""

RUNS = "runs"
"""The folder in it with a file per run that has filled it, named by the run."""

ROWS_PER_BUCKET = 2_000_000
"""Predictions that a worker adds up at once; of a committee as many as ``BUCKET_BYTES`` hold."""


@dataclass(frozen=True)
class ScoredFiles:
    """A set whose files are scored, and not yet committed.

    Attributes:
        source: The files.
        rules: What they were scored under.
        class_names: Names of the classes, None where no prediction has class probabilities.
        description: All that decides what is in the folder, as JSON.
        folder: Where the scores and the rows for quarantine are.
        files: What is known of each file, in their order.
        image_count: Number of images with predictions.
        score_files: Names and sizes in bytes of the files with scores in the folder, and of the two
            that follow.
        best: Name of the file with the images that come first in it, None without an image.
        cuts: As ``BestImages`` has them.
        score_counts: The scores of images in numbers, by function.
        repeated: What is repeated among their predictions.
        predictions: Name of the file with the predictions of the first of them, None where they
            are in several places.
    """

    source: SourceInPlace
    rules: Rules
    class_names: list[str] | None
    description: str
    folder: Storage
    files: tuple[FileCounts, ...]
    image_count: int
    score_files: dict[str, int]
    best: str | None
    cuts: dict[str, float]
    score_counts: dict[str, ScoreCounts]
    repeated: Repeated
    predictions: str | None

    @property
    def places(self) -> tuple[FileInPlace, ...]:
        """The files as they were when they were scored."""
        return tuple(
            replace(placed.file, known_sha256=file.sha256) if placed.file.is_local else placed.file
            for placed, file in zip(self.source.files, self.files, strict=True)
        )

    @property
    def scores(self) -> list[str]:
        """Names of the files with scores of all images."""
        return [name for name in self.score_files if name.startswith("scores/")]

    @property
    def quarantine_files(self) -> dict[str, int]:
        """Names and sizes in bytes of the files with rows for quarantine in the folder."""
        return _written(self.files, "quarantine/")

    @property
    def run_count(self) -> int:
        """Runs of predictions about one image, one file after the other."""
        filled = [file for file in self.files if file.prediction_count]
        going_on = sum(before.last_id == file.first_id for before, file in pairwise(filled))
        return sum(file.run_count for file in filled) - going_on


def score_files(
    source: SourceInPlace,
    *,
    prediction_set: str,
    rules: Rules,
    storage: Storage,
    engine: Engine,
    run_id: str,
    report: Report,
) -> ScoredFiles:
    """Judge and score all predictions of a set; what was done before is not done again.

    Args:
        source: The files.
        prediction_set: Name of the set.
        rules: How predictions are judged and scored.
        storage: The pool's storage; the set gets a folder in it, named by all that decides its
            content.
        engine: What runs the tasks: one per file, and one per bucket where images have rows in
            several files.
        run_id: What scores them: the folder is its own until it has ended.
        report: Takes the progress.

    Raises:
        PredictionReadError: If a file cannot be read, or is no longer the one it was.
        SettingError: If there is an acquisition function that workers do not have.
        EngineError: If the workers are lost again and again.
    """
    _check_functions(rules)
    class_names = _class_names(source)
    row_count = sum(file.row_count for file in source.files)
    value_type = _value_type(source)
    most = min(ROWS_PER_BUCKET, rows_within(BUCKET_BYTES, rules, class_names, value_type))
    buckets = -(-row_count // most) if source.may_share_images else 0

    def score(buckets: int) -> ScoredFiles:
        text, folder = _folder(source, prediction_set, rules, storage, class_names, buckets)
        folder.write(f"{RUNS}/{run_id}", b"")
        folder.write(MARKER, text.encode())
        return _files(source, rules, text, folder, engine, report, class_names, buckets)

    scored = score(buckets)
    if not buckets and any(file.repeats for file in scored.files):
        report("images have rows apart from each other: their scores are added up in a second wave")
        scored = score(max(1, -(-row_count // most)))
    return scored


def _folder(
    source: SourceInPlace,
    prediction_set: str,
    rules: Rules,
    storage: Storage,
    class_names: list[str] | None,
    buckets: int,
) -> tuple[str, Storage]:
    """All that decides what is written of a set, and the folder that is named by it."""
    description = _description(source, prediction_set, rules, class_names, buckets)
    text = json.dumps({**description, **scoring(rules)}, sort_keys=True)
    return text, storage.within(hashlib.sha256(text.encode()).hexdigest()[:32])


def _files(
    source: SourceInPlace,
    rules: Rules,
    text: str,
    folder: Storage,
    engine: Engine,
    report: Report,
    class_names: list[str] | None,
    buckets: int,
) -> ScoredFiles:
    firsts = accumulate((file.row_count for file in source.files), initial=0)
    tasks = [
        FileTask(
            folder=folder.folder,
            place=place,
            file=file.file,
            source=file.source,
            row_count=file.row_count,
            first_index=first,
            options=source.options,
            class_names=None if class_names is None else tuple(class_names),
            value_type=_value_type(source),
            rules=rules,
            buckets=buckets,
        )
        for place, (file, first) in enumerate(zip(source.files, firsts, strict=False))
    ]
    progress = _TaskProgress("files", len(tasks), report)
    done: list[FileCounts] = []
    for file in engine.run(score_file, tasks, report):
        progress.add(file.row_count, source.files[file.place].file.size, is_new=file.is_new)
        done.append(file)
    progress.finish()
    done.sort(key=lambda file: file.place)
    parts = [file for file in done if file.prediction_count]
    images = sum(file.run_count for file in done)
    if buckets:
        parts = sorted(_add_buckets(folder, done, rules, engine, report), key=lambda one: one.name)
        images = sum(bucket.image_count for bucket in parts)
    best, cuts = join_best(folder, parts, rules)
    # In buckets there are no predictions, but their scores.
    predictions = None if buckets or best is None else join_predictions(folder, parts, rules)
    score_files = _written(parts, "scores/")
    score_files |= {name: folder.written[name] for name in (best, predictions) if name is not None}
    return ScoredFiles(
        source=source,
        rules=rules,
        class_names=class_names,
        description=text,
        folder=folder,
        files=tuple(done),
        image_count=images,
        score_files=score_files,
        best=best,
        cuts=cuts,
        score_counts=join_counts(part.scores for part in parts),
        repeated=join_repeated(part.repeated for part in parts),
        predictions=predictions,
    )


def _written(tasks: Iterable[Finished], folder: str) -> dict[str, int]:
    """The files in one of the folders that tasks have written, with their sizes."""
    return {
        name: size for task in tasks for name, size in task.files.items() if name.startswith(folder)
    }


def _add_buckets(
    folder: Storage,
    files: Sequence[FileCounts],
    rules: Rules,
    engine: Engine,
    report: Report,
) -> list[BucketCounts]:
    """Wave 2: the scores of images whose predictions are in several places."""
    parts: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for file in files:
        groups: dict[int, list[int]] = {}
        for place, bucket in enumerate(file.groups):
            groups.setdefault(bucket, []).append(place)
        for bucket, places in groups.items():
            parts.setdefault(bucket, []).append((file.name, tuple(places)))
    tasks = [
        BucketTask(folder.folder, bucket, tuple(of_bucket), rules)
        for bucket, of_bucket in sorted(parts.items())
    ]
    progress = _TaskProgress("buckets", len(tasks), report)
    added: list[BucketCounts] = []
    for bucket in engine.run(score_bucket, tasks, report):
        progress.add(bucket.row_count, 0, is_new=bucket.is_new)
        added.append(bucket)
    progress.finish()
    wanted, got = sum(file.prediction_count for file in files), sum(one.row_count for one in added)
    if wanted != got:
        raise PredictionReadError(
            f"{folder} has {got:,} predictions in buckets, and {wanted:,} were written: remove the "
            "folder and materialize the predictions again"
        )
    return added


def _check_functions(rules: Rules) -> None:
    """Raise SettingError if a function was added in this process: others would give no scores."""
    for name in scored_functions(rules):
        if ACQUISITION_FUNCTIONS[name] is not PACKAGE_FUNCTIONS.get(name):
            raise SettingError(
                "predictions",
                f"the acquisition function {name!r} was added in this process, and the workers "
                "that score predictions in place do not have it: leave in_place out, or the "
                "function",
            )


def _value_type(source: SourceInPlace) -> str:
    return "double" if source.stream.value_type == pa.float64() else "float"


def _class_names(source: SourceInPlace) -> list[str] | None:
    """The classes of a source, by their numbers where it does not name them."""
    stream = source.stream
    if stream.class_names is not None:
        return list(stream.class_names)
    if not source.layout.probabilities:
        return None
    n_classes, batches = class_count(stream)
    if n_classes is None:
        lengths = chain.from_iterable(map(readable_lengths, batches))
        n_classes = next((int(length) for length in lengths), None)
    return None if n_classes is None else [str(place) for place in range(n_classes)]


def _description(
    source: SourceInPlace,
    prediction_set: str,
    rules: Rules,
    class_names: list[str] | None,
    buckets: int,
) -> dict[str, object]:
    """All that decides what is written of a set, without secrets."""
    return {
        "prediction_set": prediction_set,
        "files": [[file.source, file.file.identity, file.row_count] for file in source.files],
        "options": {name: repr(value) for name, value in source.options.items()},
        "class_names": class_names,
        "value_type": str(source.stream.value_type),
        "reading": kept_rules(rules, READING_RULES),
        "buckets": buckets,
        "best": [BEST_IMAGES, IMAGES_WITH_PREDICTIONS],
        "versions": {name: version(name) for name in (PACKAGE, "pyarrow")},
    }


def scoring(rules: Rules) -> dict[str, Any]:
    """What decides the scores of predictions that are read."""
    return {"scoring": kept_rules(rules, SCORING_RULES), "functions": scored_functions(rules)}


class _TaskProgress:
    """Tasks, rows and bytes that are done, reported every few seconds and at the end."""

    def __init__(self, noun: str, tasks: int, report: Report) -> None:
        self._noun = noun
        self._tasks = tasks
        self._report = report
        self._done = self._before = self._rows = self._bytes = 0
        self._start = self._last = time.monotonic()

    def add(self, rows: int, size: int, *, is_new: bool) -> None:
        """Count a task; one that was done before has no rows that count for the speed."""
        self._done += 1
        if is_new:
            self._rows += rows
            self._bytes += size
        else:
            self._before += 1
        is_last = self._done == self._tasks
        if not is_last and time.monotonic() - self._last >= SECONDS_BETWEEN_REPORTS:
            self._last = time.monotonic()
            self._report_tasks()

    def finish(self) -> None:
        """Report what the whole wave has done."""
        self._report_tasks()

    def _report_tasks(self) -> None:
        rate = self._rows / max(time.monotonic() - self._start, 1e-9)
        text = (
            f"{self._done:,} of {self._tasks:,} {self._noun}, {self._rows:,} rows, "
            f"{rate:,.0f} per second"
        )
        if self._bytes:
            text += f", {self._bytes / 2**20:,.1f} MiB"
        if self._before:
            text += f"; {self._before:,} were done before"
        self._report(text)
