"""A sheet shows what it is given, stays below its limit, and nothing about an image stops it."""

import os
import time
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from dagster_active_learning.gallery import (
    MAX_OBJECTS,
    Box,
    ImageRoots,
    Thumbnails,
    Tile,
    contact_sheet,
    contact_sheets,
)
from dagster_active_learning.gallery.class_colors import CLASS_COLORS
from dagster_active_learning.gallery.contact_sheets import MAX_TILES, MIN_BYTES
from dagster_active_learning.gallery.picture_process import PictureProcess
from dagster_active_learning.gallery.sheet import Layout, draw_sheet

# Where the picture of the first tile is, and the size of its room.
LEFT, TOP = 12, 12
STAGE = (156, 117)
STAGE_COLOR = (230, 231, 234)
FIRST_COLOR, SECOND_COLOR = CLASS_COLORS[:2]


ANYWHERE = ImageRoots(["/"])


@pytest.fixture(scope="module")
def thumbnails():
    """The pictures of files that no test writes again: a process for each sheet takes time."""
    with Thumbnails(ANYWHERE, seconds=600) as thumbnails:
        yield thumbnails


@pytest.fixture(scope="module")
def sheet(thumbnails):
    """The pixels of a sheet of tiles, (height, width, 3)."""

    def draw(*tiles, max_bytes=45_000, class_names=()) -> np.ndarray:
        content = contact_sheet(tiles, thumbnails, class_names=class_names, max_bytes=max_bytes)
        assert len(content) <= max_bytes
        return pixels_of(content)

    return draw


def pixels_of(content) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), int)


def stage(pixels) -> np.ndarray:
    return pixels[TOP : TOP + STAGE[1], LEFT : LEFT + STAGE[0]]


def near(pixels, color, distance=12) -> np.ndarray:
    return np.abs(pixels - color).max(axis=-1) <= distance


def saved(folder, image, name="image.png", **options) -> str:
    image.save(folder / name, **options)
    return str(folder / name)


def tile(uri, **values) -> Tile:
    return Tile(**{"rank": 1, "image_id": "image", "uri": uri, **values})


def test_a_tiny_image_is_enlarged_pixel_by_pixel(sheet, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    pixels = stage(sheet(tile(saved(tmp_path, Image.fromarray(values)))))
    # 14 times as large is as large as it can be, in the middle.
    shown = pixels[2 : 2 + 112, 22 : 22 + 112].reshape(8, 14, 8, 14, 3)
    # Nearly exact: Pillow searches a palette for near colors.
    assert np.abs(shown - values[:, None, :, None, None]).max() <= 8
    assert (pixels[5:, 1:21] == STAGE_COLOR).all()


def test_a_photo_fills_its_room(sheet, tmp_path):
    pixels = stage(sheet(tile(saved(tmp_path, Image.new("RGB", (2000, 1500), (40, 90, 160))))))
    assert near(pixels[3:, 3:-3], (40, 90, 160)).all()


def test_boxes_are_drawn_where_the_objects_are(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))
    boxes = (
        Box(bbox=(60, 80, 100, 60)),
        Box(bbox=(200, 20, 40, 180), label="a class with a long name"),
    )
    for unit, scale in (("pixel", (1, 1, 1, 1)), ("relative", (312, 234, 312, 234))):
        scaled = tuple(
            Box(bbox=tuple(np.divide(box.bbox, scale)), label=box.label) for box in boxes
        )
        names = ["another class", "a class with a long name"]
        pixels = stage(sheet(tile(uri, boxes=scaled, bbox_unit=unit), class_names=names))
        for color, (x, y, width, height) in (
            (FIRST_COLOR, boxes[0].bbox),
            (SECOND_COLOR, boxes[1].bbox),
        ):
            rows, columns = np.nonzero(near(pixels, color))
            found = (columns.min(), rows.min(), columns.max(), rows.max())
            expected = (x / 2, y / 2, (x + width) / 2, (y + height) / 2)
            assert np.abs(np.subtract(found, expected)).max() <= 1.5
        # A box is a frame: inside it the image is seen.
        assert near(pixels[45:65, 35:75], (255, 255, 255)).all()


