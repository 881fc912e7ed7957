"""Prediction sets that are read in place, as they are kept: their files, and their folders."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.in_place import FileInPlace, check_all
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.readers.in_place import SourceInPlace, open_files_in_place
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.repeated import Repeated, join_repeated
from dagster_active_learning.store.score_counts import ScoreCounts, join_counts


@dataclass(frozen=True)
class InPlaceSet:
    """A set that is read in place, as it is kept.

    Attributes:
        folder: The folder with its rows in quarantine.
        quarantine_files: Names and sizes in bytes of the files in it that are read.
        unknown_images: Name of the file in it about images that the manifest did not have.
        options: The options of the reader.
        score_folder: The folder with its scores.
        score_files: Names and sizes in bytes of the files in it that are read.
        best: Name of the file in it with the images that come first by each function, if any.
        cuts: For each function the score before which this file has all images; a function without
            one has all images in it.
        score_counts: These scores in numbers, by function.
        repeated: What is repeated among the predictions that they are made of; None where that was
            not counted.
        predictions: Name of the file in it with the predictions of the first of them, if any.
        description: All that decides the scores.
        files: The files of predictions, as they were, in their order.
        empty_images: Name of the file of scores of images without predictions, if any.
    """

    folder: Storage
    quarantine_files: dict[str, int]
    unknown_images: str | None
    options: dict[str, Any]
    score_folder: Storage
    score_files: dict[str, int]
    best: str | None
    cuts: dict[str, float]
    score_counts: dict[str, ScoreCounts]
    repeated: Repeated | None
    predictions: str | None
    description: dict[str, Any]
    files: tuple[FileInPlace, ...]
    empty_images: str | None = None

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the files of scores of images with predictions."""
        files = (name for name in self.score_files if name.startswith("scores/"))
        return tuple(name for name in files if name != self.empty_images)

    def open(self) -> SourceInPlace:
        """The files, to be scored again."""
        return open_files_in_place(self.files, **self.options)

    def check_files(self) -> None:
        """Raise PredictionReadError if a file is gone, or no longer the one it was."""
        check_all(self.files)

    def check_quarantine(self, *names: str | None) -> None:
        """Raise PredictionReadError if rows in quarantine are gone or cut: some files, or all."""
        if fault := self.folder.fault(_some(self.quarantine_files, names)):
            raise PredictionReadError(f"{fault}: materialize the predictions again")

    def check_scores(self, *names: str | None) -> None:
        """Raise PredictionReadError if scores are gone or cut: some files, or all."""
        if fault := self.score_folder.fault(_some(self.score_files, names)):
            raise PredictionReadError(f"{fault}: materialize image_scores again")


def _some(files: Mapping[str, int], names: Collection[str | None]) -> Mapping[str, int]:
    return {name: files[name] for name in names if name is not None} if names else files


IN_PLACE_SET = """
SELECT folder, quarantine_files, unknown_images_file, options, score_folder, score_files,
    best_images_file, cuts, score_counts, repeated, predictions_file, description, empty_images_file
FROM in_place_sets WHERE prediction_set = $prediction_set
"""

IN_PLACE_FILES = """
SELECT path, byte_count, mark, sha256 FROM in_place_files
WHERE prediction_set = $prediction_set ORDER BY place
"""


def in_place_set(store: PoolStore, prediction_set: str) -> InPlaceSet | None:
    """A set that is read in place; None if there is none of the name, or it is copied."""
    rows = store.rows(IN_PLACE_SET, prediction_set=prediction_set)
    if not rows:
        return None
    ((folder, quarantine, unknown, options, score_folder, scores, *of_scores),) = rows
    best, cuts, counts, repeated, predictions, description, empty = of_scores
    files = store.rows(IN_PLACE_FILES, prediction_set=prediction_set)
    return InPlaceSet(
        folder=Storage(folder),
        quarantine_files=quarantine,
        unknown_images=unknown,
        options=json.loads(options),
        score_folder=Storage(score_folder),
        score_files=scores,
        best=best,
        cuts=json.loads(cuts),
        score_counts=join_counts([json.loads(counts)]),
        repeated=None if repeated is None else join_repeated([json.loads(repeated)]),
        predictions=predictions,
        description=json.loads(description),
        files=tuple(FileInPlace(*file) for file in files),
        empty_images=empty,
    )


def check_files(store: PoolStore, prediction_sets: Iterable[str], view: str) -> None:
    """Raise PredictionReadError if a file of sets in place is gone or another; a look per step.

    Args:
        store: The pool.
        prediction_sets: Names of sets.
        view: ``predictions`` or ``image_scores``, which is to be read of them.
    """
    looks = {(name, view) for name in prediction_sets} - store.checked_sets
    # A pool that is only read may be of a version that copied all predictions.
    if looks and store.columns("in_place_sets"):
        for name, _ in sorted(looks):
            kept = in_place_set(store, name)
            if kept is None:
                continue
            if view == "predictions":
                kept.check_files()
                kept.check_quarantine()
            else:
                kept.check_scores()
                kept.check_quarantine(kept.unknown_images)
    store.checked_sets |= looks


