"""The child's end of the event pipe."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from trainyard_trainer_worker.child_events import (
    Phase,
    PhaseEnded,
    PhaseStarted,
    Progress,
    Scalar,
    Warned,
    encode,
)

PROGRESS_EVERY_S = 0.2
MAX_SCALARS = 5_000
MAX_WARNINGS = 50
MAX_WARNING_CHARS = 1_000
COPY_STATUS = 1


class Emitter:
    """Writes events as lines to a descriptor (None: nowhere) and keeps phases and warnings for the results.

    It belongs to the process that made it: a copy of that which a library forks, and lets return from its code, ends
    where its phase does, and leaves model, outcome and clean process to the one that was asked for them.
    Callable from any thread. Progress is passed on at most five times a second, the first and the last of a phase
    always; at most 5,000 scalars and 50 warnings are. A reader that is gone is ignored: the child then dies with it.
    """

    def __init__(self, fd: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._progress_at = -math.inf
        self._held: Progress | None = None
        self._scalars = 0
        self.phase: Phase | None = None
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []

    @contextmanager
    def in_phase(self, phase: Phase) -> Iterator[None]:
        """Announce a phase and, if its body ends well, how long it took."""
        self.phase = phase
        self._send(PhaseStarted(phase))
        started = self._clock()
        try:
            yield
        finally:
            if os.getpid() != self._pid:
                os._exit(COPY_STATUS)
        with self._lock:
            held, self._held = self._held, None
            self._progress_at = -math.inf
        if held is not None:
            self._send(held)
        self.seconds[phase] = round(self._clock() - started, 3)
        self._send(PhaseEnded(phase, self.seconds[phase]))

    def progress(self, step: int, total: int | None, eta_s: float | None, metrics: Mapping[str, float]) -> None:
        """See `Reporter.progress`."""
        event = Progress(step, total, eta_s, {k: float(v) for k, v in metrics.items() if math.isfinite(v)})
        with self._lock:
            if self._clock() - self._progress_at < PROGRESS_EVERY_S:
                self._held = event
                return
            self._held = None
            self._progress_at = self._clock()
        self._send(event)

    def scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        """See `Reporter.scalar`."""
        with self._lock:
            self._scalars += 1
            beyond = self._scalars > MAX_SCALARS
        if math.isfinite(value) and not beyond:
            self._send(Scalar(title, series, float(value), iteration))

    def warn(self, message: str) -> None:
        """See `Reporter.warn`. The same message counts once."""
        message = message[:MAX_WARNING_CHARS]
        with self._lock:
            if message in self.warnings or len(self.warnings) >= MAX_WARNINGS:
                return
            self.warnings.append(message)
        self._send(Warned(message))

    def _send(self, event: PhaseStarted | PhaseEnded | Progress | Scalar | Warned) -> None:
        if self._fd is None:
            return
        data = encode(event)
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except BrokenPipeError:
                self._fd = None
