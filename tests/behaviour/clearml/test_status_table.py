"""Every cell of the status table: what each status change answers from each status, without `force`."""

from __future__ import annotations

import time

import pytest

from tests.behaviour.clearml.raw import Made, Raw

CHANGES = ("started", "stopped", "completed", "failed", "enqueue", "publish", "reset", "delete")

TABLE = {
    "created": (0, 110, 110, 110, 0, 110, 0, 0),
    "queued": (0, 0, 110, 110, 706, 110, 0, 123),
    "in_progress": (0, 0, 0, 0, 110, 110, 0, 123),
    "stopped": (0, 0, 0, 0, 0, 0, 0, 123),
    "completed": (0, 110, 0, 110, 110, 0, 0, 123),
    "failed": (110, 0, 110, 0, 0, 0, 0, 123),
    "published": (110, 110, 110, 110, 110, 110, 110, 123),
}
"""0 is accepted, else the subcode of the 400; the queued task is enqueued into the queue where it is."""

AFTER = {
    "started": "in_progress",
    "stopped": "stopped",
    "completed": "completed",
    "failed": "failed",
    "enqueue": "queued",
    "publish": "published",
    "reset": "created",
}

CELLS = [
    (status, change, subcode) for status, row in TABLE.items() for change, subcode in zip(CHANGES, row, strict=True)
]


@pytest.mark.parametrize(("status", "change", "subcode"), CELLS, ids=[f"{one[0]}-{one[1]}" for one in CELLS])
def test_a_status_change_is_answered_as_the_table_says(
    raw: Raw, made: Made, status: str, change: str, subcode: int
) -> None:
    queue = made.queue()
    task = made.task(status, queue)
    assert raw.task(task)["status"] == status
    answer = raw(f"tasks.{change}", {"task": task, "queue": queue} if change == "enqueue" else {"task": task})
    assert answer.code == ((400, subcode) if subcode else (200, 0))
    if subcode:
        assert raw.task(task)["status"] == status
    elif change == "delete":
        assert raw("tasks.get_by_id", task=task).code == (400, 101)
    else:
        assert raw.task(task)["status"] == AFTER[change]


@pytest.mark.parametrize("change", ["stopped", "stop", "completed", "failed", "reset", "delete", "publish"])
def test_a_task_that_does_not_exist_is_101(raw: Raw, change: str) -> None:
    assert raw(f"tasks.{change}", task="0" * 32).code == (400, 101)


def test_a_task_that_does_not_exist_is_10_for_started(raw: Raw) -> None:
    assert raw("tasks.started", task="0" * 32).code == (400, 10)


def test_a_task_that_is_started_again_after_its_end_says_started_anew(raw: Raw, made: Made) -> None:
    task = made.task("stopped")
    assert "started" in raw("tasks.started", task=task).data["fields"]
    assert raw.task(task).get("completed") is None


def test_started_answers_every_caller_and_only_the_first_answer_says_started(raw: Raw, made: Made) -> None:
    task = made.task("queued")
    first, second = raw("tasks.started", task=task), raw("tasks.started", task=task)
    assert first.code == second.code == (200, 0)
    assert "started" in first.data["fields"]
    assert "started" not in second.data["fields"]


def test_reason_and_message_of_a_change_are_kept(raw: Raw, made: Made) -> None:
    task = made.task("in_progress")
    raw.ok("tasks.failed", task=task, status_reason="out_of_memory", status_message="it needed 40 GiB")
    found = raw.task(task)
    assert (found["status_reason"], found["status_message"]) == ("out_of_memory", "it needed 40 GiB")


def test_a_task_that_is_not_created_is_deleted_with_force(raw: Raw, made: Made) -> None:
    task = made.task("in_progress")
    assert raw.ok("tasks.delete", task=task, force=True)["deleted"]
    assert raw("tasks.get_by_id", task=task).code == (400, 101)


def test_an_edit_outside_of_created_needs_force(raw: Raw, made: Made) -> None:
    task = made.task("in_progress")
    assert raw("tasks.edit", task=task, comment="refused").code == (400, 110)
    assert raw("tasks.edit", task=task, comment="taken", force=True).code == (200, 0)
    assert raw.task(task)["comment"] == "taken"


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("created", "created"),
        ("queued", "created"),
        ("in_progress", "created"),
        ("stopped", "stopped"),
        ("failed", "failed"),
        ("completed", "completed"),
    ],
)
def test_dequeue_always_succeeds_and_changes_what_waits_or_runs(raw: Raw, made: Made, status: str, after: str) -> None:
    queue = made.queue()
    task = made.task(status, queue)
    answer = raw("tasks.dequeue", task=task)
    assert answer.code == (200, 0)
    assert answer.data["updated"] == int(status in ("queued", "in_progress"))
    assert raw.task(task)["status"] == after
    assert raw.entries(queue) == []


def test_dequeue_gives_back_the_status_from_before_the_queue(raw: Raw, made: Made) -> None:
    first, second = made.queue(), made.queue()
    task = made.task("failed")
    for queue in (first, second):
        raw.ok("tasks.enqueue", task=task, queue=queue)
    assert raw.entries(first) == []
    raw.ok("tasks.dequeue", task=task)
    assert raw.task(task)["status"] == "failed"
    assert raw.entries(second) == []


def test_dequeue_sets_the_new_status_that_is_given(raw: Raw, made: Made) -> None:
    task = made.task("queued")
    raw.ok("tasks.dequeue", task=task, new_status="stopped")
    assert raw.task(task)["status"] == "stopped"


def test_a_queued_task_that_says_stopped_leaves_its_entry_and_one_that_is_stopped_does_not(
    raw: Raw, made: Made
) -> None:
    queue = made.queue()
    task = made.task("queued", queue)
    raw.ok("tasks.stopped", task=task)
    assert raw.entries(queue) == [task]
    assert raw("tasks.enqueue", task=task, queue=queue).code == (400, 706)
    assert raw.task(task)["status"] == "stopped"
    other = made.task("queued", queue)
    raw.ok("tasks.stop", task=other)
    assert raw.task(other)["status"] == "stopped"
    assert raw.entries(queue) == [task]


@pytest.mark.parametrize("action", ["stop", "stop_many"])
def test_a_task_that_a_worker_is_at_is_only_told_to_stop(raw: Raw, made: Made, action: str) -> None:
    alone, worked_at = made.task("in_progress"), made.task("in_progress")
    worker = made.name("worker")
    raw.ok("workers.register", worker=worker, queues=[made.queue()], timeout=600)
    raw.ok("workers.status_report", worker=worker, timestamp=int(time.time() * 1000), task=worked_at)
    raw.ok("workers.unregister", worker=worker)
    for task in (alone, worked_at):
        raw.ok(f"tasks.{action}", **({"task": task} if action == "stop" else {"ids": [task]}))
    assert raw.task(alone)["status"] == "stopped"
    told = raw.task(worked_at)
    assert (told["status"], told["status_message"]) == ("in_progress", "stopping")
    raw.ok("tasks.stopped", task=worked_at, status_message="it obeyed")
    assert raw.task(worked_at)["status_message"] == "it obeyed"


def test_a_task_that_never_ran_cannot_be_stopped(raw: Raw, made: Made) -> None:
    assert raw("tasks.stop", task=made.task()).code == (400, 110)
