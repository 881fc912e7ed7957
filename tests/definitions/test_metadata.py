"""What the UI shows of a materialization: pictures, reasons, comparisons, within its size."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource
from dagster_shared.serdes import serialize_value
from PIL import Image

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    LabelingBatch,
    PoolImages,
    PredictionAsset,
    PredictionFiles,
    active_learning_definitions,
    explain_candidate,
    gallery,
)
from dagster_active_learning.definitions.metadata.labeling_candidates import CandidatePictures
from dagster_active_learning.definitions.metadata.summary import score_bars, summary
from dagster_active_learning.definitions.metadata.tables import rounded, rows_table
from dagster_active_learning.gallery.picture_process import PictureProcess
from dagster_active_learning.text import CELL_BYTES, shown

FUNCTIONS = ["entropy", "least_confidence", "margin", "variance"]
CANDIDATES = [f"pool/labeling_candidates/{name}" for name in FUNCTIONS]


@pytest.fixture
def materialize(database):
    """Materialize some definitions, and return the materialization of each asset."""

    def run(definitions, *, others=(), **options):
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [*others, *definitions.assets],
                instance=instance,
                resources={"duckdb": DuckDBResource(database=str(database))},
                **options,
            )
        return {
            event.materialization.asset_key.to_user_string(): event.materialization
            for event in result.get_asset_materialization_events()
        }

    return run


@pytest.fixture
def tiles(monkeypatch):
    """The tiles that contact sheets were asked for."""
    asked = []
    draw = gallery.contact_sheet

    def contact_sheet(tiles, thumbnails, **arguments):
        asked.append(list(tiles))
        return draw(tiles, thumbnails, **arguments)

    monkeypatch.setattr(gallery, "contact_sheet", contact_sheet)
    return asked


def pool(predictions, **settings):
    return active_learning_definitions(pool="pool", predictions=predictions, **settings)


def records(value):
    return [record.data for record in value.records]


def picture(value):
    """The picture in a Markdown value, which holds nothing else."""
    start, _, content = value.value.partition("](data:image/png;base64,")
    assert start.startswith("![")
    assert content.endswith(")")
    with Image.open(BytesIO(base64.b64decode(content[:-1], validate=True))) as image:
        image.load()
        return image


def write_images(folder, count):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (32, 24), (number % 256, 80, 160)).save(folder / f"image{number}.png")


def write_manifest(path, uris, labeled=()):
    rows = {
        "image_id": list(uris),
        "uri": list(uris.values()),
        "labeled": [image_id in labeled for image_id in uris],
    }
    pl.DataFrame(rows, schema_overrides={"uri": pl.String}).write_csv(path)
    return path


def random_class_probs(n_images, n_classes=3, seed=0):
    probs = np.random.default_rng(seed).dirichlet(np.ones(n_classes), n_images)
    return probs.astype(np.float32)


def test_the_gallery_shows_the_first_ranks(materialize, write_predictions, tiles, tmp_path):
    write_images(tmp_path / "images", 40)
    manifest = write_manifest(
        tmp_path / "manifest.csv", {f"image{n}": f"images/image{n}.png" for n in range(40)}
    )
    path = write_predictions(random_class_probs(40))
    done = materialize(
        pool(PredictionFiles(path, "parquet"), images=manifest, acquisition_functions=["margin"])
    )
    metadata = done["pool/labeling_candidates/margin"].metadata
    assert picture(metadata["gallery"]).width == 1000
    assert picture(metadata["score_histogram"]).size == (1000, 300)
    preview = records(metadata["preview"])
    assert len(preview) == 24
    (drawn,) = tiles
    assert [(tile.rank, tile.image_id, tile.predicted_class) for tile in drawn] == [
        (row["rank"], row["image_id"], row["predicted_class"]) for row in preview
    ]
    # What is relative starts from the manifest's folder, whatever the working directory is.
    assert [tile.uri for tile in drawn] == [
        str(tmp_path / "images" / f"{tile.image_id}.png") for tile in drawn
    ]


def scenes(write_predictions, tmp_path, n_empty, n_scenes=40, **settings):
    """A pool of objects, of whose images the first ones have none."""
    path = tmp_path / "objects.jsonl"
    probs = random_class_probs(n_scenes)
    path.write_text(
        "".join(
            json.dumps({"image_id": f"image{n}", "bbox": [1, 1, 4, 4], "class_probs": row}) + "\n"
            for n, row in enumerate(probs.tolist())
            if n >= n_empty
        )
    )
    ids = {f"image{n}": f"images/image{n}.png" for n in range(n_scenes)}
    write_images(tmp_path / "images", n_scenes)
    return pool(
        PredictionFiles(path, "jsonl", bbox_column="bbox"),
        images=write_manifest(tmp_path / "manifest.csv", ids),
        task="detection",
        acquisition_functions=["mean_object_score"],
        **settings,
    )


@pytest.mark.parametrize(
    ("n_empty", "shown_empty", "words"),
    [(2, 2, None), (3, 3, None), (4, 3, "+ 1 without objects"), (30, 3, "+ 27 without objects")],
)
def test_images_without_objects_are_a_handful_and_their_number(
    materialize, write_predictions, tiles, tmp_path, n_empty, shown_empty, words
):
    definitions = scenes(write_predictions, tmp_path, n_empty)
    metadata = materialize(definitions)["pool/labeling_candidates/mean_object_score"].metadata
    (drawn,) = tiles
    with_objects = min(24 - shown_empty, 40 - n_empty)
    ranks = [*range(1, shown_empty + 1), *range(n_empty + 1, n_empty + 1 + with_objects)]
    assert [tile.rank for tile in drawn] == ranks
    assert [tile.stands_for for tile in drawn if tile.stands_for] == [words] * bool(words)
    assert all(tile.boxes for tile in drawn[shown_empty:])
    preview = records(metadata["preview"])
    assert [row["rank"] for row in preview] == ranks
    reasons = [row["reason"] for row in preview[:shown_empty]]
    assert reasons[:-1] == ["no objects"] * (shown_empty - 1)
    assert reasons[-1] == (f"no objects ({words})" if words else "no objects")
    assert metadata["without_predictions"].value == n_empty


def test_the_summary_is_seen_without_a_click(materialize, write_predictions, tmp_path):
    """The UI shows Markdown below 1,000 characters; it stands first."""
    path = write_predictions(random_class_probs(200))
    uris = {f"image{n}": None for n in range(200)}
    definitions = pool(
        PredictionFiles(
            path, "parquet", model="resnet_50 | <b>", class_names=["a*b", "_c_", "d" * 300]
        ),
        images=write_manifest(tmp_path / "manifest.csv", uris, labeled={"image3", "image4"}),
        acquisition_functions=["margin", "entropy"],
        limit=50,
        batch=LabelingBatch(size=20, export=str(tmp_path / "batch.csv")),
    )
    done = materialize(definitions)
    for key, first in (
        ("labeling_candidates/margin", "**50** of 198, cut at "),
        ("labeling_candidates/entropy", "**50** of 198, cut at "),
        ("labeling_batch", "**20** of 198 unlabeled, 2 random"),
    ):
        metadata = done[f"pool/{key}"].metadata
        assert next(iter(metadata)) == "summary"
        text = metadata["summary"].md_str
        assert len(text) < 1_000
        bars, counts, *rest = text.split("  \n")
        assert re.fullmatch(r"\S+ `[▁▂▃▄▅▆▇█·│]{20,21}` \S+", bars)
        assert counts.startswith(first)
        *_, model, source, page = rest
        assert model == "resnet\\_50 \\| \\<b\\>"
        assert re.fullmatch("source [0-9a-f]{12}…", source)
        assert page == f"report `{metadata['report'].value}`"
        assert ("a\\*b" in text) or ("\\_c\\_" in text)
        # What is a number is plotted: settings are none.
        for name in ("limit", "seed", "batch", "wanted"):
            if name in metadata:
                assert isinstance(metadata[name], dg.TextMetadataValue), name
        for value in metadata.values():
            if isinstance(value, dg.FloatMetadataValue) and value.value is not None:
                assert value.value == rounded(value.value)


BARS_CASES = {
    "the cut of what is labeled lowest first": ([4, 2, 0, 1], 0.3, "lowest", "0 `█▅│·▃` 1"),
    "the cut of what is labeled highest first": ([4, 2, 0, 1], 0.3, "highest", "0 `█│▅·▃` 1"),
    "the cut at the first edge": ([1, 1], 0.0, "lowest", "0 `█│█` 1"),
    "the cut at the last edge": ([1, 1], 1.0, "highest", "0 `█│█` 1"),
    "no cut": ([0, 0], None, "lowest", "0 `··` 1"),
    "a single image next to many": ([1, 1_000_000], None, "lowest", "0 `▁█` 1"),
}


@pytest.mark.parametrize("case", BARS_CASES)
def test_bars_of_scores_in_a_line(case):
    counts, cut, label_first, expected = BARS_CASES[case]
    edges = np.linspace(0, 1, len(counts) + 1)
    assert score_bars(np.array(counts), edges, cut, label_first) == expected


def test_a_summary_has_only_what_the_ui_shows():
    assert summary(["a", None, "b"]).value == "a  \nb"
    assert len(summary(["x" * 600, "y" * 600, "z"]).value) == 600


def test_an_image_is_read_once_for_the_galleries_of_all_functions(
    materialize, write_predictions, monkeypatch, tmp_path
):
    write_images(tmp_path, 5)
    manifest = write_manifest(tmp_path / "m.csv", {f"image{n}": f"image{n}.png" for n in range(5)})
    read = []
    thumbnail = PictureProcess.thumbnail
    monkeypatch.setattr(
        PictureProcess,
        "thumbnail",
        lambda process, uri, seconds: (
            read.append(Path(uri).stem) or thumbnail(process, uri, seconds)
        ),
    )
    path = write_predictions(random_class_probs(5))
    done = materialize(pool(PredictionFiles(path, "parquet"), images=manifest))
    assert all("gallery" in done[key].metadata for key in CANDIDATES)
    assert sorted(read) == [f"image{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("uri", "located"),
    [
        ("a/b.png", "{folder}/a/b.png"),
        ("../b.png", "{folder}/../b.png"),
        ("/a/b.png", "/a/b.png"),
        ("s3://bucket/b.png", "s3://bucket/b.png"),
        ("file:///a/b.png", "file:///a/b.png"),
        ("C:\\a\\b.png", "C:\\a\\b.png"),
    ],
)
def test_only_relative_uris_start_from_the_folder(
    uri, located, materialize, write_predictions, tmp_path, monkeypatch
):
    sheets = []
    monkeypatch.setattr(
        gallery, "contact_sheet", lambda tiles, *_, **__: sheets.append(tiles) or b"png"
    )
    manifest = write_manifest(tmp_path / "manifest.csv", {"image0": uri})
    path = write_predictions([[0.5, 0.5]])
    materialize(
        pool(PredictionFiles(path, "parquet"), images=manifest, acquisition_functions=["margin"])
    )
    assert [tile.uri for tile in sheets[0]] == [located.format(folder=tmp_path)]


@pytest.mark.parametrize("uri", ["missing.png", "broken.png"])
def test_images_that_cannot_be_shown_do_not_fail_the_run(
    uri, materialize, write_predictions, tmp_path
):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not at all")
    manifest = write_manifest(tmp_path / "manifest.csv", {"image0": uri})
    done = materialize(
        pool(PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet"), images=manifest)
    )
    for key in CANDIDATES:
        assert picture(done[key].metadata["gallery"]).width > 0


@pytest.mark.parametrize("with_manifest", [False, True])
def test_a_pool_without_uris_says_how_to_get_a_gallery(
    with_manifest, materialize, write_predictions, tmp_path
):
    images = write_manifest(tmp_path / "m.csv", {"image0": None}) if with_manifest else None
    path = write_predictions([[0.5, 0.5]])
    done = materialize(pool(PredictionFiles(path, "parquet"), images=images))
    for key in CANDIDATES:
        assert "column uri" in done[key].metadata["gallery"].value


def test_boxes_are_those_of_the_objects_in_their_unit(materialize, tiles, tmp_path):
    write_images(tmp_path, 2)
    lines = [
        {"image_id": "image0", "bbox": [0.1, 0.2, 0.3, 0.4], "score": 0.3, "category": "car"},
        {
            "image_id": "image0",
            "bbox": [0.5, 0.5, 0.1, 0.1],
            "score": 0.6,
            "class_probs": [0.4, 0.6],
        },
    ]
    path = tmp_path / "objects.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    files = PredictionFiles(
        path,
        "jsonl",
        score_column="score",
        category_column="category",
        bbox_column="bbox",
        bbox_unit="relative",
        class_names=["car", "van"],
    )
    done = materialize(
        pool(
            files,
            task="detection",
            images=PoolImages(tmp_path, format="folder", image_id="stem"),
            acquisition_functions=["mean_object_score"],
        )
    )
    ((empty, seen),) = tiles
    assert (empty.image_id, empty.boxes) == ("image1", ())
    assert seen.bbox_unit == "relative"
    assert [(box.bbox, box.label, round(box.score, 6)) for box in seen.boxes] == [
        ((0.1, 0.2, 0.3, 0.4), "car", 0.3),
        ((0.5, 0.5, 0.1, 0.1), "van", 0.6),
    ]
    metadata = done["pool/labeling_candidates/mean_object_score"].metadata
    assert [row["reason"] for row in records(metadata["preview"])] == [
        "no objects",
        "worst of 2 objects: car 0.30",
    ]
    assert metadata["without_predictions"].value == 1
    by_class = records(done["pool/predictions"].metadata["by_class"])
    assert {row["class"]: row["predictions"] for row in by_class} == {"car": 1, "van": 1}


def test_comparisons_with_other_functions_and_the_former_ranking(
    materialize, write_predictions, query, tmp_path
):
    definitions = pool(PredictionFiles(tmp_path / "predictions.parquet", "parquet"), limit=50)

    def ranked(seed):
        write_predictions(random_class_probs(200, seed=seed))
        done = materialize(definitions)
        lists = {
            name: {
                image_id
                for (image_id,) in query(
                    "SELECT image_id FROM pool.labeling_candidates WHERE acquisition_function = ?",
                    name,
                )
            }
            for name in FUNCTIONS
        }
        return {
            name: done[f"pool/labeling_candidates/{name}"].metadata for name in FUNCTIONS
        }, lists

    first, before = ranked(0)
    second, after = ranked(1)
    for name in FUNCTIONS:
        assert "new_candidates" not in first[name]
        assert second[name]["new_candidates"].value == len(after[name] - before[name])
        assert second[name]["overlap_with_former"].value == pytest.approx(
            len(after[name] & before[name]) / 50
        )
        agreement = {
            row["acquisition_function"]: row["share"] for row in records(second[name]["agreement"])
        }
        assert agreement == pytest.approx(
            {other: len(after[name] & after[other]) / 50 for other in FUNCTIONS if other != name}
        )
        by_class = records(second[name]["by_predicted_class"])
        assert sum(row["candidates"] for row in by_class) == 50


def test_a_partition_is_compared_with_the_one_that_was_read_before(
    database, write_predictions, tmp_path
):
    keys = ["may", "june"]
    definitions = pool(
        PredictionFiles(f"{tmp_path}/{{partition_key}}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(keys),
    )
    write_predictions(random_class_probs(10), name="may.parquet")
    write_predictions(random_class_probs(8, seed=1), name="june.parquet")
    said = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for key in [*keys, "june"]:
            result = dg.materialize(
                definitions.assets,
                instance=instance,
                resources={"duckdb": DuckDBResource(database=str(database))},
                partition_key=key,
            )
            for event in result.get_asset_materialization_events():
                if event.materialization.asset_key.path[-1] == "margin":
                    said[key] = event.materialization.metadata
    assert "new_candidates" not in said["may"]
    assert said["june"]["former_ranking"].value == "prediction set may"
    assert said["june"]["new_candidates"].value == 0
    assert said["june"]["overlap_with_former"].value == 1


@pytest.mark.parametrize(
    ("rules", "name", "formula"),
    [
        ({}, "entropy", "-Σ p·log2 p, mean over the image's predictions, bits"),
        (
            {"inputs": "independent", "aggregation": "max"},
            "entropy",
            "-Σ (p·log2 p + (1-p)·log2(1-p)), max over the image's predictions, bits",
        ),
        (
            {"task": "detection", "inputs": "logits", "aggregation": "min"},
            "mean_object_score",
            "the detector's score or p(1), 0 for an image without objects, min over the image's predictions, probability",
        ),
    ],
)
def test_the_formula_is_the_one_that_was_computed(
    rules, name, formula, materialize, write_predictions, database, monkeypatch
):
    """In the lineage, in the asset's description, below the histogram and in the explanation."""
    labels = []
    monkeypatch.setattr(
        gallery, "score_histogram", lambda *_, score_label, **__: labels.append(score_label) or b""
    )
    definitions = pool(
        PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet"),
        acquisition_functions=[name],
        **rules,
    )
    key = f"pool/labeling_candidates/{name}"
    lineage = records(materialize(definitions)[key].metadata["lineage"])
    assert {"what": "formula", "value": formula} in lineage
    of_prediction, of_image, unit = formula.rsplit(", ", 2)
    assert labels == [f"{of_prediction}, {unit}"]
    (description,) = [
        str(spec.description)
        for asset in definitions.assets or ()
        for spec in asset.specs
        if spec.key.to_user_string() == key
    ]
    assert f"({of_prediction})" in description
    explained = explain_candidate(database, "image0", pool="pool").splitlines()
    assert f"  formula {of_prediction}, {of_image}" in explained


