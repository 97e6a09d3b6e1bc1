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
    return ClearML(Kernel(1), ["cpu"])


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


def test_a_late_started_reopens_a_closed_task_and_is_told_from_the_first(server: ClearML) -> None:
    task_id = server.create(BODY)
    server.started(task_id)
    assert not server.tasks[task_id].reopened
    server.end(task_id, TaskStatus.COMPLETED)
    server.started(task_id)
    assert server.tasks[task_id].reopened
