"""No file and no server holds up a step, fills its memory, or leaves anything behind."""

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from dagster_active_learning.gallery import ImageRoots, Thumbnails, picture_process, pictures
from dagster_active_learning.gallery.picture_process import MEMORY_BYTES, PictureProcess
from dagster_active_learning.gallery.thumbnails import Thumbnail
from websites import website

BLUE = (30, 60, 200)


@pytest.fixture
def good(tmp_path) -> str:
    Image.new("RGB", (80, 60), BLUE).save(tmp_path / "good.png")
    return str(tmp_path / "good.png")


@pytest.fixture
def processes(monkeypatch):
    """The processes that were started."""
    started, popen = [], subprocess.Popen

    def start(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(picture_process.subprocess, "Popen", start)
    return started


@pytest.fixture
def silent():
    """Addresses of servers that take a request and never answer, and how often they were asked."""
    servers = [socket.create_server(("127.0.0.1", 0), backlog=50) for _ in range(5)]
    yield [f"http://127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()


def is_good(made) -> bool:
    return isinstance(made, Thumbnail) and made.picture.getpixel((5, 5)) == BLUE


def test_pictures_are_those_of_the_files(good, tmp_path, processes):
    values = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "noise.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 200), BLUE).save(tmp_path / "turned.jpg", exif=exif)
    with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
        assert is_good(thumbnails.of(good))
        noise = thumbnails.of(str(tmp_path / "noise.png"))
        assert (np.asarray(noise.picture) == values).all()
        turned = thumbnails.of(f"file://{tmp_path}/turned.jpg")
        assert (turned.stored_size, turned.orientation) == ((640, 200), 6)
        assert turned.picture.width < turned.picture.height <= pictures.LARGEST[1]
        assert thumbnails.of(good) is thumbnails.of(good)
        assert thumbnails.of(str(tmp_path / "missing.png")) == "no such file"
        assert is_good(thumbnails.of(good))
    assert len(processes) == 1, "one for all of them"


@pytest.mark.parametrize("uri", [None, ""])
def test_without_a_uri_nothing_is_started(uri, processes):
    with Thumbnails(ImageRoots(["/"])) as thumbnails:
        assert thumbnails.of(uri) == "the pool's manifest has no uri for it"
    assert not processes


def test_what_is_outside_of_the_roots_is_not_shown(good, tmp_path):
    (tmp_path / "pool").mkdir()
    with Thumbnails(ImageRoots([tmp_path / "pool"])) as thumbnails:
        assert thumbnails.of(good) == "outside of the manifest's folder and of image_roots"
        assert (
            thumbnails.of("http://127.0.0.1/a.png") == "outside of image_roots: http://127.0.0.1/…"
        )


def test_a_path_is_read_as_it_was_written_whatever_is_in_it(tmp_path):
    names = ["a\nb.png", "\udcff.png", "кот 人.png", "%41#?.png", "x::y.png", '"{}.png']
    for name in names:
        Image.new("RGB", (80, 60), BLUE).save(tmp_path / "saved.png")
        os.rename(tmp_path / "saved.png", tmp_path / name)
    with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
        assert all(is_good(thumbnails.of(str(tmp_path / name))) for name in names)


def test_a_server_that_does_not_answer_is_waited_for_once(
    silent, good, tmp_path, processes, monkeypatch
):
    monkeypatch.setattr(picture_process, "READ_SECONDS", 1.0)
    with Thumbnails(ImageRoots([tmp_path, *silent])) as thumbnails:
        assert is_good(thumbnails.of(good))
        started = time.monotonic()
        reasons = [thumbnails.of(f"{silent[0]}/{n}.png?key=secret") for n in range(100)]
        assert 0.9 < time.monotonic() - started < 4
        assert reasons[0] == "not read in time"
        assert set(reasons[1:]) == {f"not read in time, as another file of {silent[0]}"}
        # What is elsewhere is read, by a new process.
        Image.new("RGB", (80, 60), BLUE).save(tmp_path / "other.png")
        assert is_good(thumbnails.of(str(tmp_path / "other.png")))
    assert len(processes) == 2


def test_one_budget_is_for_all_servers(silent, good, tmp_path, processes):
    started = time.monotonic()
    with Thumbnails(ImageRoots([tmp_path, *silent]), seconds=2) as thumbnails:
        reasons = [thumbnails.of(f"{server}/{n}.png") for n in range(20) for server in silent]
        reasons.append(thumbnails.of(good))
    assert time.monotonic() - started < 6
    assert "not read: the time for pictures is over" in reasons
    assert reasons[-1] == "not read: the time for pictures is over"
    assert all(isinstance(reason, str) for reason in reasons)


def test_time_that_is_not_for_pictures_is_not_counted(good, tmp_path):
    with Thumbnails(ImageRoots([tmp_path]), seconds=20) as thumbnails:
        left = thumbnails._seconds_left
        time.sleep(0.5)
        thumbnails.of(good)
        after = thumbnails._seconds_left
        thumbnails.of(good)
        assert thumbnails._seconds_left <= after
        assert left - after < 5
        thumbnails._seconds_left = 0
        assert is_good(thumbnails.of(good)), "it is there already"


def test_a_server_that_drips_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_process, "READ_SECONDS", 1.0)
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip():
        while not ended.is_set():
            connection, _ = server.accept()
            connection.settimeout(5)
            try:
                request = connection.recv(10_000)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"
                )
                while request.startswith(b"GET") and not ended.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    started = time.monotonic()
    with Thumbnails(ImageRoots([address])) as thumbnails:
        assert thumbnails.of(f"{address}/a.png") == "not read in time"
    assert time.monotonic() - started < 5
    ended.set()
    with socket.create_connection(server.getsockname()):
        thread.join(5)
    server.close()


