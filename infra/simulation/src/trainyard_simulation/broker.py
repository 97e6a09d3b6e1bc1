"""The simulated broker: logs in the order of arrival, appends at least once, readers that see a prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trainyard_dispatcher.intake import DeadLetter
from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable, Record
from trainyard_schemas import lifecycle
from trainyard_schemas.events import Event, RunAccepted, RunRejected
from trainyard_schemas.ids import partition_of
from trainyard_schemas.lifecycle import RunState, Step, Verdict
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_simulation.effects import Call, Signal
from trainyard_simulation.groups import Group
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process
from trainyard_simulation.wire import through_bytes

REQUESTED = TopicName.RUNS_REQUESTED.value
COMMANDS = TopicName.RUNS_COMMANDS.value
DEAD_LETTER = TopicName.RUNS_REQUESTED_DEAD_LETTER.value
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folded:
    """What one lifecycle record did to its run, in the order of its partition."""

    offset: int
    event: Event
    step: Step


class Broker:
    """All topics. `through_bytes` sends every lifecycle event over the wire's bytes and back."""

    def __init__(self, kernel: Kernel, *, as_bytes: bool) -> None:
        self._kernel = kernel
        self._as_bytes = as_bytes
        self._run_partitions: dict[str, int] = {}
        self.requested: dict[int, list[Record]] = defaultdict(list)
        self.dead_letters: list[Record] = []
        self.answered: set[tuple[int, int]] = set()
        self.told: set[tuple[int, int]] = set()
        self.untold: set[tuple[int, int]] = set()
        self.early_commits: list[tuple[int, int]] = []
        self.lifecycle: dict[int, list[Folded]] = defaultdict(list)
        self.states: dict[str, RunState] = {}
        self.intake = Group(kernel, "intake", RUN_PARTITIONS)
        self.lead = Group(kernel, "planner", 1)
        self.copying = Group(kernel, "copier", RUN_PARTITIONS)
        self.completed: list[Event] = []
        self.request_signals: dict[str, Signal] = {}
        self.commands: list[Record] = []
        self.command_signals: dict[str, Signal] = {}
        self.commands_committed = 0
        self.heartbeats: list[str] = []
        self.news: dict[str, dict[str, Signal]] = defaultdict(dict)
        self.views: dict[str, View] = {}

    def partition(self, run_id: str) -> int:
        found = self._run_partitions.get(run_id)
        if found is None:
            found = self._run_partitions[run_id] = partition_of(run_id, RUN_PARTITIONS)
        return found

    def append_event(self, event: Event) -> Call:
        """Append a lifecycle event to its run's partition. Answers the offset."""
        return self._append(f"append {event.type.short}", lambda: self._store_event(event))

    def append_request(self, partition: int, value: bytes | None) -> Call:
        """Append a request as any system would. Answers the offset."""
        return self._append("append request", lambda: self._store_request(partition, value))

    def append_dead_letter(self, letter: DeadLetter) -> Call:
        """Append a dead letter. Answers the offset."""
        return self._append("append dead letter", lambda: self._store_dead_letter(letter))

    def append_completed(self, event: Event) -> Call:
        """Copy a terminal event to `runs.completed`. Answers the offset."""
        return self._append("append to completed", lambda: self._store_completed(event))

    def append_command(self, value: bytes) -> Call:
        """Append a command as any system would. Answers the offset."""
        return self._append("append command", lambda: self._store_command(value))

    def append_heartbeat(self, claim: str) -> Call:
        """Append a sign of life. Answers the offset."""
        return self._append("append heartbeat", lambda: self._store_heartbeat(claim))

    def read(self, label: str, what: Callable[[], T]) -> Call:
        """Read from the leader at the moment the request arrives."""
        return Call(label, what, unavailable=lambda: LogUnavailable(label), server="broker")

    def read_run(self, partition: int, from_offset: int) -> Call:
        """All lifecycle records of a partition, up to its end at that moment."""
        return self.read("read lifecycle", lambda: self.lifecycle[partition][from_offset:])

    def subscribe(self, process: Process, changed: Signal) -> View:
        """A view of the whole lifecycle from offset 0 that lags behind the log by a time of its own."""
        view = self.views[process.writer] = View(self._kernel, self, process, changed)
        view.expect()
        return view

    def _append(self, label: str, store: Callable[[], int]) -> Call:
        return Call(
            label,
            store,
            unknown=lambda: AppendUnknown(label),
            unavailable=lambda: LogUnavailable(label),
            server="broker",
        )

    def _store_event(self, event: Event) -> int:
        if self._as_bytes:
            event = through_bytes(event)
        run_id = event.fact.run_id
        log = self.lifecycle[self.partition(run_id)]
        offset = len(log)
        if isinstance(event.fact, RunAccepted | RunRejected):
            self.answered.add((event.fact.origin.partition, event.fact.origin.offset))
        step = lifecycle.apply(self.states.get(run_id), event, offset)
        if step.state is not None:
            self.states[run_id] = step.state
        self._note_loser(event, step.verdict)
        log.append(Folded(offset, event, step))
        self._kernel.coverage[f"verdict {step.verdict.value}"] += 1
        for view in self.views.values():
            view.expect()
        for signal in self.news.get(run_id, {}).values():
            signal.set()
        return offset

    def _note_loser(self, event: Event, verdict: Verdict) -> None:
        """Who lost a key to another request is `untold` until it is rejected: only then does the world rest."""
        if not isinstance(event.fact, RunAccepted | RunRejected):
            return
        at = (event.fact.origin.partition, event.fact.origin.offset)
        if isinstance(event.fact, RunRejected):
            self.told.add(at)
        elif verdict is Verdict.CONFLICT:
            self.untold.add(at)
        self.untold -= self.told

    def _store_command(self, value: bytes) -> int:
        offset = len(self.commands)
        self.commands.append(Record(COMMANDS, 0, offset, int(self._kernel.now * 1000), None, value))
        for signal in self.command_signals.values():
            signal.set()
        return offset

    def _store_heartbeat(self, claim: str) -> int:
        self.heartbeats.append(claim)
        return len(self.heartbeats) - 1

    def _store_completed(self, event: Event) -> int:
        self.completed.append(event)
        return len(self.completed) - 1

    def note_commit_of_requests(self, partition: int, end: int) -> None:
        """Keep, for the checker, which records a commit passed before they were answered."""
        self.early_commits += [(partition, offset) for offset in range(end) if (partition, offset) not in self.answered]

    def _store_request(self, partition: int, value: bytes | None) -> int:
        log = self.requested[partition]
        log.append(Record(REQUESTED, partition, len(log), int(self._kernel.now * 1000), None, value))
        for signal in self.request_signals.values():
            signal.set()
        return len(log) - 1

    def _store_dead_letter(self, letter: DeadLetter) -> int:
        offset, stamp = len(self.dead_letters), int(self._kernel.now * 1000)
        self.dead_letters.append(Record(DEAD_LETTER, 0, offset, stamp, letter.key, letter.value, letter.headers))
        return offset


