"""The settings of a labeling batch, as a user writes them down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.definitions.exports import CandidateFiles, Export
from dagster_active_learning.definitions.queries import secrets_withheld, shown_query
from dagster_active_learning.errors import PredictionReadError, SettingError
from dagster_active_learning.files.addresses import is_address, shown_address
from dagster_active_learning.ranking.batch_rules import BatchRules

if TYPE_CHECKING:
    import duckdb
    from dagster._core.definitions.assets.definition.asset_dep import CoercibleToAssetDep

    from dagster_active_learning.flow.select import ReadEmbeddings
    from dagster_active_learning.readers.embeddings import Vectors
    from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Embeddings of the images, by which near-duplicates are known and images may be chosen.

    An image that is as near to a labeled one, to one in flight or to one in the batch is left out.
    There is no limit that fits all embeddings: without one nothing is left out, and the histogram
    of nearest distances in the UI is there to choose it by.

    Attributes:
        path: A Parquet file or glob with one row per image, or a NPY file (n_images,
            n_dimensions).
        asset: Key of an asset that returns a table of them instead.
        query: A DuckDB query in the pool's database instead, or ``FROM schema.table``.
        image_ids: Of NPY, a text file with the id of each row, one per line; by default beside it
            under its name with ``.ids.txt``.
        image_id_column: Of tables, the column of ids.
        embedding_column: Of tables, the column of embeddings, lists of as many numbers each.
        max_distance: The Euclidean distance up to which two images are near-duplicates. Of vectors
            of length 1 its square is 2 - 2 times their cosine.
        deps: Assets that write the files or what the query reads.

    Raises:
        SettingError: If there is not one source.

    Example:
        >>> NearDuplicates(path="embeddings.parquet", max_distance=0.2).embedding_column
        'embedding'
    """

    path: str | PathLike[str] | None = None
    asset: dg.AssetKey | str | Sequence[str] | None = None
    query: str | None = None
    image_ids: str | PathLike[str] | None = None
    image_id_column: str = "image_id"
    embedding_column: str = "embedding"
    max_distance: float | None = None
    deps: Iterable[CoercibleToAssetDep] = ()

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.path, self.asset, self.query)) != 1:
            raise SettingError(
                "near_duplicates",
                "near_duplicates has no source of embeddings, or several: expected path, asset or "
                "query",
            )
        if self.path is not None and is_address(fspath(self.path)):
            raise SettingError(
                "near_duplicates",
                f"near_duplicates has the address {shown_address(fspath(self.path))!r}, expected a "
                "local path: let an asset fetch the file, and name the asset in deps",
            )
        BatchRules(max_distance=self.max_distance)

    @property
    def upstream(self) -> dg.AssetKey | None:
        """The asset whose value the embeddings are, if it is one."""
        return None if self.asset is None else dg.AssetKey.from_coercible(self.asset)

    def reader(self, value: Any) -> ReadEmbeddings:
        """Make the function that reads embeddings, given what the asset ``upstream`` returned."""

        def read(store: PoolStore, wanted: Sequence[str], known: Sequence[str]) -> Any:
            from dagster_active_learning.ranking.batch import Embeddings

            ids, vectors = self._read(store.reader(), value, wanted)
            return Embeddings(ids, vectors, known)

        return read

    def _read(
        self, connection: duckdb.DuckDBPyConnection, value: Any, wanted: Sequence[str]
    ) -> Vectors:
        import duckdb

        from dagster_active_learning.readers.embeddings import npy_embeddings, wanted_embeddings

        columns = {
            "image_id_column": self.image_id_column,
            "embedding_column": self.embedding_column,
        }
        if self.query is not None:
            shown = shown_query(self.query)
            with secrets_withheld(self.query):
                try:
                    relation = connection.sql(self.query)
                    return wanted_embeddings(relation, wanted, name=f"query {shown}", **columns)
                except duckdb.Error as error:
                    raise PredictionReadError(f"the query {shown!r} fails: {error}") from error
        if self.path is None:
            name = f"asset {self.upstream.to_user_string() if self.upstream else ''}"
            try:
                relation = connection.from_arrow(_arrow(value, name))
                return wanted_embeddings(relation, wanted, name=name, **columns)
            except duckdb.Error as error:
                raise PredictionReadError(f"the embeddings of {name}: {error}") from error
        path = Path(self.path)
        if path.suffix == ".npy":
            ids = Path(self.image_ids or path.with_suffix(".ids.txt"))
            return npy_embeddings(path, ids, wanted)
        try:
            relation = connection.read_parquet(str(path))
            return wanted_embeddings(relation, wanted, name=str(path), **columns)
        except duckdb.Error as error:
            raise PredictionReadError(f"the embeddings {path} cannot be read: {error}") from error


def _arrow(value: Any, name: str) -> Any:
    import pyarrow as pa

    if not hasattr(value, "__arrow_c_stream__"):
        raise PredictionReadError(
            f"{name} gives a {type(value).__qualname__}, expected a polars or pandas data frame or "
            "an Arrow table with one embedding per image"
        )
    return pa.table(value)


@dataclass(frozen=True, kw_only=True)
class LabelingBatch(BatchRules):
    """The images to label next, as ``<pool>/labeling_batch`` chooses them.

    A batch is open until it is handed out, by its export or by ``hand_out_batch``: materializing
    again replaces it. What is out is in flight until the manifest says that it is labeled, or
    ``release_batch`` or ``return_after_days`` gives it back, and in no other batch meanwhile.

    Attributes:
        rank_by: The acquisition function whose ranking is the queue; by default ``"margin"``, for
            objects ``"mean_object_score"``. In comparisons by retraining margin won: entropy was
            worse than random images in most of them, though it finds errors of one model well.
        near_duplicates: Embeddings, by which images that tell nothing new are left out, and which
            ``choose_by`` may need.
        export: Files that the batch is written to, as ``export`` of the pool is for the rankings.
            Writing them hands the batch out.

    Example:
        >>> LabelingBatch(size=50, random_share=0.2).random_count(50)
        10
    """

    rank_by: str | None = None
    near_duplicates: NearDuplicates | None = None
    export: Export | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_distance is not None:
            raise SettingError(
                "max_distance",
                f"max_distance is {self.max_distance!r}: set it in near_duplicates, with the "
                "embeddings",
            )
        if self.choose_by != "queue" and self.near_duplicates is None:
            raise SettingError(
                "choose_by",
                f"choose_by is {self.choose_by!r}, which needs embeddings: say in near_duplicates "
                "where they are; without max_distance in it nothing is left out",
            )
        _ = self.files

    @property
    def files(self) -> CandidateFiles | None:
        """The files that the batch is written to, if there are any.

        A pool has one open batch, whatever partitions it has.
        """
        return None if self.export is None else CandidateFiles(self.export, partitioned=False)

    @property
    def rules(self) -> BatchRules:
        """The rules by which images are chosen, with the distance of near-duplicates."""
        settings = {field.name: getattr(self, field.name) for field in fields(BatchRules)}
        if self.near_duplicates is not None:
            settings["max_distance"] = self.near_duplicates.max_distance
        return BatchRules(**settings)
