"""Any kind of image becomes the same small upright picture, or a reason why not."""

import contextlib
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from dagster_active_learning.gallery import thumbnails
from dagster_active_learning.gallery.not_shown import NotShownError
from dagster_active_learning.gallery.thumbnails import MAX_PIXELS, make_thumbnail

SIZE = (40, 30)
DARK, BRIGHT = (30, 20, 10), (250, 240, 200)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    content = BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def halves(mode: str, size=(80, 60)) -> Image.Image:
    """Dark on the left, bright on the right."""
    image = Image.new("RGB", size, DARK)
    image.paste(BRIGHT, (size[0] // 2, 0, *size))
    if mode in ("I;16", "I;16B", "I", "F"):
        # Twelve of 16 bits, as sensors have it.
        values = np.asarray(image.convert("L"), np.float64) * 16
        kinds = {"I;16": "<u2", "I;16B": ">u2", "I": "i4", "F": "f4"}
        return Image.fromarray(values.astype(kinds[mode]))
    if mode in ("LA", "La", "RGBa", "PA"):
        return image.convert("RGBA").convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    return image.convert(mode)


KINDS = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("JPEG2000", mode) for mode in ("L", "RGB", "RGBA")),
    *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(("GIF", mode) for mode in ("L", "P")),
    *(("PPM", mode) for mode in ("1", "L", "RGB")),
    *([("AVIF", "RGB")] if features.check("avif") else []),
]  # fmt: skip


@pytest.mark.parametrize(("format", "mode"), KINDS)
def test_every_kind_of_image_is_shown(format, mode):
    thumbnail = make_thumbnail(encoded(halves(mode), format), SIZE)
    picture = thumbnail.picture
    assert (picture.mode, picture.size) == ("RGB", SIZE)
    assert thumbnail.stored_size == (80, 60)
    pixels = np.asarray(picture, int)
    left, right = pixels[15, 8], pixels[15, 32]
    assert left.sum() < 120
    assert right.sum() > 600
    if mode in ("RGB", "RGBA", "P", "PA", "CMYK") and format != "GIF":
        assert np.abs(right - BRIGHT).max() < 16
        assert np.abs(left - DARK).max() < 16


@pytest.mark.parametrize(("format", "mode"), KINDS)
@pytest.mark.parametrize("size", [(160, 120), (237, 41), (1, 500), (500, 1)])
def test_an_image_is_the_same_in_one_strip_and_in_many(format, mode, size, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), np.uint8)
    image = Image.fromarray(noise, "RGBA").convert("L" if mode.startswith(("I", "F")) else "RGBA")
    if mode.startswith(("I", "F")):
        image = Image.fromarray(np.asarray(image).astype("f4" if mode == "F" else "<u2"))
    elif mode not in ("RGBA", "RGBa", "La", "PA"):
        image = image.convert("RGB").convert(mode)
    content = encoded(image, format)
    pictures = []
    for pixels in (10**9, 1, 1_000):
        monkeypatch.setattr(thumbnails, "_STRIP_PIXELS", pixels)
        pictures.append(make_thumbnail(content, SIZE).picture)
    assert pictures[0] == pictures[1] == pictures[2]


