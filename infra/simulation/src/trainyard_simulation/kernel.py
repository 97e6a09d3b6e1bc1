"""The scheduler: one thread, one seed, one virtual clock.

Coroutines of the production code run here unchanged. Every `await` on a simulated port yields one `Effect`; the
kernel decides when the far side sees it, when its answer comes back, and what goes wrong in between. Nothing reads a
real clock, a hash of a string or an unseeded generator, so one seed is one schedule.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Sequence
from random import Random
from typing import Any, Protocol

from trainyard_simulation.faults import CALM, Chances, Fault

Program = Callable[["Process"], Coroutine["Effect", Any, None]]
"""What an incarnation runs from its start to its death."""

EPOCH_S = 1_767_225_600.0
"""Virtual time begins here: 2026-01-01T00:00:00Z, in seconds since the epoch."""


class StuckError(RuntimeError):
    """The schedule did not end within its steps."""


class ProgramError(RuntimeError):
    """Code under simulation raised what its caller does not handle. The cause is chained."""


class Effect(Protocol):
    """What a coroutine under simulation yields: it is told to begin, and resumes the task later."""

    def begin(self, kernel: Kernel, task: Task) -> None: ...

    def __await__(self) -> Generator[Effect, Any, Any]: ...


class Sleep:
    """Awaiting it resumes after `seconds` of virtual time; a paused process resumes later."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Effect, Any, None]:
        yield self

    def begin(self, kernel: Kernel, task: Task) -> None:
        kernel.after(self.seconds, task.resume, None, None)


