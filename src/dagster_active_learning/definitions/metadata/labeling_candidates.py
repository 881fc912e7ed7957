"""Metadata of a ranking: pictures, reasons, numbers over time, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_shared.serdes import serialize_value

from dagster_active_learning.definitions.metadata.image_scores import unscored_metadata
from dagster_active_learning.definitions.metadata.lineage import lineage_metadata, ranking_rule
from dagster_active_learning.definitions.metadata.pictures import (
    EVENT_BYTES,
    HISTOGRAM_BYTES,
    gallery_metadata,
    image_tile,
    picture,
)
from dagster_active_learning.definitions.metadata.summary import (
    score_bars,
    source_lines,
    summary,
    top_classes,
    with_report,
)
from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    counts_table,
    rounded,
    rows_table,
    table_metadata,
)
from dagster_active_learning.definitions.partitions import Materialized
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    import polars as pl

    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.flow import Ranking
    from dagster_active_learning.gallery import Thumbnails, Tile
    from dagster_active_learning.rules import Rules
    from dagster_active_learning.store.pool_store import PoolStore
    from dagster_active_learning.store.prediction_sets import PredictionSet
    from dagster_active_learning.store.score_counts import ScoreBins

FIRST_RANKS = 24
"""Number of candidates that are shown: six to a row of the contact sheet."""

WITHOUT_PREDICTIONS = 3
"""Candidates without predictions that are shown: they look alike, and the last says how many."""

NAME_BYTES = 60


@dataclass(frozen=True)
class CandidatePictures:
    """The pictures of a ranking, drawn once the database is closed: files may take long to read.

    Attributes:
        tiles: The first candidates.
        class_names: The classes in their order.
        bins: The scores of the images to choose from.
        function: The acquisition function.
        rules: How the images are scored.
        score_at_cut: The score of the last candidate.
    """

    tiles: Sequence[Tile]
    class_names: Sequence[str]
    bins: ScoreBins | None
    function: AcquisitionFunction
    rules: Rules
    score_at_cut: float | None

    def drawn(self, metadata: Metadata, thumbnails: Thumbnails) -> Metadata:
        """The metadata with summary, gallery and histogram of scores first, if there are any.

        The gallery is as large as the other metadata leave room for, and at least one image: the
        ranks are in the database already, so that nothing may fail here.

        Args:
            metadata: The other metadata of the ranking.
            thumbnails: The pictures of the images that other rankings have drawn already.
        """
        histogram = self._histogram()
        size = len(serialize_value(dg.AssetMaterialization("size", metadata=metadata | histogram)))
        text = f"The first {len(self.tiles)} candidates"
        room = EVENT_BYTES - size
        sheet = gallery_metadata(self.tiles, self.class_names, room, thumbnails, text)
        drawn = {"summary": metadata["summary"], **sheet, **histogram, **metadata}
        return drawn | {"summary": with_report(metadata)}

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
            title=f"{function.title} of {bins.counts.sum():,} images to choose from",
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
        from dagster_active_learning.store.ranking_overlap import former_candidates

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
        from dagster_active_learning.store.labeling_candidates import (
            candidates_by_class,
            candidates_without_predictions,
            first_candidates,
        )
        from dagster_active_learning.store.prediction_sets import prediction_set
        from dagster_active_learning.store.predictions import predictions_of_images
        from dagster_active_learning.store.quarantined_predictions import quarantined_of_first
        from dagster_active_learning.store.score_bins import score_bins

        store, name, rules = self._store, self._name, self._rules
        stored = prediction_set(store, name)
        names = [function.name for function in self._functions]
        first = {
            function: first_candidates(
                store, name, function, FIRST_RANKS, without_predictions=WITHOUT_PREDICTIONS
            )
            for function in names
        }
        ids = {row["image_id"] for rows in first.values() for row in rows}
        predictions = predictions_of_images(store, name, sorted(ids))
        in_quarantine = quarantined_of_first(store, name, names, FIRST_RANKS)
        alike = alike_of_first(store, name, names, FIRST_RANKS) if rules.in_manifest else {}
        class_names = [shown(class_name, NAME_BYTES) for class_name in stored.class_names]
        bins = score_bins(store, name, names, rules)
        reports: dict[str, RankingReport] = {}
        for function in self._functions:
            ranking, rows = rankings[function.name], first[function.name]
            empty = candidates_without_predictions(store, name, function.name)
            stands_for = self._mark_the_last_empty(rows, empty)
            of_rows = (predictions, in_quarantine, alike)
            preview = self._preview(function, rows, class_names, stands_for, *of_rows)
            by_class = candidates_by_class(store, name, function.name)
            metadata: Metadata = {
                "summary": self._summary(
                    function, ranking, stored, bins.get(function.name), by_class
                ),
                **self._numbers(function, ranking, empty),
                "preview": rows_table(preview),
                **self._comparisons(function, ranking, by_class),
                **lineage_metadata(store, stored, ranking_rule(function, rules)),
                **table_metadata(store, "labeling_candidates", ranking.candidate_count),
                **unscored_metadata(stored, rules, [function]),
            }
            tiles = [
                image_tile(
                    self._pool,
                    stored,
                    row,
                    predictions.get(row["image_id"]),
                    stands_for=stands_for.get(row["image_id"]),
                )
                for row in rows
            ]
            pictures = CandidatePictures(
                tiles,
                stored.class_names,
                bins.get(function.name),
                function,
                rules,
                ranking.score_at_cut,
            )
            reports[function.name] = RankingReport(metadata, pictures, ranking.sha256)
        return reports

    def _mark_the_last_empty(self, rows: Sequence[Mapping[str, Any]], empty: int) -> dict[str, str]:
        """Words for the last of the shown images without predictions, if there are more."""
        shown_ids = [row["image_id"] for row in rows if not row["prediction_count"]]
        more = empty - len(shown_ids)
        if len(shown_ids) < WITHOUT_PREDICTIONS or more < 1:
            return {}
        what = "objects" if self._rules.objects else "predictions"
        return {shown_ids[-1]: f"+ {more:,} without {what}"}

    def _summary(
        self,
        function: AcquisitionFunction,
        ranking: Ranking,
        stored: PredictionSet,
        bins: ScoreBins | None,
        by_class: Sequence[tuple[str | None, int]],
    ) -> dg.MarkdownMetadataValue:
        """The ranking at a glance."""
        cut = ranking.score_at_cut
        label_first = function.label_first_under(self._rules.aggregation)
        counts = f"**{ranking.candidate_count:,}** of {ranking.image_count:,}"
        return summary(
            [
                None if bins is None else score_bars(bins.counts, bins.edges, cut, label_first),
                counts if cut is None else f"{counts}, cut at {cut:.3g}",
                top_classes(by_class),
                *source_lines(stored.model, stored.source_sha256),
            ]
        )

    def _preview(
        self,
        function: AcquisitionFunction,
        first: Sequence[Mapping[str, Any]],
        class_names: Sequence[str],
        stands_for: Mapping[str, str],
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
                )
                + (f" ({words})" if (words := stands_for.get(row["image_id"])) else ""),
                "score": row["score"],
                "predicted_class": row["predicted_class"],
            }
            for row in first
        ]

    def _numbers(self, function: AcquisitionFunction, ranking: Ranking, empty: int) -> Metadata:
        """Single numbers, of which the UI makes plots over time."""
        from dagster_active_learning.store.images import image_counts
        from dagster_active_learning.store.ranking_overlap import common_with

        of_ranking = (self._store, self._name, function.name)
        count, former = ranking.candidate_count, self._former[function.name]
        numbers: Metadata = {
            "score_at_cut": ranking.score_at_cut,
            "mean_score": ranking.mean_score,
            "mean_uncertainty": ranking.mean_uncertainty,
            "images_to_choose_from": ranking.image_count,
            "without_predictions": empty,
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
            name: rounded(number) if isinstance(number, float) else number
            for name, number in numbers.items()
            if number is not None
        }

    def _comparisons(
        self,
        function: AcquisitionFunction,
        ranking: Ranking,
        by_class: Sequence[tuple[str | None, int]],
    ) -> Metadata:
        """The classes of the candidates, and how many other functions have chosen too."""
        from dagster_active_learning.store.ranking_overlap import common_candidates

        of_ranking = (self._store, self._name, function.name)
        count = ranking.candidate_count
        if not count:
            return {}
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
