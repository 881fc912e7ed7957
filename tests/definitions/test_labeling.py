"""``<pool>/labeling_tasks`` and ``<pool>/labels``: a batch goes out, and its labels come back."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalMemberAccess=false, reportOptionalIterable=false

import json
import logging
import os
import shutil
import traceback

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from dagster_duckdb import DuckDBResource
from PIL import Image

from dagster_active_learning import (
    ActiveLearningComponent,
    LabelingBatch,
    LabelStudio,
    LabelStudioResource,
    PredictionFiles,
    active_learning_definitions,
    load_batch,
    load_labels,
)
from dagster_active_learning.definitions import label_sensor
from dagster_active_learning.errors import LabelingToolError, PoolStateError, SettingError
from dagster_active_learning.labeling import label_studio_sending
from dagster_active_learning.readers.manifest import read_images
from label_studio import BATCH, LEGACY, PERSONAL, checks, numbers, run, studio

__all__ = ["studio"]

IDS = [f"image{number:02d}" for number in range(40)]
CLASSES = ["cat", "dog"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a pool of which the first batch is open."""
    folder = tmp_path_factory.mktemp("prepared")
    write_predictions(folder, CLASSES)
    (folder / "images").mkdir()
    for image_id in IDS:
        Image.new("L", (8, 8)).save(folder / "images" / f"{image_id}.png")
    write_manifest(folder)
    run(folder, definitions(folder), "http://127.0.0.1:9", *BATCH)
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(label_studio_sending, "SETTLE_SECONDS", 0.0)
    for name in ("labeling.duckdb", "manifest.csv", "p.parquet"):
        shutil.copy(prepared / name, tmp_path)
    return tmp_path


def write_predictions(folder, class_names):
    random = np.random.default_rng(0)
    table = pa.table({"image_id": IDS, "class_probs": list(random.dirichlet([1, 1], len(IDS)))})
    metadata = {"class_names": json.dumps(class_names)}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "p.parquet")


def write_manifest(folder, labels=None):
    uris = [str(folder / "images" / f"{image_id}.png") for image_id in IDS]
    found = [(labels or {}).get(image_id) for image_id in IDS]
    pl.DataFrame(
        {"image_id": IDS, "uri": uris, "label": found}, schema_overrides={"label": pl.String}
    ).write_csv(folder / "manifest.csv")


def definitions(folder, labeling=None, image_roots=(), **batch):
    return active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(folder / "p.parquet", "parquet"),
        images=folder / "manifest.csv",
        image_roots=image_roots,
        acquisition_functions=["margin"],
        batch=LabelingBatch(**{"size": 10, "random_share": 0.2, **batch}),
        labeling=labeling or LabelStudio(project="pets"),
    )


def query(folder, sql):
    with duckdb.connect(str(folder / "labeling.duckdb")) as connection:
        return connection.execute(f"USE pool; {sql}").fetchall()


