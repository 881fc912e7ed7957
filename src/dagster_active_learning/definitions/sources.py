"""Sources of a pool's predictions, as a user writes them down."""

from __future__ import annotations

import glob
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from dagster_active_learning.definitions.code_versions import changed
from dagster_active_learning.definitions.partitions import PLACEHOLDER, check_path, partition_path
from dagster_active_learning.definitions.queries import secrets_withheld, shown_query
from dagster_active_learning.errors import PredictionReadError, SettingError
from dagster_active_learning.files.addresses import at_home, is_address, shown_address
from dagster_active_learning.files.find import is_meant
from dagster_active_learning.files.links import named_folder
from dagster_active_learning.readers import read_predictions, reader_options
from dagster_active_learning.readers.formats import FORMATS
from dagster_active_learning.readers.options import Options, TableOptions
from dagster_active_learning.rules import Inputs, check_flag

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from dagster._core.definitions.assets.definition.asset_dep import CoercibleToAssetDep

    from dagster_active_learning.files.file_sets import FileSet
    from dagster_active_learning.readers.in_place import SourceInPlace
    from dagster_active_learning.readers.stream import PredictionPart, PredictionStream

OpenSource: TypeAlias = "Callable[[duckdb.DuckDBPyConnection], PredictionStream]"


class PredictionSource(ABC):
    """A source of predictions.

    Attributes:
        model: The model that made the predictions, for lineage.
        deps: Assets that must be there before the predictions are read.
        upstream: The asset whose value is the predictions, if it is one.
    """

    def __init__(self, model: str | None = None, deps: Iterable[CoercibleToAssetDep] = ()) -> None:
        self.model = model
        self.deps: Sequence[CoercibleToAssetDep] = tuple(deps)
        self.upstream: dg.AssetKey | None = None

    def check_partitions(self, *, partitioned: bool) -> None:  # noqa: B027 - most take any
        """Raise SettingError unless it can be the source of a pool with or without partitions."""

    def check_inputs(self, inputs: Inputs) -> None:  # noqa: B027 - most hold any
        """Raise SettingError unless its class probabilities can be such inputs."""

    @abstractmethod
    def open(self, value: Any, partition_key: str | None = None) -> OpenSource:
        """Prepare what can be prepared without the database, however long it takes.

        Args:
            value: What the asset ``upstream`` returned; None where there is none.
            partition_key: Which partition's predictions to read; None where the pool has none.

        Returns:
            Takes an open connection to the pool's database and gives the predictions.

        Raises:
            PredictionReadError: If the source is not what it was declared to be.
        """

    def settings(self) -> dict[str, Any]:
        """The settings that the predictions depend on, but those with their default, by name."""
        return {} if self.model is None else {"model": self.model}

    def reads(self, file: str) -> bool:  # noqa: ARG002 - most read no files
        """True if a file would be one of the source's own."""
        return False

    def origins(self, class_names: Sequence[str]) -> Mapping[str, Sequence[str]]:  # noqa: ARG002
        """The columns of ``upstream`` that each column of the predictions is made of, if known."""
        return {}


