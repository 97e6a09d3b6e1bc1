"""What a coroutine under simulation may wait for. Each `await` on one of these is one step of its process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from trainyard_simulation.kernel import Kernel
    from trainyard_simulation.processes import Task

IDLE_S = 120.0
"""How long who is woken by news waits for them at most: only a fallback, long to save steps."""


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
    `unknown` is a read: doing it again is free, so a lost answer is the same as an absent server. `server` is what
    may be away: `broker` or `clearml`.
    """

    __slots__ = ("apply", "label", "refusals", "server", "unavailable", "unknown")

    def __init__(
        self,
        label: str,
        apply: Callable[[], Any],
        *,
        unknown: Callable[[], Exception] | None = None,
        unavailable: Callable[[], Exception] | None = None,
        refusals: tuple[type[Exception], ...] = (),
        server: str = "clearml",
    ) -> None:
        self.label = label
        self.apply = apply
        self.unknown = unknown
        self.unavailable = unavailable
        self.refusals = refusals
        self.server = server

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
