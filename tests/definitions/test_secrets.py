"""Secrets of addresses and queries: in no table, event, log or error of a run or a tick."""

import hashlib
import json
import logging
import traceback
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dagster as dg
import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    PoolImages,
    PredictionFiles,
    PredictionFileSensor,
    PredictionQuery,
    active_learning_definitions,
)
from dagster_active_learning.errors import SettingError

SECRETS = ("HUNTER2", "0f3aSIGNATURE", "AKIACREDENTIAL")
QUERY = "X-Amz-Credential=AKIACREDENTIAL%2Fus&X-Amz-Signature=0f3aSIGNATURE"
GOOD = "image_id,p_a,p_b\nx,0.25,0.75\ny,0.5,0.5\n"


@pytest.fixture
def site(tmp_path):
    """A website that answers as the path's first folder says: at first, and when it is read."""
    folder = tmp_path / "site"
    for name in ("200-200", "403-403", "200-403", "200-500"):
        (folder / name).mkdir(parents=True)
        (folder / name / "may.csv").write_text(GOOD)
    (folder / "200-200" / "wrong.csv").write_text("image_id,other\nx,1\n")

    gets = []

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self):
            if self.command == "GET":
                gets.append(self.path)
            # fsspec gets a file to see whether it is there, and then its content.
            statuses = self.path.split("/")[1].split("-")
            status = int(statuses[gets.count(self.path) > 1])
            if status != 200:
                self.send_error(status, f"no {self.path}")
                return None
            return super().send_head()

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def check_no_secret(text):
    for secret in SECRETS:
        position = text.find(secret)
        assert position < 0, text[max(0, position - 300) : position + 50]


def check_tables(database, in_images):
    """Search every column of every table, and what the database says of itself.

    A manifest's addresses are in ``images``, for its pictures could not be read without them.
    """
    rows = 0
    with duckdb.connect(str(database)) as connection:
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() UNION ALL "
            "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        for schema, table in tables:
            if schema != "theirs" and not (in_images and table in ("images", "candidate_lineage")):
                content = connection.execute(f'FROM "{schema}"."{table}"').fetchall()
                rows += len(content)
                check_no_secret(repr(content))
        check_no_secret(repr(connection.execute("FROM duckdb_tables()").fetchall()))
    return rows


@pytest.fixture
def run(database, caplog):
    """Materialize a pool; all that it says is searched. Returns whether it succeeded, and that."""

    def materialize(predictions, *, partition_key=None, in_images=False, **settings):
        caplog.set_level(logging.INFO)  # fsspec itself logs addresses as DEBUG.
        definitions = active_learning_definitions(
            pool="pool", predictions=predictions, acquisition_functions=["margin"], **settings
        )
        with dg.DagsterInstance.ephemeral() as instance:
            if partition_key:
                instance.add_dynamic_partitions("models", [partition_key])
            result = dg.materialize(
                [*(definitions.assets or []), *(definitions.asset_checks or [])],
                instance=instance,
                resources={"duckdb": DuckDBResource(database=str(database))},
                raise_on_error=False,
                partition_key=partition_key,
            )
            events = "\n".join(map(repr, instance.all_logs(result.run_id)))
            runs = repr(instance.get_runs())
        check_no_secret(events + runs)
        check_no_secret(caplog.text)
        for asset in definitions.assets or []:
            check_no_secret(
                repr([(spec.description, spec.metadata, spec.code_version) for spec in asset.specs])
            )
        if result.success:
            assert check_tables(database, in_images) >= 10
        return result.success, events

    return materialize


PATHS = [
    ("200-200/may.csv", True, "http://{site}/{path}"),
    ("200-200/wrong.csv", False, "its columns are"),
    ("200-200/nothing.csv", False, "http://{site}/{path} does not exist"),
    ("403-403/may.csv", False, "http://{site}/{path} does not exist"),
    ("200-403/may.csv", False, "http://{site}/{path} cannot be fetched: ClientResponseError: 403"),
    ("200-500/may.csv", False, "http://{site}/{path} cannot be fetched: ClientResponseError: 500"),
]


@pytest.mark.parametrize(("path", "succeeds", "words"), PATHS)
@pytest.mark.parametrize("partitioned", [False, True])
def test_the_secrets_of_a_website_are_nowhere(site, run, path, succeeds, words, partitioned):
    name = path.partition("/")[2].removesuffix(".csv")
    given = path.replace(name, "{partition_key}") if partitioned else path
    files = PredictionFiles(
        f"http://someone:HUNTER2@{site}/{given}?{QUERY}", "csv", class_column_prefix="p_"
    )
    settings = {"partitions_def": dg.DynamicPartitionsDefinition(name="models")}
    success, events = run(
        files,
        partition_key=name if partitioned else None,
        **(settings if partitioned else {}),
    )
    assert success == succeeds
    assert words.format(site=site, path=path) in events


