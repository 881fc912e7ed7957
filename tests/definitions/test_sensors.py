"""The sensor: a run for each content of a prediction set, once it is written to its end."""

import hashlib
import json
import os
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import dagster as dg
import fsspec
import numpy as np
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PredictionFiles,
    PredictionFileSensor,
    active_learning_definitions,
)
from dagster_active_learning.definitions import cursor as cursor_module
from dagster_active_learning.definitions import sensors
from dagster_active_learning.definitions.cursor import StoredMemory

PARTITIONS = dg.DynamicPartitionsDefinition(name="models")


class Daemon:
    """What Dagster's daemon does with a sensor: ticks, partitions, and no run key twice."""

    def __init__(self, instance, definitions):
        self.instance = instance
        self.definitions = definitions
        self.repository = definitions.get_repository_def()
        self.cursor = None
        self.run_keys = set()
        self.skip_reason = None

    def tick(self):
        """One tick; returns the partition keys of the runs it starts."""
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=self.repository
        )
        (sensor,) = self.definitions.sensors
        done = sensor(context)
        if isinstance(done, dg.SkipReason):
            done = dg.SensorResult(skip_reason=done, cursor=self.cursor)
        self.cursor = done.cursor
        self.skip_reason = done.skip_reason and done.skip_reason.skip_message
        for request in done.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(
                request.partitions_def_name, list(request.partition_keys)
            )
        requests = [one for one in done.run_requests or [] if one.run_key not in self.run_keys]
        self.run_keys |= {request.run_key for request in requests}
        for request in requests:
            self.instance.add_run(dg.DagsterRun("job", tags=dict(request.tags)))
        return [request.partition_key for request in requests]

    def ticks(self, count=2):
        return [self.tick() for _ in range(count)]

    def memory(self):
        """What the sensor remembers beside the cursor."""
        owner = json.dumps([None, None, "pool"])
        cursor_id = json.loads(self.cursor)["id"]
        return StoredMemory(self.instance.daemon_cursor_storage, owner, cursor_id).load()

    def run(self, partition_key, **options):
        """What the daemon starts for a request: the sensor's own job."""
        (sensor,) = self.definitions.sensors
        job = self.repository.get_job(sensor.job_name)
        return job.execute_in_process(
            instance=self.instance, partition_key=partition_key, **options
        )


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def watch(instance, database):
    """A pool and its sensor, watched by a daemon."""

    def run(path, partitions_def=PARTITIONS, predictions=None, **settings):
        definitions = active_learning_definitions(
            pool="pool",
            predictions=predictions or PredictionFiles(path, "csv", class_column_prefix="p_"),
            partitions_def=partitions_def,
            sensor=PredictionFileSensor(),
            acquisition_functions=["margin"],
            **settings,
        )
        resources = {"duckdb": DuckDBResource(database=str(database))}
        return Daemon(
            instance, dg.Definitions.merge(definitions, dg.Definitions(resources=resources))
        )

    return run


def content(rows=3, seed=0):
    class_probs = np.random.default_rng(seed).dirichlet(np.ones(3), rows)
    lines = [f"image{row},{','.join(map(str, probs))}" for row, probs in enumerate(class_probs)]
    return "\n".join(["image_id,p_a,p_b,p_c", *lines, ""])


@pytest.fixture
def warnings(monkeypatch):
    """What the sensor logs."""
    logged = []
    log = SimpleNamespace(info=logged.append, warning=logged.append)
    monkeypatch.setattr(dg.SensorEvaluationContext, "log", log)
    return logged


