"""The sensor that sees new and changed prediction files, and asks for a run for each content."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.partitions import PREDICTION_SET, partition_path
from dagster_active_learning.definitions.sources import PredictionFiles, PredictionSource
from dagster_active_learning.errors import PredictionReadError, SettingError
from dagster_active_learning.files.addresses import shown_address

if TYPE_CHECKING:
    from dagster_active_learning.definitions.cursor import Memory
    from dagster_active_learning.files.file_sets import FileSet

PREDICTION_SET_TAG = "dagster_active_learning/prediction_set"
CONTENT_TAG = "dagster_active_learning/content"
"""Tags of the sensor's runs: the pool with the prediction set, and the hash of the content."""

RUNS_PER_TICK = 50
"""Runs that a tick asks for at the most; the daemon queues them one after the other."""

HASH_SECONDS = 20.0
"""Time that a tick may hash files; Dagster ends one that takes 60 s, with all it has done."""


@dataclass(frozen=True, kw_only=True)
class PredictionFileSensor:
    """Watch the prediction files of a pool, and read what is new or changed.

    A file is read when it was the same on two ticks in a row; whoever writes one slowly, with
    pauses longer than the time between ticks, writes it under another name and renames it. In a
    pool with dynamic partitions the partition key is added. One run per prediction set materializes
    predictions, scores, candidates and their export, and the same content of a prediction set never
    starts two in a row. What a file that is gone has left in the database stays. Where a filesystem
    says nothing of a file but its size, as some web servers do, the file is read at each look. A
    link that leads out of the folder is not read, and a warning names it.

    The sensor's memory is in the instance's key-value storage; who takes its cursor away lets it
    begin anew. An instance without such a storage, as Dagster+'s, looks at 1,000 prediction sets at
    a time where there are more.

    Attributes:
        minimum_interval_seconds: Seconds between two looks at the files, at the least.
        default_status: ``RUNNING`` to watch from the start; ``STOPPED``, as Dagster's own sensors,
            until somebody turns it on in the UI.

    Raises:
        ValueError: If the interval is shorter than a second.

    Example:
        >>> sensor = PredictionFileSensor(default_status=dg.DefaultSensorStatus.RUNNING)
        >>> sensor.minimum_interval_seconds
        30
    """

    minimum_interval_seconds: int = 30
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED

    def __post_init__(self) -> None:
        if self.minimum_interval_seconds < 1:
            raise ValueError(
                f"minimum_interval_seconds is {self.minimum_interval_seconds}, expected at least 1"
            )


