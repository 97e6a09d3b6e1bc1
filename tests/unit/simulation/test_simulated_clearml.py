from __future__ import annotations

from typing import Any

import pytest

from trainyard_dispatcher.ports import NotDone, OutcomeUnknown, Refused, TaskStatus
from trainyard_simulation.clearml import ClearML, SimulatedTasks
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

BODY = {
    "name": "n",
    "hyperparams": {"Run": {"run_id": {"value": "r"}, "attempt": {"value": "1"}}},
}
QUEUE = "q-cpu"


@pytest.fixture
def server() -> ClearML:
    return ClearML(Kernel(1), ["cpu"], "default")


def in_status(server: ClearML, status: TaskStatus) -> str:
    task_id = server.create(BODY)
    server.tasks[task_id].status = status
    return task_id


# The table of the design's clearml.md; None is an answer of 200.
TABLE = [
    (TaskStatus.CREATED, {"started": True, "stopped": False, "completed": False, "failed": False, "enqueue": True}),
    (TaskStatus.QUEUED, {"started": True, "stopped": True, "completed": False, "failed": False, "enqueue": True}),
    (TaskStatus.IN_PROGRESS, {"started": True, "stopped": True, "completed": True, "failed": True, "enqueue": False}),
    (TaskStatus.STOPPED, {"started": True, "stopped": True, "completed": True, "failed": True, "enqueue": True}),
    (TaskStatus.COMPLETED, {"started": True, "stopped": False, "completed": True, "failed": False, "enqueue": False}),
    (TaskStatus.FAILED, {"started": False, "stopped": True, "completed": False, "failed": True, "enqueue": True}),
    (TaskStatus.PUBLISHED, {"started": False, "stopped": False, "completed": False, "failed": False, "enqueue": False}),
]


@pytest.mark.parametrize(("status", "call", "allowed"), [(s, c, ok) for s, row in TABLE for c, ok in row.items()])
def test_every_change_of_status_follows_the_table(
    server: ClearML, status: TaskStatus, call: str, allowed: bool
) -> None:
    task_id = in_status(server, status)

    def change() -> Any:
        if call == "started":
            return server.started(task_id)
        if call == "enqueue":
            return server.enqueue(task_id, QUEUE, "p-1", blind=False)
        return server.end(task_id, TaskStatus(call))

    if not allowed:
        with pytest.raises(Refused) as refusal:
            change()
        assert refusal.value.detail == "wrong_status"
        assert server.tasks[task_id].status is status
        return
    change()
    expected = {"started": TaskStatus.IN_PROGRESS, "enqueue": TaskStatus.QUEUED}.get(call) or TaskStatus(call)
    assert server.tasks[task_id].status is expected


def test_a_task_that_stands_in_the_queue_is_not_added_again(server: ClearML) -> None:
    task_id = server.create(BODY)
    for _ in range(2):
        server.enqueue(task_id, QUEUE, "p-1", blind=False)
    assert len(server.ledger.entries) == 1
    assert server.pop([QUEUE], "w") == task_id
    assert server.pop([QUEUE], "w") is None


def test_an_enqueue_after_a_pop_adds_a_second_entry(server: ClearML) -> None:
    task_id = server.create(BODY)
    server.enqueue(task_id, QUEUE, "p-1", blind=False)
    assert server.pop([QUEUE], "w") == task_id
    assert server.tasks[task_id].status is TaskStatus.QUEUED
    server.enqueue(task_id, QUEUE, "p-1", blind=True)
    assert [(e.status_before, e.blind) for e in server.ledger.entries] == [
        (TaskStatus.CREATED, False),
        (TaskStatus.QUEUED, True),
    ]


def test_what_does_not_exist_is_missing_or_refused(server: ClearML) -> None:
    assert server.status("nobody", "p-1") is TaskStatus.MISSING
    with pytest.raises(Refused, match="nobody"):
        server.started("nobody")
    with pytest.raises(Refused, match="q-typo"):
        server.enqueue(server.create(BODY), "q-typo", "p-1", blind=False)


def test_a_search_finds_the_tasks_of_the_runs_asked_for(server: ClearML) -> None:
    task_id = server.create(BODY)
    assert [(t.task_id, t.run_id, t.attempt) for t in server.find(["other", "r"])] == [(task_id, "r", 1)]


def sent(port: SimulatedTasks, task_id: str, outcome: Exception | None) -> None:
    """Drive one enqueue: the server applies it, the caller gets `outcome`."""
    coroutine = port.enqueue(task_id, QUEUE)
    call = coroutine.send(None)
    call.apply()
    with pytest.raises(StopIteration if outcome is None else type(outcome)):
        coroutine.send(None) if outcome is None else coroutine.throw(outcome)


def test_a_second_enqueue_is_blind_until_its_sender_saw_the_task_created(server: ClearML) -> None:
    port = SimulatedTasks(server, Process("p", 1))
    task_id = server.create(BODY)
    for outcome in (NotDone("x"), OutcomeUnknown("x")):  # what was surely not done leaves nobody blind
        sent(port, task_id, outcome)
        server.pop([QUEUE], "w")
    assert [e.blind for e in server.ledger.entries] == [False, False]
    sent(port, task_id, None)
    server.pop([QUEUE], "w")
    assert server.ledger.entries[-1].blind
    server.tasks[task_id].status = TaskStatus.CREATED
    server.status(task_id, "p-1")
    sent(port, task_id, None)
    assert not server.ledger.entries[-1].blind


def test_a_survey_sees_what_is_open_and_what_stands_in_a_queue(server: ClearML) -> None:
    queued, popped, ended = (server.create(BODY) for _ in range(3))
    server.started(ended)
    server.end(ended, TaskStatus.COMPLETED)
    for task_id in (popped, queued):
        server.enqueue(task_id, QUEUE, "p-1", blind=False)
    server.pop([QUEUE], "w")
    clone = server.clone(queued)
    foreign = server.create({"name": "n", "hyperparams": {}})
    survey = server.survey([queued, ended, "gone"], "p-1")
    assert {t: seen.status for t, seen in survey.asked.items()} == {
        queued: TaskStatus.QUEUED,
        ended: TaskStatus.COMPLETED,
    }
    assert {t.task_id for t in survey.open_tasks} == {queued, popped, clone}
    assert foreign not in survey.asked
    assert survey.entries == {queued}
    (seen,) = (t for t in survey.open_tasks if t.task_id == clone)
    assert (seen.parent, seen.attempt) == (queued, 1)
    assert seen.run_id not in ("r", "")


def test_a_popped_task_that_a_survey_saw_in_no_queue_is_no_blind_second_entry(server: ClearML) -> None:
    port = SimulatedTasks(server, Process("p", 1))
    task_id = server.create(BODY)
    sent(port, task_id, None)
    server.pop([QUEUE], "w")
    server.survey([task_id], "p-1")
    sent(port, task_id, None)
    assert [e.blind for e in server.ledger.entries] == [False, False]


def test_what_users_do_changes_the_task(server: ClearML) -> None:
    task_id = server.create(BODY)
    server.enqueue(task_id, QUEUE, "a user", blind=False)
    with pytest.raises(Refused, match="queued"):
        server.delete(task_id)
    server.reset(task_id, by_us=False)
    assert server.tasks[task_id].status is TaskStatus.CREATED
    assert not any(server.queues.values())
    server.delete(task_id)
    assert task_id not in server.tasks
    assert server.find(["r"]) == []