INSERT_SET = """
INSERT INTO in_place_sets BY NAME
SELECT $prediction_set AS prediction_set, $folder AS folder,
    map($quarantine_names::VARCHAR[], $quarantine_sizes::BIGINT[]) AS quarantine_files,
    $unknown_images AS unknown_images_file, $options AS options,
    $score_folder AS score_folder,
    map($score_names::VARCHAR[], $score_sizes::BIGINT[]) AS score_files,
    $empty_images AS empty_images_file, $best AS best_images_file, $cuts AS cuts,
    $score_counts AS score_counts, $repeated AS repeated, $predictions AS predictions_file,
    $description AS description
"""

INSERT_FILES = """
INSERT INTO in_place_files BY NAME
SELECT $prediction_set AS prediction_set, unnest(range(len($paths))) AS place,
    unnest($paths) AS path, unnest($sizes) AS byte_count, unnest($marks) AS mark,
    unnest($hashes) AS sha256
"""


def add_in_place_set(store: PoolStore, prediction_set: str, kept: InPlaceSet) -> None:
    """Keep what a set is read from and where its scores are."""
    store.rows(
        INSERT_SET,
        prediction_set=prediction_set,
        folder=kept.folder.folder,
        quarantine_names=list(kept.quarantine_files),
        quarantine_sizes=list(kept.quarantine_files.values()),
        unknown_images=kept.unknown_images,
        options=json.dumps(kept.options),
        **_of_scores(kept),
    )
    store.rows(
        INSERT_FILES,
        prediction_set=prediction_set,
        paths=[file.path for file in kept.files],
        sizes=[file.size for file in kept.files],
        marks=[file.mark for file in kept.files],
        hashes=[file.known_sha256 for file in kept.files],
    )


MOVE_SCORES = """
UPDATE in_place_sets
SET score_folder = $score_folder,
    score_files = map($score_names::VARCHAR[], $score_sizes::BIGINT[]),
    empty_images_file = $empty_images, best_images_file = $best, cuts = $cuts,
    score_counts = $score_counts, repeated = $repeated, predictions_file = $predictions,
    description = $description, score_statistics = NULL
WHERE prediction_set = $prediction_set
"""


def move_scores(store: PoolStore, prediction_set: str, kept: InPlaceSet) -> None:
    """Keep where the scores are that take the place of a set's former ones."""
    store.rows(MOVE_SCORES, prediction_set=prediction_set, **_of_scores(kept))


FORGET_SCORES = """
UPDATE in_place_sets
SET score_files = map([]::VARCHAR[], []::BIGINT[]), empty_images_file = NULL,
    best_images_file = NULL, cuts = '{}', score_counts = '{}', repeated = NULL,
    predictions_file = NULL,
    description = '{}', score_statistics = NULL
WHERE prediction_set = $prediction_set
"""


def forget_scores(store: PoolStore, prediction_set: str) -> None:
    """Keep that a set, if it is read in place, has no scores in the storage."""
    store.rows(FORGET_SCORES, prediction_set=prediction_set)


def _of_scores(kept: InPlaceSet) -> dict[str, Any]:
    return {
        "score_folder": kept.score_folder.folder,
        "score_names": list(kept.score_files),
        "score_sizes": list(kept.score_files.values()),
        "empty_images": kept.empty_images,
        "best": kept.best,
        "cuts": json.dumps(kept.cuts),
        "score_counts": json.dumps(kept.score_counts),
        "repeated": json.dumps(kept.repeated),
        "predictions": kept.predictions,
        "description": json.dumps(kept.description, sort_keys=True),
    }


KEEP_PREDICTIONS_FILE = """
UPDATE in_place_sets SET predictions_file = $name,
    score_files = map($names::VARCHAR[], $sizes::BIGINT[])
WHERE prediction_set = $prediction_set
"""


def keep_predictions_file(
    store: PoolStore, prediction_set: str, name: str, score_files: Mapping[str, int]
) -> None:
    """Keep which file of the folder of scores has the predictions of the first images.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        name: Name of the file.
        score_files: Names and sizes of all files that are read, it among them.
    """
    names, sizes = list(score_files), list(score_files.values())
    values = {"prediction_set": prediction_set, "name": name, "names": names, "sizes": sizes}
    store.connection.execute(KEEP_PREDICTIONS_FILE, values)


KEEP_STATISTICS = """
UPDATE in_place_sets SET score_statistics = $statistics WHERE prediction_set = $prediction_set
"""

STATISTICS = """
SELECT score_statistics FROM in_place_sets
WHERE prediction_set = $prediction_set AND score_statistics IS NOT NULL
"""


def keep_statistics(store: PoolStore, prediction_set: str, statistics: Mapping[str, Any]) -> None:
    """Keep what was counted of a set's scores."""
    text = json.dumps(statistics)
    store.rows(KEEP_STATISTICS, prediction_set=prediction_set, statistics=text)


def kept_statistics(store: PoolStore, prediction_set: str) -> dict[str, Any] | None:
    """What ``keep_statistics`` has kept; None of a set that is copied, or not scored."""
    # A pool that is only read may be of a version that copied all predictions.
    if not store.columns("in_place_sets"):
        return None
    rows = store.rows(STATISTICS, prediction_set=prediction_set)
    return json.loads(rows[0][0]) if rows else None


FOLDERS_IN_USE = "SELECT folder FROM in_place_sets UNION SELECT score_folder FROM in_place_sets"


def folders_in_use(store: PoolStore) -> set[str]:
    """The names, in the pool's own storage, of the folders of all sets that are read in place."""
    return {folder.rpartition("/")[2] for (folder,) in store.rows(FOLDERS_IN_USE)}
