"""Predictions of a source -> rows of a prediction set; every row is stored or in quarantine."""

from __future__ import annotations

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import redacted
from dagster_active_learning.files.versions import combined_sha256
from dagster_active_learning.flow.progress import Progress, Report
from dagster_active_learning.flow.read_ahead import read_ahead
from dagster_active_learning.flow.sorted_rows import SortedRows, kept_functions
from dagster_active_learning.flow.spool import RowSpool
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.readers.stream import PredictionStream
from dagster_active_learning.rules import READING_RULES, Rules
from dagster_active_learning.store.alike_ids import alike_ids
from dagster_active_learning.store.class_counts import (
    add_predicted_classes,
    count_predicted_classes,
)
from dagster_active_learning.store.empty_images import (
    add_empty_images,
    empty_images_not_in_manifest,
)
from dagster_active_learning.store.kept_rules import kept_rules
from dagster_active_learning.store.kept_scores import drop_kept_scores, scored_schema, this_version
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import (
    PredictionSet,
    add_prediction_set,
    clear_prediction_set,
)
from dagster_active_learning.store.prediction_sources import add_sources
from dagster_active_learning.store.predictions import categories, image_count, score_only_count
from dagster_active_learning.store.quarantined_predictions import (
    add_quarantined,
    first_ids,
    quarantine_images_not_in_manifest,
    quarantined_by_reason,
)
from dagster_active_learning.store.set_columns import sql_type
from dagster_active_learning.store.set_rows import append, make_set_tables
from dagster_active_learning.store.set_tables import SetTables
from dagster_active_learning.text import quoted_pair


def ingest_predictions(
    store: PoolStore,
    stream: PredictionStream,
    *,
    prediction_set: str,
    model: str | None,
    run_id: str,
    rules: Rules,
    report: Report,
) -> PredictionSet:
    """Store a source's predictions as a prediction set, in place of what the set was before.

    Args:
        store: The pool.
        stream: The predictions.
        prediction_set: Name of the set.
        model: The model that made the predictions.
        run_id: What reads them, for the record.
        rules: What the predictions are.
        report: Takes the progress, and the number of images the manifest does not have.

    Raises:
        PredictionReadError: If the source cannot be read, changes while it is read, no row of it
            can be scored, or it has none and nothing says that the model found no object. The
            database then stays as it was.
    """
    progress = Progress("read", report)
    with store.transaction(), RowSpool() as quarantined, RowSpool() as empty_images:
        functions = kept_functions(rules)
        rows = SortedRows(stream, rules, progress, quarantined, empty_images, functions)
        clear_prediction_set(store, prediction_set)
        tables = make_set_tables(store, prediction_set)
        schema = scored_schema(stream.value_type, [str(one.scores) for one in functions])
        append(store, tables, "predictions", schema, read_ahead(rows.predictions(schema)))
        for batch in quarantined.batches():
            add_quarantined(store, prediction_set, batch)
        for batch in empty_images.batches():
            add_empty_images(store, prediction_set, batch)
        hashes = {part.source: part.sha256() for part in stream.parts}
        add_sources(store, prediction_set, rows.sources.files(hashes))
        unknown = _move_unknown_images(store, tables, report) if rules.in_manifest else 0
        images, class_names = rows.images, rows.class_names
        n_predictions = images.row_count - unknown
        each_counted = images.ascending and not unknown
        n_images = images.run_count if each_counted else image_count(store, tables)
        one_each = n_images == n_predictions
        if not one_each:
            drop_kept_scores(store, tables)
        stored = PredictionSet(
            prediction_set=prediction_set,
            generation=tables.generation,
            model=model,
            source=stream.name,
            source_sha256=combined_sha256(list(hashes.values())),
            class_names=categories(store, tables) if class_names is None else class_names,
            prediction_count=n_predictions,
            image_count=n_images,
            image_run_count=images.run_count,
            quarantined_count=quarantined.row_count + unknown,
            score_only_count=score_only_count(store, tables) if rules.objects else 0,
            bbox_unit=stream.bbox_unit,
            value_type=f"{sql_type(stream.value_type)}[]",
            run_id=run_id,
            scored_by=this_version() if functions and one_each else None,
            **kept_rules(rules, READING_RULES),
        )
        add_prediction_set(store, stored)
        if unknown:
            # The counts are not of those that are left.
            count_predicted_classes(store.connection, tables)
        else:
            by_class = rows.classes.of(stored.class_names)
            add_predicted_classes(store.connection, prediction_set, by_class)
        if not stored.prediction_count:
            check_nothing_found(
                store,
                stored,
                rules,
                empty_image_count=empty_images.row_count,
                advice=tolerance_advice(rows.deviation, rules),
            )
        elif rows.deviation:
            report(tolerance_advice(rows.deviation, rules))
    progress.finish()
    return stored