def test_each_file_becomes_a_partition_with_candidates(watch, tmp_path, instance, query):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    assert daemon.ticks() == [[], []]
    for number, key in enumerate(["may", "june", "july"]):
        (tmp_path / f"{key}.csv").write_text(content(rows=3 + number, seed=number))
        assert daemon.tick() == []
        assert "new or changed" in daemon.skip_reason
        assert not instance.has_dynamic_partition("models", key), "not before it is read"
        assert daemon.tick() == [key]
        assert instance.has_dynamic_partition("models", key)
        assert daemon.run(key).success
        assert daemon.ticks() == [[], []]
        sha256 = hashlib.sha256((tmp_path / f"{key}.csv").read_bytes()).hexdigest()
        assert f"pool:{key}:{sha256}" in daemon.run_keys
        assert query(
            "SELECT count(*) FROM pool.labeling_candidates WHERE prediction_set = ? "
            "AND acquisition_function = 'margin'",
            key,
        ) == [(3 + number,)]


def test_a_file_that_grows_is_read_once_it_stands_still(watch, tmp_path):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    file = tmp_path / "may.csv"
    for _ in range(4):
        with file.open("a") as out:
            out.write("more\n")
        assert daemon.tick() == []
    assert daemon.ticks() == [["may"], []]
    (run_key,) = daemon.run_keys
    assert run_key.endswith(hashlib.sha256(file.read_bytes()).hexdigest())


def drop_again(file):
    text = file.read_text()
    file.unlink()
    file.write_text(text)


def rename_over(file):
    (file.parent / "new").write_text(file.read_text())
    (file.parent / "new").rename(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: os.utime(file, (1, 1)),
        drop_again,
        rename_over,
        lambda file: file.chmod(0o600),
    ],
    ids=["touched", "dropped again", "renamed over", "mode"],
)
def test_the_same_content_never_starts_a_second_run(watch, tmp_path, change):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    file = tmp_path / "may.csv"
    file.write_text(content())
    assert daemon.ticks() == [[], ["may"]]
    change(file)
    assert daemon.ticks(4) == [[], [], [], []]
    file.write_text(content(seed=1))
    assert daemon.ticks(4) == [[], ["may"], [], []]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("partitions_def", [PARTITIONS, None])
@pytest.mark.parametrize("contents", ["AA", "AB", "ABA", "ABAB", "AABBAABB", "A-A", "AB-A", "AB-B"])
def test_what_differs_from_the_last_content_starts_a_run_and_nothing_else(
    watch, tmp_path, contents, partitions_def, restart
):
    """Also what was there before, and what is back after it was gone (-)."""
    path = f"{tmp_path}/{'{partition_key}' if partitions_def else 'may'}.csv"
    daemon = watch(path, partitions_def=partitions_def)
    file, last = tmp_path / "may.csv", None
    for one in contents:
        if restart:
            again = watch(path, partitions_def=partitions_def)
            again.cursor, again.run_keys = daemon.cursor, daemon.run_keys
            daemon = again
        file.unlink(missing_ok=True)
        if one != "-":
            file.write_text(content(seed=ord(one)))
        started = sum(len(tick) for tick in daemon.ticks(3))
        assert started == (one not in ("-", last))
        last = last if one == "-" else one


@pytest.mark.parametrize("forgotten", [None, "{}", "no JSON", '{"format": 99}'])
def test_a_lost_cursor_starts_no_run_again(watch, tmp_path, forgotten):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    (tmp_path / "may.csv").write_text(content())
    assert daemon.ticks() == [[], ["may"]]
    daemon.cursor = forgotten
    assert daemon.ticks(3) == [[], [], []]


def test_a_cursor_of_the_first_format_is_taken_over(watch, tmp_path, instance):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(content())
    assert daemon.ticks() == [[], ["a", "b", "c"]]
    daemon.tick()
    memory = daemon.memory()
    for run in instance.get_runs():
        instance.delete_run(run.run_id)
    done = dict(memory.done)
    first_format = {"format": 1, "waiting": {"c": done.pop("c")}, "done": done}
    daemon.cursor, daemon.run_keys = json.dumps(first_format), set()
    assert daemon.ticks(3) == [["c"], [], []], "only what it did not have as done"
    assert daemon.memory() == memory