@pytest.mark.parametrize("resolutions", [1, 2, 4, 6])
@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"tile_size": (128, 128)}])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_jpeg_2000_image_is_the_same_however_many_sizes_it_has(resolutions, options, mode):
    gradient = np.add.outer(np.arange(600), np.arange(800))
    values = np.stack([gradient // 6, gradient[::-1] // 6, gradient // 12, gradient // 6], axis=-1)
    image = Image.fromarray(values.astype(np.uint8), "RGBA").convert(mode)
    content = encoded(image, "JPEG2000", num_resolutions=resolutions, **options)
    thumbnail = make_thumbnail(content, SIZE)
    assert thumbnail.stored_size == (800, 600)
    expected = make_thumbnail(encoded(image, "PNG"), SIZE).picture
    assert thumbnail.picture.size == expected.size
    difference = np.abs(np.asarray(thumbnail.picture, int) - np.asarray(expected, int))
    assert difference[1:-1, 1:-1].max() <= 4


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_greys_use_the_whole_range_wherever_they_lie(mode):
    values = np.linspace(500, 900, 80 * 60).reshape(60, 80)
    image = Image.fromarray(values.astype({"I;16": "<u2", "I": "i4", "F": "f4"}[mode]))
    shown = np.asarray(make_thumbnail(encoded(image, "TIFF"), (80, 60)).picture.convert("L"))
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown[:, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [(np.full((4, 4), 7.0), None), (np.array([[np.nan, 0], [1, np.inf]]), None), (np.full((4, 4), np.nan), "no finite value")],
)  # fmt: skip
def test_odd_floats_are_shown_or_have_a_reason(values, words):
    content = encoded(Image.fromarray(values.astype("f4")), "TIFF")
    if words is None:
        assert make_thumbnail(content, SIZE).picture.mode == "RGB"
    else:
        with pytest.raises(NotShownError, match=words):
            make_thumbnail(content, SIZE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "1"])
def test_what_is_transparent_shows_the_ground_behind(mode):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    options = (
        {}
        if mode in ("RGBA", "LA")
        else {"transparency": (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))}
    )
    shown = make_thumbnail(encoded(image, "PNG", **options), SIZE).picture
    assert ((np.asarray(shown) > 200) & (np.asarray(shown) < 240)).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), (1, 1)), ((8, 8), (8, 8)), ((1, 5000), (1, 30)), ((5000, 1), (40, 1)), ((400, 300), (40, 30)), ((41, 30), (40, 29))],
)  # fmt: skip
def test_pictures_are_reduced_in_proportion_and_never_enlarged(size, expected):
    thumbnail = make_thumbnail(encoded(Image.new("RGB", size), "PNG"), SIZE)
    assert thumbnail.picture.size == expected
    assert thumbnail.stored_size == size


BLOCK = (200, 20, 120, 60)
PHOTO = (640, 200)


