"""A broker, a ClearML server and dispatchers as processes: all that a dispatcher's test needs."""

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
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_runtime.kafka.async_log import LogReader, LogWriter
from trainyard_runtime.kafka.records import Record
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas import events as ev
from trainyard_schemas.errors import ContractError
from trainyard_schemas.ids import Origin, partition_of
from trainyard_schemas.lifecycle import RunState, Verdict, apply
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS, TopicName

DEADLINE_S = 60.0
WRITER = uuid.uuid4().hex


def until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; fails with `what` when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"within {timeout_s} s never: {what}")


def request(**changes: Any) -> dict[str, Any]:
    """A valid request, version 2."""
    return {
        "schema_version": 2,
        "trainer": "sklearn",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "class"},
        "task_type": "classification",
        "run_name": "a run",
    } | changes


@dataclass(slots=True)
class Dispatcher:
    """A dispatcher's process, its log and its pages."""

    popen: subprocess.Popen[bytes]
    log_path: Path

    def log(self) -> list[dict[str, Any]]:
        """The JSON lines written so far."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def page(self, path: str) -> tuple[int, bytes]:
        """A page of its health server; status 0 while it does not listen."""
        address = next((line["address"] for line in self.log() if line.get("action") == "start"), None)
        if address is None:
            return 0, b""
        try:
            with urllib.request.urlopen(address + path, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def is_ready(self) -> bool:
        """Whether it says that it can work."""
        assert self.popen.poll() is None, f"the dispatcher ended: {self.log_path.read_text()[-3000:]}"
        return self.page("/readyz")[0] == 200

    def leads(self) -> bool:
        """Whether it is the active planner, after the take-over."""
        gained = [line for line in self.log() if line.get("action") in ("lead", "take_over")]
        return bool(gained) and gained[-1]["event"] == "leads"

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout=60)


@dataclass
class Yard:
    """One test's prefix on the broker, its own queue on the ClearML server, and its dispatchers."""

    kafka: KafkaSettings
    clearml: ClearMLServer
    folder: Path
    queue: str
    dispatchers: list[Dispatcher] = field(default_factory=list)

    def topic(self, name: TopicName) -> str:
        return self.kafka.topic(name)

    def start(self, *, name: str = "a", ready: bool = True, **environment: str) -> Dispatcher:
        """Start a dispatcher under a name; the same name has the same state folder."""
        log_path = self.folder / f"dispatcher-{len(self.dispatchers)}.log"
        env = {
            **os.environ,
            **self.clearml.environment(),
            "TRAINYARD_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TRAINYARD_TOPIC_PREFIX": self.kafka.topic_prefix,
            "TRAINYARD_STATE_DIR": str(self.folder / f"state-{name}"),
            "CLEARML_CPU_QUEUE": self.queue,
            **environment,
        }
        with log_path.open("wb") as log:
            popen = subprocess.Popen([sys.executable, "-m", "trainyard_dispatcher"], env=env, stderr=log)
        found = Dispatcher(popen, log_path)
        self.dispatchers.append(found)
        if ready:
            until(found.is_ready, "the dispatcher is ready")
        return found

    def publish(
        self,
        *values: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        key: bytes | None = None,
        partition: int = 0,
        topic: TopicName = TopicName.RUNS_REQUESTED,
    ) -> list[Origin]:
        """Append records; where they stand."""

        async def work() -> list[Origin]:
            writer, reader = LogWriter(self.kafka), LogReader(self.kafka)
            name = self.topic(topic)
            try:
                offsets = await asyncio.gather(
                    *(writer.append(name, partition=partition, key=key, value=v, headers=headers) for v in values)
                )
                return [(await reader.read_at(name, partition, offset)).origin for offset in offsets]
            finally:
                await writer.stop()
                await reader.stop()

        return asyncio.run(work())

    def submit(self, *bodies: Mapping[str, Any], partition: int = 0) -> list[Origin]:
        """Publish bare JSON requests."""
        return self.publish(*(json.dumps(body).encode() for body in bodies), partition=partition)

    def say(self, *facts: ev.Fact) -> None:
        """Append facts to the lifecycle, as a worker would."""

        async def work() -> None:
            writer = LogWriter(self.kafka)
            try:
                for fact in facts:
                    event = ev.make_event(fact, source="trainyard/trainer-worker", writer=WRITER, now=time.time())
                    value, headers = ev.encode_event(event)
                    await writer.append(
                        self.topic(TopicName.RUNS_LIFECYCLE),
                        partition=partition_of(fact.run_id, RUN_PARTITIONS),
                        key=fact.run_id.encode(),
                        value=value,
                        headers=headers,
                    )
            finally:
                await writer.stop()

        asyncio.run(work())

    def read(self, name: TopicName) -> list[Record]:
        """All records of a topic, partition by partition."""

        async def work() -> list[Record]:
            reader = LogReader(self.kafka)
            try:
                parts = range(RUN_PARTITIONS)
                found = await asyncio.gather(*(reader.read_to_end(self.topic(name), p, 0) for p in parts))
                return [record for records in found for record in records]
            finally:
                await reader.stop()

        return asyncio.run(work())

    def story(self) -> Story:
        """What the lifecycle tells."""
        return Story.of(self.read(TopicName.RUNS_LIFECYCLE))

    def tasks(self) -> list[dict[str, Any]]:
        """All ClearML tasks of this yard's runs."""

        async def work() -> list[dict[str, Any]]:
            async with ClearMLClient(self.clearml.settings()) as client:
                return await client.find_tasks_by_run(self.story_ids)

        self.story_ids = list(self.story().states)
        return asyncio.run(work())

    def entries(self) -> list[str]:
        """The task ids that stand in this yard's queue, in order."""

        async def work() -> list[str]:
            async with ClearMLClient(self.clearml.settings()) as client:
                queues = {queue.name: queue for queue in await client.queues()}
                return [entry.task_id for entry in queues[self.queue].entries] if self.queue in queues else []

        return asyncio.run(work())

    def settled(self, runs: int, timeout_s: float = DEADLINE_S) -> Story:
        """Wait until so many runs are queued or ended; the story then."""

        def look() -> Story | None:
            story = self.story()
            done = [s for s in story.states.values() if s.queued_at is not None or s.is_ended]
            return story if len(done) >= runs else None

        found: Story = until(look, f"{runs} runs queued or ended", timeout_s)
        return found

    def end_all(self) -> None:
        for dispatcher in self.dispatchers:
            if dispatcher.popen.poll() is None:
                dispatcher.popen.kill()
                dispatcher.popen.wait(timeout=60)


@dataclass
class Story:
    """The fold of the lifecycle: states by run, and what became of each record."""

    states: dict[str, RunState]
    events: dict[str, list[tuple[ev.Event, Verdict]]]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Story:
        states: dict[str, RunState] = {}
        events: dict[str, list[tuple[ev.Event, Verdict]]] = defaultdict(list)
        for record in records:
            try:
                event = ev.decode_event(record.value, record.headers)
            except ContractError:
                continue
            run_id = event.fact.run_id
            step = apply(states.get(run_id), event, record.offset)
            events[run_id].append((event, step.verdict))
            if step.state is not None:
                states[run_id] = step.state
        return cls(states, events)

    def won(self, run_id: str) -> list[str]:
        """The types that count, in order."""
        return [event.type.short for event, verdict in self.events[run_id] if verdict.is_effective]


@contextmanager
def yard_at(bootstrap: str, prefix: str, clearml: ClearMLServer, folder: Path) -> Iterator[Yard]:
    """A yard with its topics; its dispatchers end with it."""
    apply_topics(bootstrap, prefix, TOPICS)
    kafka = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix)
    yard = Yard(kafka, clearml, folder, queue=f"q-{prefix.rstrip('.')}")
    try:
        yield yard
    finally:
        yard.end_all()
