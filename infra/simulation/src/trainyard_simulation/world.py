"""One world from one seed: two intakes, two planners, two workers, some producers, and what befalls them.

Faults come until a drawn moment; then everything is repaired, and the world must come to rest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from trainyard_dispatcher.intake import Answer
from trainyard_dispatcher.known import Limits
from trainyard_dispatcher.routing import Routing
from trainyard_runtime.kafka.records import Record
from trainyard_simulation.broker import Broker
from trainyard_simulation.checker import Violation, check
from trainyard_simulation.clearml import ClearML
from trainyard_simulation.commander import obey
from trainyard_simulation.copier import Copier
from trainyard_simulation.effects import Effect
from trainyard_simulation.evidence import Evidence, TaskLeft
from trainyard_simulation.faults import Chances, Script
from trainyard_simulation.intake import Intake
from trainyard_simulation.kernel import EPOCH_S, Kernel, StuckError
from trainyard_simulation.planner import Planner, Surroundings
from trainyard_simulation.processes import Host, Process
from trainyard_simulation.producers import Acknowledged, drawn_intents, one_intent, produce
from trainyard_simulation.users import command, meddle
from trainyard_simulation.worker import Workshop, work

TENANT = "default"
QUEUE = "cpu"
PREFIX = "trainyard."
MORTAL = frozenset(
    {
        "intake-1",
        "intake-2",
        "planner-1",
        "planner-2",
        "worker-1",
        "worker-2",
        "copier-1",
        "copier-2",
        "commander-1",
    }
)
LATEST_REST_S = 3_000.0
"""When a world that has not come to rest is stuck: far beyond every backoff, pause and session of its processes."""

SETTLING_S = 130.0
"""How long what is still on its way (paused processes, late requests) may yet do harm after all runs have ended."""

SCRIPTED_S = 40.0
"""How long a scripted world may meet its faults: one run takes about 10 s."""

ROUTING = Routing(by_trainer={}, agents={"cpu": QUEUE}, default_queue=QUEUE, images={})


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one seed. `digest` is equal where the whole schedule was equal."""

    seed: int
    violations: tuple[Violation, ...]
    steps: int
    virtual_s: float
    digest: str
    coverage: Counter[str]
    trace: tuple[str, ...] = ()


