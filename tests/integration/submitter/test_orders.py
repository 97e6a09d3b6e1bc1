"""Orders about runs, and what a run left, on a real broker and the ClearML-compatible server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.submitter.conftest import Append, Run
from tests.unit.submitter.story import CLAIM, TASK, accepted, completed, dispatched, started, whole_life
from trainyard_runtime.clearml import ClearMLClient, log_event
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncReader
from trainyard_schemas import events as ev
from trainyard_schemas.commands import RunCommand, parse_command
from trainyard_schemas.envelope import decode
from trainyard_schemas.ids import Origin, partition_of
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_schemas.vocabulary import CommandName, EventType, Reason
from trainyard_submitter import Client, RunEnded, SubmitterError
from trainyard_submitter.client import this_actor


class Commands:
    """What stands on `runs.commands`."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._reader = SyncReader(Address(bootstrap))
        self._topic = f"{prefix}runs.commands"

    def of(self, run_id: str) -> list[RunCommand]:
        position = (self._topic, partition_of(run_id, RUN_PARTITIONS))
        records = self._reader.read_to_end(self._reader.beginnings([position]))
        found = [decode(record.value, record.headers) for record in records if record.key == run_id.encode()]
        assert all(envelope.type == EventType.RUN_COMMAND for envelope in found)
        return [parse_command(envelope.data) for envelope in found]

    def first(self, run_id: str) -> RunCommand:
        deadline = time.monotonic() + 30
        while not (found := self.of(run_id)):
            assert time.monotonic() < deadline, "no command was published"
            time.sleep(0.05)
        return found[0]

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def commands(kafka_bootstrap: str, prefix: str) -> Iterator[Commands]:
    made = Commands(kafka_bootstrap, prefix)
    yield made
    made.close()


@pytest.fixture
def running(append: Append) -> str:
    """A run that a worker trains."""
    run_id = str(uuid.uuid4())
    append([accepted(run_id, _origin()), dispatched(run_id), started(run_id)])
    return run_id


def _origin() -> Origin:
    return Origin("t", 0, uuid.uuid4().int % 2**40, 1)


def _cancelled(run_id: str, command: RunCommand) -> list[ev.Fact]:
    assert command.command_id is not None
    end = completed(run_id).model_dump(exclude={"state", "results"})
    return [
        ev.RunCancelRequested(
            run_id=run_id, actor=command.actor, message=command.message, command_id=command.command_id
        ),
        ev.AttemptCancelled(run_id=run_id, attempt=1, task_id=TASK, claim=CLAIM, message="cancelled by a user"),
        ev.RunCancelled(**end, reason=Reason.USER, message="cancelled by a user"),
    ]