@pytest.mark.parametrize(
    ("bbox", "drawn"),
    [
        ((-50, -50, 100, 100), True),
        ((250, 200, 1e9, 1e9), True),
        ((400, 0, 50, 50), False),
        ((0, -60, 50, 50), False),
        ((10, 10, 0, 50), False),
        ((float("nan"), 0, 50, 50), False),
    ],
)
def test_boxes_do_not_leave_the_picture(sheet, tmp_path, bbox, drawn):
    uri = saved(tmp_path, Image.new("RGB", (300, 300), "white"))
    without = sheet(tile(uri))
    pixels = sheet(tile(uri, boxes=(Box(bbox=bbox),)))
    assert near(pixels, FIRST_COLOR).any() == drawn
    outside = np.ones(pixels.shape[:2], bool)
    # The picture is as high as its room and stands in the middle of it.
    outside[TOP : TOP + 117, LEFT + 19 : LEFT + 19 + 118] = False
    assert near(pixels, without, 8)[outside].all()


def test_class_and_score_of_a_box_are_written_where_there_is_room(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))

    def colored(width, **values):
        box = Box(bbox=(40, 60, width, 100), **values)
        pixels = stage(sheet(tile(uri, boxes=(box,)), class_names=["zebra"]))
        return near(pixels, FIRST_COLOR).sum()

    frame = colored(220)
    whole, name, score = (
        colored(220, label="zebra", score=0.5) - frame,
        colored(220, label="zebra") - frame,
        colored(220, score=0.5) - frame,
    )
    assert whole > name > 100
    assert whole > score > 100
    assert colored(60, label="zebra", score=0.5) - colored(60) == pytest.approx(score, abs=30)
    assert colored(10, label="zebra", score=0.5) == colored(10)


def test_of_very_many_boxes_the_first_are_drawn(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))
    many = tuple(Box(bbox=(10, 10, 40, 40)) for _ in range(MAX_OBJECTS))
    last = Box(bbox=(200, 100, 60, 60), label="last")
    names = ["first", "last"]

    def has_last(*boxes):
        pixels = stage(sheet(tile(uri, boxes=boxes), class_names=names))
        return near(pixels, SECOND_COLOR).any()

    assert not has_last(*many, last)
    assert has_last(*many[1:], last)


@pytest.mark.parametrize("position", range(len(CLASS_COLORS)))
def test_a_class_has_the_color_of_its_position_on_every_sheet(sheet, tmp_path, position):
    """Whatever else is on the sheet, in its boxes and beside its name."""
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))
    names = [f"class {number}" for number in range(len(CLASS_COLORS))]
    mine = Box(bbox=(20, 20, 100, 100), label=names[position])
    other = Box(bbox=(150, 20, 100, 100), label=names[position - 1])
    for boxes in ((mine,), (other, mine)):
        assert near(
            stage(sheet(tile(uri, boxes=boxes), class_names=names)), CLASS_COLORS[position]
        ).any()
    captions = sheet(tile(uri, predicted_class=names[position]), class_names=names)
    assert near(captions, CLASS_COLORS[position]).sum() >= 64


def test_a_tile_that_stands_for_others_says_so(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))
    alone, one_of_many = (
        sheet(tile(uri, predicted_class=None, stands_for=words)) for words in (None, "+ 27 more")
    )
    assert (stage(alone) == stage(one_of_many)).all()
    assert (alone != one_of_many).any()


def test_the_number_of_objects_is_that_of_all(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))
    given = tuple(Box(bbox=(10, 10, 40, 40)) for _ in range(MAX_OBJECTS + 1))
    whole = sheet(tile(uri, boxes=given))
    assert (whole == sheet(tile(uri, boxes=given[:-1], object_count=len(given)))).all()
    assert (whole != sheet(tile(uri, boxes=given[:-1], object_count=200_000))).any()
    assert (whole != sheet(tile(uri, boxes=given[:-1]))).any(), "100 of 101 objects"


def test_of_a_million_boxes_only_those_that_are_drawn_are_looked_at(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("RGB", (312, 234), "white"))
    boxes = tuple(Box(bbox=(n % 300, n % 200, 9, 9), label=str(n)) for n in range(MAX_OBJECTS))
    started = time.process_time()
    sheet(tile(uri, boxes=boxes))
    few = time.process_time() - started
    started = time.process_time()
    sheet(tile(uri, boxes=boxes * 10_000))
    assert time.process_time() - started < few * 3 + 0.2


def test_a_tile_does_not_say_its_uri():
    assert "secret" not in repr(tile("https://user:secret@host/a.png?key=secret"))


