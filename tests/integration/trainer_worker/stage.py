"""A broker, a ClearML server and dispatched attempts, with workers as processes: all that a worker's test needs.

The dispatcher is played by hand: accepted, create, dispatched, enqueue, queued.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_dispatcher.task_body import task_body
from trainyard_runtime.clearml import ClearMLClient
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.outbox import Outbox
from trainyard_schemas.envelope import Envelope, decode
from trainyard_schemas.events import (
    AttemptDispatched,
    AttemptQueued,
    AttemptSucceeded,
    Event,
    Fact,
    OriginRecord,
    RunAccepted,
    decode_event,
    encode_event,
    make_event,
)
from trainyard_schemas.ids import partition_of
from trainyard_schemas.lifecycle import RunState, fold
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS, TopicName
from trainyard_schemas.upcasting import parse_request
from trainyard_schemas.vocabulary import EventType

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0
WORKER = "trainyard_trainer_worker"
WRITER = uuid.uuid4().hex


def example(name: str) -> dict[str, Any]:
    """A request that ships under examples/."""
    body: dict[str, Any] = json.loads((ROOT / "examples" / "requests" / f"{name}.json").read_text())
    return body


def until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; fails with `what` when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"within {timeout_s} s never: {what}")


@dataclass(frozen=True, slots=True)
class Dispatched:
    """An attempt that waits in its queue."""

    run_id: str
    task_id: str
    accepted_offset: int


@dataclass(slots=True)
class Process:
    """A worker's process, its log and its pages."""

    popen: subprocess.Popen[bytes]
    log_path: Path

    def log(self) -> list[dict[str, Any]]:
        """The JSON lines written so far."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def address(self) -> str:
        """Where its pages are; waits for them."""

        def found() -> str | None:
            assert self.popen.poll() is None, f"the worker ended:\n{self.log_path.read_text()[-2000:]}"
            return next((str(line["address"]) for line in self.log() if line.get("action") == "start"), None)

        return str(until(found, "the worker says where it listens"))

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_ready(self) -> None:
        """Wait until /readyz answers 200."""
        until(lambda: self.page("/readyz")[0] == 200, "the worker is ready")

    def end(self, number: int = signal.SIGTERM, timeout_s: float = DEADLINE_S) -> int:
        """Signal it and wait for its end; returns the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout_s)