def check_sensor(
    sensor: PredictionFileSensor | None,
    predictions: PredictionSource,
    partitions_def: dg.PartitionsDefinition | None,
) -> None:
    """Raise SettingError unless there are files to watch, with partition keys in their names."""
    if sensor is None:
        return
    if not isinstance(sensor, PredictionFileSensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError("sensor", f"sensor is {sensor!r}, expected a PredictionFileSensor")
    if not isinstance(predictions, PredictionFiles):
        raise SettingError(
            "sensor",
            f"sensor watches files, but predictions is a {type(predictions).__name__}: leave it "
            "out, and let automation follow what is upstream",
        )
    keys: Sequence[str] = []
    if isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        keys = [partitions_def.fmt]
    elif isinstance(partitions_def, dg.StaticPartitionsDefinition):
        keys = partitions_def.get_partition_keys()
    if with_slash := [key for key in keys if "/" in key]:
        raise SettingError(
            "sensor",
            "sensor looks for a partition key in the name of one file or folder, but "
            f"partitions_def has {with_slash[0]!r}: expected keys without '/', as '%Y-%m-%d' gives",
        )


def prediction_file_sensor(
    pool: str,
    source: PredictionFiles,
    settings: PredictionFileSensor,
    *,
    partitions_def: dg.PartitionsDefinition | None,
    targets: Sequence[dg.AssetKey],
    manifest: dg.AssetKey | None,
) -> dg.SensorDefinition:
    """The sensor of a pool whose predictions are files.

    Args:
        pool: The pool's name.
        source: The files.
        settings: How they are watched.
        partitions_def: The pool's partitions.
        targets: The assets that a run materializes.
        manifest: The asset that must be there before the first run, if there is one.
    """

    @dg.sensor(
        name=f"{pool}__prediction_files",
        target=dg.AssetSelection.assets(*targets),
        minimum_interval_seconds=settings.minimum_interval_seconds,
        default_status=settings.default_status,
        description=f"Starts a run for each new content of {shown_address(source.path)}.",
    )
    def prediction_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if manifest and not context.instance.get_latest_materialization_event(manifest):
            return dg.SkipReason(
                "predictions are read after the manifest: materialize "
                f"{manifest.to_user_string()} first"
            )
        return _Tick(pool, source, partitions_def, context).result()

    return prediction_files


@dataclass
class _Look:
    """The outcome of a tick's look at what is settled.

    Attributes:
        requests: The runs to start, by the name of the file set.
        done: The file sets that need none: those that are refused, or have the content of their
            last run.
        is_complete: Whether the tick had time and runs for all of them.
    """

    requests: dict[str, dg.RunRequest] = field(default_factory=dict[str, dg.RunRequest])
    done: set[str] = field(default_factory=set[str])
    is_complete: bool = True


class _Tick:
    """One look at the files of a pool."""

    def __init__(
        self,
        pool: str,
        source: PredictionFiles,
        partitions_def: dg.PartitionsDefinition | None,
        context: dg.SensorEvaluationContext,
    ) -> None:
        self._pool = pool
        self._partitions_def = partitions_def
        self._source = source
        self._context = context
        self._log = context.log

    def result(self) -> dg.SensorResult:
        """The runs to start, the partition keys to add, and the next tick's cursor."""
        from dagster_active_learning.definitions.cursor import Cursor, Memory, StoredMemory

        file_sets = self._source.find(partitioned=self._partitions_def is not None)
        cursor = Cursor.load(self._context.cursor)
        storage = StoredMemory(self._context.instance.daemon_cursor_storage, self._owner, cursor.id)
        stored = storage.load()
        remembered = cursor.memory if stored is None or cursor.memory != Memory() else stored
        # Dagster has given the cursor back, so that it has stored the requests in it, too.
        memory = remembered.with_done(cursor.requested)
        names = cursor.window(file_sets) if stored is None else list(file_sets)
        if len(names) < len(file_sets):
            self._log.info(
                f"this instance has no key-value storage: {len(names):,} of {len(file_sets):,} "
                f"prediction sets are looked at, from {names[0]!r} on, and then the next ones"
            )
        until = time.monotonic() + HASH_SECONDS
        versions = {name: file_sets[name].version(until) for name in names}
        if gone := memory.gone(file_sets):
            self._log.info(f"gone are the files of {_listed(gone)}; what was read of them stays")
        settled = memory.settled(versions)
        outside = [name for name in settled if not self._is_partition(name)]
        left_out = set(outside)
        look = self._look(
            {name: file_sets[name] for name in settled if name not in left_out}, versions
        )
        following = memory.after(versions, look.done)
        cursor = replace(cursor, requested={name: versions[name] for name in look.requests})
        if stored is not None:
            storage.save(following)
            cursor = replace(cursor, memory=Memory())
        elif len(names) < len(file_sets) and look.is_complete and remembered != Memory():
            cursor = replace(cursor, memory=Memory(), start=f"{names[-1]}\0")
        else:
            cursor = replace(cursor, memory=following)
        return dg.SensorResult(
            run_requests=list(look.requests.values()),
            skip_reason=None if look.requests else self._skip_reason(following, outside),
            dynamic_partitions_requests=self._new_partitions(list(look.requests)),
            cursor=cursor.dump(),
        )

    @property
    def _owner(self) -> str:
        """The sensor's name, and where it is defined: another location may have the same pool."""
        origin = self._context.code_location_origin
        location = origin.location_name if origin else None
        return json.dumps([location, self._context.repository_name, self._pool])

    def _skip_reason(self, memory: Memory, outside: Sequence[str]) -> dg.SkipReason:
        """The reason why no run starts; ``outside`` are prediction sets without a partition."""
        if not memory.done and not memory.waiting:
            return dg.SkipReason(f"no file matches {shown_address(self._source.path)}")
        skipped = (
            f"{len(memory.done):,} prediction sets are as they were, "
            f"{len(memory.waiting) - len(outside):,} are new or changed and have to be the same at "
            "the next tick"
        )
        if outside:
            skipped += (
                f", {len(outside):,} not yet or no partitions of the pool: {_listed(outside)}"
            )
        return dg.SkipReason(skipped)

    def _look(self, settled: Mapping[str, FileSet], versions: Mapping[str, str]) -> _Look:
        """Read what is settled, as much of it as a tick may."""
        look = _Look()
        until = time.monotonic() + HASH_SECONDS
        for name, files in settled.items():
            if len(look.requests) == RUNS_PER_TICK:
                look.is_complete = False
                break
            if refusal := self._refusal(name, files):
                self._log.warning(refusal)
                look.done.add(name)
                continue
            try:
                content = files.sha256(until)
            except OSError as error:
                self._log.warning(f"{name!r} cannot be read, tried again at the next tick: {error}")
                continue
            if content is None and (look.requests or look.done):
                look.is_complete = False
                break  # The others have the next tick for them.
            if content is None:
                self._log.warning(
                    f"{name!r} is too large to be hashed in {HASH_SECONDS} s: sizes and times of "
                    "the files stand for their content"
                )
            if request := self._run_request(name, content or versions[name]):
                look.requests[name] = request
            else:
                look.done.add(name)
        return look

    def _refusal(self, name: str, files: FileSet) -> str | None:
        """The reason why a file set is not read, None if it is."""
        if self._partitions_def is not None:
            try:
                name.encode()
                partition_path(self._source.path, name)
                dg.StaticPartitionsDefinition([name])
            except (UnicodeEncodeError, PredictionReadError, dg.DagsterError) as error:
                return f"no partition key, not read: {name!r}: {error}"
        return files.link_fault

    def _is_partition(self, name: str) -> bool:
        """True if the pool has the partition, or will have it with this tick."""
        return (
            self._partitions_def is None
            or self._dynamic_partitions is not None
            or self._partitions_def.has_partition_key(name)
        )

    @property
    def _dynamic_partitions(self) -> dg.DynamicPartitionsDefinition | None:
        partitions_def = self._partitions_def
        if isinstance(partitions_def, dg.DynamicPartitionsDefinition) and partitions_def.name:
            return partitions_def
        return None

    def _new_partitions(self, names: list[str]) -> list[dg.AddDynamicPartitionsRequest]:
        if self._dynamic_partitions is None or not names:
            return []
        return [self._dynamic_partitions.build_add_request(names)]

    def _run_request(self, name: str, content: str) -> dg.RunRequest | None:
        """The run for a content, None if the last run of the prediction set was for the same."""
        prediction_set = f"{self._pool}:{name or PREDICTION_SET}"
        tags = {PREDICTION_SET_TAG: prediction_set}
        run_key = f"{prediction_set}:{content}"
        for last in self._context.instance.get_runs(dg.RunsFilter(tags=tags), limit=1):
            if last.tags[CONTENT_TAG] == content:
                return None
            # Dagster starts no run key twice, but a file may be again what it was before the last.
            run_key += f":{last.run_id}"
        tags[CONTENT_TAG] = content
        return dg.RunRequest(run_key=run_key, partition_key=name or None, tags=tags)


def _listed(names: Sequence[str]) -> str:
    """A few names of many."""
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} … {len(names):,} in all"