def _move_unknown_images(store: PoolStore, tables: SetTables, report: Report) -> int:
    """Move predictions about images the manifest does not have to quarantine, and count them."""
    moved = quarantine_images_not_in_manifest(store, tables, Reason.NOT_IN_MANIFEST)
    # There is no row of the others to keep in quarantine.
    unknown_images = empty_images_not_in_manifest(store, tables.prediction_set)
    if unknown_images:
        report(
            f"{unknown_images:,} images in which nothing was found are not in the manifest: "
            "they have no scores"
        )
    return moved


def tolerance_advice(deviation: float, rules: Rules) -> str:
    """The option that lets rows pass which are off by low precision; empty without such rows."""
    if not deviation:
        return ""
    return (
        f"class probabilities are off by up to {deviation:.4g}, {rules.sum_tolerance:g} is allowed "
        "(sum_tolerance): more is right only where low precision has rounded them"
    )


def check_nothing_found(
    store: PoolStore, stored: PredictionSet, rules: Rules, *, empty_image_count: int, advice: str
) -> None:
    """Raise PredictionReadError unless a set has no predictions because the model found nothing.

    An image on which the model failed does not speak against it.
    """
    # Without rows, a source says of every image of the manifest that nothing is in it.
    all_empty = rules.objects and rules.in_manifest and not stored.quarantined_count
    reasons = quarantined_by_reason(store, stored.prediction_set).to_dicts()
    if (empty_image_count or all_empty) and all(
        row["reason"] == Reason.MODEL_FAILED for row in reasons
    ):
        return
    if not reasons:
        images = (
            "; where the model found nothing, give the pool the images it has seen (images=)"
            if rules.objects
            else ""
        )
        raise PredictionReadError(
            f"{stored.source} holds no predictions: expected at least one{images}"
        )
    listed = "; ".join(
        f"{row['reason']} ({row['rows']:,} rows, the first is row {row['first_row']} of "
        f"{row['first_source']})"
        for row in reasons
    )
    if any(row["reason"] == Reason.NOT_IN_MANIFEST for row in reasons):
        alike = alike_ids(store, [stored.prediction_set])
        first = first_ids(store, stored.prediction_set, Reason.NOT_IN_MANIFEST)
        if alike:
            quarantined, manifest = quoted_pair(alike[0].predicted_id, alike[0].image_id)
            listed += (
                f"; {quarantined} is not there, but {manifest} is; ids of the manifest that differ "
                f"so ({alike[0].difference}): {alike[0].image_count:,}"
            )
        else:
            quarantined, manifest = quoted_pair(first.quarantined or "", first.manifest or "")
            listed += (
                f"; the first image_id that is not there is {quarantined}, the first of the "
                f"manifest {manifest}"
            )
        listed += (
            "; if they should be the same image, write both alike; "
            'PoolImages(path, image_id="file_name") takes the file names of a COCO file for ids, '
            'image_id="stem" those of a folder without their suffixes'
        )
    fault = f"{stored.source} holds no prediction that can be scored, nothing was stored: {listed}"
    raise PredictionReadError(redacted(fault) + f"; {advice}" * bool(advice))
