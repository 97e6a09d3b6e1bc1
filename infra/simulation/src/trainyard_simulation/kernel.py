"""The scheduler: one thread, one seed, one virtual clock.

Coroutines of the production code run here unchanged. Every `await` on a simulated port yields one `Effect`; the
kernel decides when the far side sees it, when its answer comes back, and what goes wrong in between. Nothing reads a
real clock, a hash of a string or an unseeded generator, so one seed is one schedule.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import product
from random import Random
from typing import Any

from trainyard_simulation.effects import Call, Effect
from trainyard_simulation.faults import CALM, Chances, Exposure, Fault
from trainyard_simulation.processes import Host, Process, Task

EPOCH_S = 1_767_225_600.0
"""Virtual time begins here: 2026-01-01T00:00:00Z, in seconds since the epoch."""


_EXPOSURES = {key: Exposure(*key) for key in product((False, True), repeat=4)}


class StuckError(RuntimeError):
    """The schedule did not end within its steps."""


class Kernel:
    """Runs everything that was scheduled, in the order of virtual time, ties in the order of scheduling."""

    def __init__(self, seed: int, *, chances: Chances = CALM, trace: bool = False, max_steps: int = 200_000) -> None:
        self.rng = Random(seed)  # noqa: S311 - a reproducible schedule, no secret
        self.chances = chances
        self.now = EPOCH_S
        self.steps = 0
        self.max_steps = max_steps
        self.faults_on = True
        self.hosts: dict[str, Host] = {}
        self.coverage: Counter[str] = Counter()
        self.on_pause: list[Callable[[Process], None]] = []
        self.away_until: dict[str, float] = {}
        self.lines: list[str] | None = [] if trace else None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action` in `delay_s` of virtual time."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._sequence, action, arguments))

    def spawn(self, process: Process, coroutine: Coroutine[Effect, Any, Any], label: str) -> Task:
        """Run a coroutine as a part of `process`; its first step is taken at once, in a scheduled step of its own."""
        task = Task(self, process, coroutine, label)
        process.tasks[task] = None
        self.after(0.0, task.resume, None, None)
        return task

    def run_until(self, end_s: float, done: Callable[[], bool] | None = None) -> bool:
        """Run to `end_s` of virtual time, or until `done()`. Returns whether `done` became true.

        Raises:
            StuckError: more than `max_steps` steps in all.
            ProgramError: code under simulation raised.
        """
        heap = self._heap
        pop = heapq.heappop
        while heap and heap[0][0] <= end_s:
            self.now, _, action, arguments = pop(heap)
            action(*arguments)
            self.steps += 1
            if self.steps >= self.max_steps:
                raise StuckError(f"more than {self.max_steps:,} steps; the world does not come to rest")
            if done is not None and not self.steps & 15 and done():
                return True
        self.now = max(self.now, end_s)
        return done is not None and done()

    def note(self, who: str, what: str) -> None:
        """One line of the trace, where one is kept."""
        if self.lines is not None:
            self.lines.append(f"{self.now - EPOCH_S:10.3f}  {who:<14} {what}")

    def close(self) -> None:
        """Close every coroutine, so that none is left to the garbage collector."""
        for host in self.hosts.values():
            if host.process is not None:
                host.process.alive = False
                for task in list(host.process.tasks):
                    task.close()
                host.process.tasks.clear()
        self._heap.clear()

    def begin_call(self, call: Call, task: Task) -> None:
        """Send a request: the server sees it after a while, the caller its answer later, or an error, or nothing."""
        chances, rng, process = self.chances, self.rng, task.process
        tracing = self.lines is not None
        there, back = chances.latency_s(rng), chances.latency_s(rng)
        if not self.faults_on:
            self.after(there, self._arrive, call, task, back, True)
            return
        if self.now < max(self.away_until.get(call.server, 0.0), process.cut_off_until):
            self.coverage[f"{call.server} is away"] += 1
            error = call.unavailable or call.unknown
            if error is not None:
                self.after(there + back, task.resume, None, error())
                return
        is_effect = call.unknown is not None
        is_mortal = process.name in chances.mortal
        exposed = _EXPOSURES[is_mortal, is_mortal, call.unavailable is not None, is_effect]
        loss: Fault | None = None
        for fault in chances.befall(rng, exposed):
            self.coverage[f"{fault.value}: {call.label}"] += 1
            if tracing:
                self.note(process.writer, f"{fault.value}: {call.label}")
            if fault is Fault.CRASH_BEFORE:
                self.hosts[process.name].kill()
                return
            if fault is Fault.PAUSE_BEFORE:
                length = chances.pause_s(rng)
                self._pause(process, length)
                self.after(length, self.begin_call_again, call, task)
                return
            if fault is Fault.CRASH_AFTER:
                self.after(rng.random() * (there + back), self._kill, process)
            elif fault is Fault.PAUSE_AFTER:
                self.after(rng.random() * (there + back), self._pause, process, chances.pause_s(rng))
            else:
                loss = fault
        if loss is None:
            self.after(there, self._arrive, call, task, back, True)
        else:
            self._lose(call, task, loss, there, back)

    def _lose(self, call: Call, task: Task, loss: Fault, there_s: float, back_s: float) -> None:
        chances, rng = self.chances, self.rng
        timeout = there_s + chances.timeout_s(rng)
        if loss is Fault.ABSENT:
            error = call.unavailable or call.unknown
            assert error is not None
            self.after(there_s + back_s, task.resume, None, error())
            return
        is_answered = False
        if loss is Fault.ANSWER_LOST:
            self.after(there_s, self._arrive, call, task, back_s, False)
        elif loss is Fault.APPLIED_LATE:
            self.after(timeout + chances.late_s(rng), self._arrive, call, task, back_s, False)
        elif loss is Fault.APPLIED_TWICE:
            is_answered = rng.random() < 0.5
            self.after(there_s, self._arrive, call, task, back_s, is_answered)
            self.after(there_s + chances.latency_s(rng) * 2, self._arrive, call, task, back_s, False)
        if not is_answered:
            assert call.unknown is not None
            self.after(timeout, task.resume, None, call.unknown())

    def begin_call_again(self, call: Call, task: Task) -> None:
        """Send what a pause held back before it was sent."""
        if task.process.alive:
            self.begin_call(call, task)

    def _arrive(self, call: Call, task: Task, back_s: float, is_answered: bool) -> None:
        answer: Any = None
        refusal: Exception | None = None
        try:
            answer = call.apply()
        except call.refusals as refused:
            refusal = refused
        if self.lines is not None:
            outcome = f"refused, {refusal}" if refusal is not None else _shown(answer)
            self.note(task.process.writer, f"{call.label} -> {outcome}{'' if is_answered else ' (answer lost)'}")
        if is_answered:
            self.after(back_s, task.resume, answer, refusal)

    def _kill(self, process: Process) -> None:
        if process.alive:
            self.hosts[process.name].kill()

    def _pause(self, process: Process, length_s: float) -> None:
        if process.alive:
            process.paused_until = max(process.paused_until, self.now + length_s)
            whole_host = self.rng.random() < 0.5
            if whole_host:
                self.coverage["a whole host pauses"] += 1
                for child in process.children:
                    child.host_pauses(process.paused_until)
            for notice in self.on_pause:
                notice(process)


def _shown(answer: Any) -> str:
    if isinstance(answer, list):
        return f"{len(answer)} found"
    text = str(answer)
    return text if len(text) <= 80 else f"{text[:79]}…"
