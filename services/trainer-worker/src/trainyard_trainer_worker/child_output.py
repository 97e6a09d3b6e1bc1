"""What a training child tells and prints, read from its pipes in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence

from trainyard_trainer_worker.child_events import ChildEvent, Console, decode, tells_of_no_memory

DRAIN_GRACE_S = 1.0
CONSOLE_HEAD_BYTES = 1 << 20
CONSOLE_TAIL_LINES = 200
MAX_LINE_BYTES = 4_096
MAX_EVENT_BYTES = 1 << 20
MAX_WAITING = 20_000


class ChildOutput:
    """Three pipes: events, standard output, standard error. `start` it, iterate `events()`, `drain` it at the end.

    Any number of bytes may be printed: the first MiB of the console is passed on as it comes, then only the last 200
    lines, when the child has ended, with a note of how much was cut. At most 20,000 events wait for a slow reader.
    """

    def __init__(self, pipes: Sequence[int]) -> None:
        self._pipes = pipes
        self._waiting: deque[ChildEvent] = deque(maxlen=MAX_WAITING)
        self._news = asyncio.Event()
        self._ended = False
        self._head_left = CONSOLE_HEAD_BYTES
        self._tail: deque[Console] = deque(maxlen=CONSOLE_TAIL_LINES)
        self._last_errors: deque[str] = deque(maxlen=5)
        self._cut_bytes = 0
        self._reading: list[asyncio.Task[None]] = []
        self._transports: list[asyncio.ReadTransport] = []

    @property
    def last_said(self) -> str:
        """The last lines of standard error, and what was printed there or elsewhere of memory that is not to be had."""
        return " | ".join(self._last_errors)

    async def start(self) -> None:
        """Read from now on."""
        (events, _), (stdout, _), (stderr, _) = opened = [await _open(fd) for fd in self._pipes]
        self._transports = [transport for _, transport in opened]
        self._reading = [
            asyncio.create_task(self._read_events(events)),
            asyncio.create_task(self._read_console("stdout", stdout)),
            asyncio.create_task(self._read_console("stderr", stderr)),
        ]

    async def drain(self) -> None:
        """The child has ended: read what is left, and let `events()` end."""
        _, unfinished = await asyncio.wait(self._reading, timeout=DRAIN_GRACE_S)
        for task in unfinished:  # a descendant in a session of its own holds the pipe open
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        for transport in self._transports:
            transport.close()
        if self._cut_bytes:
            self._add(Console("trainyard", f"[{self._cut_bytes} bytes of output were cut here]"))
        for line in self._tail:
            self._add(line)
        self._ended = True
        self._news.set()

    async def events(self) -> AsyncIterator[ChildEvent]:
        """What the child tells and prints, in the order of each stream, until it has ended. For one reader."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    async def _read_console(self, name: str, stream: asyncio.StreamReader) -> None:
        """Lines of any length: longer ones are cut into pieces of 4 KiB."""
        rest = b""
        while chunk := await stream.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._console(name, line)
            while len(rest) > MAX_LINE_BYTES:
                self._console(name, rest[:MAX_LINE_BYTES])
                rest = rest[MAX_LINE_BYTES:]
        if rest:
            self._console(name, rest)

    def _console(self, name: str, raw: bytes) -> None:
        text = raw[:MAX_LINE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r")
        line = Console(name, text.rpartition("\r")[2])
        if (name == "stderr" and line.line.strip()) or tells_of_no_memory(line.line):
            self._last_errors.append(line.line)
        if self._head_left > 0:
            self._head_left -= len(raw) + 1
            self._add(line)
            return
        if len(self._tail) == CONSOLE_TAIL_LINES:
            self._cut_bytes += len(self._tail[0].line) + 1
        self._tail.append(line)

    async def _read_events(self, reader: asyncio.StreamReader) -> None:
        line = b"?"
        while line:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a foreign line, or one too long, is no event
                line = await reader.readline()
                self._add(decode(line))

    def _add(self, event: ChildEvent) -> None:
        self._waiting.append(event)
        self._news.set()


async def _open(fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=MAX_EVENT_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    return reader, transport