@dataclass(slots=True)
class Stage:
    """One test's corner of the broker and the ClearML server."""

    kafka: KafkaSettings
    server: ClearMLServer
    folder: Path
    queue: str = field(default_factory=lambda: f"q-{uuid.uuid4().hex[:8]}")
    processes: list[Process] = field(default_factory=list)

    @property
    def lifecycle(self) -> str:
        return self.kafka.topic(TopicName.RUNS_LIFECYCLE)

    def environment(self, name: str = "worker") -> dict[str, str]:
        """What a worker's process gets."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TRAINYARD_", "CLEARML_"))},
            **self.server.environment(),
            "TRAINYARD_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TRAINYARD_TOPIC_PREFIX": self.kafka.topic_prefix,
            "TRAINYARD_STATE_DIR": str(self.folder / name),
            "TRAINYARD_DATA_ROOTS": str(ROOT / "examples"),
            "TRAINYARD_WORKER_N_JOBS": "1",
        }

    def start_worker(
        self, name: str = "worker", *arguments: str, wait: bool = True, module: str = WORKER, **environment: str
    ) -> Process:
        """Start a worker as users start one: `python -m` the module with the arguments; on this stage's queue."""
        log_path = self.folder / f"{name}-{len(self.processes)}.log"
        with log_path.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, *(arguments or ("--queues", self.queue))],
                env={**self.environment(name), **environment},
                stdout=log,
                stderr=log,
            )
        process = Process(popen, log_path)
        self.processes.append(process)
        if wait:
            process.wait_ready()
        return process

    def dispatch(self, request: Mapping[str, Any], queue: str | None = None) -> Dispatched:
        """Accept a request, dispatch its first attempt and enqueue its task, on this stage's queue if not another."""
        return asyncio.run(self._dispatch(request, queue or self.queue))

    def enqueue_again(self, run: Dispatched) -> None:
        """Put the task of an attempt on the queue once more, as a planner does after a pop that died."""

        async def enqueue(client: ClearMLClient) -> None:
            await client.enqueue_task(run.task_id, await client.ensure_queue(self.queue))

        self.clearml(enqueue)

    async def _dispatch(self, request: Mapping[str, Any], queue: str) -> Dispatched:
        run_id = str(uuid.uuid4())
        parsed = parse_request(request)
        writer = LogWriter(self.kafka)
        try:
            accepted = RunAccepted(
                run_id=run_id,
                tenant="default",
                request=parsed.request.to_json(),
                request_digest=parsed.request.digest,
                original_schema_version=2,
                origin=OriginRecord(topic="runs.requested", partition=0, offset=0, timestamp_ms=0),
            )
            offset = await self._append(writer, accepted)
            async with ClearMLClient(self.server.settings()) as client:
                state = fold([(offset, make_event(accepted, source="test", writer=WRITER, now=time.time()))])
                assert state is not None
                project = await client.ensure_project(str(parsed.request.project))
                body = task_body(state, 1, "image:latest", self.kafka.topic_prefix)
                task_id = await client.create_task({**body, "project": project})
                queue_id = await client.ensure_queue(queue)
                dispatched = AttemptDispatched(
                    run_id=run_id, attempt=1, task_id=task_id, queue=queue, queue_id=queue_id
                )
                await self._append(writer, dispatched)
                await client.enqueue_task(task_id, queue_id)
            await self._append(writer, AttemptQueued(run_id=run_id, attempt=1, task_id=task_id, queue=queue))
        finally:
            await writer.stop()
        return Dispatched(run_id, task_id, offset)

    async def _append(self, writer: LogWriter, fact: Fact) -> int:
        value, headers = encode_event(make_event(fact, source="test", writer=WRITER, now=time.time()))
        return await writer.append(
            self.lifecycle,
            partition=partition_of(fact.run_id, RUN_PARTITIONS),
            key=fact.run_id.encode(),
            value=value,
            headers=headers,
        )

    def events(self, run_id: str, topic: TopicName = TopicName.RUNS_LIFECYCLE) -> list[tuple[int, Event]]:
        """The run's events on a topic, in offset order."""

        async def read() -> list[tuple[int, Event]]:
            reader = LogReader(self.kafka)
            try:
                records = await reader.read_to_end(self.kafka.topic(topic), partition_of(run_id, RUN_PARTITIONS), 0)
            finally:
                await reader.stop()
            return [
                (record.offset, decode_event(record.value, record.headers))
                for record in records
                if record.key == run_id.encode()
            ]

        return asyncio.run(read())

    def requests(self, key: str) -> list[Envelope]:
        """The requests that stand on `runs.requested` at the partition of this key."""

        async def read() -> list[Envelope]:
            reader = LogReader(self.kafka)
            try:
                topic, partition = self.kafka.topic(TopicName.RUNS_REQUESTED), partition_of(key, RUN_PARTITIONS)
                records = await reader.read_to_end(topic, partition, 0)
            finally:
                await reader.stop()
            return [decode(record.value, record.headers) for record in records]

        return asyncio.run(read())

    def outcome(self, run_id: str, timeout_s: float = DEADLINE_S) -> Event:
        """The winning outcome of the run's first attempt, once it is there."""
        ends = (EventType.ATTEMPT_SUCCEEDED, EventType.ATTEMPT_FAILED)

        def found() -> Event | None:
            return next((event for _, event in self.events(run_id) if event.type in ends), None)

        event: Event = until(found, f"run {run_id} has an outcome", timeout_s)
        return event

    def outcome_of(self, run: Dispatched, state: RunState, results: dict[str, Any]) -> Event:
        """The outcome that the holder of the run's claim would write."""
        assert state.claim is not None
        fact = AttemptSucceeded(
            run_id=run.run_id, attempt=1, task_id=run.task_id, claim=state.claim, worker="w", results=results
        )
        return make_event(fact, source="test", writer=WRITER, now=time.time())

    def keep_in_outbox(self, name: str, event: Event) -> None:
        """Leave an outcome in the outbox of the worker `name`, which is not running."""
        value, headers = encode_event(event)
        run_id = event.fact.run_id
        with Outbox(self.folder / name / "outbox.sqlite") as outbox:
            outbox.put(
                self.lifecycle,
                partition=partition_of(run_id, RUN_PARTITIONS),
                key=run_id.encode(),
                value=value,
                headers=headers,
            )

    def task(self, task_id: str) -> dict[str, Any]:
        """The ClearML task."""

        async def read() -> dict[str, Any]:
            async with ClearMLClient(self.server.settings()) as client:
                found = await client.get_task(task_id)
            assert found is not None
            return found

        return asyncio.run(read())

    def clearml(self, ask: Callable[[ClearMLClient], Any]) -> Any:
        """One question to ClearML: `ask` gives a coroutine."""

        async def call() -> Any:
            async with ClearMLClient(self.server.settings()) as client:
                return await ask(client)

        return asyncio.run(call())

    def wait_status(self, task_id: str, status: str) -> None:
        """Wait until the ClearML task has `status`."""
        until(lambda: self.task(task_id)["status"] == status, f"task {task_id} is {status}")


@contextmanager
def staged(bootstrap: str, prefix: str, server: ClearMLServer, folder: Path) -> Iterator[Stage]:
    """A stage with its topics; ends the processes it started."""
    apply_topics(bootstrap, prefix, TOPICS)
    stage = Stage(KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix), server, folder)
    try:
        yield stage
    finally:
        for process in stage.processes:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