def test_nothing_is_left_behind(silent, good, tmp_path, processes, monkeypatch):
    monkeypatch.setattr(picture_process, "READ_SECONDS", 0.5)

    def left():
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    before = left()
    for _ in range(2):
        with Thumbnails(ImageRoots([tmp_path, *silent])) as thumbnails:
            for uri in (good, str(tmp_path / "broken.png"), f"{silent[0]}/a.png", f"{silent[1]}/a"):
                thumbnails.of(uri)
    assert left() == before
    assert len(processes) == 2 * 2
    for process in processes:
        assert process.returncode is not None
        assert not Path(f"/proc/{process.pid}").exists()


def test_an_error_in_the_step_ends_the_process(good, tmp_path, processes):
    def step():
        with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
            thumbnails.of(good)
            raise KeyError

    with pytest.raises(KeyError):
        step()
    assert processes[0].returncode is not None


def test_a_website_is_read(good, tmp_path):
    with website(tmp_path) as address, Thumbnails(ImageRoots([address])) as thumbnails:
        assert is_good(thumbnails.of(f"{address}/good.png"))
        assert thumbnails.of(f"{address}/none.png?key=secret") == "no such file"


def test_only_so_many_pictures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_KEPT", 3)
    uris = []
    for number in range(5):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
        uris.append(str(tmp_path / f"{number}.png"))
    with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
        made = [thumbnails.of(uri) for uri in uris]
        assert thumbnails.of(uris[4]) is made[4]
        assert thumbnails.of(uris[0]) is not made[0]
        assert thumbnails.of(uris[0]).picture == made[0].picture
        assert len(thumbnails._made) == 3


# Files that take long or much memory ---------------------------------------------------------


def encoded(image: Image.Image, format: str, **options) -> bytes:
    content = BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def progressive_jpeg(side: int, scans: int) -> bytes:
    """A grey JPEG file whose last scan, which says nothing new, is there many times."""
    content = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=50)
    scan, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:end] + content[scan:end] * scans + content[end:]


