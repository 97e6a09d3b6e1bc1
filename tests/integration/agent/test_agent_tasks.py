"""What the body under an agent tells ClearML, and what it leaves unsaid."""

from __future__ import annotations

import asyncio

import pytest

from tests.behaviour.clearml.raw import Raw
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient
from trainyard_trainer_worker.agent_body import AgentTasks
from trainyard_trainer_worker.ports import TaskEnd


@pytest.fixture
def task_id(raw: Raw) -> str:
    """A task that an agent has begun."""
    made: str = raw.ok("tasks.create", name="under an agent", type="training")["id"]
    raw.ok("tasks.started", task=made)
    return made


def tell(server: ClearMLServer, task_id: str, *, end: TaskEnd | None) -> None:
    """Tell ClearML that the run starts and, where it has an end, that it ended so."""

    async def both() -> None:
        async with ClearMLClient(server.settings()) as client:
            tasks = AgentTasks(client, task_id)
            await tasks.started(task_id)
            if end is not None:
                await tasks.close(task_id, end, reason="", message="")

    asyncio.run(both())


def test_a_users_stop_that_comes_as_the_run_starts_is_not_hidden(
    clearml_server: ClearMLServer, raw: Raw, task_id: str
) -> None:
    raw.ok("tasks.stopped", task=task_id, status_reason="a user's abort")
    tell(clearml_server, task_id, end=None)
    assert raw.task(task_id)["status"] == "stopped"


def test_a_task_that_somebody_reset_is_closed_as_the_log_says(
    clearml_server: ClearMLServer, raw: Raw, task_id: str
) -> None:
    raw.ok("tasks.reset", task=task_id, force=True)
    tell(clearml_server, task_id, end=TaskEnd.COMPLETED)
    assert raw.task(task_id)["status"] == "completed"