def test_who_takes_the_cursor_away_begins_anew(watch, tmp_path, instance):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    (tmp_path / "may.csv").write_text(content())
    assert daemon.ticks(3) == [[], ["may"], []]
    for run in instance.get_runs():
        instance.delete_run(run.run_id)
    assert daemon.tick() == [], "it remembers, although the run was deleted"
    daemon.cursor, daemon.run_keys = None, set()
    assert daemon.ticks(3) == [[], ["may"], []]


class DiedError(Exception):
    """The end of a tick that somebody has killed."""


@pytest.mark.parametrize("dies", ["before it stores", "half way", "before Dagster stores"])
@pytest.mark.parametrize("at", range(5))
def test_a_tick_that_dies_loses_no_run(watch, tmp_path, monkeypatch, dies, at):
    monkeypatch.setattr(sensors, "RUNS_PER_TICK", 2)
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    for name in "edcba":
        (tmp_path / f"{name}.csv").write_text(content(seed=ord(name)))
    storage = type(daemon.instance.daemon_cursor_storage)
    written = storage.set_cursor_values

    def die(self, pairs):
        half = list(pairs)[: 0 if dies == "before it stores" else (len(pairs) + 1) // 2]
        if half:
            written(self, {key: pairs[key] for key in half})
        raise DiedError

    started = []
    for tick in range(8):
        with monkeypatch.context() as patch:
            if tick == at and dies != "before Dagster stores":
                patch.setattr(storage, "set_cursor_values", die)
            cursor = daemon.cursor
            if tick == at and dies == "before Dagster stores":
                context = dg.build_sensor_context(
                    daemon.instance, cursor=cursor, repository_def=daemon.repository
                )
                (sensor,) = daemon.definitions.sensors
                sensor(context)
                continue
            try:
                started += daemon.tick()
            except DiedError:
                assert daemon.cursor == cursor
    assert started == ["a", "b", "c", "d", "e"], "each once, in order"


@pytest.fixture(params=["raised", "returned"])
def no_storage(request, instance, monkeypatch):
    """An instance without key-value storage, such as Dagster+'s."""

    def refuse(self, _):
        error = NotImplementedError("KVS is not supported from the user cloud")
        if request.param == "raised":
            raise error
        return error

    storage = type(instance.daemon_cursor_storage)
    for name in ("get_cursor_values", "set_cursor_values"):
        monkeypatch.setattr(storage, name, refuse)


@pytest.mark.usefixtures("no_storage")
@pytest.mark.parametrize("room", [1, 2, 3, 5, 1_000])
def test_without_key_value_storage_all_is_read_once_and_the_cursor_is_bounded(
    watch, tmp_path, monkeypatch, room
):
    monkeypatch.setattr(cursor_module, "FILE_SETS_IN_CURSOR", room)
    monkeypatch.setattr(sensors, "RUNS_PER_TICK", 2)
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    for name in "edcba":
        (tmp_path / f"{name}.csv").write_text(content(seed=ord(name)))
    started = []
    for _ in range(20):
        started += daemon.tick()
        saved = json.loads(daemon.cursor)
        assert len(saved["done"] | saved["waiting"]) <= room
    assert started == ["a", "b", "c", "d", "e"]
    (tmp_path / "b.csv").write_text(content(seed=0))
    (tmp_path / "f.csv").write_text(content(seed=1))
    assert sorted(key for tick in daemon.ticks(20) for key in tick) == ["b", "f"]


@pytest.mark.usefixtures("no_storage")
def test_without_key_value_storage_a_file_that_grows_holds_up_no_other(
    watch, tmp_path, monkeypatch
):
    monkeypatch.setattr(cursor_module, "FILE_SETS_IN_CURSOR", 1)
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    started = []
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(content())
    for tick in range(8):
        with (tmp_path / "a.csv").open("a") as out:
            out.write("more\n" * (tick + 1))
        started += daemon.tick()
    assert started == ["b"]


def test_a_file_that_is_gone_is_no_error_and_new_when_it_is_back(watch, tmp_path, warnings):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    file = tmp_path / "may.csv"
    file.write_text(content())
    assert daemon.ticks() == [[], ["may"]]
    file.unlink()
    assert daemon.ticks() == [[], []]
    assert [one for one in warnings if "gone" in one] == [
        "gone are the files of 'may'; what was read of them stays"
    ]
    file.write_text(content(seed=1))
    assert daemon.ticks() == [[], ["may"]]


@pytest.mark.parametrize("name", ["a\nb", "a...b", "a\\b", "a\tb", "\udcff", "...", "x\r"])
def test_a_hostile_name_is_skipped_and_logged_once(watch, tmp_path, warnings, name):
    daemon = watch(f"{tmp_path}/p{{partition_key}}.csv")
    (tmp_path / f"p{name}.csv").write_text(content())
    (tmp_path / "pmay.csv").write_text(content())
    assert daemon.ticks(4) == [[], ["may"], [], []]
    (warning,) = warnings
    assert f"no partition key, not read: {name!r}" in warning


@pytest.mark.parametrize("name", ["a b", "*", "[x]", "ü", "a,b", "'; DROP TABLE x", "{x}", "<b>"])
def test_a_strange_name_is_a_partition(watch, tmp_path, name):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    (tmp_path / f"{name}.csv").write_text(content())
    assert daemon.ticks() == [[], [name]]
    predictions = [dg.AssetKey(["pool", "predictions"])]
    assert daemon.run(name, asset_selection=predictions).success


@pytest.mark.parametrize("partitions_def", [PARTITIONS, None])
def test_a_link_out_of_the_folder_is_not_read_until_it_is_a_file(
    watch, tmp_path, warnings, partitions_def, instance
):
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret.csv").write_text(content())
    (inside / "may.csv").symlink_to("../secret.csv")
    name = "{partition_key}" if partitions_def else "*"
    daemon = watch(f"{inside}/{name}.csv", partitions_def=partitions_def)
    assert daemon.ticks(4) == [[], [], [], []]
    (warning,) = warnings
    assert f"{inside}/may.csv leads out of {inside} through a link, and is not read" in warning
    key = "may" if partitions_def else None
    if partitions_def:
        instance.add_dynamic_partitions("models", ["may"])
    failed = daemon.run(key, raise_on_error=False)
    assert not failed.success, "also not when somebody starts a run by hand"
    (event,) = failed.filter_events(lambda event: event.is_step_failure)
    assert "leads out of" in str(event.step_failure_data.error.cause)
    (inside / "may.csv").unlink()
    (inside / "may.csv").write_text(content())
    assert daemon.ticks(3) == [[], [key], []]
    assert daemon.run(key).success


def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    watch, tmp_path, warnings, monkeypatch
):
    opened = fsspec.filesystem("file").__class__.open

    def refuse(self, path, *arguments, **options):
        if path.endswith("a.csv"):
            raise PermissionError(f"Permission denied: {path}")
        return opened(self, path, *arguments, **options)

    monkeypatch.setattr(fsspec.filesystem("file").__class__, "open", refuse)
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(content())
    assert daemon.ticks(3) == [[], ["b"], []]
    assert "'a' cannot be read, tried again at the next tick: Permission denied" in warnings[0]
    monkeypatch.undo()
    assert daemon.tick() == ["a"]


