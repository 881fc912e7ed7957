"""The real Label Studio: started and stopped here, behind a proxy that loses answers.

It needs an environment of its own with label-studio, whose Python ``LABEL_STUDIO_PYTHON`` names.
"""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from dagster_active_learning.errors import LabelingToolError
from dagster_active_learning.labeling import label_studio_sending
from dagster_active_learning.labeling.annotations import read_annotations
from dagster_active_learning.labeling.label_studio_client import LabelStudioClient
from dagster_active_learning.labeling.label_studio_sending import ensure_project, send_tasks
from label_studio import LEGACY

pytestmark = pytest.mark.slow

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with an empty database."""
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
        "LABEL_STUDIO_USERNAME": "person@example.com",
        "LABEL_STUDIO_PASSWORD": "a password of the test",
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
            for _ in range(600):
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
            process.wait(30)


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
                faults.go_on.wait(20)
            status, content = 503, b"unavailable"
            if not (how and faults.before):
                headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if self.headers[name]}  # fmt: skip
                answer = requests.request(self.command, server + self.path, data=body, headers=headers, timeout=60)  # fmt: skip
                status, content = answer.status_code, answer.content
            if how == "close":
                self.close_connection = True
                return
            if how == "timeout":
                time.sleep(3)
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


@pytest.fixture
def client(proxy, monkeypatch):
    monkeypatch.setattr(label_studio_sending, "SETTLE_SECONDS", 0.5)
    return LabelStudioClient(proxy, LEGACY, timeout_seconds=30)


@pytest.fixture
def project(client, request):
    return ensure_project(client, request.node.name[-50:], "classification", DIGITS).id


def tasks(first, last):
    return [
        {
            "data": {"image": f"/data/{n}.png", "image_id": f"digit {n}"},
            "meta": {"rank": n},
            "predictions": [{"model_version": "m", "score": n / 100, "result": [region(str(n % 10))]}],
        }
        for n in range(first, last)
    ]  # fmt: skip


def region(name):
    return {"id": "r0", "from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [name]}}  # fmt: skip


def ids(client, project):
    return [task.image_id for task in client.tasks(project)]


def expected(first, last):
    return [f"digit {n}" for n in range(first, last)]


@contextmanager
def api(server):
    with requests.Session() as session:
        session.headers["Authorization"] = f"Token {LEGACY}"
        yield lambda method, path, **body: session.request(method, server + path, json=body or None).json()  # fmt: skip


def test_50_once_again_and_10_more_in_the_order_of_the_ranks(client, project, faults, server):
    assert send_tasks(client, project, tasks(0, 50), settle_first=False).sent == 50
    imports = faults.imports
    assert send_tasks(client, project, tasks(0, 50), settle_first=False).sent == 0
    assert faults.imports == imports
    assert send_tasks(client, project, tasks(40, 90), settle_first=False).sent == 40
    assert ids(client, project) == expected(0, 90)
    with api(server) as call:
        for rank in range(3):
            task = call("GET", f"/api/projects/{project}/next")
            assert task["data"]["image_id"] == f"digit {rank}"
            call("POST", f"/api/tasks/{task['id']}/annotations/", result=[region("1")])


@pytest.mark.parametrize("how", [503, "close", "timeout"])
def test_a_lost_answer_stores_each_image_once(client, project, faults, how):
    faults.how = how
    client.timeout_seconds = 2
    assert send_tasks(client, project, tasks(0, 50), settle_first=False).sent == 50
    assert Counter(ids(client, project)) == dict.fromkeys(expected(0, 50), 1)
    assert faults.imports == 1


def test_a_request_that_is_held_back_leaves_no_twin(client, project, faults, proxy):
    faults.how = "hold"
    held: list = []
    first = threading.Thread(
        target=lambda: held.append(send_tasks(client, project, tasks(0, 25), settle_first=False))
    )
    first.start()
    assert faults.held.wait(20)
    second = LabelStudioClient(proxy, LEGACY)
    assert send_tasks(second, project, tasks(0, 25), settle_first=False).sent == 25
    faults.go_on.set()
    first.join(30)
    assert held[0].twins_removed == 25
    assert Counter(ids(client, project)) == dict.fromkeys(expected(0, 25), 1)


def test_what_was_not_stored_is_sent_by_the_next_run(client, project, faults):
    faults.how, faults.before = 503, True
    with pytest.raises(LabelingToolError, match="answered 503"):
        send_tasks(client, project, tasks(0, 50), settle_first=False)
    assert ids(client, project) == []
    faults.how = None
    assert send_tasks(client, project, tasks(0, 50), settle_first=True).sent == 50
    assert ids(client, project) == expected(0, 50)


def test_a_personal_token_and_an_access_token_that_is_not_taken_any_more(server, client, project):
    with api(server) as call:
        personal = LabelStudioClient(server, call("POST", "/api/token/")["token"])
    assert send_tasks(personal, project, tasks(0, 5), settle_first=False).sent == 5
    personal._access = "an.expired.one"
    assert send_tasks(personal, project, tasks(0, 10), settle_first=False).sent == 5
    wrong = LabelStudioClient(server, personal.token[:-4] + "AAAA")
    with pytest.raises(LabelingToolError, match="401") as raised:
        wrong.projects("x")
    assert wrong.token not in str(raised.value)


def test_what_people_say_is_read_back(client, project, server):
    send_tasks(client, project, tasks(0, 6), settle_first=False)
    states = [client.state(project)]
    listed = {task.image_id: task.id for task in client.tasks(project)}
    with api(server) as call:

        def annotate(number, name=None, **more):
            path = f"/api/tasks/{listed[f'digit {number}']}/annotations/"
            return call("POST", path, result=[region(name)] if name else [], **more)

        annotate(0, "4")
        annotate(0, "5")
        annotate(1, was_cancelled=True)
        annotate(2)
        annotate(3, "zebra")
        withdrawn = annotate(4, "4")
        states.append(client.state(project))
        requests.delete(f"{server}/api/annotations/{withdrawn['id']}/", headers={"Authorization": f"Token {LEGACY}"})  # fmt: skip
        states.append(client.state(project))
    client.delete_task(listed["digit 5"])
    states.append(client.state(project))
    assert len(set(states)) == 4
    sizes = dict.fromkeys(expected(0, 6), (8, 8))
    reading = read_annotations(client.annotated_tasks(project), task="classification", class_names=DIGITS, sizes=sizes)  # fmt: skip
    assert reading.outcomes == {"digit 0": "labeled", "digit 1": "skipped", "digit 2": "quarantined", "digit 3": "quarantined"}  # fmt: skip
    assert [label.category for label in reading.labels] == ["5"]
    assert ids(client, project) == expected(0, 5)
    assert json.loads(states[-1])[1] == 5
