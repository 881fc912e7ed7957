"""Prediction sets that are read in place, as they are kept: their files, and their folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_active_learning.files.in_place import FileInPlace, Storage, check_all
from dagster_active_learning.readers.in_place import SourceInPlace, open_files_in_place
from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class InPlaceSet:
    """A set that is read in place, as it is kept.

    Attributes:
        folder: The folder with its rows in quarantine.
        unknown_images: Name of the file in it about images that the manifest did not have.
        options: The options of the reader.
        score_folder: The folder with its scores.
        scores: Names of the files of scores in it.
        best: Name of the file in it with the images that come first by each function, if any.
        cuts: For each function the score before which this file has all images; a function without
            one has all images in it.
        description: All that decides the scores.
        files: The files of predictions, as they were, in their order.
        empty_images: Name of the file of scores of images without predictions, if any.
    """

    folder: Storage
    unknown_images: str | None
    options: dict[str, Any]
    score_folder: Storage
    scores: tuple[str, ...]
    best: str | None
    cuts: dict[str, float]
    description: dict[str, Any]
    files: tuple[FileInPlace, ...]
    empty_images: str | None = None

    def open(self) -> SourceInPlace:
        """The files, to be scored again."""
        return open_files_in_place(self.files, **self.options)

    def check_files(self) -> None:
        """Raise PredictionReadError if a file is gone, or no longer the one it was."""
        check_all(self.files)


IN_PLACE_SET = """
SELECT folder, unknown_images_file, options, score_folder, score_files, best_images_file, cuts,
    description, empty_images_file
FROM in_place_sets WHERE prediction_set = $prediction_set
"""

IN_PLACE_FILES = """
SELECT path, byte_count, mark FROM in_place_files
WHERE prediction_set = $prediction_set ORDER BY place
"""


def in_place_set(store: PoolStore, prediction_set: str) -> InPlaceSet | None:
    """A set that is read in place; None if there is none of the name, or it is copied."""
    rows = store.rows(IN_PLACE_SET, prediction_set=prediction_set)
    if not rows:
        return None
    ((folder, unknown, options, score_folder, scores, best, cuts, description, empty),) = rows
    files = store.rows(IN_PLACE_FILES, prediction_set=prediction_set)
    return InPlaceSet(
        folder=Storage(folder),
        unknown_images=unknown,
        options=json.loads(options),
        score_folder=Storage(score_folder),
        scores=tuple(scores),
        best=best,
        cuts=json.loads(cuts),
        description=json.loads(description),
        files=tuple(FileInPlace(*file) for file in files),
        empty_images=empty,
    )


def check_files(store: PoolStore, prediction_sets: Iterable[str]) -> None:
    """Raise PredictionReadError if a file of sets in place is gone or another; a look per step."""
    names = set(prediction_sets) - store.checked_sets
    # A pool that is only read may be of a version that copied all predictions.
    if names and store.columns("in_place_sets"):
        for name in sorted(names):
            if (kept := in_place_set(store, name)) is not None:
                kept.check_files()
    store.checked_sets |= names


INSERT_SET = """
INSERT INTO in_place_sets BY NAME
SELECT $prediction_set AS prediction_set, $folder AS folder,
    $unknown_images AS unknown_images_file, $options AS options,
    $score_folder AS score_folder, $scores AS score_files, $best AS best_images_file,
    $cuts AS cuts, $description AS description
"""

INSERT_FILES = """
INSERT INTO in_place_files BY NAME
SELECT $prediction_set AS prediction_set, unnest(range(len($paths))) AS place,
    unnest($paths) AS path, unnest($sizes) AS byte_count, unnest($marks) AS mark
"""


def add_in_place_set(store: PoolStore, prediction_set: str, kept: InPlaceSet) -> None:
    """Keep what a set is read from and where its scores are."""
    store.rows(
        INSERT_SET,
        prediction_set=prediction_set,
        folder=kept.folder.folder,
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
    )


MOVE_SCORES = """
UPDATE in_place_sets
SET score_folder = $score_folder, score_files = $scores, best_images_file = $best, cuts = $cuts,
    description = $description, score_statistics = NULL
WHERE prediction_set = $prediction_set
"""


def move_scores(store: PoolStore, prediction_set: str, kept: InPlaceSet) -> None:
    """Keep where the scores are that take the place of a set's former ones."""
    store.rows(MOVE_SCORES, prediction_set=prediction_set, **_of_scores(kept))


def _of_scores(kept: InPlaceSet) -> dict[str, Any]:
    return {
        "score_folder": kept.score_folder.folder,
        "scores": list(kept.scores),
        "best": kept.best,
        "cuts": json.dumps(kept.cuts),
        "description": json.dumps(kept.description, sort_keys=True),
    }


KEEP_EMPTY_IMAGES = """
UPDATE in_place_sets SET empty_images_file = $name WHERE prediction_set = $prediction_set
"""


def keep_empty_images(store: PoolStore, prediction_set: str, name: str | None) -> None:
    """Keep which file of the folder of scores has the images without predictions, if any."""
    store.rows(KEEP_EMPTY_IMAGES, prediction_set=prediction_set, name=name)


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
    """The folders of all sets that are read in place."""
    return {folder for (folder,) in store.rows(FOLDERS_IN_USE)}