@pytest.mark.slow
def test_a_batch_goes_out_once_and_its_labels_come_back(folder, studio):
    defs = definitions(folder)
    sent = run(folder, defs, studio.url)
    found = numbers(sent, "labeling_tasks")
    assert (found["batch"], found["sent"], found["already_there"]) == ("1", 10, 0)
    assert found["project"] == f"{studio.url}/projects/1/data"
    assert all(checks(sent).values())
    database = folder / "labeling.duckdb"
    batch = load_batch(database, pool="pool")
    assert studio.image_ids() == batch["image_id"].to_list()
    assert studio.tasks[0]["data"]["image"] == batch["uri"][0]
    assert studio.tasks[0]["meta"]["batch"] == 1
    again = run(folder, defs, studio.url, "labeling_tasks")
    assert numbers(again, "labeling_tasks")["sent"] == 0
    assert len(studio.imports()) == 1
    # People annotate: right, wrong, at odds, skipped, not at all; somebody adds a task of their own.
    ids = batch["image_id"].to_list()
    predicted = dict(zip(ids, batch["predicted_class"], strict=True))
    other = {"cat": "dog", "dog": "cat"}
    for image_id in ids[:3]:
        studio.annotate(image_id, predicted[image_id])
    studio.annotate(ids[3], other[predicted[ids[3]]])
    studio.annotate(ids[4], "cat")
    studio.annotate(ids[4], "dog", by=2)
    studio.annotate(ids[5], skip=True)
    studio.annotate(ids[6], "zebra")
    studio.tasks.append({**studio.tasks[0], "id": 99, "data": {"image": "x.png"}})
    read = run(folder, defs, studio.url, "labels")
    found = numbers(read, "labels")
    assert {name: found[name] for name in ("labeled", "skipped", "conflicts", "quarantined", "waiting", "foreign_tasks", "newly_labeled", "withdrawn", "agreement_with_model", "dagster/row_count")} == {
        "labeled": 4, "skipped": 1, "conflicts": 1, "quarantined": 1, "waiting": 3,
        "foreign_tasks": 1, "newly_labeled": 4, "withdrawn": 0, "agreement_with_model": 0.75,
        "dagster/row_count": 4,
    }  # fmt: skip
    assert found["median_hours_to_label"] == pytest.approx(0, abs=0.1)
    assert all(checks(read).values())
    labels = load_labels(database, pool="pool")
    assert dict(labels.select("image_id", "category").rows())[ids[3]] == other[predicted[ids[3]]]
    assert query(folder, "SELECT reason FROM quarantined_labels") == [("the class 'zebra' is not one of the pool's",)]  # fmt: skip
    before = query(folder, "SELECT * EXCLUDE (run_id, read_at) FROM labels ORDER BY ALL")
    nothing = run(folder, defs, studio.url, "labels")
    assert (numbers(nothing, "labels")["newly_labeled"], numbers(nothing, "labels")["withdrawn"]) == (0, 0)  # fmt: skip
    assert query(folder, "SELECT * EXCLUDE (run_id, read_at) FROM labels ORDER BY ALL") == before
    # They are no candidates any more, and a manifest that does not know it changes nothing.
    second = run(folder, defs, studio.url, *BATCH[3:], "labeling_tasks")
    assert numbers(second, "labeling_tasks")["sent"] == 10
    assert numbers(second, "labeling_batch")["in_flight"] == 6
    queue = {image_id for (image_id,) in query(folder, "SELECT image_id FROM labeling_candidates")}
    assert not queue & set(ids[:4])
    assert ids[5] in queue
    assert not set(load_batch(database, pool="pool")["image_id"]) & set(ids)
    assert query(folder, f"SELECT label FROM images WHERE image_id = '{ids[0]}'") == [(predicted[ids[0]],)]  # fmt: skip


@pytest.mark.slow
def test_a_withdrawn_annotation_withdraws_the_label_and_a_deleted_task_frees_the_image(
    folder, studio
):
    defs = definitions(folder)
    run(folder, defs, studio.url)
    first, second, third = studio.image_ids()[:3]
    for image_id in (first, second):
        studio.annotate(image_id, "cat")
    run(folder, defs, studio.url, "labels")
    assert len(query(folder, "FROM images WHERE labeled")) == 2
    del studio.tasks[0]["annotations"][:]
    # The next task has the number of one that was deleted.
    studio.tasks = [
        task for task in studio.tasks if task["data"]["image_id"] not in (second, third)
    ]
    studio.next_task = 2
    studio.answer("POST", "/api/projects/1/import", {}, [{"data": {"image": "x", "image_id": "other"}}], f"Token {LEGACY}")  # fmt: skip
    studio.annotate("other", "dog")
    found = numbers(run(folder, defs, studio.url, "labels"), "labels")
    assert (found["withdrawn"], found["deleted_tasks"], found["labeled"]) == (2, 2, 0)
    assert query(folder, "FROM images WHERE labeled OR label IS NOT NULL") == []
    assert query(folder, "SELECT image_id, reason FROM quarantined_labels") == [("other", "the image is not in the pool's manifest")]  # fmt: skip
    states = dict(query(folder, "SELECT image_id, state FROM labeling_tasks"))
    assert [states[image_id] for image_id in (first, second, third)] == ["sent", "deleted", "deleted"]  # fmt: skip
    returned = query(folder, "SELECT image_id FROM labeling_batches WHERE returned_at IS NOT NULL")
    assert {image_id for (image_id,) in returned} == {second, third}
    # They may be in a batch again, and then they are sent again.
    run(folder, defs, studio.url, "labeling_batch", "labeling_tasks")
    assert len(set(studio.image_ids())) == len(studio.image_ids())