class PredictionFiles(PredictionSource):
    """Prediction files of one format.

    Args:
        path: A file, or a glob such as ``"predictions/*.parquet"``; for yolo, kitti and lightly
            also the folder of the files. In a pool with partitions ``{partition_key}`` stands in it
            for the partition key, as in ``"predictions/{partition_key}.parquet"``. An address such
            as ``"s3://bucket/may.parquet"`` is fetched by fsspec into a temporary folder; who may
            read it is for fsspec's own configuration or the environment to say. What is stored and
            shown of it has no user, password and query. A link that leads out of the folder, which
            is the part before the first wildcard or ``{partition_key}``, is not read.
        format: One of ``FORMATS``, for example ``"parquet"``, ``"csv"`` or ``"coco"``.
        model: The model that made the predictions, for lineage.
        deps: Assets that write the files.
        in_place: Whether the files are not copied into the database, but read where they are, by
            the pool's ``engine``, and their scores written to its ``storage``. They have to be
            Parquet, and to stay as they are: one that is gone or another is an error from then on.
        options: The options of the format, for example ``class_column_prefix="prob_"``; see
            ``read_predictions``.

    Raises:
        ValueError: If the format or an option is unknown, or files of the format, or at an address
            with a user, a password or a query, cannot be read in place.

    Example:
        >>> PredictionFiles("predictions/*.csv", "csv", class_column_prefix="prob_").path
        'predictions/*.csv'
    """

    def __init__(
        self,
        path: str | PathLike[str],
        format: str,
        *,
        model: str | None = None,
        deps: Iterable[CoercibleToAssetDep] = (),
        in_place: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model, deps)
        self.path = at_home(path)
        self.format = format
        self._options = options
        self._checked = reader_options(format, options)
        self.in_place = in_place
        check_flag("in_place", in_place)
        if in_place and format != "parquet":
            raise ValueError(
                f"in_place is True and the format {format!r}: only Parquet files are read in place"
            )
        if in_place and shown_address(self.path) != self.path:
            raise ValueError(
                f"in_place is True and the path {shown_address(self.path)} has more than is shown, "
                "a user, a password or a query, which would be kept in the database: leave it to "
                "fsspec's configuration or the environment to say who may read the files"
            )

    def check_partitions(self, *, partitioned: bool) -> None:
        """The path names the partition where there is one."""
        check_path("predictions", self.path, partitioned=partitioned, of="predictions have")

    def check_inputs(self, inputs: Inputs) -> None:
        """A format whose reader adds what is left over to 1 has probabilities."""
        if FORMATS[self.format].has_background and inputs != "probabilities":
            raise SettingError(
                "inputs",
                f"inputs is {inputs!r}, but what class probabilities of the format "
                f"{self.format!r} leave over to 1 is one class more: expected 'probabilities'",
            )
        _check_single(self._checked, inputs)
        if self.in_place and inputs == "logits":
            raise SettingError(
                "inputs",
                "inputs is 'logits', and predictions are read in place: expected 'probabilities' "
                "or 'independent', for a view over the files shows what is in them",
            )

    def _path_of(self, partition_key: str | None) -> tuple[str, str | None]:
        """The path of a partition's files, and the folder out of which no link may lead."""
        if partition_key is None:
            return self.path, None
        within = named_folder(self.path.replace(PLACEHOLDER, "*"), is_glob=True)
        return partition_path(self.path, partition_key), within

    def open_in_place(self, partition_key: str | None = None) -> SourceInPlace:
        """Open the files to be read where they are.

        Raises:
            PredictionReadError: As ``readers.in_place.open_in_place`` raises it.
        """
        from dagster_active_learning.readers.in_place import open_in_place

        path, within = self._path_of(partition_key)
        return open_in_place(path, within=within, **self._options)

    def open(self, value: Any, partition_key: str | None = None) -> OpenSource:  # noqa: ARG002
        """Fetch and open the files; the value is for other sources."""
        path, within = self._path_of(partition_key)
        read = read_predictions
        if is_address(path):
            from dagster_active_learning.readers.remote import read_remote_predictions

            read = read_remote_predictions
        stream = read(path, format=self.format, within=within, **self._options)
        return lambda _: stream

    def find(self, *, partitioned: bool) -> dict[str, FileSet]:
        """The files that are there now, by partition key; all under ``""`` where there is none.

        Raises:
            OSError: If the filesystem does not answer.
            ImportError: If fsspec needs a further package for the address.
        """
        from dagster_active_learning.files.file_sets import find_file_sets

        return find_file_sets(
            self.path,
            placeholder=PLACEHOLDER if partitioned else None,
            files_in_folder=FORMATS[self.format].files_in_folder,
            companion=getattr(self._checked, "image_ids", None),
            schema_file=FORMATS[self.format].schema_file,
            local_file=getattr(self._checked, "instances", None),
        )

    def reads(self, file: str) -> bool:
        """True if the path stands for the file, of any partition, or it is the instances file."""
        path, files_in_folder = (
            self.path.replace(PLACEHOLDER, "*"),
            FORMATS[self.format].files_in_folder,
        )
        instances = getattr(self._checked, "instances", None)
        return is_meant(file, path, files_in_folder) or (
            instances is not None and is_meant(file, glob.escape(instances))
        )

    def settings(self) -> dict[str, Any]:
        """Format and options; not the path, for the same content elsewhere is the same input."""
        return {**super().settings(), "format": self.format, **changed(self._checked)}