def test_the_hash_and_the_rows_are_those_of_the_content(site, run, query):
    address = f"http://someone:HUNTER2@{site}/200-200/may.csv?{QUERY}"
    assert run(PredictionFiles(address, "csv", class_column_prefix="p_"))[0]
    ((source, sha256, plain),) = query(
        "SELECT source, source_sha256, (SELECT source FROM pool.prediction_sources) "
        "FROM pool.prediction_sets"
    )
    assert source == plain == f"http://{site}/200-200/may.csv"
    assert sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert query("SELECT image_id FROM pool.predictions ORDER BY 1") == [("x",), ("y",)]


PRESIGNED = f"https://someone:HUNTER2@127.0.0.1:9/a.png?{QUERY}"
MANIFESTS = {
    "images that have no predictions": ("csv", f"image_id,uri\nx,{PRESIGNED}\ny,{PRESIGNED}\nz,{PRESIGNED}\n"),
    "a comma in an address": ("csv", f"image_id,uri\nx,{PRESIGNED},2\n"),
    "an address as a width": ("csv", f"image_id,width\nx,{PRESIGNED}\n"),
    "an address as a column": ("csv", f"{PRESIGNED},uri\nx,y\n"),
    "an address twice": ("csv", f"image_id\n{PRESIGNED}\n{PRESIGNED}\n"),
    "addresses by protocol": ("jsonl", json.dumps({"image_id": "x", "uri": {"s3": PRESIGNED}})),
    "broken JSON": ("jsonl", f'{{"image_id": "x", "uri": "{PRESIGNED}" "'),
    "an image of COCO": ("coco", json.dumps({"images": [{"id": 1, "file_name": ["x"], "coco_url": PRESIGNED}]})),
}  # fmt: skip


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_secrets_of_images_are_in_no_event(run, tmp_path, manifest):
    name, content = MANIFESTS[manifest]
    (tmp_path / "manifest").write_text(content)
    (tmp_path / "p.csv").write_text(GOOD)
    success, events = run(
        PredictionFiles(tmp_path / "p.csv", "csv", class_column_prefix="p_"),
        images=PoolImages(tmp_path / "manifest", format=name),
        in_images=True,
    )
    assert success == (manifest == "images that have no predictions")
    assert "127.0.0.1:9/a.png" in events or manifest == "broken JSON"