@pytest.mark.slow
def test_the_manifest_has_the_first_word(folder, studio):
    defs = definitions(folder)
    run(folder, defs, studio.url)
    first, second = studio.image_ids()[:2]
    studio.annotate(first, "cat")
    studio.annotate(second, "cat")
    run(folder, defs, studio.url, "labels")
    write_manifest(folder, {first: "dog"})
    run(folder, defs, studio.url, "images")
    words = f"SELECT image_id, labeled, label FROM images WHERE image_id IN ('{first}', '{second}')"
    assert set(query(folder, words)) == {(first, True, "dog"), (second, True, "cat")}
    for task in studio.tasks:
        del task["annotations"][:]
    run(folder, defs, studio.url, "labels")
    assert set(query(folder, words)) == {(first, True, "dog"), (second, False, None)}


@pytest.mark.slow
@pytest.mark.parametrize("return_skipped", [False, True])
def test_skipped_images_come_back_where_that_is_wanted(folder, studio, return_skipped):
    defs = definitions(folder, LabelStudio(project="pets", return_skipped=return_skipped))
    run(folder, defs, studio.url)
    studio.annotate(studio.image_ids()[0], skip=True)
    run(folder, defs, studio.url, "labels")
    batch = numbers(run(folder, defs, studio.url, "labeling_batch"), "labeling_batch")
    assert batch["in_flight"] == 10 - return_skipped


FAULTS = {
    "503 before": ("before", 503),
    "closed before": ("before", "close"),
    "refused": None,
    "a wrong token": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_is_pending_and_the_next_run_completes_it(folder, studio, fault, capfd):
    defs = definitions(folder)
    token = "0000wrongtoken0000" if fault == "a wrong token" else LEGACY
    url = "http://127.0.0.1:9" if fault == "refused" else studio.url
    on_import = lambda _, path: FAULTS[fault] if path.endswith("/import") else None  # noqa: E731
    studio.faults = [on_import] * 9 if FAULTS[fault] else []
    with pytest.raises(LabelingToolError) as raised:
        run(folder, defs, url, token=token)
    assert query(folder, "SELECT state, count(*) FROM labeling_tasks GROUP BY 1") == [("pending", 10)]  # fmt: skip
    ids = load_batch(folder / "labeling.duckdb", pool="pool")["image_id"].to_list()
    # What is out is not chosen again, though nobody has it yet.
    failed = run(folder, defs, url, "labeling_batch", token=token)
    assert numbers(failed, "labeling_batch")["in_flight"] == 10
    studio.faults = []
    found = numbers(run(folder, defs, studio.url, "labeling_tasks"), "labeling_tasks")
    assert found["sent"] == 20
    assert studio.image_ids()[:10] == ids
    assert query(folder, "SELECT DISTINCT state FROM labeling_tasks") == [("sent",)]
    written = "".join(capfd.readouterr()) + str(raised.value)
    assert LEGACY not in written
    assert token not in written
    assert LEGACY.encode() not in (folder / "labeling.duckdb").read_bytes()


def check_tasks(folder, defs, url):
    """The outcome of the check of the tasks, and the states of its examples."""
    key = dg.AssetKey(["pool", "labeling_tasks"])
    result = dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={"duckdb": DuckDBResource(database=str(folder / "labeling.duckdb")), "label_studio": LabelStudioResource(url=url, token=LEGACY)},
        selection=dg.AssetSelection.checks_for_assets(key),
    )  # fmt: skip
    (found,) = result.get_asset_check_evaluations()
    table = found.metadata.get("examples")
    return found.passed, [row.data["state"] for row in table.value.records] if table else []


