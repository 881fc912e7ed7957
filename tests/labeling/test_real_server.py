"""The real Label Studio: started and stopped here, behind a proxy that loses answers.

What this package relies on in it; the stand-in of the other tests is made after it.
"""

import json
import threading
from collections import Counter

import pytest

from dagster_active_learning.errors import LabelingToolError
from dagster_active_learning.labeling import label_studio_sending
from dagster_active_learning.labeling.label_studio_annotations import read_annotations
from dagster_active_learning.labeling.label_studio_client import LabelStudioClient
from dagster_active_learning.labeling.label_studio_sending import ensure_project, send_tasks
from label_studio import LEGACY, annotate, api, delete_annotation, next_task

pytestmark = pytest.mark.slow

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture
def client(proxy, monkeypatch):
    monkeypatch.setattr(label_studio_sending, "SETTLE_SECONDS", 0.5)
    return LabelStudioClient(proxy, LEGACY, timeout_seconds=120)


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


def test_50_once_again_and_10_more_in_the_order_of_the_ranks(client, project, faults, server):
    assert send_tasks(client, project, tasks(0, 50), settle_first=False).sent == 50
    imports = faults.imports
    assert send_tasks(client, project, tasks(0, 50), settle_first=False).sent == 0
    assert faults.imports == imports
    assert send_tasks(client, project, tasks(40, 90), settle_first=False).sent == 40
    assert ids(client, project) == expected(0, 90)
    for rank in range(3):
        task = next_task(server, project)
        assert task["data"]["image_id"] == f"digit {rank}"
        annotate(server, task["id"], "1")


@pytest.mark.parametrize("how", [503, "close", "timeout"])
def test_a_lost_answer_stores_each_image_once(client, project, faults, how):
    faults.how = how
    client.timeout_seconds = 5
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
    assert faults.held.wait(120)
    second = LabelStudioClient(proxy, LEGACY)
    assert send_tasks(second, project, tasks(0, 25), settle_first=False).sent == 25
    faults.go_on.set()
    first.join(120)
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
    personal = LabelStudioClient(server, api(server, "POST", "/api/token/")["token"])
    assert send_tasks(personal, project, tasks(0, 5), settle_first=False).sent == 5
    personal._access = "an.expired.one"
    assert send_tasks(personal, project, tasks(0, 10), settle_first=False).sent == 5
    wrong = LabelStudioClient(server, personal.token[:-4] + "AAAA")
    with pytest.raises(LabelingToolError, match="401") as raised:
        wrong.project("x")
    assert wrong.token not in str(raised.value)


def test_what_people_say_is_read_back(client, project, server):
    send_tasks(client, project, tasks(0, 6), settle_first=False)
    states = [client.state(project)]
    listed = {task.image_id: task.id for task in client.tasks(project)}
    for number, name in ((0, "4"), (0, "5"), (1, None), (3, "zebra")):
        annotate(server, listed[f"digit {number}"], name)
    # Without any class.
    api(server, "POST", f"/api/tasks/{listed['digit 2']}/annotations/", result=[])
    withdrawn = annotate(server, listed["digit 4"], "4")
    states.append(client.state(project))
    delete_annotation(server, withdrawn)
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