def test_cancel_publishes_who_asks_and_why_and_waits_for_the_end(
    append: Append,
    running: str,
    commands: Commands,
    environment: dict[str, str],
) -> None:
    asking = subprocess.Popen(
        [sys.executable, "-m", "trainyard_submitter", "runs", "cancel", running, "-m", "wrong label", "--json"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    command = commands.first(running)
    assert (command.command, command.actor, command.message) == (CommandName.CANCEL, this_actor(), "wrong label")
    append(_cancelled(running, command))
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    shown = json.loads(out)
    assert (shown["run_id"], shown["state"], shown["command_id"]) == (running, "cancelled", command.command_id)


def test_cancelling_an_ended_run_exits_6_and_publishes_nothing(
    trainyard: Run,
    append: Append,
    commands: Commands,
) -> None:
    run_id = str(uuid.uuid4())
    append(whole_life(run_id, _origin()))
    done = trainyard("runs", "cancel", run_id, "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["error"]["type"] == "RunEnded"
    assert "has ended as completed" in done.stderr
    assert commands.of(run_id) == []


def test_an_unanswered_cancel_says_so_and_the_run_goes_on(trainyard: Run, running: str) -> None:
    done = trainyard("runs", "cancel", running, "--timeout", "1")
    assert done.returncode == 1
    assert "had not ended after 1 s" in done.stderr


def test_an_unknown_run_and_a_message_of_two_lines_are_refused(trainyard: Run, running: str) -> None:
    assert trainyard("runs", "cancel", str(uuid.uuid4())).returncode == 3
    done = trainyard("runs", "cancel", running, "-m", "one\ntwo")
    assert done.returncode == 3
    assert "message" in done.stderr


def test_prioritise_waits_for_the_planner_s_word(
    append: Append,
    commands: Commands,
    environment: dict[str, str],
) -> None:
    run_id = str(uuid.uuid4())
    append([accepted(run_id, _origin())])
    asking = subprocess.Popen(
        [sys.executable, "-m", "trainyard_submitter", "runs", "prioritise", run_id, "9", "--json"],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    command = commands.first(run_id)
    assert (command.command, command.priority) == (CommandName.REPRIORITISE, 9)
    assert command.command_id is not None
    append([ev.RunReprioritised(run_id=run_id, actor="a", command_id=command.command_id, priority=9)])
    out, _ = asking.communicate(timeout=60)
    assert (asking.returncode, json.loads(out)["priority"]) == (0, 9)


def test_a_retry_is_a_new_run_with_the_same_content_that_names_the_old_one(
    client: Client, append: Append, running: str
) -> None:
    run_id = str(uuid.uuid4())
    append(whole_life(run_id, _origin()))
    again = client.retry(run_id)
    assert again.run_id != run_id
    assert again.request.retry_of == run_id
    old = client.get(run_id)
    assert old is not None
    assert again.request.to_json() | {"retry_of": None} == dict(old.request)
    assert client.retry(run_id).run_id != again.run_id
    with pytest.raises(SubmitterError, match="has not ended"):
        client.retry(running)
    with pytest.raises(RunEnded):
        client.prioritise(run_id, 3)


def test_why_asks_clearml_who_serves_the_queue(
    trainyard: Run,
    append: Append,
    made: Made,
    raw: Raw,
    clearml: dict[str, str],
) -> None:
    run_id, queue, task = str(uuid.uuid4()), made.queue(), made.task()
    raw.ok("tasks.enqueue", task=task, queue=queue)
    facts = ev.AttemptDispatched(run_id=run_id, attempt=1, task_id=task, queue="lonely", queue_id=queue)
    append([accepted(run_id, _origin()), facts])
    done = trainyard("why", run_id, **clearml)
    assert done.returncode == 0
    assert "with 0 before it, and no worker serves that queue" in done.stdout
    raw.ok("workers.register", worker="lab:7", queues=[queue], timeout=600)
    assert "lab:7 serves that queue" in trainyard("why", run_id, **clearml).stdout
    raw.ok("workers.unregister", worker="lab:7")


def test_logs_are_the_console_of_the_task_in_order_and_nothing_is_lost_between_pages(
    trainyard: Run,
    append: Append,
    made: Made,
    clearml: dict[str, str],
    clearml_server: ClearMLServer,
) -> None:
    run_id, task = str(uuid.uuid4()), made.task("in_progress")
    now_ms = int(time.time() * 1000)
    lines = [f"line {number}" for number in range(1_203)]

    async def act(client: ClearMLClient) -> None:
        # Five lines a millisecond, so that a page ends within one.
        await client.add_events([log_event(task, one, timestamp_ms=now_ms + i // 5) for i, one in enumerate(lines)])

    with_client(clearml_server, act)
    append([accepted(run_id, _origin()), dispatched(run_id).model_copy(update={"task_id": task})])
    done = trainyard("runs", "logs", run_id, **clearml)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == lines


def test_artifacts_are_fetched_with_their_hashes_checked(
    trainyard: Run,
    append: Append,
    clearml: dict[str, str],
    clearml_server: ClearMLServer,
    tmp_path: Path,
) -> None:
    good, bad = b"a,b\n1,2\n", b"other bytes"
    urls: list[str] = []

    async def act(client: ClearMLClient) -> None:
        for name in ("good.csv", "bad.csv"):
            urls.append(await client.upload_file(f"{uuid.uuid4()}/{name}", good))

    with_client(clearml_server, act)
    entries: list[Any] = [
        {"name": "metrics", "uri": urls[0], "sha256": hashlib.sha256(good).hexdigest(), "bytes": len(good)}
    ]
    run_id = str(uuid.uuid4())
    append(_with_artifacts(run_id, entries))
    done = trainyard("runs", "artifacts", run_id, "--get", str(tmp_path / "got"), "--json", **clearml)
    assert done.returncode == 0, done.stderr
    (shown,) = json.loads(done.stdout)["artifacts"]
    assert Path(shown["path"]).read_bytes() == good

    lying = str(uuid.uuid4())
    changed = {**entries[0], "uri": urls[1], "sha256": hashlib.sha256(bad).hexdigest()}
    append(_with_artifacts(lying, [changed]))
    done = trainyard("runs", "artifacts", lying, "--get", str(tmp_path / "bad"), **clearml)
    assert done.returncode == 3
    assert "SHA-256 differs" in done.stderr
    assert list((tmp_path / "bad").iterdir()) == []


def _with_artifacts(run_id: str, entries: list[Any]) -> list[ev.Fact]:
    facts: list[ev.Fact] = []
    for fact in whole_life(run_id, _origin()):
        if isinstance(fact, ev.AttemptSucceeded | ev.RunCompleted):
            fact = fact.model_copy(update={"results": {**fact.results, "model": None, "artifacts": entries}})
        facts.append(fact)
    return facts