def test_the_share_of_labeled_images(materialize, write_predictions, tmp_path):
    uris = {f"image{number}": None for number in range(8)}
    manifest = write_manifest(tmp_path / "m.csv", uris, labeled=["image1", "image2"])
    path = write_predictions(random_class_probs(8))
    done = materialize(pool(PredictionFiles(path, "parquet"), images=manifest))
    for key in CANDIDATES:
        assert done[key].metadata["labeled_share"].value == 0.25


def test_columns_of_predictions_come_from_those_of_the_asset(materialize):
    table = pl.DataFrame({"id": ["a"], "p_x": [0.5], "p_y": [0.5]})
    upstream = dg.asset(name="upstream", io_manager_key="memory")(lambda: table)
    assets = dg.with_resources([upstream], {"memory": dg.mem_io_manager})
    source = PredictionAsset("upstream", image_id_column="id", class_column_prefix="p_")
    done = materialize(pool(source), others=assets)
    lineage = done["pool/predictions"].metadata["dagster/column_lineage"].value.deps_by_column
    assert {
        column: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
        for column, deps in lineage.items()
    } == {
        "image_id": [("upstream", "id")],
        "class_probs": [("upstream", "p_x"), ("upstream", "p_y")],
    }


def test_a_pool_in_python_refers_to_its_line():
    definitions = pool(PredictionFiles("p.csv", "csv"))
    for asset in definitions.assets or ():
        for spec in asset.specs:
            (place,) = spec.metadata["dagster/code_references"].code_references
            assert place.file_path == __file__
            line = Path(__file__).read_text("utf-8").splitlines()[place.line_number - 1]
            assert "active_learning_definitions(" in line


