"""The planner's port to ClearML, on a real server: what happened, what certainly did not, and what nobody knows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_dispatcher.clearml_tasks import UNKNOWN_QUEUE, ClearMLTasks
from trainyard_dispatcher.ports import FoundTask, NotDone, OutcomeUnknown, Refused, TaskStatus, UnseenModel
from trainyard_runtime.clearml import ClearMLClient, hyperparams
from trainyard_schemas.ids import run_id_from_event
from trainyard_schemas.vocabulary import CLONE_SOURCE, UNSEEN_TAG

PREFIX = "p."


def body(run_id: str, attempt: int = 1, prefix: str = PREFIX) -> dict[str, Any]:
    run = {"run_id": run_id, "attempt": str(attempt), "topic_prefix": prefix}
    return {"name": "a task", "type": "training", "hyperparams": hyperparams({"Run": run})}


def on(
    server: ClearMLServer, scenario: Callable[[ClearMLTasks, ClearMLClient], Awaitable[None]], **options: Any
) -> None:
    async def work() -> None:
        async with ClearMLClient(server.settings()) as client:
            await scenario(ClearMLTasks(client, PREFIX, "default", **options), client)

    asyncio.run(work())


def test_a_task_goes_its_way_and_is_found_by_its_run(clearml_server: ClearMLServer) -> None:
    run_id, queue = str(uuid.uuid4()), f"q-{uuid.uuid4().hex[:8]}"

    async def scenario(tasks: ClearMLTasks, client: ClearMLClient) -> None:
        await tasks.ensure_queues([queue])
        queue_id = await tasks.queue_id(queue)
        task_id = await tasks.create("a project", body(run_id))
        assert await tasks.status(task_id) is TaskStatus.CREATED
        assert await tasks.find([run_id]) == [FoundTask(task_id, run_id, 1, TaskStatus.CREATED)]
        await tasks.enqueue(task_id, queue_id)
        await tasks.enqueue(task_id, queue_id)
        entries = {q.id: q.entries for q in await client.queues()}[queue_id]
        assert [entry.task_id for entry in entries] == [task_id]
        assert await tasks.status(task_id) is TaskStatus.QUEUED
        await client.get_next_task(queue_id)
        await client.task_started(task_id)
        await tasks.close(task_id, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED, "done")
        assert await tasks.status(task_id) is TaskStatus.COMPLETED
        with pytest.raises(Refused) as found:
            await tasks.enqueue(task_id, queue_id)
        assert found.value.detail == "wrong_status"
        await client.delete_task(task_id, force=True)
        assert await tasks.status(task_id) is TaskStatus.MISSING
        with pytest.raises(Refused) as gone:
            await tasks.enqueue(task_id, queue_id)
        assert gone.value.detail == "no_such_task"

    on(clearml_server, scenario)


def test_clones_and_the_tasks_of_another_trainyard_are_not_ours(clearml_server: ClearMLServer) -> None:
    run_id = str(uuid.uuid4())

    async def scenario(tasks: ClearMLTasks, client: ClearMLClient) -> None:
        ours = await tasks.create("a project", body(run_id))
        await tasks.create("a project", body(run_id, prefix="other."))
        await client.clone_task(ours, "a clone")
        assert [found.task_id for found in await tasks.find([run_id])] == [ours]
        assert await tasks.find([]) == []

    on(clearml_server, scenario)


def test_a_survey_shows_what_is_open_what_stands_in_a_queue_and_what_nobody_sees_yet(
    clearml_server: ClearMLServer,
) -> None:
    run_id, prefix, queue = str(uuid.uuid4()), f"{uuid.uuid4().hex[:6]}.", f"q-{uuid.uuid4().hex[:8]}"

    async def work() -> None:
        async with ClearMLClient(clearml_server.settings()) as client:
            tasks = ClearMLTasks(client, prefix, "default")
            await tasks.ensure_queues([queue])
            queue_id = await tasks.queue_id(queue)
            queued, popped, created = [await tasks.create("a project", body(run_id, n, prefix)) for n in (1, 2, 3)]
            for task_id in (popped, queued):
                await tasks.enqueue(task_id, queue_id)
            assert await client.get_next_task(queue_id) == popped
            clone = await client.clone_task(queued, "a clone")
            foreign = await client.create_task({"name": "foreign", "type": "training"})
            model = await client.create_model(
                {
                    "name": "unseen",
                    "uri": "http://files/m",
                    "tags": ["mine", UNSEEN_TAG],
                    "system_tags": ["archived"],
                    "metadata": {
                        key: {"key": key, "type": "str", "value": value}
                        for key, value in (("run_id", run_id), ("attempt", "2"), ("claim", "c1"))
                    },
                }
            )
            survey = await tasks.survey([queued, foreign, "0" * 32])
            assert {t: s.status for t, s in survey.asked.items()} == {
                queued: TaskStatus.QUEUED,
                foreign: TaskStatus.CREATED,
            }
            seen = {t.task_id: t for t in survey.open_tasks}
            assert seen.keys() == {queued, popped, created, clone}
            assert (seen[popped].run_id, seen[popped].attempt, seen[popped].queue_id) == (run_id, 2, queue_id)
            assert seen[clone].parent == queued
            assert seen[clone].run_id == run_id_from_event("default", CLONE_SOURCE, clone)
            assert queued in survey.entries
            assert popped not in survey.entries
            assert UnseenModel(model, run_id, 2, "c1") in survey.unseen_models
            assert await tasks.adoptable(clone) is None
            assert "no clone" in (await tasks.adoptable(queued) or "")
            assert "does not exist" in (await tasks.adoptable("0" * 32) or "")

            await tasks.reveal_model(model)
            shown = await client.get_model(model)
            assert shown is not None
            assert (shown["tags"], shown["system_tags"]) == (["mine"], [])
            await tasks.delete_model(model)
            await tasks.delete_model(model)
            await tasks.reveal_model(model)

            await tasks.close(queued, TaskStatus.QUEUED, TaskStatus.STOPPED, "over")
            await tasks.close(popped, TaskStatus.QUEUED, TaskStatus.FAILED, "over")
            await tasks.delete(created)
            await tasks.delete(created)
            after = await tasks.survey([queued, popped, created])
            assert {t: s.status for t, s in after.asked.items()} == {
                queued: TaskStatus.STOPPED,
                popped: TaskStatus.FAILED,
            }
            assert queued not in after.entries

    asyncio.run(work())


def test_a_reset_of_ours_is_told_from_a_users_and_can_be_undone(clearml_server: ClearMLServer) -> None:
    async def scenario(tasks: ClearMLTasks, client: ClearMLClient) -> None:
        task_id = await tasks.create("a project", body(str(uuid.uuid4())))
        await client.task_started(task_id)
        before = (await tasks.survey([task_id])).asked[task_id]
        assert not before.was_reset_by_us
        await tasks.reset(task_id)
        after = (await tasks.survey([task_id])).asked[task_id]
        assert (after.status, after.was_reset_by_us) == (TaskStatus.CREATED, True)
        assert after.sign_of_life != before.sign_of_life
        await tasks.restart(task_id)
        assert await tasks.status(task_id) is TaskStatus.IN_PROGRESS

    on(clearml_server, scenario)


def test_an_unknown_queue_is_refused_by_name_or_made_as_configured(clearml_server: ClearMLServer) -> None:
    name = f"q-{uuid.uuid4().hex[:8]}"

    async def refused(tasks: ClearMLTasks, client: ClearMLClient) -> None:
        with pytest.raises(Refused, match=name) as found:
            await tasks.queue_id(name)
        assert found.value.detail == UNKNOWN_QUEUE

    async def made(tasks: ClearMLTasks, client: ClearMLClient) -> None:
        queue_id = await tasks.queue_id(name)
        assert name in {queue.name for queue in await client.queues() if queue.id == queue_id}

    on(clearml_server, refused)
    on(clearml_server, made, create_unknown_queues=True)


def test_a_queue_that_was_deleted_is_looked_up_again(clearml_server: ClearMLServer) -> None:
    name = f"q-{uuid.uuid4().hex[:8]}"

    async def scenario(tasks: ClearMLTasks, client: ClearMLClient) -> None:
        await tasks.ensure_queues([name])
        old = await tasks.queue_id(name)
        task_id = await tasks.create("a project", body(str(uuid.uuid4())))
        await client.delete_queue(old)
        with pytest.raises(Refused) as found:
            await tasks.enqueue(task_id, old)
        assert found.value.detail == UNKNOWN_QUEUE
        new = await client.ensure_queue(name)
        assert await tasks.queue_id(name) == new != old

    on(clearml_server, scenario)


def test_wrong_credentials_are_no_runs_fault(clearml_server: ClearMLServer) -> None:
    async def work() -> None:
        async with ClearMLClient(clearml_server.settings(access_key="nobody")) as client:
            with pytest.raises(NotDone):
                await ClearMLTasks(client, PREFIX, "default").create("a project", body(str(uuid.uuid4())))

    asyncio.run(work())


def test_a_server_that_is_not_there_did_certainly_nothing(clearml_server: ClearMLServer) -> None:
    async def work() -> None:
        settings = clearml_server.settings(api_host="http://127.0.0.1:9")
        async with ClearMLClient(settings) as client:
            with pytest.raises(NotDone):
                await ClearMLTasks(client, PREFIX, "default").enqueue("t", "q")

    asyncio.run(work())


def test_an_answer_that_is_cut_off_leaves_the_outcome_unknown(clearml_server: ClearMLServer) -> None:
    async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"auth.login" in head:
            answer = b'{"meta":{"result_code":200,"result_subcode":0,"result_msg":"OK"},"data":{"token":"t"}}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
            await writer.drain()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(cut_off, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, ClearMLClient(clearml_server.settings(api_host=f"http://127.0.0.1:{port}")) as client:
            tasks = ClearMLTasks(client, PREFIX, "default")
            with pytest.raises(OutcomeUnknown):
                await tasks.enqueue("t", "q")
            with pytest.raises(NotDone):
                await tasks.status("t")

    asyncio.run(work())