@pytest.mark.parametrize("columns", [6, 12])
@pytest.mark.parametrize(
    "change",
    [{"rank": 2}, {"predicted_class": "b"}, {"predicted_class": None}, {"score": 0.5}, {"score": None}, {"image_id": "other"}],
)  # fmt: skip
def test_what_is_known_about_an_image_is_written_under_it(columns, change):
    layout = Layout(columns)
    given = {"rank": 1, "image_id": "image", "predicted_class": "a", "score": 0.25}
    one, other = (
        pixels_of(draw_sheet([tile(None, **values)], ["not shown"], layout, 16, {}))
        for values in (given, given | change)
    )
    changed, places = np.nonzero((one != other).any(axis=-1))
    assert changed.size
    assert TOP + layout.stage[1] <= changed.min() <= changed.max() < TOP + layout.tile_height
    assert LEFT <= places.min() <= places.max() < LEFT + layout.tile_width


HOSTILE = [
    "", "\n" * 50, "x" * 10_000, "\U0001f984" * 500, "\u202egnp.exe", "a\0b", "\ud800", "<script>", "$\\frac{1}{0}$",
    "q" + "\u0301" * 5000, "שלום", "ﷺ" * 100, "\u2029",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:9]))
def test_names_do_not_leave_their_tile(sheet, tmp_path, name):
    uri = saved(tmp_path, Image.new("RGB", (40, 30), "white"))
    boxes = (Box(bbox=(0, 0, 40, 30), label=name, score=0.5),)
    pixels = sheet(tile(uri, image_id=name, predicted_class=name, boxes=boxes))
    plain = sheet(tile(uri))
    rows, columns = np.nonzero((np.abs(pixels - plain) > 8).any(axis=-1))
    assert LEFT <= columns.min() <= columns.max() < LEFT + STAGE[0]
    assert TOP <= rows.min() <= rows.max() < TOP + STAGE[1] + 42


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of all sorts, and what only looks like one."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    saved(folder, Image.fromarray(noise), "noise.png")
    saved(folder, Image.fromarray(noise[:8, :8, 0]), "tiny.png")
    saved(folder, Image.new("RGB", (1, 1), "red"), "one.png")
    saved(folder, Image.new("RGB", (1, 5000), "red"), "thin.png")
    saved(folder, Image.fromarray(noise).convert("CMYK"), "cmyk.jpg")
    saved(folder, Image.fromarray(noise).convert("RGBA"), "alpha.webp")
    (folder / "cut.png").write_bytes((folder / "noise.png").read_bytes()[:5000])
    (folder / "text.png").write_text("no image")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    names = sorted(os.listdir(folder))
    return [*(str(folder / name) for name in names), str(folder / "missing.png"), "x://y", "", None]


numbers = st.none() | st.floats() | st.floats(0, 1)
names = st.none() | st.sampled_from(HOSTILE) | st.text(max_size=30)


@st.composite
def any_tile(draw, files):
    box = st.builds(
        Box,
        bbox=st.tuples(*[st.floats() | st.floats(-100, 500)] * 4),
        label=names,
        score=numbers,
    )
    return Tile(
        rank=draw(st.integers(1, 10**12)),
        image_id=draw(st.sampled_from(HOSTILE) | st.text()),
        uri=draw(st.sampled_from(files)),
        score=draw(numbers),
        predicted_class=draw(names),
        boxes=tuple(draw(st.lists(box, max_size=5))),
        bbox_unit=draw(st.sampled_from(["pixel", "relative"])),
    )