def test_a_check_sees_what_is_not_with_the_tool(folder, studio):
    defs = definitions(folder)
    with pytest.raises(LabelingToolError):
        run(folder, defs, "http://127.0.0.1:9")
    assert check_tasks(folder, defs, "http://127.0.0.1:9") == (False, ["pending"] * 10)
    run(folder, defs, studio.url)
    assert check_tasks(folder, defs, studio.url) == (True, [])
    requests = len(studio.log)
    del studio.tasks[3]
    assert check_tasks(folder, defs, studio.url) == (False, ["no task any more"])
    assert len(studio.log) == requests + 2
    assert check_tasks(folder, definitions(folder, LabelStudio(project="animals")), studio.url) == (False, ["not sent"] * 10)  # fmt: skip
    # Away, nobody knows.
    assert check_tasks(folder, defs, "http://127.0.0.1:9") == (False, [])


@pytest.mark.parametrize("sent", [0, 4, 10])
def test_a_pool_that_gets_another_project_has_its_images_there(folder, studio, sent):
    """Of ten images the first were sent to the old project, and one of them is labeled there."""
    defs = definitions(folder)
    if sent < 10:
        with pytest.raises(LabelingToolError):
            run(folder, defs, "http://127.0.0.1:9")
        query(
            folder, f"UPDATE labeling_tasks SET state = 'sent' WHERE position <= {sent}; SELECT 1"
        )
    else:
        run(folder, defs, studio.url)
        studio.annotate(studio.image_ids()[0], "cat")
        run(folder, defs, studio.url, "labels")
        studio.tasks.clear()
    renamed = definitions(folder, LabelStudio(project="animals"))
    found = numbers(run(folder, renamed, studio.url), "labeling_tasks")
    ids = load_batch(folder / "labeling.duckdb", pool="pool")["image_id"].to_list()
    assert (found["sent"], studio.image_ids()) == (len(ids), ids)
    assert len(ids) == 10 - (sent == 10)
    states = "SELECT project, state, count(*) FROM labeling_tasks GROUP BY ALL"
    old = {("pets", "sent", sent), ("pets", "needless", 10 - sent)}
    assert set(query(folder, states)) == {row for row in old if row[2]} | {("animals", "sent", len(ids))}  # fmt: skip
    # What is read in the new project is about the new rows.
    studio.annotate(ids[0], skip=True)
    run(folder, renamed, studio.url, "labels")
    assert query(folder, "SELECT project FROM labeling_tasks WHERE outcome = 'skipped'") == [("animals",)]  # fmt: skip
    assert numbers(run(folder, renamed, studio.url), "labeling_tasks")["sent"] == 0
    # Back again, what was not sent there is to be.
    assert numbers(run(folder, defs, studio.url), "labeling_tasks")["sent"] == 10 - sent


def test_a_project_that_is_renamed_has_each_label_once(folder, studio):
    defs = definitions(folder)
    run(folder, defs, studio.url)
    studio.annotate(studio.image_ids()[0], "cat")
    run(folder, defs, studio.url, "labels")
    studio.projects[0]["title"] = "animals"
    renamed = definitions(folder, LabelStudio(project="animals"))
    found = numbers(run(folder, renamed, studio.url, "labels"), "labels")
    assert (found["newly_labeled"], found["withdrawn"]) == (0, 0)
    assert query(folder, "SELECT project, category FROM labels") == [("animals", "cat")]
    assert query(folder, "SELECT label FROM images WHERE labeled") == [("cat",)]