def test_metadata_that_leave_no_room_do_not_fail_a_ranking_that_is_done():
    tile = gallery.Tile(
        rank=1, image_id="image", uri="missing.png", score=0.5, predicted_class="class"
    )
    margin = ACQUISITION_FUNCTIONS["margin"]
    pictures = CandidatePictures([tile], ["class"], None, margin, margin.formula, 0.5)
    with gallery.Thumbnails(gallery.ImageRoots(())) as thumbnails:
        for size in (0, 80_000, 200_000):
            drawn = pictures.drawn({"summary": summary(["500"]), "text": "x" * size}, thumbnails)
            assert picture(drawn["gallery"]).width > 0


HOSTILE = ["x", "漢", "🦊", "\x00", "\u202e", '"', "<b>"]


@pytest.mark.slow
@pytest.mark.parametrize("character", ["\x00", "🦊"])
def test_an_event_stays_small_whatever_ids_and_classes_are(character, materialize, tmp_path):
    """Ids of 10,000 characters, 1,000 classes with long names, photos of noise, many files."""
    images, classes, files = 60, 1_000, 30
    noise = np.random.default_rng(0)
    uris = {}
    for number in range(images):
        path = tmp_path / f"{number}.png"
        Image.fromarray(noise.integers(0, 256, (120, 160, 3), np.uint8)).save(path)
        uris[character * 10_000 + str(number)] = str(path)
    ids = list(uris)
    pl.DataFrame({"image_id": ids, "uri": list(uris.values())}).write_parquet(
        tmp_path / "m.parquet"
    )
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    for number in range(files):
        part = ids[number::files]
        pl.DataFrame(
            {"image_id": part, "class_probs": random_class_probs(len(part), classes)}
        ).write_parquet(folder / f"{number}.parquet")
    source = PredictionFiles(
        folder / "*.parquet",
        "parquet",
        model=character * 10_000,
        class_names=[character * 500 + str(number) for number in range(classes)],
    )
    done = materialize(pool(source, images=tmp_path / "m.parquet"))
    for key, materialization in done.items():
        assert len(serialize_value(materialization)) < 100_000, key
    for key in CANDIDATES:
        assert picture(done[key].metadata["gallery"]).width > 0
        for value in done[key].metadata.values():
            if isinstance(value, dg.TableMetadataValue):
                assert len(value.records) <= 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image", "image"),
        ("**bold** <b>x</b> | `y` [z](w)", "**bold** <b>x</b> | `y` [z](w)"),
        ("line\nbreak\ttab", "line\\nbreak\\ttab"),
        ("nul\0", "nul\\x00"),
        ("turned\u202e", "turned\\u202e"),
        ("ä 漢 🦊", "ä 漢 🦊"),
    ],
)
def test_text_is_shown_as_it_is(text, expected):
    assert shown(text) == expected
    assert records(rows_table([{"cell": text}])) == [{"cell": expected}]


@pytest.mark.parametrize("character", HOSTILE)
@pytest.mark.parametrize("limit", [40, CELL_BYTES])
def test_long_text_keeps_its_ends(character, limit):
    text = shown("first" + character * 10_000 + "last", limit)
    assert len(json.dumps(text)) - 2 <= limit
    assert text.startswith("f")
    assert text.endswith("t")
    assert "…" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (1 / 3, 0.3333),
        (0.00012345678, 0.0001235),
        (1234.56789, 1234.5679),
        (7, 7),
        (True, True),
        (None, None),
    ],
)
def test_numbers_have_few_digits_and_no_nan(value, expected):
    assert records(rows_table([{"cell": value}])) == [{"cell": expected}]
