"""A dispatcher and workers as processes, with a lease of seconds: whoever dies or stands still, the run goes on."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.dispatcher.yard import Dispatcher, Story, Yard, yard_at
from tests.integration.trainer_worker.stage import Process, Stage, example, until
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.topics import TopicName
from trainyard_schemas.vocabulary import TERMINAL_EVENTS

LEASE_S = 4.0
QUICK = {
    "TRAINYARD_LEASE_S": str(LEASE_S),
    "TRAINYARD_SILENCE_S": "14",  # a worker beats every 10 s where nothing is new
    "TRAINYARD_POP_GRACE_S": "2",
    "TRAINYARD_AGENT_GRACE_S": "4",
    "TRAINYARD_CLOSE_GRACE_S": "2",
    "TRAINYARD_CANCEL_GRACE_S": "5",
    "TRAINYARD_SURVEY_EVERY_S": "0.5",
}
SHORT = {
    **example("wine-sklearn"),
    "extras": {"sklearn": {"estimator": "logreg"}},
    "retry": {"max_attempts": 3, "backoff_s": 0},
}
LONG = {**example("wine-flaml"), "time_budget_s": 12, "retry": {"max_attempts": 3, "backoff_s": 0}}
DEADLINE_S = 90.0


@dataclass
class Survival:
    """One test's dispatchers and workers, and what they left in the log and in ClearML."""

    yard: Yard
    stage: Stage

    def dispatcher(self, name: str = "a", **environment: str) -> Dispatcher:
        return self.yard.start(name=name, ready=True, **(QUICK | environment))

    def worker(self, name: str = "worker", **environment: str) -> Process:
        return self.stage.start_worker(name, wait=True, **environment)

    def submit(self, request: dict[str, Any], number: int = 0) -> None:
        """Ask for a run. Its key is this test's alone: the ClearML server is not."""
        self.yard.submit({**request, "queue": self.yard.queue, "idempotency_key": f"{self.yard.queue}-{number}"})

    def command(self, **body: Any) -> None:
        self.yard.publish(json.dumps({"actor": "alice", **body}).encode(), topic=TopicName.RUNS_COMMANDS)

    def story(self) -> Story:
        return self.yard.story()

    def state(self) -> RunState | None:
        """The one run's state."""
        return next(iter(self.story().states.values()), None)

    def when(self, phase: str, timeout_s: float = DEADLINE_S) -> RunState:
        """The one run's state once it is in this phase."""

        def look() -> RunState | None:
            state = self.state()
            return state if state is not None and state.phase.value == phase else None

        found: RunState = until(look, f"the run is {phase}; it is {self.state()}", timeout_s)
        return found

    def watchdog(self, worker: Process) -> psutil.Process:
        """The watchdog of the child that fits now."""

        def look() -> psutil.Process | None:
            for process in psutil.Process(worker.popen.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any(argument.endswith("watchdog.py") for argument in process.cmdline()):
                        return process
            return None

        found: psutil.Process = until(look, "a child is guarded")
        return found

    def training_child(self, worker: Process) -> psutil.Process:
        """The child that fits now. Before, its watchdog lets it go, and would take a test's SIGSTOP back."""
        until(lambda: any(line.get("phase") == "fit" for line in worker.log()), "a child fits")
        *_, pid, _ = self.watchdog(worker).cmdline()
        return psutil.Process(int(pid))

    def ends_once(self, state: str, *, attempts: int | None = None) -> RunState:
        """Wait for the end, and check what every end must be."""
        ended = self.when(state)
        if attempts is not None:
            assert ended.attempt == attempts
        self.check_ends()
        return ended

    def check_ends(self) -> None:
        """Every run has ended, with one terminal event, one copy of it and one visible outcome; nothing is open."""
        story = self.story()
        ends = {
            run_id: {event.id for event, _ in events if event.type in TERMINAL_EVENTS}
            for run_id, events in story.events.items()
        }
        assert {len(ids) for ids in ends.values()} == {1}, ends
        terminal = set().union(*ends.values())
        until(lambda: self._copied() == terminal, "each end is copied, and nothing else")
        until(lambda: not self._open_tasks(), f"no task is left open: {self._open_tasks()}")
        assert self.yard.entries() == []
        until(lambda: len(self._models(seen=False)) == 0, "no unseen model is left")
        completed = [state for state in story.states.values() if state.phase.value == "completed"]
        assert len(self._models(seen=True)) == len(completed)

    def _copied(self) -> set[str]:
        return {ev.decode_event(c.value, c.headers).id for c in self.yard.read(TopicName.RUNS_COMPLETED)}

    def _open_tasks(self) -> list[tuple[str, str]]:
        tasks = self.yard.tasks()
        return [(t["id"], t["status"]) for t in tasks if t["status"] in ("created", "queued", "in_progress")]

    def _models(self, *, seen: bool) -> list[str]:
        run_ids = set(self.story().states)

        async def find(client: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = await client.find_models({}, ("id", "name", "metadata", "system_tags"))
            return found

        return [
            model["id"]
            for model in self.stage.clearml(find)
            if (model.get("metadata") or {}).get("run_id", {}).get("value") in run_ids
            and (not model["system_tags"]) is seen
            and not model["name"].endswith("-best")  # the name under which the best one of several is shown again
        ]

    def end_all(self) -> None:
        self.yard.end_all()
        for process in self.stage.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
                process.popen.wait(10)


@contextlib.contextmanager
def survival_at(bootstrap: str, prefix: str, clearml: ClearMLServer, folder: Path) -> Iterator[Survival]:
    """A `Survival` on this broker; what it started ends with it."""
    with yard_at(bootstrap, prefix, clearml, folder) as yard:
        found = Survival(yard, Stage(yard.kafka, clearml, folder, yard.queue))
        try:
            yield found
        finally:
            found.end_all()


@pytest.fixture
def survival(
    kafka_bootstrap: str, topic_prefix: str, clearml_server: ClearMLServer, tmp_path: Path
) -> Iterator[Survival]:
    with survival_at(kafka_bootstrap, topic_prefix, clearml_server, tmp_path) as found:
        yield found
