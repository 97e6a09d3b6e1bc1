"""What runs: a host starts a process, one incarnation with its coroutines, and starts the next when it has died."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from trainyard_simulation.effects import Effect

if TYPE_CHECKING:
    from trainyard_simulation.kernel import Kernel

Program = Callable[["Process"], Coroutine[Effect, Any, None]]
"""What an incarnation runs from its start to its death."""


class ProgramError(RuntimeError):
    """Code under simulation raised what its caller does not handle. The cause is chained."""


class Task:
    """One coroutine of one incarnation of a process."""

    __slots__ = ("_coroutine", "_is_closed", "kernel", "label", "on_end", "process")

    def __init__(self, kernel: Kernel, process: Process, coroutine: Coroutine[Effect, Any, Any], label: str) -> None:
        self.kernel = kernel
        self.process = process
        self._coroutine = coroutine
        self.label = label
        self.on_end: Callable[[], None] | None = None
        self._is_closed = False

    def resume(self, value: Any, error: Exception | None) -> None:
        """Give the coroutine what it waited for; where its process is paused, when it is resumed."""
        process = self.process
        if not process.alive or self._is_closed:
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
        """End it where it stands; what it waits for comes in vain."""
        self._is_closed = True
        self.process.tasks.pop(self, None)
        self._coroutine.close()


class Process:
    """One incarnation: it may be paused for any time, and it may die, with all that it remembered.

    `children` are the processes that depend on it. `cut_off_until`: nothing that it sends arrives before. `writer` is
    its name in events.
    """

    __slots__ = ("alive", "children", "cut_off_until", "incarnation", "name", "paused_until", "tasks", "writer")

    def __init__(self, name: str, incarnation: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.writer = f"{name}-{incarnation}"
        self.alive = True
        self.paused_until = 0.0
        self.cut_off_until = 0.0
        self.tasks: dict[Task, None] = {}
        self.children: list[DiesWithParent] = []


class DiesWithParent(Protocol):
    """Another process on the same host, which dies with this one and stands still with the host."""

    def die(self) -> None: ...

    def host_pauses(self, until: float) -> None: ...


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
        for child in list(process.children):
            child.die()
        for task in list(process.tasks):
            task.close()
        process.tasks.clear()
        self.kernel.note(process.writer, "dies")
        if self._on_death is not None:
            self._on_death(process)
        self.kernel.after(self.kernel.chances.restart_delay_s(self.kernel.rng), self.start)
