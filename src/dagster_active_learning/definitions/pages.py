"""The pages of rankings and batches: read from the pool's tables, written, and linked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg

from dagster_active_learning.definitions.pool import RESOURCE, Pool
from dagster_active_learning.definitions.reports import report_folder
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import located_uri, redacted
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.definitions.metadata.tables import Metadata
    from dagster_active_learning.flow.select import ReadEmbeddings
    from dagster_active_learning.gallery import Thumbnails
    from dagster_active_learning.ranking.batch import Embeddings
    from dagster_active_learning.report.contents import Page, PageImage, PageList, Points
    from dagster_active_learning.report.reading import Lists
    from dagster_active_learning.store.labeling_batches import BatchSelection
    from dagster_active_learning.store.pool_store import PoolStore

MOST_SETS = 10
"""Prediction sets of a run whose pages are written, the last ones: their rows are in memory."""

NAME_BYTES = 120
"""Bytes of the part of a file's name that a partition key gives."""

MIN_POINTS = 3
"""Images with an embedding that a plane is made of."""

REASON_BYTES = 300
"""Bytes of the reason why a page is not written."""


_Key = tuple[str, str]
"""The prediction set and the acquisition function of a page."""


class PoolPages:
    """The pages of a step, read from the database and written when it is closed.

    Pictures may take long to read. What the pages are about is in the database already: whatever
    happens to a page, it is the reason why there is none, and fails nothing.

    Args:
        pool: The pool.
        context: The context of the step.
    """

    def __init__(self, pool: Pool, context: dg.AssetExecutionContext) -> None:
        self._pool = pool
        self._log = context.log
        self._run_id = context.run.run_id
        self._folder = report_folder(pool.report, getattr(context.resources, RESOURCE).database)
        self._pages: dict[_Key, tuple[Path, Page]] = {}
        self._reasons: dict[_Key, Metadata] = {}

    def add_rankings(
        self, store: PoolStore, prediction_set: str, functions: Sequence[AcquisitionFunction]
    ) -> None:
        """Read the rankings of a prediction set that were made now, and those to compare with."""
        if self._folder is not None:
            with self._no_failure([(prediction_set, function.name) for function in functions]):
                self._read_rankings(self._folder, store, prediction_set, functions)

    def _read_rankings(
        self,
        of_pages: Path,
        store: PoolStore,
        prediction_set: str,
        functions: Sequence[AcquisitionFunction],
    ) -> None:
        from dagster_active_learning.report.contents import Page
        from dagster_active_learning.report.reading import MOST_CANDIDATES, read_rankings

        of_set = read_rankings(
            store,
            prediction_set,
            self._pool.functions,
            rules=self._pool.rules,
            limit=MOST_CANDIDATES,
        )
        former = self._former(store, prediction_set, functions)
        points, label = self._plane(store, of_set.images, None)
        folder = of_pages / self._pool.name / "labeling_candidates"
        for function in functions:
            own = of_set.by_name[function.name]
            beside = [
                *(each for name, each in of_set.by_name.items() if name != function.name),
                *(each for name, each in former.by_name.items() if name == function.name),
            ]
            facts = [
                ("pool", self._pool.name),
                *([("prediction set", prediction_set)] if self._pool.partitioned else []),
                ("acquisition function", function.title),
            ]
            page = Page(
                title=f"{own.candidate_count:,} labeling candidates by {function.title.lower()}",
                facts=[*facts, *self._origin(store, prediction_set)],
                class_names=of_set.class_names,
                lists=_beside(own, beside),
                images=self._located({**former.images, **of_set.images}),
                points=points,
                points_label=label,
            )
            path = (
                folder / function.name / f"{_file_name(prediction_set)}.html"
                if self._pool.partitioned
                else folder / f"{function.name}.html"
            )
            self._add(prediction_set, function.name, path, page)

    def add_batch(
        self,
        store: PoolStore,
        function: AcquisitionFunction,
        selection: BatchSelection,
        embeddings: Embeddings | None,
    ) -> None:
        """Read a batch, and the rankings to compare it with.

        Args:
            store: The pool.
            function: The acquisition function of the queue.
            selection: How the batch was made.
            embeddings: The embeddings that were read for it.
        """
        if self._folder is not None:
            with self._no_failure([(selection.prediction_set, function.name)]):
                self._read_batch(self._folder, store, function, selection, embeddings)

    def _read_batch(
        self,
        of_pages: Path,
        store: PoolStore,
        function: AcquisitionFunction,
        selection: BatchSelection,
        embeddings: Embeddings | None,
    ) -> None:
        from dagster_active_learning.report.contents import Page
        from dagster_active_learning.report.reading import MOST_BESIDE, read_batch, read_rankings

        name, rules = selection.prediction_set, self._pool.rules
        batch = read_batch(store, selection.batch, name, function, rules=rules)
        rankings = read_rankings(store, name, self._pool.functions, rules=rules, limit=MOST_BESIDE)
        images = {**rankings.images, **batch.images}
        points, label = self._plane(store, images, embeddings)
        page = Page(
            title=f"Labeling batch {selection.batch}: {selection.image_count:,} images",
            facts=[
                ("pool", self._pool.name),
                *([("prediction set", name)] if self._pool.partitioned else []),
                ("queue", function.title),
                ("drawn at random", f"{selection.random_count:,}"),
                *self._origin(store, name),
            ],
            class_names=batch.class_names,
            lists=_beside(batch.by_name[function.name], [*rankings.by_name.values()]),
            images=self._located(images),
            points=points,
            points_label=label,
        )
        folder = of_pages / self._pool.name / "labeling_batch"
        self._add(name, function.name, folder / f"batch_{selection.batch}.html", page)

    def link(self, prediction_set: str, function: str) -> Metadata:
        """The metadata that leads to the page, before it is written: empty without one."""
        key = prediction_set, function
        page = None if key in self._reasons else self._pages.get(key)
        return {} if page is None else {"report": dg.MetadataValue.path(str(page[0]))}

    def write(self, thumbnails: Thumbnails) -> Mapping[_Key, Metadata]:
        """Write the pages; the reason why one could not be, by prediction set and function.

        Args:
            thumbnails: The small pictures, which contact sheets share, and the time for them.
        """
        waiting = dict(self._pages)
        if not waiting:
            return self._reasons
        with self._no_failure(waiting.keys()):
            from dagster_active_learning.report.pictures import Pictures
            from dagster_active_learning.report.writing import write_page

            with Pictures(thumbnails, self._pool.picture_roots) as pictures:
                for key, (path, page) in self._pages.items():
                    del waiting[key]
                    with self._no_failure([key]):
                        written = write_page(page, path, pictures)
                        self._log.info(
                            f"report: {path}, {written.candidate_count:,} images, "
                            f"{written.picture_count:,} pictures, {written.bytes / 1e6:.1f} MB"
                        )
        return self._reasons

    @contextmanager
    def _no_failure(self, keys: Collection[_Key]) -> Generator[None]:
        """An error of the block is the reason why the pages are not written.

        Args:
            keys: The prediction sets and functions of the pages.
        """
        try:
            yield
        # Whatever it is, memory that is too small included.
        except Exception as error:
            if is_foreseen := isinstance(error, OSError):
                text = str(error.strerror or error)
            else:
                text = f"{type(error).__name__}: {error}"
            reason = shown(redacted(text), REASON_BYTES)
            names = ", ".join(f"{name!r} by {function}" for name, function in keys)
            self._log.warning(
                f"the report on {names} cannot be written: {reason}", exc_info=not is_foreseen
            )
            self._reasons |= {key: {"report": f"not written: {reason}"} for key in keys}

    def _add(self, prediction_set: str, function: str, path: Path, page: Page) -> None:
        self._pages[prediction_set, function] = (path.absolute(), page)
        sets = list(dict.fromkeys(name for name, _ in self._pages))
        for key in [key for key in self._pages if key[0] in sets[:-MOST_SETS]]:
            del self._pages[key]

    def _former(
        self, store: PoolStore, prediction_set: str, functions: Sequence[AcquisitionFunction]
    ) -> Lists:
        """The rankings of the prediction sets before this one: other models, as a rule."""
        from dagster_active_learning.report.reading import MOST_BESIDE, Lists, read_rankings
        from dagster_active_learning.store.ranking_overlap import set_ranked_before

        by_name: dict[str, PageList] = {}
        images: dict[str, PageImage] = {}
        for function in functions:
            former = set_ranked_before(store, prediction_set, function.name)
            if former is not None:
                lists = read_rankings(
                    store,
                    former,
                    [function],
                    rules=self._pool.rules,
                    limit=MOST_BESIDE,
                    suffix=f", prediction set {shown(former)}",
                )
                by_name |= lists.by_name
                images |= lists.images
        return Lists(by_name, images, [])

    def _origin(self, store: PoolStore, prediction_set: str) -> list[tuple[str, str]]:
        from dagster_active_learning.store.prediction_sets import prediction_set as stored_set

        stored = stored_set(store, prediction_set)
        return [
            ("model", shown(stored.model or "not given")),
            ("predictions", shown(_without_place(stored.source))),
            ("made by Dagster run", self._run_id),
        ]

    def _located(self, images: Mapping[str, PageImage]) -> dict[str, PageImage]:
        manifest = self._pool.manifest
        if manifest is None:
            return dict(images)
        folder = manifest.path.parent
        return {
            image_id: replace(image, uri=located_uri(image.uri, folder))
            for image_id, image in images.items()
        }

    def _plane(
        self, store: PoolStore, images: Mapping[str, PageImage], embeddings: Embeddings | None
    ) -> tuple[Points, str]:
        """The places of images on the plane of their embeddings, and the words about it."""
        duplicates = self._pool.batch.near_duplicates if self._pool.batch else None
        if duplicates is None:
            return {}, ""
        if embeddings is None:
            if duplicates.upstream is not None:
                return {}, (
                    "The embeddings are what an asset returns: the batch's page has their plot."
                )
            try:
                embeddings = duplicates.reader(None)(store, list(images), [])
            except PredictionReadError as error:
                # It names the file: a page may go to people who are not to know its place.
                self._log.warning(f"the reports have no plot of embeddings: {error}")
                return {}, "There is no plot of embeddings: they cannot be read, the log says why."
        known = [image_id for image_id in images if image_id in embeddings]
        if len(known) < MIN_POINTS:
            return {}, "There is no plot of embeddings: hardly an image has one."
        from dagster_active_learning.report.projection import principal_plane

        places, shares = principal_plane(embeddings.of(known))
        rounded = ((float(f"{x:.5g}"), float(f"{y:.5g}")) for x, y in places.tolist())
        return dict(zip(known, rounded, strict=True)), (
            f"{len(known):,} images by the first two principal components, which have "
            f"{shares[0]:.0%} and {shares[1]:.0%} of the variance."
        )


