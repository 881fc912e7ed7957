"""Tasks are sent once each, whatever happens on the way."""

import pytest

from dagster_active_learning.errors import LabelingToolError
from dagster_active_learning.exporters.label_studio_config import labeling_config
from dagster_active_learning.labeling.label_studio_client import LabelStudioClient
from dagster_active_learning.labeling.label_studio_sending import ensure_project, send_tasks
from label_studio import LEGACY, PERSONAL

TASKS = [{"data": {"image": "x", "image_id": f"image {n}"}, "meta": {"rank": n}} for n in range(60)]


@pytest.fixture
def client(studio):
    return LabelStudioClient(studio.url, LEGACY, timeout_seconds=3)


@pytest.fixture
def project(client):
    return ensure_project(client, "digits", "classification", ["a", "b"]).id


def send(client, project, tasks=TASKS, **options):
    options = {"settle_first": False, "sleep": lambda _: None} | options
    return send_tasks(client, project, tasks, **options)


def ids(tasks=TASKS):
    return [task["data"]["image_id"] for task in tasks]


def test_50_once_again_and_10_more(studio, client, project):
    first = send(client, project, TASKS[:50])
    assert (first.sent, first.already_there) == (50, 0)
    requests = len(studio.imports())
    again = send(client, project, TASKS[:50])
    assert (again.sent, again.already_there) == (0, 50)
    assert len(studio.imports()) == requests
    overlapping = send(client, project, TASKS[10:])
    assert (overlapping.sent, overlapping.already_there) == (10, 40)
    # In their order, and each with its own number.
    assert studio.image_ids() == ids()
    assert list(overlapping.task_ids.values()) == list(range(11, 61))


def on_import(when, how):
    return lambda _, path: (when, how) if path.endswith("/import") else None


@pytest.mark.parametrize("how", [503, "close", "hang"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer(studio, client, project, when, how):
    studio.faults = [on_import(when, how)] * 2
    waits = []
    if when == "before":
        with pytest.raises(
            LabelingToolError, match=r"503|no answer to POST /api/projects/1/import"
        ):
            send(client, project, TASKS[:50], sleep=waits.append)
        assert studio.image_ids() == []
        studio.faults = []
        second = send(client, project, TASKS[:50], settle_first=True, sleep=waits.append)
        assert (second.sent, waits) == (50, [5.0, 5.0])
    else:
        assert send(client, project, TASKS[:50], sleep=waits.append).sent == 50
        assert waits == [5.0]
    assert studio.image_ids() == ids(TASKS[:50])


def test_a_request_that_arrives_late_leaves_no_twin(studio, client, project):
    client.import_tasks(project, TASKS[:5])

    def late(method, path):
        if path.endswith("/import"):
            # What another run has sent before arrives now.
            studio.answer("POST", path, {}, TASKS[:50], f"Token {LEGACY}")

    studio.faults = [late] * 2
    sent = send(client, project, TASKS[:50])
    assert (sent.sent, sent.twins_removed) == (45, 50)
    assert sorted(studio.image_ids()) == sorted(ids(TASKS[:50]))
    assert sorted(sent.task_ids.values()) == [task["id"] for task in studio.tasks]


def test_a_twin_that_arrives_after_all_runs_that_sent_it(studio, client, project):
    send(client, project, TASKS[:5])
    client.import_tasks(project, TASKS[:5])
    later = send(client, project, [], in_flight=ids(TASKS[:5]))
    assert (later.sent, later.twins_removed) == (0, 5)
    assert [task["id"] for task in studio.tasks] == [1, 2, 3, 4, 5]


def test_a_task_that_is_deleted_already(studio, client, project):
    client.delete_task(99)
    assert ("DELETE", "/api/tasks/99/") in studio.log


def test_a_twin_with_an_annotation_stays(studio, client, project):
    for _ in range(2):
        client.import_tasks(project, TASKS[:2])
    studio.tasks.reverse()
    studio.annotate("image 0", "a")
    studio.tasks.reverse()
    sent = send(client, project, TASKS[:2])
    assert sent.twins_removed == 2
    assert sent.task_ids == {"image 0": 3, "image 1": 2}


def test_both_kinds_of_token_and_one_that_expires_in_the_middle(studio, project):
    client = LabelStudioClient(studio.url, PERSONAL)
    send(client, project, TASKS[:10])

    def expire(*_):
        studio.access = set()

    studio.faults = [expire]
    assert send(client, project, TASKS[:20]).sent == 10
    assert len(studio.image_ids()) == 20
    refreshes = [path for _, path in studio.log if path == "/api/token/refresh/"]
    assert len(refreshes) == 2


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("wrongtoken", "answered 401 to GET /api/projects: it does not take the legacy token"),
        ("wrong.access.token", "answered 401 to POST /api/token/refresh/: .* personal access token"),
    ],
)  # fmt: skip
def test_a_token_that_is_refused_is_not_shown(studio, token, words):
    client = LabelStudioClient(studio.url, token)
    with pytest.raises(LabelingToolError, match=words) as raised:
        client.project("digits")
    assert token not in str(raised.value)
    assert token not in repr(client)
    assert not raised.value.is_unclear