ROWS = {
    "an address beside what is wrong": ("jsonl", {"image_id": "z", "class_probs": [1, 1], "uri": PRESIGNED}),
    "an address as a probability": ("jsonl", {"image_id": "z", "class_probs": [PRESIGNED, 1]}),
    "an address as the id": ("jsonl", {"image_id": [PRESIGNED], "class_probs": [0.5, 0.5]}),
    "no JSON": ("jsonl", f'{{"image_id": "z", "uri": "{PRESIGNED}"'),
    "an address in CSV": ("csv", f'z,"[1, 1]",{PRESIGNED}'),
    "a field too many": ("csv", f'z,"[1, 0]",{PRESIGNED},{PRESIGNED}'),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_the_secrets_of_rows_are_in_no_table_and_no_error(run, tmp_path, row):
    name, broken = ROWS[row]
    broken = broken if isinstance(broken, str) else json.dumps(broken)
    good = {"jsonl": '{"image_id": "x", "class_probs": [0.5, 0.5]}', "csv": 'x,"[0.5, 0.5]",u'}
    header = "image_id,class_probs,uri\n" if name == "csv" else ""
    (tmp_path / "p").write_text(f"{header}{good[name]}\n{broken}\n")
    run(PredictionFiles(tmp_path / "p", name), max_quarantined_share=1)


@pytest.mark.parametrize("scheme", ["ftp", "sftp", "smb", "http", "nothing"])
def test_a_host_that_is_not_there_is_named_without_secrets(run, scheme):
    address = f"{scheme}://someone:HUNTER2@127.0.0.1:9/p/may.csv?{QUERY}"
    success, events = run(PredictionFiles(address, "csv"))
    assert not success
    assert "HUNTER2" not in events


def tick(files, **settings):
    definitions = active_learning_definitions(
        pool="pool", predictions=files, sensor=PredictionFileSensor(), **settings
    )
    resources = {"duckdb": DuckDBResource(database="unused.duckdb")}
    definitions = dg.Definitions.merge(definitions, dg.Definitions(resources=resources))
    (sensor,) = definitions.sensors or []
    said = [sensor.description]
    cursor = None
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(3):
            context = dg.build_sensor_context(
                instance, cursor=cursor, repository_def=definitions.get_repository_def()
            )
            try:
                result = sensor(context)
            except Exception as error:
                said.append("".join(traceback.format_exception(error)))
            else:
                assert isinstance(result, dg.SensorResult)
                cursor = result.cursor
                said.append(repr(result))
        storage = instance.daemon_cursor_storage
        said.append(repr(vars(storage)))
    return "\n".join(map(str, said))


@pytest.mark.parametrize("status", ["200-200", "403-403", "200-500"])
@pytest.mark.parametrize("name", ["may", "nothing"])
def test_a_tick_says_no_secret(site, status, name, caplog, capsys):
    caplog.set_level(logging.INFO)  # fsspec itself logs addresses as DEBUG.
    address = f"http://someone:HUNTER2@{site}/{status}/{name}.csv?{QUERY}"
    said = tick(PredictionFiles(address, "csv", class_column_prefix="p_"))
    check_no_secret(said)
    check_no_secret(caplog.text)
    check_no_secret("".join(capsys.readouterr()))
    assert f"http://{site}/{status}/{name}.csv" in said


SETTINGS = [
    lambda address: active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(address, "csv"),
        partitions_def=dg.StaticPartitionsDefinition(["a"]),
    ),
    lambda address: active_learning_definitions(
        pool="pool", predictions=PredictionFiles(f"{address}/{{partition_key}}.csv", "csv")
    ),
    PoolImages,
    lambda address: PoolImages("a.csv", labeled=address),
    lambda address: active_learning_definitions(
        pool="pool", predictions=PredictionFiles("a.csv", "csv"), export=address
    ),
    lambda address: active_learning_definitions(
        pool="pool", predictions=PredictionFiles("a.csv", "csv"), export={"csv": address}
    ),
    lambda address: active_learning_definitions(
        pool="pool", predictions=PredictionFiles("a.csv", "csv"), export={"other": address}
    ),
    lambda address: active_learning_definitions(
        pool="pool", predictions=PredictionQuery(f"FROM '{address}' WHERE a = $partition_key")
    ),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_address_in_a_wrong_setting_is_shown_without_secrets(setting):
    address = f"https://someone:HUNTER2@host/a.csv?{QUERY}"
    with pytest.raises((SettingError, ValueError)) as error:
        setting(address)
    check_no_secret(
        "".join(map(str, traceback.TracebackException.from_exception(error.value).format()))
    )


QUERIES = [
    ("SELECT 'x' AS image_id, [0.5, 0.5]::FLOAT[] AS class_probs, 'HUNTER2' AS token", True, ""),
    ("SET VARIABLE password = 'HUNTER2'; FROM theirs.t", True, "…; FROM theirs.t"),
    ("FROM theirs.t WHERE password = 'HUNTER2'", False, "fails with BinderException"),
    ("FROM theirs.nothing WHERE 'token' = 'HUNTER2'", False, "fails with CatalogException"),
    ("FRM theirs.t WHERE 'token' = 'HUNTER2'", False, "fails with ParserException"),
    ("SELECT 'passwordHUNTER2', * FROM theirs.t", True, "SELECT '…', * FROM theirs.t"),
    ("SELECT 'token HUNTER2', 1 AS other", False, "has no column"),
    ("SELECT image_id, [('password HUNTER2' || a)::FLOAT] AS class_probs FROM theirs.t", False, "fails with ConversionException"),
    ("FROM 'http://someone:HUNTER2@127.0.0.1:9/a.parquet?sig=0f3aSIGNATURE'", False, "fails with"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "succeeds", "words"), QUERIES)
def test_the_secrets_of_a_query_are_nowhere(database, run, text, succeeds, words):
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            "CREATE SCHEMA theirs; CREATE TABLE theirs.t AS "
            "SELECT 'x' AS image_id, [0.5, 0.5]::FLOAT[] AS class_probs, 'a' AS a"
        )
    success, events = run(PredictionQuery(text))
    assert success == succeeds
    assert words in events


def test_the_token_of_a_database_is_not_shown(tmp_path, run, monkeypatch):
    """An address such as MotherDuck's, here for want of it one that DuckDB cannot open."""
    monkeypatch.chdir(tmp_path)
    resource = DuckDBResource(database="md:pool?motherduck_token=HUNTER2")
    definitions = active_learning_definitions(
        pool="pool", predictions=PredictionFiles("a.csv", "csv"), lock_timeout_seconds=0
    )
    monkeypatch.setattr(
        "dagster_active_learning.definitions.database.connect",
        lambda path, **_: failing_connect(path),
    )
    (tmp_path / "a.csv").write_text('image_id,class_probs\nx,"[0.5, 0.5]"\n')
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            definitions.assets,
            instance=instance,
            resources={"duckdb": resource},
            raise_on_error=False,
        )
        events = "\n".join(map(repr, instance.all_logs(result.run_id)))
    assert not result.success
    assert "cannot open" in events
    check_no_secret(events)


def failing_connect(path):
    raise duckdb.IOException(f"cannot open {path}")
