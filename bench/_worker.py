"""A trainer worker on the stand, the runs it is given, and what its log says of them."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from bench._stand import Stand, answers, free_ports, process, wait_until
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncPublisher, SyncReader
from trainyard_schemas.events import AttemptQueued, Event, decode_event
from trainyard_schemas.ids import run_id_from_key
from trainyard_schemas.topics import DEFAULT_PREFIX, RUN_PARTITIONS
from trainyard_schemas.vocabulary import EventType

ROOT = Path(__file__).resolve().parents[1]
ENDED = (EventType.ATTEMPT_SUCCEEDED, EventType.ATTEMPT_FAILED, EventType.ATTEMPT_CANCELLED)
_REQUESTED, _COMMANDS, _LIFECYCLE = (f"{DEFAULT_PREFIX}runs.{name}" for name in ("requested", "commands", "lifecycle"))


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker that is ready, and where it logs."""

    pid: int
    log_path: Path

    def lines(self, action: str) -> list[dict[str, Any]]:
        """What it logged of one action, oldest first, with `at` in seconds since the epoch."""
        lines = (json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{"))
        return [
            {**line, "at": datetime.fromisoformat(line["timestamp"]).timestamp()}
            for line in lines
            if line.get("action") == action
        ]

    def child(self) -> psutil.Process | None:
        """The training child that is guarded now: its watchdog's arguments name it."""
        for one in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                _, program, pid, _ = ["", "", "", "", *one.cmdline()][-4:]
                if program.endswith("watchdog.py"):
                    return psutil.Process(int(pid))
        return None


@contextlib.contextmanager
def worker(where: Stand, folder: Path, *arguments: str, **environment: str) -> Iterator[RunningWorker]:
    """`python -m trainyard_trainer_worker` with these arguments for as long as the block runs."""
    (port,) = free_ports(1)
    log = folder / "worker.log"
    own = {
        **where.environment,
        "TRAINYARD_HTTP_PORT": str(port),
        "TRAINYARD_STATE_DIR": str(folder / "worker"),
        "TRAINYARD_DATA_ROOTS": str(ROOT / "examples"),
        **environment,
    }
    with process("trainyard_trainer_worker", *arguments, environment=own, log=log) as pid:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "worker ready", 60)
            yield RunningWorker(pid, log)
        except BaseException:
            sys.stderr.write(log.read_text()[-4000:])
            raise


class Runs:
    """Publishes requests, and reads what became of them."""

    def __init__(self, where: Stand) -> None:
        self._publisher = SyncPublisher(Address(where.bootstrap))
        self._reader = SyncReader(Address(where.bootstrap))
        self._positions = dict(self._reader.ends([(_LIFECYCLE, partition) for partition in range(RUN_PARTITIONS)]))
        self.events: list[Event] = []

    def ask(self, key: str, request: Mapping[str, Any]) -> str:
        """Publish the request under an idempotency key; returns the run's id."""
        body = {**request, "idempotency_key": key}
        self._publisher.publish(_REQUESTED, json.dumps(body).encode())
        return run_id_from_key("default", key)

    def order(self, run_id: str, command: str) -> float:
        """Publish a command; returns when it was acknowledged, in seconds on the monotonic clock."""
        body = {"run_id": run_id, "command": command, "actor": "bench"}
        self._publisher.publish(_COMMANDS, json.dumps(body).encode())
        return time.monotonic()

    def wait_for_the_end(self, run_ids: set[str], deadline_s: float) -> None:
        """Read until every one of these runs has an outcome. Raises RuntimeError."""
        self.wait(
            lambda: run_ids <= {event.fact.run_id for event in self.events if event.type in ENDED},
            f"the end of {len(run_ids)} runs",
            deadline_s,
        )

    def wait(self, holds: Callable[[], bool], what: str, deadline_s: float) -> None:
        """Read until `holds()` of the events. Raises RuntimeError."""
        end = time.monotonic() + deadline_s
        while not holds():
            if time.monotonic() > end:
                raise RuntimeError(f"{what}: not within {deadline_s} s")
            for record in self._reader.read_to_end(self._positions):
                self._positions[(record.topic, record.partition)] = record.offset + 1
                self.events.append(decode_event(record.value, record.headers))
            time.sleep(0.1)

    def queued_at(self) -> dict[str, float]:
        """When each run's attempt stood in its queue, in seconds since the epoch."""
        return {event.fact.run_id: event.time for event in self.events if isinstance(event.fact, AttemptQueued)}

    def tasks(self) -> dict[str, str]:
        """The ClearML task of each run's attempt."""
        return {e.fact.run_id: e.fact.task_id for e in self.events if isinstance(e.fact, AttemptQueued)}

    def outcomes(self) -> dict[str, str]:
        """The type of each run's outcome."""
        return {event.fact.run_id: event.type.value for event in self.events if event.type in ENDED}


def example(name: str, **changes: Any) -> dict[str, Any]:
    """A request that ships with the project, with the file's whole path."""
    request: dict[str, Any] = json.loads((ROOT / "examples" / "requests" / f"{name}.json").read_text())
    return {**request, **changes, "dataset": {**request["dataset"], "uri": str(ROOT / request["dataset"]["uri"])}}