def photo(orientation, format):
    """Black with a white block, stored so that a viewer has to turn it."""
    image = Image.new("RGB", PHOTO)
    image.paste((255, 255, 255), (BLOCK[0], BLOCK[1], BLOCK[0] + BLOCK[2], BLOCK[1] + BLOCK[3]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, format, exif=exif)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("unit", ["pixel", "relative"])
def test_pictures_and_boxes_are_upright(orientation, format, unit):
    content = photo(orientation, format)
    thumbnail = make_thumbnail(content, (160, 160))
    assert thumbnail.stored_size == PHOTO
    with Image.open(BytesIO(content)) as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    assert np.abs(
        np.asarray(upright.resize(thumbnail.picture.size), int) - np.asarray(thumbnail.picture)
    ).mean() < 3  # fmt: skip
    rows, columns = np.nonzero(np.asarray(upright.convert("L")) > 128)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    expected = np.array(found) / (*upright.size, *upright.size)
    box = (found[0], found[1], found[2] - found[0], found[3] - found[1])
    scale = upright.size * 2 if unit == "relative" else (1, 1, 1, 1)
    for image_size in (None, upright.size, (1, 2)):
        corners = thumbnail.corners(tuple(np.divide(box, scale)), unit, image_size)
        assert np.abs(expected - np.asarray(corners)).max() < 0.01
    if orientation >= 5:
        # The manifest has the size of the stored image: so its boxes are those of that image.
        scale = PHOTO * 2 if unit == "relative" else (1, 1, 1, 1)
        corners = thumbnail.corners(tuple(np.divide(BLOCK, scale)), unit, PHOTO)
        assert np.abs(expected - np.asarray(corners)).max() < 0.01


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_none(orientation):
    assert make_thumbnail(photo(orientation, "JPEG"), SIZE).orientation == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_image_with_broken_exif_data_is_shown():
    content = encoded(halves("RGB"), "JPEG", exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff broken")
    assert make_thumbnail(content, SIZE).picture.size == SIZE


BOXES = [
    ((10, 10, 20, 20), (0.1, 0.2, 0.3, 0.6)),
    ((-10, -10, 30, 20), (0, 0, 0.2, 0.2)),
    ((90, 40, 1e300, 50), (0.9, 0.8, 1, 1)),
    ((-1e9, -1e9, 3e9, 3e9), (0, 0, 1, 1)),
    ((200, 10, 20, 20), None),
    ((-30, 10, 20, 20), None),
    ((100, 0, 10, 10), None),
    ((10, 10, 0, 20), None),
    ((10, 10, -5, 20), None),
    ((float("nan"), 10, 20, 20), None),
    ((10, 10, float("inf"), 20), None),
]


@pytest.mark.parametrize(("bbox", "expected"), BOXES)
def test_boxes_are_cut_at_the_edges_of_the_image(bbox, expected):
    thumbnail = make_thumbnail(encoded(Image.new("L", (100, 50)), "PNG"), SIZE)
    assert thumbnail.corners(bbox, "pixel") == (expected and pytest.approx(expected))


@given(
    bbox=st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 4),
    orientation=st.integers(1, 8),
    unit=st.sampled_from(["pixel", "relative"]),
)
@settings(max_examples=200, deadline=None)
def test_any_numbers_are_a_box_inside_the_picture_or_none(bbox, orientation, unit):
    corners = make_thumbnail(photo(orientation, "PNG"), SIZE).corners(bbox, unit)
    if corners is not None:
        left, top, right, bottom = corners
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, rows: int, color: int = 0, channels: int = 1) -> bytes:
    """A PNG file that declares a size and holds so many black rows; made without the pixels."""
    # After a full flush nothing refers to what was before: each row is packed as the first one.
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    size = 1 + width * channels
    row = packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = size * rows % 65_521 << 16 | 1  # Adler-32 of zeros
    packed = b"\x78\xda" + row * rows + packer.flush() + struct.pack(">I", checksum)
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", packed)
        + png_chunk(b"IEND", b"")
    )


GOOD = encoded(halves("RGB"), "PNG")
NOISE = encoded(Image.effect_noise((200, 200), 80), "JPEG")