class Call:
    """One request to a server: `apply` runs at the server, once per request that reaches it.

    `apply` returns the answer or raises a refusal (a subclass of `refusals`), which the caller then sees. `unknown` is
    raised at the caller where the answer is lost, `unavailable` where the request surely never arrived. A call without
    `unknown` is a read: doing it again is free, so a lost answer is the same as an absent server.
    """

    __slots__ = ("apply", "label", "refusals", "unavailable", "unknown")

    def __init__(
        self,
        label: str,
        apply: Callable[[], Any],
        *,
        unknown: Callable[[], Exception] | None = None,
        unavailable: Callable[[], Exception] | None = None,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.label = label
        self.apply = apply
        self.unknown = unknown
        self.unavailable = unavailable
        self.refusals = refusals

    def __await__(self) -> Generator[Effect, Any, Any]:
        return (yield self)

    def begin(self, kernel: Kernel, task: Task) -> None:
        kernel.begin_call(self, task)


class Signal:
    """Something to wait for: `wait` resumes soon after the next `set` (or the last, if nobody waited), or in time."""

    __slots__ = ("_is_coming", "_is_set", "_kernel", "_ticket", "_waiting")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._waiting: Task | None = None
        self._ticket = 0
        self._is_set = False
        self._is_coming = False

    def wait(self, timeout_s: float) -> Waiting:
        """Await this. One task waits at a time."""
        return Waiting(self, timeout_s)

    def set(self) -> None:
        if self._waiting is None:
            self._is_set = True
        elif not self._is_coming:
            self._is_coming = True
            self._kernel.after(self._kernel.rng.random() * 0.02, self._wake, self._ticket)

    def hold(self, task: Task, timeout_s: float) -> None:
        self._ticket += 1
        self._waiting = task
        self._kernel.after(0.01 if self._is_set else timeout_s, self._wake, self._ticket)
        self._is_set = False

    def _wake(self, ticket: int) -> None:
        task = self._waiting
        if task is not None and ticket == self._ticket:
            self._waiting = None
            self._is_coming = False
            task.resume(None, None)


class Waiting:
    """One wait on a signal."""

    __slots__ = ("_signal", "_timeout_s")

    def __init__(self, signal: Signal, timeout_s: float) -> None:
        self._signal = signal
        self._timeout_s = timeout_s

    def __await__(self) -> Generator[Effect, Any, None]:
        yield self

    def begin(self, kernel: Kernel, task: Task) -> None:
        self._signal.hold(task, self._timeout_s)


class Together:
    """Awaiting it runs all coroutines side by side and resumes when the last of them has ended."""

    __slots__ = ("_coroutines", "_label")

    def __init__(self, label: str, coroutines: Sequence[Coroutine[Effect, Any, None]]) -> None:
        self._label = label
        self._coroutines = coroutines

    def __await__(self) -> Generator[Effect, Any, None]:
        if self._coroutines:
            yield self

    def begin(self, kernel: Kernel, task: Task) -> None:
        left = len(self._coroutines)

        def one_ended() -> None:
            nonlocal left
            left -= 1
            if not left:
                task.resume(None, None)

        for coroutine in self._coroutines:
            kernel.spawn(task.process, coroutine, self._label).on_end = one_ended


class Task:
    """One coroutine of one incarnation of a process."""

    __slots__ = ("_coroutine", "kernel", "label", "on_end", "process")

    def __init__(self, kernel: Kernel, process: Process, coroutine: Coroutine[Effect, Any, Any], label: str) -> None:
        self.kernel = kernel
        self.process = process
        self._coroutine = coroutine
        self.label = label
        self.on_end: Callable[[], None] | None = None

    def resume(self, value: Any, error: Exception | None) -> None:
        """Give the coroutine what it waited for; where its process is paused, when it is resumed."""
        process = self.process
        if not process.alive:
            return
        kernel = self.kernel
        if process.paused_until > kernel.now:
            kernel.after(process.paused_until - kernel.now, self.resume, value, error)
            return
        try:
            effect = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
        except StopIteration:
            process.tasks.pop(self, None)
            if self.on_end is not None:
                self.on_end()
            return
        except Exception as raised:
            raise ProgramError(f"{process.name}: {self.label}: {type(raised).__name__}: {raised}") from raised
        effect.begin(kernel, self)

    def close(self) -> None:
        self._coroutine.close()


class Process:
    """One incarnation: it may be paused for any time, and it may die, with all that it remembered.

    `shielded`: it does not die now; for what a process cannot survive yet. `writer` is its name in events.
    """

    __slots__ = ("alive", "incarnation", "name", "paused_until", "shielded", "tasks", "writer")

    def __init__(self, name: str, incarnation: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.writer = f"{name}-{incarnation}"
        self.alive = True
        self.paused_until = 0.0
        self.shielded = False
        self.tasks: dict[Task, None] = {}


class Host:
    """Where a process runs: after a crash it is started again as a new incarnation, until `stop` is called."""

    __slots__ = ("_on_death", "_program", "incarnation", "kernel", "name", "process")

    def __init__(
        self, kernel: Kernel, name: str, program: Program, on_death: Callable[[Process], None] | None = None
    ) -> None:
        self.kernel = kernel
        self.name = name
        self._program = program
        self._on_death = on_death
        self.incarnation = 0
        self.process: Process | None = None
        kernel.hosts[name] = self

    def start(self) -> None:
        self.incarnation += 1
        process = self.process = Process(self.name, self.incarnation)
        self.kernel.note(process.writer, "starts")
        self.kernel.spawn(process, self._program(process), "main")

    def kill(self) -> None:
        """End the process between two of its steps: its coroutines are closed, its memory is gone."""
        process = self.process
        if process is None or not process.alive:
            return
        process.alive = False
        self.process = None
        for task in list(process.tasks):
            task.close()
        process.tasks.clear()
        self.kernel.note(process.writer, "dies")
        if self._on_death is not None:
            self._on_death(process)
        self.kernel.after(self.kernel.chances.restart_delay_s(self.kernel.rng), self.start)


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
        if process.name in chances.mortal:
            if not process.shielded and chances.hits(rng, chances.crash):
                if rng.random() < 0.5:
                    self.coverage[f"crash before {call.label}"] += 1
                    self.hosts[process.name].kill()
                    return
                self.coverage[f"crash after {call.label} was sent"] += 1
                self.after(rng.random() * (there + back), self._kill, process)
            elif chances.hits(rng, chances.pause):
                length = chances.pause_s(rng)
                self.coverage[f"pause at {call.label}"] += 1
                if tracing:
                    self.note(process.writer, f"is paused for {length:.1f} s at {call.label}")
                if rng.random() < 0.5:
                    self._pause(process, length)
                    self.after(length, self.begin_call_again, call, task)
                    return
                self.after(rng.random() * (there + back), self._pause, process, length)
        if not chances.hits(rng, chances.lost):
            self.after(there, self._arrive, call, task, back, True)
            return
        fault = chances.pick_fault(rng, is_effect=call.unknown is not None)
        self.coverage[f"{fault.value}: {call.label}"] += 1
        if tracing:
            self.note(process.writer, f"{call.label}: {fault.value}")
        timeout = there + chances.timeout_s(rng)
        error = (call.unavailable or call.unknown) if fault is Fault.ABSENT else (call.unknown or call.unavailable)
        if error is None:
            self.after(there, self._arrive, call, task, back, True)
            return
        if fault is Fault.ANSWER_LOST:
            self.after(there, self._arrive, call, task, back, False)
        elif fault is Fault.APPLIED_LATE:
            self.after(timeout + chances.late_s(rng), self._arrive, call, task, back, False)
        elif fault is Fault.APPLIED_TWICE:
            self.after(there, self._arrive, call, task, back, False)
            self.after(there + chances.latency_s(rng), self._arrive, call, task, back, False)
        self.after(there + back if fault is Fault.ABSENT else timeout, task.resume, None, error())

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
        if process.alive and not process.shielded:
            self.hosts[process.name].kill()

    def _pause(self, process: Process, length_s: float) -> None:
        if process.alive:
            process.paused_until = max(process.paused_until, self.now + length_s)
            for notice in self.on_pause:
                notice(process)


def _shown(answer: Any) -> str:
    if isinstance(answer, list):
        return f"{len(answer)} found"
    text = str(answer)
    return text if len(text) <= 80 else f"{text[:79]}…"