def test_a_tick_starts_so_many_runs_and_the_next_one_the_others(watch, tmp_path, monkeypatch):
    monkeypatch.setattr(sensors, "RUNS_PER_TICK", 2)
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    for name in "edcba":
        (tmp_path / f"{name}.csv").write_text(content(seed=ord(name)))
    assert daemon.ticks(5) == [[], ["a", "b"], ["c", "d"], ["e"], []]


def test_what_takes_too_long_to_be_hashed_is_known_by_its_time(
    watch, tmp_path, monkeypatch, warnings
):
    monkeypatch.setattr(sensors, "HASH_SECONDS", -1.0)
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv")
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(content())
    assert daemon.ticks(4) == [[], ["a"], ["b"], []]
    assert ["too large to be hashed" in one for one in warnings] == [True, True]
    os.utime(tmp_path / "a.csv", (1, 1))
    assert daemon.ticks(2) == [[], ["a"]], "rather read twice than not at all"


@pytest.mark.parametrize(
    ("partitions_def", "known", "unknown"),
    [
        (dg.StaticPartitionsDefinition(["may", "june"]), "june", "july"),
        (dg.DailyPartitionsDefinition("2026-01-01"), "2026-01-02", "2025-12-31"),
        (dg.DailyPartitionsDefinition("2026-01-01"), "2026-01-02", "2999-01-01"),
        (dg.DailyPartitionsDefinition("2026-01-01"), "2026-01-02", "latest"),
    ],
)
def test_other_partitions_are_those_of_the_pool(watch, tmp_path, partitions_def, known, unknown):
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv", partitions_def=partitions_def)
    for key in (known, unknown):
        (tmp_path / f"{key}.csv").write_text(content())
    assert daemon.ticks(3) == [[], [known], []]
    assert daemon.skip_reason == (
        "1 prediction sets are as they were, 0 are new or changed and have to be the same at the "
        f"next tick, 1 not yet or no partitions of the pool: {unknown!r}"
    )
    assert daemon.run(known).success