def test_checks_and_files_of_labels(folder, studio):
    path = folder / "labels.csv"
    defs = definitions(folder, LabelStudio(project="pets", export=path), return_after_days=3)
    run(folder, defs, studio.url)
    (first, *_) = studio.image_ids()
    studio.annotate(first, "cat")
    read = run(folder, defs, studio.url, "labels")
    assert all(checks(read).values())
    assert numbers(read, "labels")["csv"] == str(path)
    (image,) = read_images(path, "csv").to_pylist()
    assert (image["image_id"], image["label"]) == (first, "cat")
    query(folder, "UPDATE labeling_batches SET handed_out_at = now() - INTERVAL 4 DAY; SELECT 1")
    result = run(folder, defs, studio.url, "labels")
    assert checks(result) == {"known_classes": True, "nothing_out_too_long": False}


def test_a_project_that_was_deleted_is_made_with_its_classes_and_takes_no_label_away(
    folder, studio
):
    defs = definitions(folder)
    run(folder, defs, studio.url)
    studio.annotate(studio.image_ids()[0], "cat")
    run(folder, defs, studio.url, "labels")
    studio.tasks.clear()
    studio.projects.clear()
    assert numbers(run(folder, defs, studio.url), "labeling_tasks")["sent"] == 0
    assert all(f'value="{name}"' in studio.projects[0]["label_config"] for name in CLASSES)
    with pytest.raises(PoolStateError, match="none of the images that were sent to the project 'pets' is in it now, and 1 have"):  # fmt: skip
        run(folder, defs, studio.url, "labels")
    assert query(folder, "SELECT category FROM labels") == [("cat",)]
    renamed = definitions(folder, LabelStudio(project="animals"))
    assert numbers(run(folder, renamed, studio.url), "labeling_tasks")["sent"] == 9


def test_a_task_that_was_deleted_takes_its_label_along(folder, studio):
    defs = definitions(folder)
    run(folder, defs, studio.url)
    studio.annotate(studio.image_ids()[0], "cat")
    run(folder, defs, studio.url, "labels")
    del studio.tasks[0]
    run(folder, defs, studio.url, "labels")
    assert query(folder, "SELECT category FROM labels") == []


def test_a_batch_whose_predictions_were_read_again_with_other_classes(folder, studio):
    write_predictions(folder, ["cow", "dog"])
    defs = definitions(folder)
    run(folder, defs, studio.url, "predictions")
    run(folder, defs, studio.url)
    batch = load_batch(folder / "labeling.duckdb", pool="pool")
    regions = [task["predictions"][0]["result"] for task in studio.tasks]
    classes = [[region["value"]["choices"][0] for region in found] for found in regions]
    assert classes == [[] if name == "cat" else ["dog"] for name in batch["predicted_class"]]
    assert set(batch["predicted_class"]) == set(CLASSES)


def test_labels_need_the_project(folder, studio):
    defs = definitions(folder)
    with pytest.raises(PoolStateError, match="has no project 'pets': materialize pool/labeling_tasks first"):  # fmt: skip
        run(folder, defs, studio.url, "labels")