def separate_scans_jpeg(scans: int) -> bytes:
    """A JPEG file of the plain kind, with a scan for each channel, which are there many times."""
    content = progressive_jpeg(5_000, 0)
    start = content.index(b"\xff\xc2")
    return content[:start] + b"\xff\xc0" + content[start + 2 :] + b"\xff\xda" * scans


def tiff(tags: dict, data: bytes = b"") -> bytes:
    """A TIFF file with tags: (type, values)."""
    sizes = {3: ("H", 2), 4: ("I", 4)}
    body, entries = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, values = tags[tag]
        code, size = sizes[kind]
        packed = (
            values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{code}", *values)
        )
        entry = struct.pack("<HHI", tag, kind, len(packed) // size)
        if len(packed) <= 4:
            entry += packed.ljust(4, b"\0")
        else:
            entry += struct.pack("<I", start + len(body))
            body += packed
        entries += entry
    offset = start + len(body)
    header = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return (header + body + data).replace(b"OFFS", struct.pack("<I", offset))


def tiff_of_one_strip(
    width: int, height: int, data: bytes, compression: int, bits: int = 8
) -> bytes:
    return tiff(
        {
            256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [compression]), 262: (3, [1]),
            273: (4, b"OFFS"), 277: (3, [1]), 278: (4, [height]), 279: (4, [len(data)]),
        },
        data,
    )  # fmt: skip


def tiff_of_many_strips(count: int) -> bytes:
    return tiff(
        {
            256: (4, [1]), 257: (4, [count]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]),
            273: (4, bytes(4 * count)), 277: (3, [1]), 278: (4, [1]), 279: (4, b"\1\0\0\0" * count),
        },
    )  # fmt: skip


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    chunks: bytes, width: int = 8, height: int = 8, depth: int = 8, color: int = 0, interlaced=0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + png_chunk(b"IEND", b"")


def webp_animation(width: int, height: int) -> bytes:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = content.index(b"VP8X") + 12
    content[at : at + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


def gif(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def jpeg_2000(width: int, height: int) -> bytes:
    """A small JPEG 2000 file that says that it is large."""
    content = bytearray(encoded(Image.new("RGB", (64, 64)), "JPEG2000", no_jp2=True))
    at = content.index(b"\xff\x51") + 6
    content[at : at + 8] = struct.pack(">II", width, height)
    tile = at + 16
    content[tile : tile + 8] = struct.pack(">II", width, height)
    return bytes(content)


def avif(width: int, height: int) -> bytes:
    """A small AVIF file that says that it is large."""
    content = encoded(Image.new("RGB", (64, 64)), "AVIF")
    small, large = struct.pack(">II", 64, 64), struct.pack(">II", width, height)
    assert small in content
    return content.replace(small, large)


def solid(mode: str, side: int, format: str, **options) -> bytes:
    return encoded(Image.new(mode, (side, side)), format, **options)


ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))

