"""Image files are read whole or not at all, and nothing that only looks like one holds up a run."""

import contextlib
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import fsspec
import pytest

from dagster_active_learning.gallery import ImageRoots, image_files
from dagster_active_learning.gallery.image_files import MAX_FILE_BYTES, read_image_file
from dagster_active_learning.gallery.not_shown import NotShownError

CONTENT = b"\x89PNG and so on"
ANYWHERE = ImageRoots(["/", "memory://gallery", "nothing://x"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "a b#c?d%41.png").write_bytes(CONTENT)
    (tmp_path / "x::y.png").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FOUND = {
    "path": "{folder}/a b#c?d%41.png",
    "relative path": "a b#c?d%41.png",
    "a name that looks like a chain of file systems": "x::y.png",
    "file URI": "file://{folder}/a%20b%23c%3Fd%2541.png",
    "file URI that is not quoted": "file://{folder}/a b#c?d%2541.png",
    "file URI with a host": "file://localhost{folder}/a%20b%23c%3Fd%2541.png",
    "scheme in capitals": "FILE://{folder}/a%20b%23c%3Fd%2541.png",
    "another file system": "memory://gallery/a.png",
}


@pytest.mark.parametrize("case", FOUND)
def test_files_are_read_from_paths_and_uris(folder, case):
    with fsspec.open("memory://gallery/a.png", "wb") as file:
        file.write(CONTENT)
    assert read_image_file(FOUND[case].format(folder=folder), ANYWHERE) == CONTENT


def large(path, size=MAX_FILE_BYTES + 1):
    with path.open("wb") as file:
        file.truncate(size)


def loop(path):
    path.symlink_to(path)


REFUSED = {
    "missing": (None, "{path}", "no such file"),
    "below a missing folder": (None, "{path}/a.png", "no such file"),
    "folder": (os.mkdir, "{path}", "a folder"),
    "pipe": (os.mkfifo, "{path}", "no regular file"),
    "pipe as a URI": (os.mkfifo, "file://{path}", "no regular file"),
    "device": (None, "/dev/zero", "no regular file"),
    "too large": (large, "{path}", "too large: 64 MB, read up to 64"),
    "link to itself": (loop, "{path}", "cannot be read: "),
    "null byte": (None, "{path}\0.png", "cannot be read: "),
    "name too long": (None, "{path}" + "x" * 5000, "cannot be read: "),
    "unknown scheme": (None, "nothing://x/a.png", "cannot be read: "),
    "missing in another file system": (None, "memory://gallery/none.png", "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_has_a_reason(tmp_path, case):
    make, uri, reason = REFUSED[case]
    path = tmp_path / "file"
    if make is not None:
        make(path)
    started = time.monotonic()
    with pytest.raises(NotShownError) as error:
        read_image_file(uri.format(path=path), ANYWHERE)
    assert reason in str(error.value)
    assert time.monotonic() - started < 5


def test_a_file_of_exactly_the_limit_is_read(tmp_path):
    large(tmp_path / "file", MAX_FILE_BYTES)
    assert len(read_image_file(str(tmp_path / "file"), ANYWHERE)) == MAX_FILE_BYTES


def test_a_large_file_of_another_file_system_is_not_read(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 100)
    with fsspec.open("memory://gallery/large.png", "wb") as file:
        file.write(bytes(101))
    with pytest.raises(NotShownError, match="too large"):
        read_image_file("memory://gallery/large.png", ANYWHERE)


def test_a_file_without_permission_has_a_reason(tmp_path):
    (tmp_path / "file").touch(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(NotShownError, match="no permission"):
            read_image_file(str(tmp_path / "file"), ANYWHERE)
    finally:
        os.seteuid(user)


def test_no_file_stays_open(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(CONTENT)
    before = len(os.listdir("/proc/self/fd"))
    for uri in (tmp_path, tmp_path / "pipe", tmp_path / "file", "/dev/zero"):
        for _ in range(5):
            with contextlib.suppress(NotShownError):
                read_image_file(str(uri), ANYWHERE)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def server():
    """A website with statuses, redirects to its targets, and the requests that it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.path)
            kind, _, status = self.path.partition("?")[0].lstrip("/").partition("/")
            content = CONTENT if kind == "in" else b""
            self.send_response(200 if kind == "in" else int(status.partition("/")[0]))
            if kind == "to":
                self.send_header("Location", server.targets.pop(0))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        server.address = f"http://127.0.0.1:{server.server_port}"
        server.requests, server.targets = [], []
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "targets",
    [["/in/b.png"], ["../in/b.png"], ["{address}/in/b.png"], ["//127.0.0.1:{port}/in/b.png"], ["/to/308", "/to/301", "/in/b.png"]],
)  # fmt: skip
def test_redirects_within_the_roots_are_followed(server, targets):
    # Once when fsspec asks for the size, once when it reads.
    server.targets = [
        target.format(address=server.address, port=server.server_port) for target in targets * 2
    ]
    roots = ImageRoots([f"{server.address}/to", f"{server.address}/in"])
    assert read_image_file(f"{server.address}/to/302", roots) == CONTENT


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/in/a.png",
        "//localhost:{port}/in/a.png",
        "http://127.0.0.1:1/in/a.png",
        "https://127.0.0.1:{port}/in/a.png",
        "http://127.0.0.1:{port}@localhost:{port}/in/a.png",
        "http://user:secret@127.0.0.1:{port}/in/a.png",
        "http://127.1:{port}/in/a.png",
        "/private/a.png",
        "/in/../private/a.png",
        "/in/%2e%2e/private/a.png",
        "/in/%252e%252e/private/a.png",
        "../private/a.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/in/a.png",
        "http:\\\\localhost:{port}/in/a.png",
        "\\\\localhost:{port}/in/a.png",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_out_of_the_roots_are_not_followed(server, target, status):
    server.targets = [target.format(port=server.server_port)] * 2
    roots = ImageRoots([f"{server.address}/to", f"{server.address}/in"])
    with pytest.raises(NotShownError) as error:
        read_image_file(f"{server.address}/to/{status}", roots)
    assert "secret" not in str(error.value)
    assert set(server.requests) == {f"/to/{status}"}


def test_a_redirect_to_another_server_does_not_reach_it(server, tmp_path):
    server.targets = [f"http://localhost:{server.server_port}/in/a.png"] * 2
    with pytest.raises(NotShownError, match="outside of image_roots: http://localhost"):
        read_image_file(f"{server.address}/to/302", ImageRoots([server.address]))


SECRET = [
    "{server}/status/403?signature=secret",
    "{server}/status/401/a.png?signature=secret",
    "{server}/status/404?signature=secret",
    "{server}/status/500?signature=secret",
    "{server}/to/302?signature=secret",
    "http://user:secret@127.0.0.1:{port}/status/401",
    "http://127.0.0.1:1/refused?signature=secret",
    "http://user:secret@127.0.0.1:1/refused",
    "http://does.not.exist.invalid/?signature=secret",
    "nothing://user:secret@x/a.png",
    "memory://user:secret@gallery/none.png",
    "s3://user:secret@bucket/a.png?versionId=secret",
    "sftp://user:secret@127.0.0.1:1/a.png",
    "file://user:secret@host/a.png",
    "zip://secret::http://user:secret@host/a.png",
    "http://user:secret@[:::1]/a.png?secret",
]


@pytest.mark.parametrize("uri", SECRET)
@pytest.mark.parametrize("allowed", [False, True])
def test_secrets_of_a_uri_are_in_no_reason(server, uri, allowed):
    server.targets = ["http://user:secret@localhost/?signature=secret"] * 2
    uri = uri.format(server=server.address, port=server.server_port)
    roots = []
    if allowed and "::" not in uri and not uri.startswith("file"):
        roots = [uri.partition("?")[0]]
    with pytest.raises(NotShownError) as error:
        read_image_file(uri, ImageRoots(roots))
    assert "secret" not in str(error.value)
    assert "signature" not in str(error.value)


@pytest.mark.parametrize(("status", "reason"), [(403, "answers 403"), (401, "answers 401"), (500, "answers 500"), (404, "no such file")])  # fmt: skip
def test_the_answer_of_a_server_is_the_reason(server, status, reason):
    with pytest.raises(NotShownError, match=reason):
        read_image_file(f"{server.address}/status/{status}", ImageRoots([server.address]))


def test_nothing_outside_of_the_roots_is_asked_for(server, tmp_path):
    for uri in (f"{server.address}/in/a.png", f"zip://a.png::{server.address}/in/x.zip"):
        with pytest.raises(NotShownError):
            read_image_file(uri, ImageRoots([tmp_path, "http://127.0.0.1"]))
    assert not server.requests


def test_a_link_that_leads_out_is_not_followed(tmp_path):
    (tmp_path / "private.png").write_bytes(CONTENT)
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "a.png").symlink_to("../private.png")
    with pytest.raises(NotShownError, match="a link to a place outside"):
        read_image_file(f"{tmp_path}/pool/a.png", ImageRoots([tmp_path / "pool"]))
    assert read_image_file(f"{tmp_path}/pool/a.png", ImageRoots([tmp_path])) == CONTENT


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "private.png").write_bytes(CONTENT)
    (tmp_path / "a.png").symlink_to("private.png")
    monkeypatch.setattr(ImageRoots, "place_of", lambda _, uri: uri)
    with pytest.raises(NotShownError, match="cannot be read"):
        read_image_file(f"{tmp_path}/a.png", ImageRoots([tmp_path]))