class KeptEmbeddings:
    """A function that reads embeddings, and keeps what it has read for the page.

    Args:
        read: The function.

    Attributes:
        kept: What it has read, None before.
    """

    def __init__(self, read: ReadEmbeddings) -> None:
        self._read = read
        self.kept: Embeddings | None = None

    def __call__(self, store: PoolStore, wanted: Sequence[str], known: Sequence[str]) -> Embeddings:
        """Read the embeddings of the images ``wanted``, of which some are ``known``."""
        self.kept = self._read(store, wanted, known)
        return self.kept


def _beside(own: PageList, others: Sequence[PageList]) -> list[PageList]:
    """A list, and the others as far as they can stand beside it."""
    from dagster_active_learning.report.reading import MOST_BESIDE

    return [own, *(replace(each, candidates=each.candidates[:MOST_BESIDE]) for each in others)]


def _without_place(source: str) -> str:
    """The name of a file or an asset that predictions are from, without the folder."""
    if source.startswith("asset "):
        return source
    # A statement of SQL may name any file.
    return (
        "a query" if source.startswith("query ") else re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    )


def _file_name(prediction_set: str) -> str:
    """A file's name for a partition key, whatever characters it has."""
    name = quote(prediction_set, safe=" ")
    if len(name) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(prediction_set.encode()).hexdigest()[:12]
    return f"{name[:NAME_BYTES]}_{digest}"