BROKEN = {
    "empty": (b"", "not an image"),
    "text": (b"hello, world", "not an image"),
    "only a signature": (GOOD[:8], "broken|not an image"),
    "cut in the header": (GOOD[:20], "broken|not an image"),
    "cut in the pixels": (GOOD[:100], "broken: "),
    "cut JPEG": (NOISE[: len(NOISE) // 2], "broken: .*truncated"),
    "bomb": (png_of(50_000, 50_000, rows=1), "too large"),
    "large bomb that is all there": (png_of(20_000, 20_000, rows=20_000), "too large"),
    "a little too large": (png_of(7_072, 7_072, rows=1), "too large: 7,072 x 7,072 pixels"),
    "no width": (png_of(0, 10, rows=1), "broken|not an image"),
    "runs a program in Pillow": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_image_has_a_reason(case):
    content, reason = BROKEN[case]
    with pytest.raises(NotShownError, match=reason):
        make_thumbnail(content, SIZE)


@given(
    start=st.sampled_from([GOOD, NOISE, photo(6, "TIFF"), photo(3, "WEBP"), encoded(halves("P"), "GIF")]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
    kept=st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_spoiled_files_are_shown_or_have_a_reason(start, changes, kept):
    content = bytearray(start[: int(len(start) * kept)])
    for place, value in changes:
        if content:
            content[int(place * len(content))] = value
    with contextlib.suppress(NotShownError):
        assert make_thumbnail(bytes(content), SIZE).picture.mode == "RGB"


def scans_of(side: int, scans: int) -> bytes:
    """A JPEG file of grey squares whose last scan is there many times."""
    content = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    scan, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:end] + content[scan:end] * scans + content[end:]


SLOW = {
    "progressive JPEG": (lambda: scans_of(3_000, 200), r"3,000 x 3,000 pixels in 20\d scans"),
    "small progressive JPEG": (lambda: scans_of(200, 30_000), "200 x 200 pixels in"),
    "plain PPM": (lambda: b"P3 1000 1000 255 " + b"10 " * 3_000_000, "takes too long"),
    "plain PGM": (lambda: b"P2 9 9 255 " + b"10 " * 3_000_000, "takes too long"),
    "PPM of odd depth": (lambda: b"P6 1500 1500 100 " + bytes(6_750_000), "takes too long"),
    "WebP": (lambda: webp_bomb(7_000), "7,000 x 7,000 pixels of WEBP"),
}


@pytest.mark.parametrize("case", SLOW)
def test_what_a_header_shows_to_take_long_is_not_decoded(case):
    make, reason = SLOW[case]
    content = make()
    started = time.process_time()
    with pytest.raises(NotShownError, match=f"too large: .*{reason}"):
        make_thumbnail(content, SIZE)
    assert time.process_time() - started < 0.5


SHOWN = {
    "progressive JPEG": lambda: encoded(halves("RGB", (4_000, 3_000)), "JPEG", progressive=True),
    "progressive JPEG of many scans": lambda: scans_of(1_000, 50),
    "plain PPM": lambda: b"P3 80 60 255 " + b"10 " * (80 * 60 * 3),
    "PPM of odd depth": lambda: b"P6 80 60 100 " + bytes(80 * 60 * 3),
    "WebP": lambda: encoded(halves("RGB", (3_000, 2_000)), "WEBP"),
}


@pytest.mark.parametrize("case", SHOWN)
def test_ordinary_images_of_slow_kinds_are_shown(case):
    assert make_thumbnail(SHOWN[case](), SIZE).picture.mode == "RGB"


def test_of_an_animation_the_first_frame_is_shown():
    frames = [Image.new("RGB", (20, 20), color) for color in ((255, 0, 0), (0, 255, 0))]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert make_thumbnail(content, SIZE).picture.getpixel((9, 9)) == (255, 0, 0)


def peak_megabytes(content: bytes, path) -> float:
    """How far decoding lifts the memory of a process of its own."""
    path.write_bytes(content)
    code = """
        import re, sys, warnings
        from io import BytesIO
        from PIL import Image
        from dagster_active_learning.gallery.not_shown import NotShownError
        from dagster_active_learning.gallery.thumbnails import make_thumbnail

        def peak():  # ru_maxrss would be that of the process that started this one
            return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

        warnings.simplefilter("ignore")
        small = BytesIO()
        Image.new("RGBA", (9, 9)).save(small, "PNG")
        make_thumbnail(small.getvalue(), (40, 30))
        content = open(sys.argv[1], "rb").read()
        before = peak()
        try:
            make_thumbnail(content, (40, 30))
        except NotShownError:
            pass
        print((peak() - before) / 1024)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], check=True, capture_output=True
    )
    return float(run.stdout)


def webp_bomb(side=16_384) -> bytes:
    """A WebP animation that declares very many pixels and has small frames."""
    content = bytearray(
        encoded(Image.new("RGB", (16, 16)), "WEBP", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])
    )  # fmt: skip
    at = content.index(b"VP8X") + 12
    content[at : at + 6] = (side - 1).to_bytes(3, "little") * 2
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", ["bomb", "large bomb that is all there", "animation"])
def test_a_bomb_takes_no_memory(case, tmp_path):
    content = webp_bomb() if case == "animation" else BROKEN[case][0]
    assert len(content) < 1_000_000
    with pytest.raises(NotShownError, match="too large"):
        make_thumbnail(content, SIZE)
    assert peak_megabytes(content, tmp_path / "bomb") < 50


@pytest.mark.slow
@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_the_largest_image_that_is_decoded_takes_what_the_limit_says(color, channels, tmp_path):
    side = int(MAX_PIXELS**0.5)
    content = png_of(side, side, side, color, channels)
    assert make_thumbnail(content, SIZE).stored_size == (side, side)
    assert peak_megabytes(content, tmp_path / "largest") < 300