BOMBS = {
    "progressive JPEG": lambda: progressive_jpeg(7_000, 200),
    "progressive JPEG of few scans": lambda: progressive_jpeg(7_000, 12),
    "progressive JPEG of few pixels": lambda: progressive_jpeg(500, 20_000),
    "JPEG with scans that are none": lambda: separate_scans_jpeg(10_000),
    "plain PPM": lambda: b"P3 1000 1000 255 " + b"10 " * 3_000_000,
    "plain PGM": lambda: b"P2 3000 1000 255 " + b"1 " * 3_000_000,
    "plain PBM": lambda: b"P1 3000 3000 " + b"1" * 9_000_000,
    "plain PPM of comments": lambda: b"P3 10 10 255 " + b"#" * 30_000_000,
    "plain PPM of lines of comments": lambda: b"P3 10 10 255 " + b"#\n" * 15_000_000,
    "PPM with a header of comments": lambda: b"P6 #" + b"#" * 30_000_000,
    "PPM of odd depth": lambda: b"P6 4000 4000 100 " + bytes(48_000_000),
    "BMP in runs": lambda: bmp_runs(7_000, 7_000),
    "PNG with alpha": lambda: solid("RGBA", 7_000, "PNG"),
    "PNG with 16 bits": lambda: solid("I;16", 7_000, "PNG"),
    "PNG with a palette": lambda: solid("P", 7_000, "PNG"),
    "PNG that is too large": lambda: solid("RGB", 10_000, "PNG"),
    "PNG text": lambda: png(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(500_000_000), 9))),
    "PNG profile": lambda: png(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(500_000_000), 9))),
    "PNG of many chunks": lambda: png(png_chunk(b"tEXt", b"a\0b") * 1_000_000),
    "TIFF strip": lambda: tiff_of_one_strip(7_000, 7_000, zlib.compress(bytes(49_000_000)), 8),
    "TIFF strip that is too long": lambda: tiff_of_one_strip(10, 10, zlib.compress(bytes(900_000_000)), 8),
    "TIFF strip that is too large": lambda: tiff_of_one_strip(60_000, 60_000, zlib.compress(bytes(9_000_000)), 8),
    "TIFF of floats": lambda: solid("F", 5_000, "TIFF", compression="tiff_deflate"),
    "TIFF of many strips": lambda: tiff_of_many_strips(7_000_000),
    "GIF": lambda: gif(65_535, 65_535),
    "GIF in the limit": lambda: gif(7_000, 7_000),
    "WebP": lambda: webp_animation(16_383, 16_383),
    "WebP in the limit": lambda: webp_animation(7_000, 7_000),
    "WebP without loss": lambda: solid("RGB", 7_000, "WEBP", lossless=True),
    "JPEG 2000": lambda: jpeg_2000(60_000, 60_000),
    "JPEG 2000 in the limit": lambda: jpeg_2000(7_000, 7_000),
    "JPEG 2000 without sizes": lambda: solid("RGB", 3_000, "JPEG2000", num_resolutions=1),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>',
    "SVG of entities": f"<!DOCTYPE svg [<!ENTITY a0 'a'>{ENTITIES}]><svg>&a11;</svg>".encode,
    "archive": lambda: zlib.compress(bytes(50_000_000)),
    "zeros": lambda: bytes(64 * 2**20),
    **({"AVIF": lambda: avif(60_000, 60_000), "AVIF in the limit": lambda: avif(7_000, 7_000)} if features.check("avif") else {}),
}  # fmt: skip


def bmp_runs(width: int, height: int) -> bytes:
    data = b"\1\0" * (30 * 2**20)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return (
        b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + bytes(1024) + data
    )


QUICK = ("progressive JPEG of few pixels", "plain PPM", "PNG text", "GIF", "WebP", "JPEG 2000", "SVG of entities")  # fmt: skip


def megabytes(pid, name="VmHWM") -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+)", status)[0]) / 1024


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in BOMBS],
)
def test_any_file_is_shown_or_has_a_reason_within_its_limits(case, good, tmp_path, processes):
    content = BOMBS[case]()
    assert len(content) <= 64 * 2**20
    (tmp_path / "bomb").write_bytes(content)
    del content
    peaks = []
    with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
        own = megabytes("self", "VmRSS")
        watched = threading.Event()

        def watch():
            while not watched.wait(0.02):
                for process in processes:
                    # It may be gone, or there and not yet begun.
                    with contextlib.suppress(OSError, IndexError):
                        peaks.append(megabytes(process.pid))

        thread = threading.Thread(target=watch)
        thread.start()
        started = time.monotonic()
        made = thumbnails.of(str(tmp_path / "bomb"))
        took = time.monotonic() - started
        watched.set()
        thread.join()
        print(
            case, made if isinstance(made, str) else "shown", f"{took:.2f} s, {max(peaks):.0f} MB"
        )
        assert took < 12
        assert max(peaks) * 2**20 < MEMORY_BYTES + 50 * 2**20, "and what it shares"
        assert megabytes("self", "VmRSS") < own + 20
        assert is_good(thumbnails.of(good))