@given(data=st.data(), max_bytes=st.sampled_from([MIN_BYTES, 20_000, 45_000]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_tiles_are_a_valid_png_below_the_limit(files, thumbnails, data, max_bytes):
    tiles = data.draw(st.lists(any_tile(files), max_size=14))
    content = contact_sheet(tiles, thumbnails, max_bytes=max_bytes)
    assert len(content) <= max_bytes
    with Image.open(BytesIO(content)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width <= 1000


@pytest.mark.parametrize("uri", ["missing.png", "text.png", "cut.png", "folder.png", "pipe.png"])
def test_an_image_that_cannot_be_shown_says_so_in_its_place(sheet, files, uri):
    path = next(file for file in files if file and file.endswith(uri))
    pixels = stage(sheet(tile(path)))
    assert near(pixels, (150, 60, 48), 30).sum() > 100, "the reason, in letters"
    assert near(pixels, STAGE_COLOR, 4).mean() > 0.7


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 parts of two photos, and 24 images of noise, which nothing makes small."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    parts, noise = [], []
    for number in range(24):
        photo = load_sample_image(("china.jpg", "flower.jpg")[number % 2])
        top, left = random.integers(0, (187, 320))
        part = Image.fromarray(photo[top : top + 240, left : left + 320])
        parts.append(tile(saved(folder, part, f"{number}.jpg")))
        pixels = random.integers(0, 256, (240, 320, 3), np.uint8)
        noise.append(tile(saved(folder, Image.fromarray(pixels), f"{number}.png")))
    return {"photos": parts, "noise": noise}


@pytest.mark.parametrize(
    ("images", "max_bytes", "columns"),
    [
        ("photos", 1_000_000, 6),
        ("photos", 90_000, 8),
        ("photos", 54_000, 10),
        ("photos", 45_000, 12),
        ("noise", 1_000_000, 6),
        ("noise", 350_000, 6),
        ("noise", 110_000, 10),
    ],
)
def test_of_24_images_all_are_shown_however_small(sheet, photos, images, max_bytes, columns):
    pixels = sheet(*photos[images], max_bytes=max_bytes)
    assert pixels.shape[1::-1] == Layout(columns).sheet_size(24)


def test_the_last_are_left_out_where_there_is_no_room_for_all(sheet, photos):
    heights = [sheet(*photos["noise"], max_bytes=size).shape[0] for size in (50_000, 20_000)]
    rows = [Layout(12).sheet_size(12 * count)[1] + 16 for count in (2, 1)]
    assert heights == rows, "a line says how many there are"


def test_a_file_is_read_once_for_all_sheets(photos, monkeypatch):
    read = []
    thumbnail = PictureProcess.thumbnail
    monkeypatch.setattr(
        PictureProcess,
        "thumbnail",
        lambda process, uri, seconds: read.append(uri) or thumbnail(process, uri, seconds),
    )
    tiles = [*photos["photos"][:5], tile("missing.png")]
    with Thumbnails(ANYWHERE) as thumbnails, Thumbnails(ANYWHERE) as others:
        sheets = {contact_sheet(tiles, thumbnails, max_bytes=45_000) for _ in range(3)}
        assert sheets == {contact_sheet(tiles, others, max_bytes=45_000)}
    assert read == [one.uri for one in tiles] * 2


@pytest.mark.parametrize(
    ("images", "max_bytes", "times"),
    [("photos", 1_000_000, 1), ("photos", 54_000, 3), ("noise", 54_000, 4)],
)
def test_a_sheet_is_drawn_few_times_and_colors_are_found_in_few_pixels(
    sheet, photos, images, max_bytes, times, monkeypatch
):
    drawn, sampled = [], []
    draw, quantize = contact_sheets.draw_sheet, Image.Image.quantize

    def counted(image, *arguments, palette=None, **options):
        if palette is None:
            sampled.append(image.width * image.height)
        return quantize(image, *arguments, palette=palette, **options)

    monkeypatch.setattr(
        contact_sheets, "draw_sheet", lambda *given: drawn.append(given) or draw(*given)
    )
    monkeypatch.setattr(Image.Image, "quantize", counted)
    sheet(*photos[images], max_bytes=max_bytes)
    assert len(drawn) <= times
    assert max(sampled) < 10_000


def test_tiles_beyond_the_most_are_not_read(sheet, tmp_path):
    uri = saved(tmp_path, Image.new("L", (8, 8)))
    pipe = tmp_path / "x"
    full, more = (
        sheet(*[tile(uri)] * MAX_TILES, *[tile(str(pipe))] * count) for count in (0, 100_000)
    )
    assert more.shape[0] == full.shape[0] + 16, "a line that says how many there are"


def test_no_tiles_are_a_sheet_that_says_so(sheet):
    assert len(np.unique(sheet().reshape(-1, 3), axis=0)) > 2


def test_the_same_tiles_are_the_same_bytes(files):
    tiles = [tile(file, score=0.5, boxes=(Box(bbox=(1, 1, 50, 50), label="a"),)) for file in files]
    with Thumbnails(ANYWHERE) as first, Thumbnails(ANYWHERE) as second:
        sheets = {contact_sheet(tiles, each, max_bytes=45_000) for each in (first, second)}
    assert len(sheets) == 1


def test_a_limit_that_no_sheet_can_keep_is_refused():
    with pytest.raises(ValueError, match="max_bytes is 100, expected at least"):
        contact_sheet([], Thumbnails(ANYWHERE), max_bytes=100)