@pytest.mark.parametrize("partitions_def", [PARTITIONS, None])
def test_a_path_that_matches_nothing_is_named(watch, tmp_path, partitions_def):
    path = f"{tmp_path}/nowhere/{'{partition_key}' if partitions_def else '*'}.csv"
    daemon = watch(path, partitions_def=partitions_def)
    assert daemon.ticks() == [[], []]
    assert daemon.skip_reason == f"no file matches {path}"


def test_a_file_for_a_day_that_is_not_over_is_read_when_it_is(watch, tmp_path):
    partitions_def = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-04")
    daemon = watch(f"{tmp_path}/{{partition_key}}.csv", partitions_def=partitions_def)
    (tmp_path / "2026-01-02.csv").write_text(content())

    def ticks_at(hour, day, count):
        with dg.partition_loading_context(datetime(2026, 1, day, hour, tzinfo=UTC)):
            return daemon.ticks(count)

    assert ticks_at(23, 2, 3) == [[], [], []]
    assert ticks_at(1, 3, 2) == [["2026-01-02"], []]


def test_a_pool_without_partitions_has_one_run_for_each_set_of_files(watch, tmp_path, query):
    daemon = watch(f"{tmp_path}/*.csv", partitions_def=None)
    assert daemon.ticks() == [[], []]
    (tmp_path / "a.csv").write_text(content())
    assert daemon.ticks(3) == [[], [None], []]
    (tmp_path / "b.csv").write_text(content(rows=9, seed=1))
    assert daemon.ticks(3) == [[], [None], []]
    os.utime(tmp_path / "a.csv", (1, 1))
    assert daemon.ticks(3) == [[], [], []]
    assert daemon.run(None).success
    assert query("SELECT count(*), count(DISTINCT prediction_set) FROM pool.predictions") == [
        (12, 1)
    ]
    (tmp_path / "b.csv").unlink()
    (tmp_path / "c.csv").write_text(content(seed=2))
    assert daemon.ticks(3) == [[], [None], []]