def test_a_file_that_takes_too_long_to_decode_is_left(good, tmp_path, processes, monkeypatch):
    monkeypatch.setattr(picture_process, "DECODE_SECONDS", 0.5)
    (tmp_path / "slow.ppm").write_bytes(b"P6 #" + b"#" * 20_000_000)
    with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
        assert is_good(thumbnails.of(good))
        started = time.monotonic()
        assert thumbnails.of(str(tmp_path / "slow.ppm")) == "not decoded in time"
        assert time.monotonic() - started < 2.5
        # Only servers are given up, not those whose files are slow.
        Image.new("RGB", (80, 60), BLUE).save(tmp_path / "other.png")
        assert is_good(thumbnails.of(str(tmp_path / "other.png")))
    assert len(processes) == 2


LITTLE_MEMORY = """
from dagster_active_learning.gallery import picture_process
picture_process.MEMORY_BYTES = 120 * 2**20
picture_process.serve()
"""


@pytest.mark.parametrize("kind", ["decoded", "read"])
def test_a_file_that_takes_too_much_memory_is_left(kind, good, tmp_path, processes, monkeypatch):
    monkeypatch.setattr(picture_process, "_SERVE", LITTLE_MEMORY)
    if kind == "read":
        (tmp_path / "large").write_bytes(bytes(60 * 2**20))
        monkeypatch.setattr(picture_process, "_SERVE", LITTLE_MEMORY.replace("120", "60"))
    else:
        rows = zlib.compress(bytes((1 + 3 * 7_000) * 7_000), 1)
        (tmp_path / "large").write_bytes(png(png_chunk(b"IDAT", rows), 7_000, 7_000, color=2))
    with Thumbnails(ImageRoots([tmp_path])) as thumbnails:
        reason = thumbnails.of(str(tmp_path / "large"))
        assert reason == "too large: the memory for pictures does not hold it"
        assert is_good(thumbnails.of(good))
    assert len(processes) == 1, "it goes on"


ASTRAY = {
    "does not start": "raise SystemExit",
    "ends at once": "c.recv_bytes(); c.send_bytes(b'{}'); c.recv_bytes()",
    "is killed": "import os; c.recv_bytes(); c.send_bytes(b'{}'); c.recv_bytes(); os.kill(os.getpid(), 9)",
    "is no JSON": "c.recv_bytes(); c.send_bytes(b'{}'); c.recv_bytes(); c.send_bytes(b'\\x80\\x05')",
    "is a number": "c.recv_bytes(); c.send_bytes(b'{}'); c.recv_bytes(); c.send_bytes(b'7')",
    "is a list": "answer('[1]', b'')",
    "is empty": "answer('{}', b'')",
    "lacks pixels": "answer(GOOD, bytes(5))",
    "has too many pixels": "answer(GOOD, bytes(500))",
    "has far too many pixels": "answer(GOOD, bytes(2**21))",
    "has a negative size": "answer(GOOD.replace('2', '-2'), bytes(12))",
    "has no size": "answer(GOOD.replace('2', '0'), b'')",
    "has a huge size": "answer(GOOD.replace('2', '9' * 20), bytes(12))",
    "has sizes in words": "answer(GOOD.replace('2', 'null'), bytes(12))",
    "is turned in a new way": "answer(GOOD.replace(': 1', ': 9'), bytes(12))",
    "says too much": "c.recv_bytes(); c.send_bytes(b'{}'); c.recv_bytes(); c.send_bytes(bytes(2**21))",
    "is cut": "import os; c.recv_bytes(); c.send_bytes(b'{}'); c.recv_bytes(); os.write(0, b'\\0\\0\\0\\x09{')",
}  # fmt: skip

