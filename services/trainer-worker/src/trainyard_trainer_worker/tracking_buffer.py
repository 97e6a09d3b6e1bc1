"""What waits to be told to ClearML about one attempt: bounded in memory whatever happens. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MAX_WAITING_CONSOLE_BYTES: Final = 2 << 20
"""A child's output is its first MiB and its last lines: these must fit behind a beginning that waits still."""

MAX_CONSOLE_BYTES: Final = 8 << 20
"""Of one attempt in all; the child's side cuts at 1 MiB and the last 200 lines already."""

MAX_WAITING_SCALARS: Final = 5_000
BATCH_SCALARS: Final = 500
BATCH_CONSOLE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve; `at_ms` since the epoch."""

    title: str
    series: str
    value: float
    iteration: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call carries: console text (lines joined by newlines) with the time of its first line, and points."""

    text: str
    text_at_ms: int
    points: tuple[Point, ...]

    def __bool__(self) -> bool:
        return bool(self.text or self.points)


@dataclass(slots=True)
class TrackingBuffer:
    """Lines and points in order. Lines beyond the bounds are left out and counted; of points the oldest go."""

    _lines: deque[tuple[int, str]] = field(default_factory=deque)
    _points: deque[Point] = field(default_factory=lambda: deque(maxlen=MAX_WAITING_SCALARS))
    _waiting_bytes: int = 0
    _total_bytes: int = 0
    _left_out_lines: int = 0
    left_out_points: int = 0

    def line(self, text: str, at_ms: int) -> None:
        """Add a console line."""
        size = len(text) + 1
        if self._waiting_bytes + size > MAX_WAITING_CONSOLE_BYTES or self._total_bytes + size > MAX_CONSOLE_BYTES:
            self._left_out_lines += 1
            return
        self._waiting_bytes += size
        self._total_bytes += size
        self._lines.append((at_ms, text))

    def point(self, point: Point) -> None:
        """Add a point."""
        if len(self._points) == MAX_WAITING_SCALARS:
            self.left_out_points += 1
        self._points.append(point)

    def take(self, now_ms: int) -> Batch:
        """Remove and return what the next call carries; falsy where nothing waits."""
        lines: list[str] = []
        at_ms, size = (self._lines[0][0] if self._lines else now_ms), 0
        while self._lines and (not lines or size + len(self._lines[0][1]) < BATCH_CONSOLE_BYTES):
            text = self._lines.popleft()[1]
            lines.append(text)
            size += len(text) + 1
        self._waiting_bytes -= size
        if not self._lines and self._left_out_lines:
            lines.append(f"[{self._left_out_lines} lines of output were left out here]")
            self._left_out_lines = 0
        points = tuple(self._points.popleft() for _ in range(min(BATCH_SCALARS, len(self._points))))
        return Batch("\n".join(lines), at_ms, points)

    @property
    def is_empty(self) -> bool:
        """True where nothing waits."""
        return not (self._lines or self._points or self._left_out_lines)
