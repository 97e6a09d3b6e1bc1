"""Queues: order, atomic pops, moves, and the subcodes of each refusal."""

from __future__ import annotations

import asyncio
import re

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused, Subcode


def test_a_queue_is_popped_first_in_first_out_and_then_empty(raw: Raw, made: Made) -> None:
    queue = made.queue()
    tasks = [made.task("queued", queue) for _ in range(3)]
    assert raw.entries(queue) == tasks
    popped = [raw.ok("queues.get_next_task", queue=queue)["entry"]["task"] for _ in range(3)]
    assert popped == tasks
    assert raw.ok("queues.get_next_task", queue=queue) == {}


def test_enqueue_says_what_it_did(raw: Raw, made: Made) -> None:
    queue, task = made.queue(), made.task()
    data = raw.ok("tasks.enqueue", task=task, queue=queue)
    assert (data["queued"], data["updated"]) == (1, 1)
    assert data["fields"]["status"] == "queued"
    assert data["fields"]["enqueue_status"] == "created"
    assert data["fields"]["execution.queue"] == queue


def test_a_task_is_enqueued_once_into_the_same_queue(raw: Raw, made: Made) -> None:
    queue = made.queue()
    task = made.task("queued", queue)
    assert raw("tasks.enqueue", task=task, queue=queue).code == (400, 706)
    assert raw.entries(queue) == [task]


def test_a_queued_task_moves_to_another_queue(raw: Raw, made: Made) -> None:
    one, other = made.queue(), made.queue()
    task = made.task("queued", one)
    raw.ok("tasks.enqueue", task=task, queue=other)
    assert (raw.entries(one), raw.entries(other)) == ([], [task])


def test_a_popped_task_stays_queued_and_an_enqueue_adds_an_entry_again(raw: Raw, made: Made) -> None:
    queue = made.queue()
    task = made.task("queued", queue)
    raw.ok("queues.get_next_task", queue=queue)
    assert raw.task(task)["status"] == "queued"
    raw.ok("tasks.enqueue", task=task, queue=queue)
    assert raw.entries(queue) == [task]


def test_stopped_and_failed_tasks_can_be_enqueued_again(raw: Raw, made: Made) -> None:
    queue = made.queue()
    tasks = [made.task("stopped"), made.task("failed")]
    for task in tasks:
        raw.ok("tasks.enqueue", task=task, queue=queue)
    assert raw.entries(queue) == tasks


def test_without_a_queue_a_task_goes_to_the_default_queue(raw: Raw, made: Made) -> None:
    task = made.task()
    default = raw.ok("queues.get_default")["id"]
    assert raw.ok("tasks.enqueue", task=task)["fields"]["execution.queue"] == default
    assert task in raw.entries(default)
    raw.ok("tasks.dequeue", task=task)
    assert task not in raw.entries(default)


def test_an_unknown_queue_name_makes_the_queue(raw: Raw, made: Made) -> None:
    task, name = made.task(), made.name("typo")
    queue = raw.ok("tasks.enqueue", task=task, queue_name=name)["fields"]["execution.queue"]
    made.queues.append(queue)
    found = raw.ok("queues.get_all", name=f"^{re.escape(name)}$", only_fields=["id", "name"])["queues"]
    assert [(one["id"], one["name"]) for one in found] == [(queue, name)]


def test_an_unknown_queue_is_701(raw: Raw, made: Made) -> None:
    nobody, task = "0" * 32, made.task()
    assert raw("tasks.enqueue", task=task, queue=nobody).code == (400, 701)
    assert raw("queues.get_next_task", queue=nobody).code == (400, 701)
    assert raw("queues.get_by_id", queue=nobody).code == (400, 701)


def test_an_unknown_task_cannot_be_enqueued(raw: Raw, made: Made) -> None:
    assert raw("tasks.enqueue", task="0" * 32, queue=made.queue()).code == (400, 101)


def test_a_queue_with_entries_is_deleted_with_force_only(raw: Raw, made: Made) -> None:
    queue = made.queue()
    made.task("queued", queue)
    assert raw("queues.delete", queue=queue).code == (400, 702)
    assert raw("queues.delete", queue=queue, force=True).code == (200, 0)
    assert raw("queues.get_by_id", queue=queue).code == (400, 701)


def test_a_task_that_is_not_in_the_queue_cannot_be_removed_from_it(raw: Raw, made: Made) -> None:
    queue = made.queue()
    assert raw("queues.remove_task", queue=queue, task=made.task()).code == (400, 703)


def test_a_queue_s_name_is_taken_once(raw: Raw, made: Made) -> None:
    name = raw.ok("queues.get_by_id", queue=made.queue())["queue"]["name"]
    assert raw("queues.create", name=name).code == (400, 801)