@dataclass(slots=True)
class World:
    """The parts of one world, put together. With a script: one run, and only the faults that are written there."""

    seed: int
    trace: bool = False
    script: Script | None = None
    kernel: Kernel = field(init=False)
    broker: Broker = field(init=False)
    clearml: ClearML = field(init=False)
    shop: Workshop = field(init=False)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    ordered: set[str] = field(default_factory=set)
    wanted: int = 0

    def __post_init__(self) -> None:
        kernel = self.kernel = Kernel(self.seed, trace=self.trace)
        kernel.chances = self.script or Chances.drawn(kernel.rng, MORTAL)
        broker = self.broker = Broker(kernel, as_bytes=self.seed % 16 == 0)
        clearml = self.clearml = ClearML(kernel, [QUEUE], TENANT)
        self.shop = Workshop(kernel, broker, clearml, [f"q-{QUEUE}"], PREFIX)
        around = Surroundings(
            kernel,
            broker,
            clearml,
            ROUTING,
            Limits(
                max_queue_depth=1 + int(kernel.rng.random() * 3),
                close_grace_s=15.0,
                silence_s=12.0 if kernel.rng.random() < 0.5 else 90.0,  # no promise may rest on patience
                agent_grace_s=60.0,
            ),
            PREFIX,
        )
        groups = (broker.intake, broker.lead, broker.copying)
        kernel.on_pause += [group.leave_after_timeout for group in groups]

        answers: dict[Record, Answer] = {}

        def intake(process: Process) -> Coroutine[Effect, Any, None]:
            return Intake(kernel, broker, process, TENANT, answers).run()

        def planner(process: Process) -> Coroutine[Effect, Any, None]:
            return Planner(around, process).run()

        def worker(process: Process) -> Coroutine[Effect, Any, None]:
            return work(self.shop, process)

        def copier(process: Process) -> Coroutine[Effect, Any, None]:
            return Copier(kernel, broker, process).run()

        def died(process: Process) -> None:
            broker.views.pop(process.writer, None)
            for group in groups:
                group.leave_after_timeout(process)

        programs = {"intake": intake, "planner": planner, "worker": worker}
        if self.has_copiers:
            programs["copier"] = copier
        for name, program in programs.items():
            for number in (1, 2):
                host = Host(kernel, f"{name}-{number}", program, died)
                kernel.after(kernel.rng.random() * 3.0, host.start)
        commander = Host(kernel, "commander-1", lambda process: obey(kernel, broker, process), died)
        kernel.after(kernel.rng.random() * 3.0, commander.start)
        clients = Process("client", 1)
        intents = drawn_intents(kernel.rng) if self.script is None else [one_intent()]
        self.wanted = len(intents)
        for intent in intents:
            kernel.spawn(clients, produce(kernel, broker, intent, self.acknowledged), "produce")
        if self.script is None:
            self._let_them_meddle(clients)
        if kernel.chances.rebalance_every_s:
            kernel.after(kernel.chances.rebalance_every_s, self._rebalance)

    def _let_them_meddle(self, clients: Process) -> None:
        """Users, people who give orders, and outages, as many as the seed wants: often none."""
        kernel, rng = self.kernel, self.kernel.rng
        if rng.random() < 0.4:
            for _ in range(1 + int(rng.random() * 3)):
                kernel.spawn(clients, meddle(kernel, self.clearml, f"q-{QUEUE}"), "meddle")
        if rng.random() < 0.4:
            for _ in range(1 + int(rng.random() * 2)):
                kernel.spawn(clients, command(kernel, self.broker, self.ordered), "command")
        if rng.random() < 0.15:
            server = "broker" if rng.random() < 0.7 else "clearml"
            kernel.after(rng.random() * 40.0, self._go_away, server, 20.0 + rng.random() * 200.0)
        if rng.random() < 0.15:
            kernel.after(rng.random() * 40.0, self._cut_off, "worker-1", 20.0 + rng.random() * 300.0)

    def _go_away(self, server: str, length_s: float) -> None:
        self.kernel.away_until[server] = self.kernel.now + length_s

    def _cut_off(self, name: str, length_s: float) -> None:
        process = self.kernel.hosts[name].process
        if process is not None:
            self.kernel.coverage["a worker is cut off"] += 1
            process.cut_off_until = self.kernel.now + length_s

    def run(self) -> Result:
        """Let it happen, repair it, wait for rest, and check."""
        kernel = self.kernel
        longest_s = 250.0 if kernel.rng.random() < 0.2 else 50.0
        faults_end_s = 8.0 + kernel.rng.random() * longest_s if self.script is None else SCRIPTED_S
        came_to_rest = False
        try:
            kernel.run_until(EPOCH_S + faults_end_s)
            kernel.faults_on = False
            kernel.note("world", "faults end")
            # What was still on its way may stir the world up again: then it must find its rest once more.
            while not came_to_rest and kernel.run_until(EPOCH_S + LATEST_REST_S, self._is_at_rest):
                kernel.run_until(kernel.now + SETTLING_S)
                came_to_rest = self._is_at_rest()
        except StuckError as stuck:
            kernel.note("world", str(stuck))
        evidence = self.evidence(came_to_rest)
        virtual_s = kernel.now - EPOCH_S
        kernel.close()
        return Result(
            self.seed,
            tuple(check(evidence)),
            kernel.steps,
            virtual_s,
            self._digest(evidence),
            kernel.coverage,
            tuple(kernel.lines or ()),
        )

    @property
    def has_copiers(self) -> bool:
        """Every fourth world copies ends to `runs.completed`; that changes nothing else, and costs steps."""
        return self.seed % 4 == 0

    def evidence(self, came_to_rest: bool) -> Evidence:
        """A dump of everything, as the checker wants it."""
        broker, clearml = self.broker, self.clearml
        return Evidence(
            came_to_rest=came_to_rest,
            acknowledged=tuple(self.acknowledged),
            requested={p: tuple(log) for p, log in broker.requested.items()},
            lifecycle={p: tuple(r.event for r in log) for p, log in broker.lifecycle.items()},
            dead_letters=tuple(broker.dead_letters),
            completed=tuple(broker.completed) if self.has_copiers else None,
            committed=dict(broker.intake.committed),
            early_commits=tuple(broker.early_commits),
            executions=tuple(self.shop.executions),
            entries=tuple(clearml.ledger.entries),
            tasks={
                t.task_id: TaskLeft(*clearml.run_of(t), t.status, t.parent is None and clearml.is_marked(t))
                for t in clearml.all_tasks.values()
            },
            queued_now=tuple(task for queue in clearml.queues.values() for task in queue),
            deleted=frozenset(clearml.all_tasks.keys() - clearml.tasks.keys()),
            meddled_with=frozenset(self.ordered | {run_id for _, run_id in clearml.ledger.user_acts}),
            shown_models={run: frozenset(claims) for run, claims in clearml.ledger.shown_models.items()},
        )

    def _rebalance(self) -> None:
        kernel = self.kernel
        if kernel.faults_on:
            kernel.coverage["rebalance"] += 1
            broker = self.broker
            (broker.intake, broker.lead, broker.copying)[int(kernel.rng.random() * 3)].rebalance()
            kernel.after(kernel.chances.rebalance_every_s * (0.5 + kernel.rng.random()), self._rebalance)

    def _is_at_rest(self) -> bool:
        broker = self.broker
        return (
            len(self.acknowledged) == self.wanted
            and len(broker.answered) == sum(map(len, broker.requested.values()))
            and not broker.untold
            and all(state.is_ended for state in broker.states.values())
            and (not self.has_copiers or self._all_are_copied())
            and not any(self.shop.outboxes.values())
            and not any(self.clearml.queues.values())
            and broker.commands_committed == len(broker.commands)
            and self.clearml.open_tasks_of_ours() == 0
            and not self.clearml.unseen_models
        )

    def _all_are_copied(self) -> bool:
        copied = {event.fact.run_id for event in self.broker.completed}
        return len(copied) == len(self.broker.states)

    def _digest(self, evidence: Evidence) -> str:
        """A hash of what was written, of how many steps it took, and of where the random numbers stand now."""
        digest = hashlib.blake2b(digest_size=16)
        for partition in sorted(evidence.lifecycle):
            for event in evidence.lifecycle[partition]:
                digest.update(f"{partition} {event.id} {event.time:.6f} {event.writer}\n".encode())
        for task_id, task in evidence.tasks.items():
            digest.update(f"{task_id} {task}\n".encode())
        for entry in evidence.entries:
            digest.update(f"{entry}\n".encode())
        digest.update(f"{self.kernel.steps} {self.kernel.now:.6f} {self.kernel.rng.random()}".encode())
        return digest.hexdigest()


def run_seed(seed: int, *, trace: bool = False) -> Result:
    """Run one world."""
    return World(seed, trace).run()