ADDRESSES = {
    "template": ({"image_address": "https://images/{image_id}?f={file_name}"}, "https://images/{id}?f={id}.png"),
    "local files": ({"local_files_root": True}, "/data/local-files/?d=images/{id}.png"),
    "embedded": ({"embed_max_bytes": 10_000}, "data:image/png;base64,iVBOR"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_addresses_of_images(folder, prepared, studio, settings, expected):
    if "local_files_root" in settings:
        settings = {"local_files_root": prepared}
    labeling = LabelStudio(project="pets", **settings)
    run(folder, definitions(folder, labeling, image_roots=[prepared]), studio.url)
    data = studio.tasks[0]["data"]
    assert data["image"].startswith(expected.format(id=data["image_id"]))


def test_an_image_that_is_too_large_to_be_embedded(folder, prepared, studio):
    labeling = LabelStudio(project="pets", embed_max_bytes=5)
    defs = definitions(folder, labeling, image_roots=[prepared])
    with pytest.raises(
        PoolStateError, match="bytes, expected at most embed_max_bytes, 5: raise it"
    ):
        run(folder, defs, studio.url)
    # Nothing is out.
    assert query(folder, "FROM labeling_tasks") == []
    assert query(folder, "FROM labeling_batches WHERE handed_out_at IS NOT NULL") == []


def test_the_sensor_asks_for_a_run_until_one_has_read_what_changed(folder, studio, monkeypatch):
    defs = definitions(folder)
    (sensor,) = list(defs.sensors or ())
    assert sensor.name == "pool__labels"
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(url=studio.url, token=LEGACY):
            resource = LabelStudioResource(url=url, token=token)
            with dg.build_sensor_context(instance=instance, resources={"label_studio": resource}) as context:  # fmt: skip
                return sensor.evaluate_tick(context)

        def read(request, **options):
            options = {
                "instance": instance,
                "tags": request.tags,
                "raise_on_error": False,
            } | options
            return run(folder, defs, studio.url, "labels", **options).success

        assert "there is no project 'pets' yet" in str(tick().skip_message)
        run(folder, defs, studio.url)
        (first,) = tick().run_requests or [dg.RunRequest()]
        # A run that reads nothing, for the server does not take its token.
        assert not read(first, token="wrong")
        requests = len(studio.log)
        assert "did not succeed: it is asked for again" in str(tick().skip_message)
        assert len(studio.log) == requests + 2
        monkeypatch.setattr(label_sensor, "SECONDS_AFTER_FAILURE", 0)
        (second,) = tick().run_requests or [dg.RunRequest()]
        assert second.run_key != first.run_key
        assert read(second)
        assert "nothing was annotated" in str(tick().skip_message)
        studio.annotate(studio.image_ids()[0], "cat")
        (third,) = tick().run_requests or [dg.RunRequest()]
        assert third.run_key not in (first.run_key, second.run_key)
        # In the queue, or running.
        waiting = instance.create_run_for_job(dg.job(name="waiting")(lambda: None), tags=third.tags)
        assert f"the run {waiting.run_id} reads" in str(tick().skip_message)
        assert "gave no answer" in str(tick("http://127.0.0.1:9").skip_message)
        assert "the token of the resource" in str(tick(token="…").skip_message)
        # Its process died.
        monkeypatch.setattr(label_sensor, "SECONDS_OF_A_RUN", 0)
        (fourth,) = tick().run_requests or [dg.RunRequest()]
        assert fourth.run_key not in (first.run_key, second.run_key, third.run_key)


def test_yaml_and_python_are_the_same():
    attributes = yaml.safe_load("""
        pool: pool
        predictions: {path: p.parquet, format: parquet}
        images: manifest.csv
        batch: {}
        labeling:
          label_studio:
            project: pets
            local_files_root: files
            export: [labels.csv, labels.parquet]
            return_skipped: true
            minimum_interval_seconds: 7
            default_status: RUNNING
    """)
    component = ActiveLearningComponent.resolve_from_dict(attributes)
    assert component.labeling == LabelStudio(
        project="pets",
        local_files_root=component.labeling.local_files_root,
        export=component.labeling.export,
        return_skipped=True,
        minimum_interval_seconds=7,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )  # fmt: skip
    assert str(component.labeling.local_files_root).endswith("files")
    files = component.labeling.files
    assert {name: os.path.basename(path) for name, path in files.paths.items()} == {"csv": "labels.csv", "parquet": "labels.parquet"}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"project": "ab"}, "project is 'ab', expected a title of 3 to 50 characters"),
        ({"project": "pets "}, "project is 'pets ', expected a title of 3 to 50 characters without spaces"),
        ({"image_address": "https://x"}, "expected an address with at least one of {image_id}"),
        ({"image_address": "https://{id}"}, "and no other braces"),
        ({"image_address": "https://{image_id"}, "and no other braces"),
        ({"image_address": "{uri}", "embed_max_bytes": 3}, "expected one of them"),
        ({"export": []}, "expected files of labels with the suffixes .csv, .parquet, .json, one of each"),
        ({"export": ["a.csv", "b.CSV"]}, "one of each at the most"),
        ({"export": "labels.xml"}, "export is ['labels.xml'], expected files of labels"),
        ({"export": "s3://b/labels.csv"}, "export is the address 's3://b/labels.csv', expected a local path"),
        ({"embed_max_bytes": 0}, "embed_max_bytes is 0, expected at least 1"),
        ({"minimum_interval_seconds": 0}, "minimum_interval_seconds is 0, expected at least 1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(SettingError) as raised:
        LabelStudio(**{"project": "pets", **settings})
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("export", "words"),
    [
        ("labels.json", "export of labeling is 'labels.json', expected .csv or .parquet: COCO files hold objects"),
        ("manifest.csv", "export is the file 'manifest.csv', which is what images reads"),
        ("batch.csv", "export of the pool, of batch and of labeling name a file twice"),
    ],
)  # fmt: skip
def test_files_of_labels_that_cannot_be(export, words):
    with pytest.raises(SettingError, match=words):
        active_learning_definitions(
            pool="pool",
            predictions=PredictionFiles("p.parquet", "parquet"),
            images="manifest.csv",
            batch=LabelingBatch(export="batch.csv"),
            labeling=LabelStudio(project="pets", export=export),
        )


