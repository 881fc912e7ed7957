"""The few calls of Label Studio's API that a pool needs.

Reading is tried once, as writing is: the next run goes on where this one ended. A request that
writes is never sent a second time by itself: Label Studio stores the same tasks twice, also those
of a request whose answer was lost.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dagster_active_learning.errors import LabelingToolError
from dagster_active_learning.files.addresses import redacted, shown_address
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    import requests

IDS_PER_REQUEST = 200
"""Ids of images that one request asks for: they stand in its address."""

ADDRESS_CHARACTERS = 4_000
"""Characters of ids in an address: servers refuse a line of 8 KiB."""

PROJECTS_PER_PAGE = 100
TASKS_PER_PAGE = 1_000
"""Projects and tasks that a page of a listing has."""

REASON_BYTES = 600
"""Bytes of the reason in an answer that an error shows."""

SEQUENTIAL = "Sequential sampling"
"""The order of a project that serves tasks as they were sent."""


@dataclass(frozen=True)
class Project:
    """A project of Label Studio."""

    id: int
    title: str
    label_config: str
    sampling: str

    @property
    def is_sequential(self) -> bool:
        """True if tasks are served in the order in which they were sent."""
        return self.sampling == SEQUENTIAL


@dataclass(frozen=True)
class ListedTask:
    """A task that is in a project, whether anybody has annotated it or not.

    Attributes:
        id: Its number, which may be that of another task once it is deleted.
        image_id: The image's id; None for tasks that were not made by this package.
        annotation_count: Annotations of it, those of people who skipped it too.
    """

    id: int
    image_id: str | None
    annotation_count: int


class _UnauthorizedError(Exception):
    """The answer 401."""


class _NotFoundError(LabelingToolError):
    """The answer 404."""


@dataclass
class LabelStudioClient:
    """A connection to a Label Studio server.

    Args:
        url: The server's address.
        token: A personal access token, or a legacy token where the server allows them. Which one it
            is can be seen: a personal one has three parts with dots between them.
        timeout_seconds: How long an answer may take.

    Raises:
        LabelingToolError: If no token can be as this one is. By each call, if there is no answer,
            or not the one that was expected: ``is_unclear`` says whether the server may have done
            what was asked.
    """

    url: str
    token: str = field(repr=False)
    timeout_seconds: float = 60

    def __post_init__(self) -> None:
        import requests

        self.token = self.token.strip()
        if not (self.token and self.token.isascii() and self.token.isprintable()):
            raise LabelingToolError(
                "the token of the resource label_studio is empty or has characters that no token "
                "has: copy it anew from the server's page Account & Settings"
            )
        self._session = requests.Session()
        self._access: str | None = None
        self._is_personal = self.token.count(".") == 2
        self._base = self.url.rstrip("/")

    @property
    def shown_url(self) -> str:
        """The server's address without a password."""
        return shown_address(self._base)

    def project_url(self, project: int) -> str:
        """The page of a project."""
        return f"{self.shown_url}/projects/{project}/data"

    def project(self, title: str) -> Project | None:
        """The project with a title, None if there is none.

        Raises:
            LabelingToolError: If there are several.
        """
        projects = [entry for entry in self._projects(title) if entry.title == title]
        if len(projects) > 1:
            raise LabelingToolError(
                f"{self.shown_url} has {len(projects)} projects {title!r}, expected one: rename "
                "the others"
            )
        return projects[0] if projects else None

    def _projects(self, part: str) -> Iterator[Project]:
        """The projects in whose title a text is."""
        query = {"title": part, "page_size": PROJECTS_PER_PAGE}
        for page in count(1):
            answer = self._json("GET", "/api/projects", query=query | {"page": page})
            yield from map(_project, answer["results"])
            if not answer["next"]:
                return

    def create_project(self, title: str, label_config: str) -> Project:
        """Make a project that serves tasks in the order in which they were sent."""
        body = {"title": title, "label_config": label_config, "sampling": SEQUENTIAL}
        return _project(self._json("POST", "/api/projects", body=body))

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add tasks to a project, all of them or none."""
        self._json("POST", f"/api/projects/{project}/import", body=tasks)

    def delete_task(self, task: int) -> None:
        """Delete a task, if it is still there."""
        with suppress(_NotFoundError):
            self._request("DELETE", f"/api/tasks/{task}/")

    def tasks_of_images(self, project: int, image_ids: Sequence[str]) -> list[ListedTask]:
        """The tasks of images that are in a project, in the order of their numbers."""
        wanted = set(image_ids)
        listed: list[ListedTask] = []
        for ids in _by_length(image_ids):
            condition = {
                "filter": "filter:tasks:data.image_id",
                "operator": "in_list",
                "type": "String",
                "value": ids,
            }
            query = {"filters": {"conjunction": "and", "items": [condition]}}
            listed += [each for each in self._tasks(project, query) if each.image_id in wanted]
        return sorted(listed, key=lambda task: task.id)

    def tasks(self, project: int) -> list[ListedTask]:
        """All tasks of a project."""
        return list(self._tasks(project, {}))

    def state(self, project: int) -> str:
        """A text that is another one when a task was added or changed, by one small request."""
        query = {"ordering": ["-tasks:updated_at"]}
        page = self._page(project, query, page=1, page_size=1, include="id,updated_at")
        last = page["tasks"][0] if page["tasks"] else {}
        state = [page["total"], page["total_annotations"], last.get("id"), last.get("updated_at")]
        return json.dumps([project, *state])

    def annotated_tasks(self, project: int) -> list[dict[str, Any]]:
        """The tasks that have annotations, with all that was said: Label Studio's JSON export."""
        return self._json("GET", f"/api/projects/{project}/export", query={"exportType": "JSON"})

    def _tasks(self, project: int, query: Mapping[str, Any]) -> Iterator[ListedTask]:
        number = seen = 0
        total = 1
        while seen < total:
            number += 1
            page = self._page(
                project,
                query,
                page=number,
                page_size=TASKS_PER_PAGE,
                include="id,data,total_annotations,cancelled_annotations",
            )
            total = page["total"]
            if not page["tasks"]:
                return
            for task in page["tasks"]:
                seen += 1
                image_id = task["data"].get("image_id")
                yield ListedTask(
                    task["id"],
                    image_id if isinstance(image_id, str) else None,
                    task.get("total_annotations", 0) + task.get("cancelled_annotations", 0),
                )

    def _page(self, project: int, query: Mapping[str, Any], **parameters: Any) -> Any:
        parameters |= {"project": project, "query": json.dumps(query)}
        return self._json("GET", "/api/tasks", query=parameters)

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._request(method, path, **arguments)
        try:
            return response.json()
        except ValueError:
            # Not all of it has come, or it comes from something in between.
            raise LabelingToolError(
                f"{self.shown_url} answered {method} {path} with {self._shown(response)!r}, "
                "expected the JSON of Label Studio: look whether the url is that of its server",
                is_unclear=True,
            ) from None

    def _request(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> requests.Response:
        try:
            return self._answered(method, path, query, body)
        except _UnauthorizedError:
            # Refused, so that nothing was done. An access token is valid for five minutes.
            if not self._is_personal:
                raise self._refused(method, path) from None
            self._access = None
        try:
            return self._answered(method, path, query, body)
        except _UnauthorizedError:
            raise self._refused(method, path) from None

    def _answered(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any
    ) -> requests.Response:
        header = f"Bearer {self._access_token()}" if self._is_personal else f"Token {self.token}"
        return self._sent(method, path, query, body, {"Authorization": header})

    def _access_token(self) -> str:
        if self._access is None:
            path = "/api/token/refresh/"
            try:
                response = self._sent("POST", path, None, {"refresh": self.token}, {})
                self._access = str(response.json()["access"])
            except (_UnauthorizedError, ValueError, KeyError):
                raise self._refused("POST", path) from None
        return self._access

    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
    ) -> requests.Response:
        with self._no_answer(method, path):
            response = self._session.request(
                method,
                f"{self._base}{path}",
                params=query,
                data=None if body is None else json.dumps(body, allow_nan=False).encode(),
                headers={"Content-Type": "application/json", **headers},
                timeout=self.timeout_seconds,
                # A redirected POST would be a GET, and the token would go to another server.
                allow_redirects=False,
                auth=_leave_headers,
            )
        if response.status_code == 401:
            raise _UnauthorizedError
        if not 200 <= response.status_code < 300:
            kind = _NotFoundError if response.status_code == 404 else LabelingToolError
            raise kind(
                f"{self.shown_url} answered {response.status_code} to {method} {path}: "
                f"{self._shown(response)!r}; {_advice(response.status_code)}",
                is_unclear=response.status_code >= 500,
            )
        return response

    @contextmanager
    def _no_answer(self, method: str, path: str) -> Generator[None]:
        import requests

        try:
            yield
        except requests.RequestException as error:
            # Its own text may have what was sent.
            raise LabelingToolError(
                f"{self.shown_url} gave no answer to {method} {path} within "
                f"{self.timeout_seconds} s ({type(error).__name__}): look whether Label Studio "
                "runs there, and run the step again",
                is_unclear=True,
            ) from None

    def _shown(self, response: requests.Response) -> str:
        """What an answer says, which may repeat what was sent: tokens, and addresses of images."""
        text = _reason(response)
        for secret in (self.token, self._access):
            text = text.replace(secret, "…") if secret else text
        return shown(redacted(text), REASON_BYTES)

    def _refused(self, method: str, path: str) -> LabelingToolError:
        kind = "personal access token" if self._is_personal else "legacy token"
        return LabelingToolError(
            f"{self.shown_url} answered 401 to {method} {path}: it does not take the {kind} that "
            "the resource has; make a new one at its page Account & Settings (legacy tokens are "
            "taken only where the organization allows them)"
        )