def test_a_name_filter_is_a_regular_expression(raw: Raw, made: Made) -> None:
    queue = made.queue()
    name = raw.ok("queues.get_by_id", queue=queue)["queue"]["name"]
    for pattern in (name, f"^{name}$", f"^queue.{name.split()[1][:20]}", f"{name.split()[1][:20]}"):
        found = raw.ok("queues.get_all", name=pattern, only_fields=["id"])["queues"]
        assert [one["id"] for one in found] == [queue], pattern


def test_enqueue_many_says_who_failed_and_why(raw: Raw, made: Made) -> None:
    queue, good, bad = made.queue(), made.task(), "0" * 32
    data = raw.ok("tasks.enqueue_many", ids=[good, bad], queue=queue)
    assert [one["id"] for one in data["succeeded"]] == [good]
    assert [one["id"] for one in data["failed"]] == [bad]
    assert data["failed"][0]["error"]["codes"] == [400, 101]
    assert raw.entries(queue) == [good]


def test_of_many_who_pop_at_once_one_gets_each_task(clearml_server: ClearMLServer, made: Made) -> None:
    queue = made.queue()
    tasks = {made.task("queued", queue) for _ in range(12)}

    async def act(client: ClearMLClient) -> list[str]:
        popped: list[str] = []

        async def popper() -> None:
            while (task := await client.get_next_task(queue)) is not None:
                popped.append(task)

        await asyncio.gather(*(popper() for _ in range(8)))
        return popped

    popped = with_client(clearml_server, act)
    assert len(popped) == len(tasks)
    assert set(popped) == tasks


def test_of_many_who_enqueue_at_once_one_succeeds(clearml_server: ClearMLServer, raw: Raw, made: Made) -> None:
    queue, task = made.queue(), made.task()

    async def act(client: ClearMLClient) -> list[object]:
        return list(await asyncio.gather(*(client.enqueue_task(task, queue) for _ in range(6)), return_exceptions=True))

    outcomes = with_client(clearml_server, act)
    refused = [one for one in outcomes if isinstance(one, ClearMLRefused)]
    raced = {Subcode.ALREADY_IN_QUEUE, Subcode.LOST_STATUS_RACE, Subcode.TASK_NOT_IN_QUEUE}
    assert {one.subcode for one in refused} <= raced
    assert len(outcomes) - len(refused) == 1
    assert raw.entries(queue) == [task]


def test_the_client_lists_queues_with_their_entries_in_order(clearml_server: ClearMLServer, made: Made) -> None:
    queue = made.queue()
    tasks = [made.task("queued", queue) for _ in range(2)]

    async def act(client: ClearMLClient) -> None:
        mine = {one.id: one for one in await client.queues()}[queue]
        assert [entry.task_id for entry in mine.entries] == tasks
        assert mine.entries[0].added <= mine.entries[1].added
        assert await client.remove_from_queue(queue, tasks[0])
        assert not await client.remove_from_queue(queue, tasks[0])
        assert await client.get_next_task(queue) == tasks[1]
        await client.delete_queue(queue)

    with_client(clearml_server, act)


def test_the_client_makes_a_queue_or_project_once_and_by_its_exact_name(
    clearml_server: ClearMLServer, made: Made
) -> None:
    name = f"{made.name('ensured')} (c++) [v1.0]"

    async def act(client: ClearMLClient) -> None:
        longer = await client.ensure_queue(f"{name}-gpu")
        queue = await client.ensure_queue(name)
        made.queues.extend((longer, queue))
        assert queue != longer
        assert await client.ensure_queue(name) == queue
        project = await client.ensure_project(name)
        made.projects.append(project)
        assert await client.ensure_project(name) == project
        assert await client.project_name(project) == name
        assert await client.project_name("0" * 32) is None

    with_client(clearml_server, act)


def test_clients_that_make_the_same_queue_at_once_get_the_same(clearml_server: ClearMLServer, made: Made) -> None:
    name = made.name("raced")

    async def act(client: ClearMLClient) -> set[str]:
        return set(await asyncio.gather(*(client.ensure_queue(name) for _ in range(5))))

    ids = with_client(clearml_server, act)
    made.queues.extend(ids)
    assert len(ids) == 1


def test_a_worker_keeps_the_id_of_a_queue_that_is_gone(raw: Raw, made: Made) -> None:
    worker, kept, gone = made.name("worker"), made.queue(), made.queue()
    raw.ok("workers.register", worker=worker, queues=[kept, gone], timeout=600)
    raw.ok("queues.delete", queue=gone, force=True)
    (seen,) = [one for one in raw.ok("workers.get_all")["workers"] if one["id"] == worker]
    raw.ok("workers.unregister", worker=worker)
    named = {queue["id"]: queue.get("name") for queue in seen["queues"]}
    assert named.keys() == {kept, gone}
    assert named[kept]
    assert named[gone] is None
