"""A stand-in for Label Studio: as much of its API as this package uses, with its bad habits.

It answers as the real server was seen to answer; ``tests/labeling/test_real_server.py`` runs the
same steps against that one. Below it the steps of a pool that a test runs.
"""

import json
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest
import requests
from dagster_duckdb import DuckDBResource

from dagster_active_learning import LabelStudioResource

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSON, PASSWORD = "person@example.com", "a password of the test"
PERSONAL = "eyJhbGci.eyJyZWZyZXNo.c2lnbmF0dXJl"


class LabelStudio:
    """Projects, tasks and annotations, and faults to inject.

    Attributes:
        faults: Functions that are asked in turn before a request is answered: each takes the
            method and path and returns None, or when to fail: ``"before"`` or ``"after"`` the
            request is done, and how: ``503``, ``"close"`` or ``"hang"``.
        log: Method and path of each request.
    """

    def __init__(self):
        self.projects, self.tasks, self.log, self.faults = [], [], [], []
        self.access, self.next_task, self.next_annotation = set(), 1, 1
        self.lock = threading.Lock()
        self.url = ""

    def annotate(self, image_id, result=(), *, by=1, skip=False, truth=False):
        """An annotation as a person makes it; ``result`` is a class or a list of regions."""
        if isinstance(result, str):
            result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [result]}}]  # fmt: skip
        task = next(each for each in self.tasks if each["data"].get("image_id") == image_id)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        task["updated_at"] = now
        task["annotations"].append(
            {"id": self.next_annotation, "completed_by": by, "result": list(result), "was_cancelled": skip,
             "ground_truth": truth, "updated_at": now, "lead_time": 2.5, "unique_id": str(uuid.uuid4())}
        )  # fmt: skip
        self.next_annotation += 1

    def imports(self):
        return [path for method, path in self.log if method == "POST" and path.endswith("/import")]

    def image_ids(self):
        return [task["data"].get("image_id") for task in self.tasks]

    def tasks_of(self, project):
        return [task for task in self.tasks if task["project"] == int(project)]

    def answer(self, method, path, query, body, header):  # noqa: PLR0911, PLR0912 - a table
        """Status and body."""
        if path == "/api/token/refresh/":
            if body["refresh"] != PERSONAL:
                return 401, {"detail": "token not valid"}
            token = f"access{len(self.access)}"
            self.access = {token}
            return 200, {"access": token}
        kind, _, token = header.partition(" ")
        if not (
            (kind == "Token" and token == LEGACY) or (kind == "Bearer" and token in self.access)
        ):
            return 401, {"detail": "Authentication credentials were not provided."}
        if path == "/api/projects":
            if method == "POST":
                self.projects.append({"id": len(self.projects) + 1, **body})
                return 201, self.projects[-1]
            found = [each for each in self.projects if query["title"] in each["title"]]
            size, page = int(query["page_size"]), int(query["page"])
            more = self.url if len(found) > page * size else None
            return 200, {"results": found[(page - 1) * size : page * size], "next": more}
        if path == "/api/tasks":
            return 200, self.page(query)
        if path.startswith("/api/tasks/") and method == "DELETE":
            number = int(path.split("/")[3])
            kept = [each for each in self.tasks if each["id"] != number]
            if len(kept) == len(self.tasks):
                return 404, {"detail": "Not found."}
            self.tasks = kept
            return 204, None
        number, what = path.split("/")[3:5]
        if int(number) > len(self.projects):
            return 404, {"detail": "Not found."}
        if what == "export":
            return 200, [task for task in self.tasks_of(number) if task["annotations"]]
        assert what == "import"
        if not body:
            return 400, {"validation_errors": {"non_field_errors": ["tasks is empty"]}}
        if bad := [task for task in body if "image" not in task["data"]]:
            reason = f"Error at item 0: {'x' * 300} no image, {header} :: {bad[0]}"
            return 400, {
                "id": "an id", "status_code": 400, "version": "x" * 300, "detail": "Validation error", "exc_info": None,
                "validation_errors": {"non_field_errors": [reason]},
            }  # fmt: skip
        for task in body:
            self.tasks.append({**task, "id": self.next_task, "project": int(number), "annotations": [], "updated_at": str(time.time())})  # fmt: skip
            self.next_task += 1
        return 201, {"task_count": len(body)}

    def page(self, query):
        asked = json.loads(query["query"])
        tasks = self.tasks_of(query["project"])
        if "filters" in asked:
            (condition,) = asked["filters"]["items"]
            assert condition["operator"] == "in_list"
            tasks = [task for task in tasks if task["data"].get("image_id") in condition["value"]]
        if "ordering" in asked:
            tasks = sorted(tasks, key=lambda task: task["updated_at"], reverse=True)
        size, number = int(query["page_size"]), int(query["page"])
        counts = [sum(not each["was_cancelled"] for each in task["annotations"]) for task in tasks]
        shown = [
            {"id": task["id"], "data": task["data"], "updated_at": task["updated_at"],
             "total_annotations": count, "cancelled_annotations": len(task["annotations"]) - count}
            for task, count in zip(tasks, counts, strict=True)
        ]  # fmt: skip
        return {
            "tasks": shown[(number - 1) * size : number * size],
            "total": len(tasks),
            "total_annotations": sum(counts),
        }