class PredictionAsset(PredictionSource):
    """The value of an upstream Dagster asset: a polars or pandas data frame, or an Arrow table.

    Args:
        key: Key of the asset.
        model: The model that made the predictions, for lineage.
        options: Which columns hold what; see ``TableOptions``.

    Raises:
        ValueError: If the key has an empty part or an option is unknown.

    Example:
        >>> PredictionAsset(["ml", "predictions"], class_column_prefix="prob_").upstream
        AssetKey(['ml', 'predictions'])
    """

    def __init__(
        self, key: dg.AssetKey | str | Sequence[str], *, model: str | None = None, **options: Any
    ) -> None:
        super().__init__(model)
        self.upstream = dg.AssetKey.from_coercible(key)
        if not all(self.upstream.path):
            raise ValueError(
                f"predictions is the asset {self.upstream.to_user_string()!r}, expected a key "
                "without empty parts, such as 'ml/predictions'"
            )
        self._options = _table_options(options)

    def check_inputs(self, inputs: Inputs) -> None:
        """A single probability is a probability."""
        _check_single(self._options, inputs)

    def open(self, value: Any, partition_key: str | None = None) -> OpenSource:  # noqa: ARG002
        """Open the asset's value, which is that of the partition."""
        from dagster_active_learning.readers.arrow import read_table

        name = f"asset {self.upstream.to_user_string() if self.upstream else ''}"
        stream = read_table(value, name=name, options=self._options)
        return lambda _: stream

    def origins(self, class_names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The asset's columns as the options name them; those a pattern matches are not known."""
        options = self._options
        if options.class_column_prefix is not None:
            class_columns = [options.class_column_prefix + name for name in class_names]
        elif options.one_column_per_class:
            class_columns = list(options.class_columns or ())
        else:
            class_columns = [options.class_probs_column]
        columns = {
            "image_id": [options.image_id_column],
            "class_probs": class_columns,
            "score": [options.score_column],
            "category": [options.category_column],
            "bbox": options.bbox_columns or [options.bbox_column],
        }
        named = {name: [*filter(None, origin)] for name, origin in columns.items()}
        return {name: origin for name, origin in named.items() if origin}

    def settings(self) -> dict[str, Any]:
        """The options."""
        return {**super().settings(), **changed(self._options)}


class PredictionQuery(PredictionSource):
    """The result of a DuckDB query in the pool's own database.

    Args:
        query: A query, or ``"FROM schema.table"`` for a table or view. The order of its rows is
            the order of the predictions: give an ``ORDER BY`` where an image has several. In a pool
            with partitions ``$partition_key`` is bound to the partition key.
            What is stored and shown of a query that may hold a secret has ``…`` for its texts; a
            persistent secret of DuckDB keeps them out of it.
        model: The model that made the predictions, for lineage.
        deps: Assets that write what the query reads.
        options: Which columns hold what; see ``TableOptions``.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> PredictionQuery("FROM ml.predictions", model="resnet18").query
        'FROM ml.predictions'
    """

    def __init__(
        self,
        query: str,
        *,
        model: str | None = None,
        deps: Iterable[CoercibleToAssetDep] = (),
        **options: Any,
    ) -> None:
        super().__init__(model, deps)
        self.query = query
        self._options = _table_options(options)

    def check_partitions(self, *, partitioned: bool) -> None:
        """Only a pool with partitions has a partition key to bind."""
        if self._binds_partition_key and not partitioned:
            raise SettingError(
                "predictions",
                f"predictions have the query {shown_query(self.query)!r}, but the pool has no "
                "partitions: set partitions_def, or leave $partition_key out",
            )

    @property
    def _binds_partition_key(self) -> bool:
        return re.search(r"\$partition_key\b", self.query) is not None

    def check_inputs(self, inputs: Inputs) -> None:
        """A single probability is a probability."""
        _check_single(self._options, inputs)

    def open(self, value: Any, partition_key: str | None = None) -> OpenSource:  # noqa: ARG002
        """Run the query once there is a connection."""
        # DuckDB refuses values that the query does not name.
        values = {"partition_key": partition_key} if self._binds_partition_key else {}
        return partial(self._run, values)

    def _run(
        self, values: Mapping[str, str | None], connection: duckdb.DuckDBPyConnection
    ) -> PredictionStream:
        """Run it in a cursor of its own, beside the transaction that stores its rows."""
        import duckdb

        from dagster_active_learning.readers.arrow import read_table

        shown = shown_query(self.query)
        with secrets_withheld(self.query):
            try:
                relation = connection.cursor().sql(self.query, params=dict(values))
                stream = read_table(relation, name=f"query {shown}", options=self._options)
            except (duckdb.Error, OSError) as error:
                raise PredictionReadError(f"the query {shown!r} fails: {error}") from error
        (part,) = stream.parts
        return replace(stream, parts=(replace(part, batches=partial(self._batches, part)),))

    def _batches(self, part: PredictionPart) -> Iterator[pa.RecordBatch]:
        with secrets_withheld(self.query):
            yield from part.batches()

    def settings(self) -> dict[str, Any]:
        """The query and the options."""
        return {**super().settings(), "query": self.query, **changed(self._options)}


def _check_single(options: Options, inputs: Inputs) -> None:
    """Raise ValueError if what is left over to 1 of a single number is no probability."""
    if options.is_binary and inputs != "probabilities":
        raise ValueError(
            f"inputs is {inputs!r}, but a single probability p is read as [1 - p, p]: expected "
            "'probabilities'"
        )


def _table_options(options: dict[str, Any]) -> TableOptions:
    """The options of a table in memory are those of a table in a file."""
    checked = reader_options("parquet", options)
    if not isinstance(checked, TableOptions):
        raise TypeError(f"expected the options of a table, got {checked!r}")
    return checked