def test_files_on_another_filesystem(watch, tmp_path, query):
    memory = fsspec.filesystem("memory")
    daemon = watch(f"memory://{tmp_path.name}/{{partition_key}}/*.csv")
    memory.pipe_file(f"/{tmp_path.name}/may/1.csv", content().encode())
    memory.pipe_file(f"/{tmp_path.name}/may/2.csv", content().replace("\nimage", "\nx").encode())
    assert daemon.ticks(3) == [[], ["may"], []]
    assert daemon.run("may").success
    memory.pipe_file(f"/{tmp_path.name}/may/2.csv", content().replace("\nimage", "\nx").encode())
    assert daemon.ticks(3) == [[], [], []], "written again, with the same content"
    memory.pipe_file(f"/{tmp_path.name}/may/2.csv", content(seed=1).encode())
    assert daemon.ticks(3) == [[], ["may"], []]
    assert query("SELECT DISTINCT source FROM pool.prediction_sources ORDER BY 1") == [
        (f"memory:///{tmp_path.name}/may/1.csv",),
        (f"memory:///{tmp_path.name}/may/2.csv",),
    ]
    memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.mark.parametrize(
    ("format", "options", "beside"),
    [("coco", {"instances": "{folder}/instances.json"}, "instances.json"), ("rvc", {"image_ids": "{stem}.txt"}, "may.txt")],
)  # fmt: skip
def test_another_file_that_is_read_too_is_a_part_of_the_content(
    watch, tmp_path, format, options, beside
):
    given = {name: value.replace("{folder}", str(tmp_path)) for name, value in options.items()}
    path = f"{tmp_path}/m{{partition_key}}.json"
    daemon = watch(path, predictions=PredictionFiles(path, format, **given), task="detection")
    (tmp_path / "may.json").write_text("[]")
    (tmp_path / beside).write_text("{}")
    assert daemon.ticks(3) == [[], ["ay"], []]
    (tmp_path / beside).write_text('{"images": []}')
    assert daemon.ticks(3) == [[], ["ay"], []]


def test_predictions_wait_for_the_manifest(watch, tmp_path):
    (tmp_path / "manifest.csv").write_text("image_id\nimage0\n")
    (tmp_path / "may.csv").write_text(content())
    daemon = watch(f"{tmp_path}/m{{partition_key}}.csv", images=tmp_path / "manifest.csv")
    assert daemon.ticks(3) == [[], [], []]
    assert daemon.skip_reason == (
        "predictions are read after the manifest: materialize pool/images first"
    )
    daemon.repository.get_job("pool__labeling").execute_in_process(
        instance=daemon.instance, asset_selection=[dg.AssetKey(["pool", "images"])]
    )
    assert daemon.ticks(2) == [[], ["anifest", "ay"]]
    (sensor,) = daemon.definitions.sensors
    keys = {key for asset in daemon.definitions.assets for key in asset.keys}
    selected = daemon.repository.get_job(sensor.job_name).asset_layer.selected_asset_keys
    assert keys - selected == {dg.AssetKey(["pool", "images"])}


def test_without_the_setting_there_is_no_sensor_and_with_it_it_is_stopped():
    files = PredictionFiles("p.csv", "csv")
    assert not active_learning_definitions(pool="pool", predictions=files).sensors
    watched = active_learning_definitions(
        pool="pool", predictions=files, sensor=PredictionFileSensor()
    )
    (sensor,) = watched.sensors or []
    assert (sensor.default_status.value, sensor.minimum_interval_seconds) == ("STOPPED", 30)
    with pytest.raises(ValueError, match="minimum_interval_seconds is 0"):
        PredictionFileSensor(minimum_interval_seconds=0)


def test_a_tick_over_5000_files_in_100_partitions_is_quick(watch, tmp_path):
    """Prints its times; the bound is far above them, and far below Dagster's 60 s."""
    for folder in range(100):
        (tmp_path / f"set{folder:03}").mkdir()
        for file in range(50):
            (tmp_path / f"set{folder:03}/{file}.csv").write_text(f"{folder} {file}")
    daemon = watch(f"{tmp_path}/{{partition_key}}/*.csv")
    times = {}
    for tick in ("first", "50 sets hashed", "50 sets hashed", "nothing new"):
        start = time.perf_counter()
        started = len(daemon.tick())
        times[tick] = time.perf_counter() - start
        assert started == (50 if "hashed" in tick else 0)
    print({tick: f"{seconds:.3f} s" for tick, seconds in times.items()}, len(daemon.cursor))
    assert max(times.values()) < 5
    assert len(daemon.memory().done) == 100
    assert len(daemon.cursor) < 5_000
