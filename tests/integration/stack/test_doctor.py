"""The doctor's questions to a real ClearML API, under the faults that users report: each has a hint of its own."""

from __future__ import annotations

import asyncio
import socket

import pytest
from pydantic import SecretStr

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_devstack import diagnosis
from trainyard_devstack.findings import Finding, Level
from trainyard_devstack.probing import ask_clearml
from trainyard_runtime.clearml import ClearMLClient, ClearMLSettings

RUN = "0b38f3fc-7f59-5a8b-9e40-bb01429ce2b5"


def findings(settings: ClearMLSettings, task_id: str | None = None) -> list[Finding]:
    """What the doctor says of this ClearML and of this task."""
    answer, task = ask_clearml(settings, None if task_id is None else (RUN, task_id))
    return [diagnosis.clearml(answer), *([diagnosis.task(task)] if task is not None else [])]


@pytest.fixture
def task_id(clearml_server: ClearMLServer) -> str:
    """A task in a project."""

    async def make() -> str:
        async with ClearMLClient(clearml_server.settings()) as client:
            project = await client.ensure_project("Doctor's")
            return await client.create_task({"name": "wine", "type": "training", "project": project})

    return asyncio.run(make())


def test_a_sound_clearml_and_a_task_in_its_project_are_well(clearml_server: ClearMLServer, task_id: str) -> None:
    well, task = findings(clearml_server.settings(), task_id)
    assert (well.level, task.level) == (Level.OK, Level.OK)
    assert "'wine' in project 'Doctor's', created" in task.message


def test_wrong_keys_are_told_from_a_wrong_address(clearml_server: ClearMLServer) -> None:
    sound = clearml_server.settings()
    wrong = sound.model_copy(update={"secret_key": SecretStr("planted-secret-1234")})
    (refused,) = findings(wrong, "any")
    assert (refused.level, "authentication failed" in refused.message) == (Level.CHANGE, True)
    assert "planted-secret-1234" not in refused.message
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = sound.model_copy(update={"api_host": f"http://127.0.0.1:{closed.getsockname()[1]}"})
        (silent,) = findings(nobody, "any")
    assert (silent.level, "connection error" in silent.message) == (Level.FAILS, True)


def test_a_task_that_is_gone_or_archived_is_explained(clearml_server: ClearMLServer, task_id: str) -> None:
    settings = clearml_server.settings()
    _, gone = findings(settings, "0" * 32)
    assert (gone.level, "another workspace" in gone.message) == (Level.CHANGE, True)

    async def archive() -> None:
        async with ClearMLClient(settings) as client:
            await client.edit_task(task_id, {"system_tags": ["archived"]})

    asyncio.run(archive())
    _, archived = findings(settings, task_id)
    assert (archived.level, "is archived" in archived.message) == (Level.NOTE, True)
