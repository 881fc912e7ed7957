"""Metadata of a ranking: pictures, reasons, numbers over time, comparisons."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from dagster_shared.serdes import serialize_value

from dagster_active_learning.definitions.metadata.image_scores import unscored_metadata
from dagster_active_learning.definitions.metadata.lineage import lineage_metadata, ranking_rule
from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    counts_table,
    rows_table,
    table_metadata,
)
from dagster_active_learning.definitions.partitions import Materialized
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.flow import Ranking
    from dagster_active_learning.gallery import Box, Thumbnails, Tile
    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store.image_scores import ScoreBins
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet

FIRST_RANKS = 24
"""Number of candidates that are shown: six to a row of the contact sheet."""

EVENT_BYTES = 96_000
"""Size that the metadata of a materialization may have; the UI stays quick up to 100 KB."""

HISTOGRAM_BYTES = 12_000
HISTOGRAM_BINS = 60
NAME_BYTES = 60

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]")


@dataclass(frozen=True)
class CandidatePictures:
    """The pictures of a ranking, drawn once the database is closed: files may take long to read.

    Attributes:
        tiles: The first candidates.
        bins: The scores of all images.
        function: The acquisition function.
        rules: How the images are scored.
        score_at_cut: The score of the last candidate.
    """

    tiles: Sequence[Tile]
    bins: ScoreBins | None
    function: AcquisitionFunction
    rules: Rules
    score_at_cut: float | None

    def drawn(self, metadata: Metadata, thumbnails: Thumbnails) -> Metadata:
        """The metadata with the gallery and the histogram of scores first, if there is any.

        The gallery is as large as the other metadata leave room for, and at least one image: the
        ranks are in the database already, so that nothing may fail here.

        Args:
            metadata: The other metadata of the ranking.
            thumbnails: The pictures of the images that other rankings have drawn already.
        """
        histogram = self._histogram()
        size = len(serialize_value(dg.AssetMaterialization("size", metadata=metadata | histogram)))
        text = f"The first {len(self.tiles)} candidates"
        sheet = gallery_metadata(self.tiles, EVENT_BYTES - size, thumbnails, text)
        return {**sheet, **histogram, **metadata}

    def _histogram(self) -> Metadata:
        from dagster_active_learning.gallery import score_histogram

        if self.bins is None:
            return {}
        function, bins = self.function, self.bins
        histogram = score_histogram(
            bins.counts,
            bins.edges,
            cut=self.score_at_cut,
            label_first=function.label_first_under(self.rules.aggregation),
            title=f"{function.title} of all {bins.counts.sum():,} images with a score",
            score_label=f"{function.formula_of(self.rules.inputs)}, "
            f"{function.unit_under(self.rules.aggregation)}",
            max_bytes=HISTOGRAM_BYTES,
        )
        return {"score_histogram": picture(histogram, f"Histogram of {function.title.lower()}")}


@dataclass(frozen=True)
class RankingReport:
    """A ranking that is in the database, as Dagster is told of it.

    Attributes:
        metadata: Its metadata, without pictures.
        pictures: What is drawn of it.
        data_version: The hash of the ranked images.
    """

    metadata: Metadata
    pictures: CandidatePictures
    data_version: str

    def with_metadata(self, more: Metadata) -> RankingReport:
        """The report with more metadata behind its own."""
        return replace(self, metadata={**self.metadata, **more})

    def without_pictures(self) -> Materialized:
        """The part that is known before a picture is read."""
        return Materialized(self.metadata, self.data_version)

    def with_pictures(self, thumbnails: Thumbnails) -> Materialized:
        """All of it; ``thumbnails`` has what other rankings have drawn already."""
        return Materialized(self.pictures.drawn(self.metadata, thumbnails), self.data_version)


class CandidateMetadata:
    """The metadata of the rankings of a prediction set.

    It is made before the images are ranked, when the former rankings are still there.

    Args:
        store: The pool's tables.
        pool: The pool.
        prediction_set: The set that will be ranked.
        functions: The functions that it will be ranked by.
    """

    def __init__(
        self,
        store: PoolStore,
        pool: Pool,
        prediction_set: str,
        functions: Sequence[AcquisitionFunction],
    ) -> None:
        from dagster_active_learning.store.labeling_candidates import former_candidates

        self._store = store
        self._pool = pool
        self._rules = pool.rules
        self._name = prediction_set
        self._functions = functions
        self._former = {
            function.name: former_candidates(
                store, prediction_set, function.name, other_set=pool.partitioned
            )
            for function in functions
        }

    def reports(self, rankings: Mapping[str, Ranking]) -> dict[str, RankingReport]:
        """The reports on the rankings that were made since, by function."""
        from dagster_active_learning.store.alike_ids import alike_of_first
        from dagster_active_learning.store.image_scores import score_bins
        from dagster_active_learning.store.labeling_candidates import candidate_rows
        from dagster_active_learning.store.prediction_sets import prediction_set
        from dagster_active_learning.store.predictions import predictions_of_first
        from dagster_active_learning.store.quarantined_predictions import quarantined_of_first

        store, name, rules = self._store, self._name, self._rules
        stored = prediction_set(store, name)
        names = [function.name for function in self._functions]
        predictions = predictions_of_first(store, name, names, FIRST_RANKS)
        in_quarantine = quarantined_of_first(store, name, names, FIRST_RANKS)
        alike = alike_of_first(store, name, names, FIRST_RANKS) if rules.in_manifest else {}
        class_names = [shown(class_name, NAME_BYTES) for class_name in stored.class_names]
        reports: dict[str, RankingReport] = {}
        for function in self._functions:
            ranking = rankings[function.name]
            with candidate_rows(store, name, [function.name], limit=FIRST_RANKS) as rows:
                first: list[dict[str, Any]] = rows.read_all().to_pylist()
            preview = self._preview(function, first, class_names, predictions, in_quarantine, alike)
            metadata: Metadata = {
                **self._numbers(function, ranking),
                "preview": rows_table(preview),
                **self._comparisons(function, ranking),
                **lineage_metadata(store, stored, ranking_rule(function, rules)),
                **table_metadata(store, "labeling_candidates", ranking.candidate_count),
                **unscored_metadata(stored, rules, [function]),
            }
            tiles = [
                image_tile(self._pool, stored, row, predictions.get(row["image_id"]))
                for row in first
            ]
            bins = score_bins(store, name, function.name, HISTOGRAM_BINS)
            pictures = CandidatePictures(tiles, bins, function, rules, ranking.score_at_cut)
            reports[function.name] = RankingReport(metadata, pictures, ranking.sha256)
        return reports

    def _preview(
        self,
        function: AcquisitionFunction,
        first: Sequence[Mapping[str, Any]],
        class_names: Sequence[str],
        predictions: Mapping[str, pl.DataFrame],
        in_quarantine: set[str],
        alike: Mapping[str, str],
    ) -> list[dict[str, Any]]:
        from dagster_active_learning.explanation.phrase import candidate_reason

        return [
            {
                "rank": row["rank"],
                "image_id": row["image_id"],
                "reason": candidate_reason(
                    function,
                    predictions.get(row["image_id"]),
                    class_names=class_names,
                    rules=self._rules,
                    has_quarantined=row["image_id"] in in_quarantine,
                    alike_id=alike.get(row["image_id"]),
                ),
                "score": row["score"],
                "predicted_class": row["predicted_class"],
            }
            for row in first
        ]

    def _numbers(self, function: AcquisitionFunction, ranking: Ranking) -> Metadata:
        """Single numbers, of which the UI makes plots over time."""
        from dagster_active_learning.store.images import image_counts
        from dagster_active_learning.store.labeling_candidates import (
            candidates_without_predictions,
            common_with,
        )

        of_ranking = (self._store, self._name, function.name)
        count, former = ranking.candidate_count, self._former[function.name]
        numbers: Metadata = {
            "score_at_cut": ranking.score_at_cut,
            "mean_score": ranking.mean_score,
            "mean_uncertainty": ranking.mean_uncertainty,
            "images_to_choose_from": ranking.image_count,
            "without_predictions": candidates_without_predictions(*of_ranking),
        }
        counts = image_counts(self._store)
        if self._rules.in_manifest and counts.images:
            numbers["labeled_share"] = counts.labeled / counts.images
        if former is not None and count:
            kept = common_with(*of_ranking, former)
            numbers["new_candidates"] = count - kept
            numbers["overlap_with_former"] = kept / count
            if former.prediction_set != self._name:
                numbers["former_ranking"] = f"prediction set {shown(former.prediction_set)}"
        return {
            name: float(f"{number:.6g}") if isinstance(number, float) else number
            for name, number in numbers.items()
            if number is not None
        }

    def _comparisons(self, function: AcquisitionFunction, ranking: Ranking) -> Metadata:
        """The classes of the candidates, and how many other functions have chosen too."""
        from dagster_active_learning.store.labeling_candidates import (
            candidates_by_class,
            common_candidates,
        )

        of_ranking = (self._store, self._name, function.name)
        count = ranking.candidate_count
        if not count:
            return {}
        by_class = candidates_by_class(*of_ranking)
        others = [other.name for other in self._pool.functions if other != function]
        common = common_candidates(*of_ranking, others)
        agreement = [
            {"acquisition_function": other, "images_in_common": number, "share": number / count}
            for other, number in sorted(common.items())
        ]
        return {
            "by_predicted_class": counts_table("predicted_class", "candidates", by_class),
            **({"agreement": rows_table(agreement)} if agreement else {}),
        }


def gallery_metadata(
    tiles: Sequence[Tile], room: int, thumbnails: Thumbnails, text: str
) -> Metadata:
    """The contact sheet of images, or why there is none.

    Args:
        tiles: The images.
        room: The bytes that it may have; it has at least one image.
        thumbnails: Their pictures.
        text: The words in its place.
    """
    from dagster_active_learning.gallery import contact_sheet
    from dagster_active_learning.gallery.contact_sheets import MIN_BYTES

    if not tiles:
        return {}
    if not any(tile.uri for tile in tiles):
        return {
            "gallery": (
                "no images to show: give the pool a manifest (images) whose column uri says "
                "where the image files are"
            )
        }
    # Base64 takes four characters for three bytes.
    max_bytes = max(room * 3 // 4, MIN_BYTES)
    sheet = contact_sheet(tiles, thumbnails, max_bytes=max_bytes)
    return {"gallery": picture(sheet, text)}


def image_tile(
    pool: Pool,
    stored: PredictionSet,
    row: Mapping[str, Any],
    predictions: pl.DataFrame | None,
    *,
    reason: str | None = None,
) -> Tile:
    """An image of a contact sheet.

    Args:
        pool: The pool.
        stored: The prediction set.
        row: A row of ``candidate_rows``.
        predictions: What the model said about the image.
        reason: Words in place of the score.
    """
    from dagster_active_learning.gallery import Tile

    bbox_unit: Literal["pixel", "relative"] = (
        "relative" if stored.bbox_unit == "relative" else "pixel"
    )
    return Tile(
        rank=row["rank"],
        image_id=row["image_id"],
        uri=_located(row["uri"], pool.manifest.path if pool.manifest else None),
        score=row["score"],
        reason=reason,
        predicted_class=row["predicted_class"],
        boxes=() if predictions is None else _boxes(predictions, stored.class_names),
        object_count=0 if predictions is None else _object_count(predictions),
        bbox_unit=bbox_unit,
        image_size=(row["width"], row["height"]) if row["width"] and row["height"] else None,
    )


def _located(uri: str | None, manifest: Path | None) -> str | None:
    """The place of an image: a relative uri starts from the manifest's folder."""
    if not uri or manifest is None or _ABSOLUTE.match(uri):
        return uri
    return str(manifest.parent / uri)


def _object_count(predictions: pl.DataFrame) -> int:
    """The number of an image's boxes; of all its predictions where not all of them are here."""
    count = predictions["prediction_count"][0]
    return count if count > predictions.height else predictions["bbox"].count()


def _boxes(predictions: pl.DataFrame, class_names: Sequence[str]) -> tuple[Box, ...]:
    import polars as pl

    from dagster_active_learning.gallery import MAX_OBJECTS, Box

    class_probs = pl.col("class_probs")
    drawn = predictions.filter(pl.col("bbox").is_not_null()).head(MAX_OBJECTS)
    objects = drawn.select(
        "bbox",
        "category",
        class_index=class_probs.list.arg_max(),
        score=pl.coalesce("score", class_probs.list.max()),
    )
    boxes: list[Box] = []
    for bbox, category, class_index, score in objects.iter_rows():
        predicted = None if class_index is None else class_names[int(class_index)]
        boxes.append(Box(bbox=tuple(bbox), label=category or predicted, score=score))
    return tuple(boxes)


def picture(png: bytes, text: str) -> dg.MarkdownMetadataValue:
    """A PNG as the UI shows it, with words for those who do not see it."""
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})")