def test_the_reason_of_a_refusal_is_shown_without_token_and_task(studio, client, project):
    tasks = [{"data": {"image_id": "a", "note": "https://images/a.png?signature=secret"}}]
    with pytest.raises(LabelingToolError, match="answered 400 .* no image, Token ….*; correct") as raised:  # fmt: skip
        send(client, project, tasks)
    assert not any(secret in str(raised.value) for secret in (LEGACY, "secret", "image_id"))
    assert studio.image_ids() == []


@pytest.mark.parametrize("token", ["", " \n", "…", "abc\ndef", "абв"])
def test_a_text_that_is_no_token(token):
    with pytest.raises(LabelingToolError, match="the token of the resource label_studio is empty or"):  # fmt: skip
        LabelStudioClient("http://127.0.0.1:9", token)


def test_a_token_with_a_line_break_behind_it(studio):
    assert LabelStudioClient(studio.url, f"{LEGACY}\n").project("digits") is None


def test_nobody_there():
    client = LabelStudioClient("http://user:password@127.0.0.1:9", LEGACY)
    with pytest.raises(LabelingToolError, match="127.0.0.1:9 gave no answer to GET /api/projects") as raised:  # fmt: skip
        client.project("digits")
    assert "password" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_an_answer_of_something_else(studio, client, project, monkeypatch):
    monkeypatch.setattr(studio, "answer", lambda *_: (200, None))
    with pytest.raises(LabelingToolError, match="with '', expected the JSON of Label Studio"):
        client.project("digits")
    monkeypatch.setattr(studio, "answer", lambda *_: (302, None))
    with pytest.raises(LabelingToolError, match="302 .*give the address it leads to as the url"):
        client.project("digits")


GOOD = labeling_config("classification", ["a", "b"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (GOOD.replace('value="b"', 'value="c"'), "no class ['b'] in Choices 'label'"),
        (GOOD.replace('name="label"', 'name="kind"'), "no tag Choices with the name 'label'"),
        (GOOD.replace("$image", "$photo"), "no tag Image with the name 'image' and the value"),
        ("<View>", "no readable XML"),
        (GOOD.replace("</View>", '<Choice value="more"/></View>'), None),
    ],
)
def test_a_project_that_is_there_has_to_fit(studio, client, config, words):
    client.create_project("digits", config)
    client.create_project("other digits", config)
    if words is None:
        assert ensure_project(client, "digits", "classification", ["a", "b"]).id == 1
        return
    with pytest.raises(LabelingToolError) as raised:
        ensure_project(client, "digits", "classification", ["a", "b"])
    assert words in str(raised.value)


def test_two_projects_of_one_name(studio, client, project):
    client.create_project("digits", GOOD)
    with pytest.raises(LabelingToolError, match="has 2 projects 'digits', expected one"):
        ensure_project(client, "digits", "classification", ["a", "b"])


def test_a_title_that_is_a_part_of_many(studio, client):
    for number in range(101):
        studio.projects.append({"id": number, "title": f"more digits {number}", "label_config": GOOD, "sampling": "x"})  # fmt: skip
    studio.projects.append({**studio.projects[0], "title": "digits"})
    assert client.project("digits").title == "digits"


def test_many_ids_are_asked_for_in_addresses_that_are_short(studio, client, project):
    long = [{"data": {"image": "x", "image_id": f"{'ä' * 300}{n}"}} for n in range(30)]
    assert send(client, project, long).sent == 30
    assert send(client, project, long).already_there == 30


def test_all_pages_of_a_listing(studio, client, project, monkeypatch):
    monkeypatch.setattr("dagster_active_learning.labeling.label_studio_client.TASKS_PER_PAGE", 7)
    send(client, project)
    assert [task.image_id for task in client.tasks(project)] == ids()


def test_the_state_changes_with_every_change(studio, client, project):
    states = [client.state(project)]
    send(client, project)
    states.append(client.state(project))
    studio.annotate("image 3", "a")
    states.append(client.state(project))
    del studio.tasks[3]["annotations"][:]
    states.append(client.state(project))
    client.delete_task(studio.tasks[0]["id"])
    states.append(client.state(project))
    assert len(set(states)) == 5
    assert client.state(project) == states[-1]