@contextmanager
def serving(studio):
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            split = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with studio.lock:
                studio.log.append((self.command, split.path))
                fault = studio.faults.pop(0)(self.command, split.path) if studio.faults else None
                when, how = fault or (None, None)
                status, answer = 503, {"detail": "unavailable"}
                if when != "before":
                    header = self.headers.get("Authorization", "")
                    status, answer = studio.answer(self.command, split.path, query, body, header)
            if how == "close":
                self.close_connection = True
                return
            if how == "hang":
                time.sleep(1)
                return
            if how == 503:
                status, answer = 503, {"detail": "unavailable"}
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - names of the library

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        studio.url = f"http://127.0.0.1:{server.server_port}"
        yield studio
        server.shutdown()


@pytest.fixture
def studio():
    with serving(LabelStudio()) as running:
        yield running


def api(server, method, path, **body) -> Any:
    """An answer of the API of the real server."""
    headers = {"Authorization": f"Token {LEGACY}"}
    answer = requests.request(method, server + path, headers=headers, json=body or None, timeout=60)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def next_task(server, project):
    """The task that a person who labels gets next."""
    return api(server, "GET", f"/api/projects/{project}/next")


def annotate(server, task, name):
    """Annotate as a person does with a class, or skip with None; the annotation's number."""
    value = {
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [name]},
    }
    body = {"was_cancelled": True, "result": []} if name is None else {"result": [value]}
    return api(server, "POST", f"/api/tasks/{task}/annotations/", lead_time=2.5, **body)["id"]


def delete_annotation(server, annotation):
    """Withdraw an annotation."""
    api(server, "DELETE", f"/api/annotations/{annotation}/")


BATCH = ("images", "predictions", "image_scores", "labeling_candidates/margin", "labeling_batch")


def run(folder, defs, url, *tables, token=LEGACY, **options):
    """Materialize some tables of the pool named pool, by default the tasks of the batch."""
    keys = [dg.AssetKey(["pool", *table.split("/")]) for table in tables or ["labeling_tasks"]]
    return dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={
            "duckdb": DuckDBResource(database=str(folder / "labeling.duckdb")),
            "label_studio": LabelStudioResource(url=url, token=token),
        },
        selection=dg.AssetSelection.assets(*keys).without_checks()
        | dg.AssetSelection.checks_for_assets(*keys[-1:]),
        **options,
    )


def numbers(result, table):
    """The single numbers of an asset's metadata."""
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key.path[-1] == table
    ]
    found = {name: value.value for name, value in event.materialization.metadata.items()}
    return {name: value for name, value in found.items() if isinstance(value, int | float | str)}


def checks(result):
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