class View:
    """One process's fold of the lifecycle: a prefix of every partition, longer with time.

    `news` collects what was folded since the owner last took it.
    """

    def __init__(self, kernel: Kernel, broker: Broker, process: Process, changed: Signal) -> None:
        self._kernel = kernel
        self._broker = broker
        self._process = process
        self._expecting = False
        self.positions: dict[int, int] = defaultdict(int)
        self.states: dict[str, RunState] = {}
        self.news: list[Folded] = []
        self.changed = changed

    def expect(self) -> None:
        """There is something to read: it is delivered after a lag."""
        if self._expecting or not self._process.alive:
            return
        self._expecting = True
        rng = self._kernel.rng
        slow = self._kernel.faults_on and rng.random() < 0.05
        self._kernel.after(rng.random() * (10.0 if slow else 0.05), self._deliver)

    def has_reached(self, ends: dict[int, int]) -> bool:
        return all(self.positions[p] >= end for p, end in ends.items())

    def _deliver(self) -> None:
        kernel, process = self._kernel, self._process
        if not process.alive:
            return
        if process.paused_until > kernel.now:
            kernel.after(process.paused_until - kernel.now, self._deliver)
            return
        self._expecting = False
        rng = kernel.rng
        for partition, log in self._broker.lifecycle.items():
            at, end = self.positions[partition], len(log)
            if at == end:
                continue
            if kernel.faults_on and rng.random() < 0.2:
                end = at + int(rng.random() * (end - at + 1))
            for folded in log[at:end]:
                if folded.step.state is not None:
                    self.states[folded.event.fact.run_id] = folded.step.state
                self.news.append(folded)
            self.positions[partition] = end
            if end < len(log):
                self.expect()
        self.changed.set()


def ends_of(logs: dict[int, list[Folded]]) -> dict[int, int]:
    """The end of every partition that holds anything."""
    return {partition: len(log) for partition, log in logs.items()}
