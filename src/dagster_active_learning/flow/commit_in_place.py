"""Scored files -> a prediction set that is read in place: views, counts and the rows in quarantine.

One transaction; until it ends, readers see what was there before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.errors import PoolStateError, PredictionReadError
from dagster_active_learning.files.in_place import check_all
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.files.versions import combined_sha256
from dagster_active_learning.flow.ingest import check_nothing_found, tolerance_advice
from dagster_active_learning.flow.progress import Report
from dagster_active_learning.flow.score_tables import write_table
from dagster_active_learning.flow.scored_files import ScoredFiles, scoring
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.rules import READING_RULES, Rules
from dagster_active_learning.store import prediction_sets
from dagster_active_learning.store.class_counts import (
    add_predicted_classes,
    count_predicted_classes,
)
from dagster_active_learning.store.filesystems import register_filesystems
from dagster_active_learning.store.image_scores import images_without_predictions
from dagster_active_learning.store.in_place_sets import (
    InPlaceSet,
    add_in_place_set,
    in_place_set,
    move_scores,
)
from dagster_active_learning.store.in_place_views import (
    UnknownImages,
    images_not_in_manifest,
    prediction_columns,
    predictions_not_in_manifest,
    scores_of_unknown_images,
    show_predictions,
    show_scores,
)
from dagster_active_learning.store.kept_rules import kept_rules
from dagster_active_learning.store.kept_scores import this_version
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.prediction_sources import SourceFile, add_sources
from dagster_active_learning.store.predictions import categories, score_only_count
from dagster_active_learning.store.quarantined_predictions import (
    add_quarantined,
    add_quarantined_of_unknown_images,
)
from dagster_active_learning.store.schema import PACKAGE
from dagster_active_learning.store.score_counts import ScoreCounts, count_scores, join_counts
from dagster_active_learning.store.score_statistics import keep_score_statistics
from dagster_active_learning.store.scorings import replace_scoring
from dagster_active_learning.store.set_columns import sql_type
from dagster_active_learning.store.set_rows import name_set_tables
from dagster_active_learning.store.set_tables import SetTables, renew_views

NOT_IN_MANIFEST = "quarantine/not-in-manifest-{name}.parquet"
"""The predictions about images that the manifest did not have at one reading."""

QUARANTINE_COLUMNS = ["source", "row_number", "image_id", "reason", "raw"]

WITHOUT_PREDICTIONS = "scores/without-predictions-{name}.parquet"
"""The images that had no predictions at one scoring."""


def ingest_in_place(
    store: PoolStore,
    scored: ScoredFiles,
    *,
    prediction_set: str,
    model: str | None,
    run_id: str,
    report: Report,
) -> PredictionSet:
    """Commit files that are scored as a prediction set, in place of what the set was before.

    Args:
        store: The pool.
        scored: The files.
        prediction_set: Name of the set.
        model: The model that made the predictions.
        run_id: What reads them, for the record.
        report: Takes what is to be known of the set.

    Raises:
        PredictionReadError: If a file is another by now, or one of the storage gone or cut, or no
            row of them can be scored. The database then stays as it was.
    """
    source, rules, folder = scored.source, scored.rules, scored.folder
    quarantine, files = scored.quarantine_files, scored.places
    check_all(files)
    if fault := folder.fault({**quarantine, **scored.score_files}):
        raise PredictionReadError(f"{fault}: materialize the predictions again")
    register_filesystems(store.connection, [folder.folder, *(file.path for file in files)])
    with store.transaction():
        prediction_sets.clear_prediction_set(store, prediction_set)
        tables = name_set_tables(store, prediction_set)
        _show(store, tables, scored, quarantine)
        # Beside the Parquet files: statements of the user's find them where they are of all sets.
        for name in quarantine:
            for batch in _batches(folder, name):
                add_quarantined(store, prediction_set, batch.select(QUARANTINE_COLUMNS))
        add_sources(
            store,
            prediction_set,
            [
                SourceFile(placed.source, file.sha256, file.first_index, file.row_count)
                for placed, file in zip(source.files, scored.files, strict=True)
            ],
        )
        unknown, unknown_images = UnknownImages(0, 0), None
        if rules.in_manifest:
            unknown = images_not_in_manifest(store, list(map(folder.path, scored.scores)))
        if unknown.predictions:
            unknown_images = NOT_IN_MANIFEST.format(name=uuid4().hex)
            rows = predictions_not_in_manifest(store, tables)
            write_table(folder, unknown_images, (pa.Table.from_batches([one]) for one in rows))
            add_quarantined_of_unknown_images(store, tables, Reason.NOT_IN_MANIFEST)
            quarantine[unknown_images] = folder.written[unknown_images]
            _show(store, tables, scored, quarantine)
        show_scores(store, tables, [])
        names = scored.class_names
        row_count = sum(file.row_count for file in scored.files)
        found = sum(file.prediction_count for file in scored.files)
        score_only = sum(file.score_only_count for file in scored.files)
        if score_only and unknown.predictions:
            score_only = score_only_count(store, tables)
        stored = PredictionSet(
            prediction_set=prediction_set,
            generation=tables.generation,
            model=model,
            source=source.stream.name,
            source_sha256=combined_sha256([file.sha256 for file in scored.files]),
            class_names=categories(store, tables) if names is None else names,
            prediction_count=found - unknown.predictions,
            image_count=scored.image_count - unknown.images,
            image_run_count=scored.run_count,
            quarantined_count=row_count - found + unknown.predictions,
            score_only_count=score_only,
            bbox_unit=source.stream.bbox_unit,
            value_type=f"{sql_type(source.stream.value_type)}[]",
            run_id=run_id,
            **kept_rules(rules, READING_RULES),
        )
        kept = InPlaceSet(
            folder=folder,
            quarantine_files=quarantine,
            unknown_images=unknown_images,
            options=source.options,
            files=files,
            **_of_scores(scored),
        )
        add_in_place_set(store, prediction_set, kept)
        prediction_sets.add_prediction_set(store, stored)
        if unknown.predictions:
            # The counts are not of those that are left.
            count_predicted_classes(store.connection, tables)
        else:
            counts = Counter[str | None]()
            for file in scored.files:
                counts.update(dict(file.by_class))
            add_predicted_classes(store.connection, prediction_set, [*counts.items()])
        deviation = max((file.deviation for file in scored.files), default=0.0)
        advice = tolerance_advice(deviation, rules)
        if not stored.prediction_count:
            check_nothing_found(store, stored, rules, empty_image_count=0, advice=advice)
        elif advice:
            report(advice)
    return stored


def score_in_place(
    store: PoolStore,
    prediction_set: str,
    *,
    rules: Rules,
    run_id: str,
    scored: ScoredFiles | None = None,
) -> PredictionSet:
    """Show the scores of a set that is read in place, with those of images without predictions.

    Args:
        store: The pool.
        prediction_set: Name of the set.
        rules: How predictions are scored.
        run_id: What scores them, for the record.
        scored: The files, scored under these rules; None where they were when they were read.

    Raises:
        PoolStateError: If the set is not in the database, was read under other rules, or is another
            by now.
        PredictionReadError: If a file is gone, or no longer the one it was.
    """
    if scored is not None:
        register_filesystems(store.connection, [scored.folder.folder])
    with store.transaction():
        stored = prediction_sets.prediction_set(store, prediction_set)
        prediction_sets.check_reading(store, stored, rules)
        kept = in_place_set(store, prediction_set)
        if kept is not None and scored is not None and scored.places == kept.files:
            kept = replace(kept, **_of_scores(scored))
        if kept is None or not _fits(kept, rules):
            raise PoolStateError(
                f"prediction set {prediction_set!r} of pool {store.pool!r} was replaced while it "
                "was scored: materialize its scores again"
            )
        kept = replace(kept, score_files=_of_predictions(kept), empty_images=None)
        move_scores(store, prediction_set, kept)
        kept.check_files()
        kept.check_quarantine()
        kept.check_scores()
        paths = [kept.score_folder.path(name) for name in kept.scores]
        unknown = kept.unknown_images and kept.folder.path(kept.unknown_images)
        show_scores(store, stored.tables, paths, unknown=unknown)
        images = images_without_predictions(store, stored.tables, rules)
        if images.num_rows:
            name = WITHOUT_PREDICTIONS.format(name=uuid4().hex)
            write_table(kept.score_folder, name, [images])
            sizes = {**kept.score_files, name: kept.score_folder.written[name]}
            move_scores(store, prediction_set, replace(kept, score_files=sizes, empty_images=name))
            others = kept.score_folder.path(name)
            show_scores(store, stored.tables, paths, unknown=unknown, others=others)
        renew_views(store.connection)
        keep_score_statistics(
            store,
            prediction_set,
            _counts(store, kept, paths, unknown, images),
            images=stored.image_count + images.num_rows,
            without_predictions=images.num_rows,
            in_manifest=rules.in_manifest,
        )
        replace_scoring(store, prediction_set, rules, run_id)
    return stored


def _counts(
    store: PoolStore, kept: InPlaceSet, paths: Sequence[str], unknown: str | None, empty: pa.Table
) -> dict[str, ScoreCounts] | None:
    """The scores of a set in numbers, also of images without predictions.

    They are those of the workers without those of images that do not count. None where these may
    have the lowest score or the highest.
    """
    counts = kept.score_counts
    if unknown is not None:
        of_unknown = scores_of_unknown_images(store, paths, unknown)
        others = {
            name: counts[name].without(removed)
            for name, removed in count_scores(of_unknown, counts).items()
        }
        if None in others.values():
            return None
        counts = {**counts, **{name: one for name, one in others.items() if one is not None}}
    functions = set(empty.column_names) & ACQUISITION_FUNCTIONS.keys()
    return join_counts([counts, count_scores(empty, functions)])


def files_to_score(store: PoolStore, prediction_set: str, rules: Rules) -> InPlaceSet | None:
    """A set in place whose scores are gone or of other rules; None where they are those wanted.

    Raises:
        PoolStateError: If the set is not in the database, is copied, or was read under other rules.
        PredictionReadError: If a file is gone, or no longer the one it was.
    """
    stored = prediction_sets.prediction_set(store, prediction_set)
    prediction_sets.check_reading(store, stored, rules)
    kept = in_place_set(store, prediction_set)
    if kept is None:
        raise PoolStateError(
            f"prediction set {prediction_set!r} of pool {store.pool!r} was copied, and the pool "
            f"reads in place: materialize {store.pool}/predictions first"
        )
    kept.check_files()
    kept.check_quarantine()
    is_there = kept.score_folder.fault(_of_predictions(kept)) is None
    return None if is_there and _fits(kept, rules) else kept


def _fits(kept: InPlaceSet, rules: Rules) -> bool:
    """Whether the scores of a set were made under rules, by this version and its functions."""
    wanted = json.loads(json.dumps(scoring(rules)))
    # It is empty where the set was scored as if it were copied.
    versions = kept.description.get("versions", {})
    return versions.get(PACKAGE) == this_version() and all(
        kept.description[name] == value for name, value in wanted.items()
    )


def _of_predictions(kept: InPlaceSet) -> dict[str, int]:
    """The files of scores that workers have made."""
    return {name: size for name, size in kept.score_files.items() if name != kept.empty_images}


def _of_scores(scored: ScoredFiles) -> dict[str, Any]:
    return {
        "score_folder": scored.folder,
        "score_files": scored.score_files,
        "best": scored.best,
        "cuts": scored.cuts,
        "score_counts": scored.score_counts,
        "repeated": scored.repeated,
        "predictions": scored.predictions,
        "description": json.loads(scored.description),
    }


def _show(
    store: PoolStore, tables: SetTables, scored: ScoredFiles, quarantined: Iterable[str]
) -> None:
    source = scored.source
    show_predictions(
        store,
        tables,
        scored.places,
        [file.first_index for file in scored.files],
        prediction_columns(source.layout, sql_type(source.stream.value_type)),
        [scored.folder.path(name) for name in quarantined],
    )


def _batches(folder: Storage, name: str) -> Iterator[pa.RecordBatch]:
    with folder.reading(name) as opened, pq.ParquetFile(opened) as file:
        yield from file.iter_batches()