CHILD = """
from multiprocessing.connection import Connection
c = Connection(0)
GOOD = '{"size": [2, 2], "stored_size": [2, 2], "orientation": 1}'
def answer(made, pixels):
    c.recv_bytes(); c.send_bytes(b'{}')
    c.recv_bytes(); c.send_bytes(b'{}'); c.send_bytes(made.encode()); c.send_bytes(pixels)
"""


def test_an_answer_as_it_should_be_is_a_picture(good, monkeypatch):
    monkeypatch.setattr(picture_process, "_SERVE", CHILD + "answer(GOOD, bytes(12))")
    with Thumbnails(ImageRoots(["/"])) as thumbnails:
        assert thumbnails.of(good).picture.size == (2, 2)


@pytest.mark.parametrize("case", ASTRAY)
def test_a_decoder_that_is_led_astray_is_a_reason(case, good, processes, monkeypatch):
    monkeypatch.setattr(picture_process, "_SERVE", CHILD + ASTRAY[case])
    with Thumbnails(ImageRoots(["/"])) as thumbnails:
        assert thumbnails.of(good) == "broken: the process that decodes it ended"
    assert processes[0].returncode is not None


def test_a_process_that_cannot_be_started_is_a_reason(good, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/none/python")
    with Thumbnails(ImageRoots(["/"])) as thumbnails:
        assert (
            thumbnails.of(good) == "no process can be started to read it: No such file or directory"
        )


def test_a_uri_is_in_no_list_of_processes(silent, monkeypatch):
    monkeypatch.setattr(picture_process, "READ_SECONDS", 0.3)
    seen, end = [], PictureProcess.end

    def look_and_end(process):
        about = Path(f"/proc/{process._process.pid}")
        seen.extend([(about / "cmdline").read_bytes(), (about / "environ").read_bytes()])
        end(process)

    monkeypatch.setattr(PictureProcess, "end", look_and_end)
    thumbnails = Thumbnails(ImageRoots(silent))
    thumbnails.of(f"{silent[0]}/a.png?key=secretkey")
    assert b"serve()" in seen[0]
    assert not any(b"secretkey" in text for text in seen)


def run_script(tmp_path, code, *arguments):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )


def test_a_script_without_a_main_guard_is_not_run_again(good, tmp_path):
    code = """
        import sys, threading, numpy, pyarrow
        from dagster_active_learning.gallery import ImageRoots, Thumbnails
        print("begins")
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        numpy.ones((500, 500)) @ numpy.ones((500, 500))
        with Thumbnails(ImageRoots([sys.argv[2]])) as thumbnails:
            print(thumbnails.of(sys.argv[1]).picture.size)
    """
    # Modules of the folder it runs in do not take the place of the process's own.
    (tmp_path / "json.py").write_text("raise SystemExit")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    output, _ = run_script(folder, code, good, str(tmp_path)).communicate(timeout=60)
    assert output == "begins\n(80, 60)\n"


@pytest.mark.parametrize(
    "waits", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["idle", "reading"]
)
def test_the_process_ends_with_one_that_is_killed(waits, good, tmp_path, silent):
    code = """
        import sys, threading
        from dagster_active_learning.gallery import ImageRoots, Thumbnails
        good, folder, silent, waits = sys.argv[1:]
        thumbnails = Thumbnails(ImageRoots([folder, silent]))
        thumbnails.of(good)
        print(thumbnails._process._process.pid, flush=True)
        if waits == "True":
            thumbnails.of(silent + "/a.png")
        threading.Event().wait()
    """
    run = run_script(tmp_path, code, good, str(tmp_path), silent[0], str(waits))
    assert run.stdout
    pid = int(run.stdout.readline())
    time.sleep(1)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    until = time.monotonic() + (30 if waits else 5)
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.1)