@pytest.mark.parametrize("missing", ["batch", "images"])
def test_a_tool_needs_a_batch_and_a_manifest(missing):
    settings = {"batch": LabelingBatch(), "images": "manifest.csv"}
    del settings[missing]
    with pytest.raises(SettingError, match=f"set {missing} of the pool too"):
        active_learning_definitions(
            pool="pool",
            predictions=PredictionFiles("p.parquet", "parquet"),
            labeling=LabelStudio(project="pets"),
            **settings,
        )


def repeat_the_token(studio, monkeypatch):
    """Answer as a page of errors does that shows the request."""
    answer = studio.answer

    def repeat(method, path, query, body, header):
        if path.endswith("/import"):
            return 500, {"detail": f"failed with Authorization: {header}"}
        return answer(method, path, query, body, header)

    monkeypatch.setattr(studio, "answer", repeat)


@pytest.mark.slow
@pytest.mark.parametrize("token", [LEGACY, PERSONAL, "0000wrongtoken0000", "wrong.personal.token"])
def test_the_token_is_in_nothing_that_a_failing_run_leaves(folder, studio, token, tmp_path, monkeypatch, caplog, capfd):  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", token)
    repeat_the_token(studio, monkeypatch)
    defs = definitions(folder)
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        options = {"instance": instance, "token": dg.EnvVar("LABEL_STUDIO_TOKEN")}
        failed = run(folder, defs, studio.url, **options, raise_on_error=False)
        assert not failed.success
        with pytest.raises(LabelingToolError) as raised:
            run(folder, defs, studio.url, **options)
        events = "".join(map(repr, instance.all_logs(failed.run_id)))
        assert "LabelingToolError" in events
    written = [events, caplog.text, *capfd.readouterr(), *traceback.format_exception(raised.value)]
    files = [path for path in [*home.rglob("*"), folder / "labeling.duckdb"] if path.is_file()]
    assert any(b"LabelingToolError" in path.read_bytes() for path in files)
    for secret in (token, *studio.access):
        assert not any(secret in text for text in written)
        assert not any(secret.encode() in path.read_bytes() for path in files)


def test_the_token_is_in_no_definition(folder):
    resource = LabelStudioResource(url="http://127.0.0.1:8080", token=LEGACY)
    assert LEGACY not in repr(resource)
    assert LEGACY not in str(resource)