def _reason(response: requests.Response) -> str:
    """The reason that Label Studio gives in an answer, without the task that it is about."""
    try:
        answer: Any = response.json()
    except ValueError:
        return response.text
    if not isinstance(answer, dict):
        return response.text
    reason = answer.get("validation_errors") or answer.get("detail")
    if not reason:
        return response.text
    text = reason if isinstance(reason, str) else json.dumps(reason, ensure_ascii=False)
    return text.partition(" :: ")[0]


def _leave_headers(request: Any) -> Any:
    """Keep requests from putting a password of the file .netrc in the place of the token."""
    return request


def _project(entry: Mapping[str, Any]) -> Project:
    return Project(entry["id"], entry["title"], entry["label_config"], entry["sampling"])


def _advice(status: int) -> str:
    if 300 <= status < 400:
        return "give the address it leads to as the url"
    if status == 404:
        return "look whether the project is still there, and the url is that of Label Studio"
    if status >= 500:
        return "look into its log, and run the step again"
    return "correct what it names"


def _by_length(image_ids: Sequence[str]) -> Iterator[list[str]]:
    """Ids in groups that an address has room for."""
    group: list[str] = []
    characters = 0
    for image_id in image_ids:
        length = len(quote(json.dumps(image_id)))
        if group and (len(group) == IDS_PER_REQUEST or characters + length > ADDRESS_CHARACTERS):
            yield group
            group, characters = [], 0
        group.append(image_id)
        characters += length
    if group:
        yield group
