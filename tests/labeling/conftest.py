"""Label Studio for tests of the loop: a stand-in for most of them, and the real server."""

import os
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from label_studio import LEGACY, PASSWORD, PERSON, studio

__all__ = ["studio"]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of the real server with an empty database, started and stopped here.

    It has an environment of its own, whose Python ``LABEL_STUDIO_PYTHON`` names.
    """
    python = os.environ.get("LABEL_STUDIO_PYTHON")
    if python is None:
        pytest.skip("LABEL_STUDIO_PYTHON does not name the Python of an environment with it")
    folder = tmp_path_factory.mktemp("label_studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "DJANGO_DB": "sqlite",
        "LABEL_STUDIO_USERNAME": PERSON,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": LEGACY,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [os.path.join(os.path.dirname(python), "label-studio"), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment | settings, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(1_800):  # half seconds; it needs 40 s of a processor
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=5).read()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()[-2000:]
                    time.sleep(0.5)
            else:
                pytest.fail("the server does not answer: " + (folder / "log").read_text()[-2000:])
            yield url
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()


class Faults:
    """The next import through the proxy is answered so: ``how``, ``before`` or after storing."""

    def __init__(self):
        self.how = None
        self.before = False
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.imports = 0


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def proxy(server, faults):
    """The address of a proxy to the server."""

    class Handler(BaseHTTPRequestHandler):
        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_import = self.path.endswith("/import")
            how, faults.imports = (faults.how, faults.imports + 1) if is_import else (None, faults.imports)  # fmt: skip
            if how == "hold":
                faults.how = None
                faults.held.set()
                faults.go_on.wait(120)
            status, content = 503, b"unavailable"
            if not (how and faults.before):
                headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if self.headers[name]}  # fmt: skip
                answer = requests.request(self.command, server + self.path, data=body, headers=headers, timeout=60)  # fmt: skip
                status, content = answer.status_code, answer.content
            if how == "close":
                self.close_connection = True
                return
            if how == "timeout":
                time.sleep(7)
                return
            if how == 503:
                status, content = 503, b"unavailable"
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PATCH = forward  # noqa: N815 - names of the library

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
