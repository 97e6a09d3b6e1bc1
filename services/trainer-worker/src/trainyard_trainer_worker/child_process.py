"""The parent's side of a training child: start, listen, bound, end.

The child leads a session and process group of its own, dies with this process (Linux), sees none of our secrets, and
is always reaped before `outcome()` returns. Start children from the main thread: the kernel ties "dies with its
parent" to the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from trainyard_runtime.logs import get_logger
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import ChildEvent, Console, decode
from trainyard_trainer_worker.fork_servers import ChildHandle, ForkServer, ForkServerUnavailable
from trainyard_trainer_worker.spec import (
    OUTCOME_FILE,
    SPEC_FILE,
    AttemptSpec,
    Detail,
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    clean,
    outcome_from_json,
)
from trainyard_trainer_worker.training.environment import child_environment

STOP_GRACE_S = 2.0
DRAIN_GRACE_S = 1.0
CONSOLE_HEAD_BYTES = 1 << 20
CONSOLE_TAIL_LINES = 200
MAX_LINE_BYTES = 4_096
MAX_EVENT_BYTES = 1 << 20
MAX_OUTCOME_BYTES = 16 << 20
MAX_WAITING = 20_000
PROGRAM = (sys.executable, "-m", "trainyard_trainer_worker.training.child")


def _prepare(spec: AttemptSpec) -> Path:
    work_dir = Path(spec.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    (work_dir / OUTCOME_FILE).unlink(missing_ok=True)
    spec_path = work_dir / SPEC_FILE
    spec_path.write_text(json.dumps(spec.to_json()), encoding="utf-8")
    return spec_path


async def _forked(
    server: ForkServer | None, spec_path: Path, environment: Mapping[str, str], folder: str, writers: Sequence[int]
) -> ChildHandle | None:
    if server is None:
        return None
    try:
        return await server.fork([str(spec_path)], environment, folder, writers)
    except ForkServerUnavailable as problem:
        get_logger(component="child_process").warning("not forked", action="fork", error=str(problem))
        return None


async def _spawned(
    program: Sequence[str], spec_path: Path, environment: Mapping[str, str], folder: str, writers: Sequence[int]
) -> ChildHandle:
    events, stdout, stderr = writers
    return await asyncio.create_subprocess_exec(
        *program,
        str(spec_path),
        "--events-fd",
        str(events),
        "--parent-pid",
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=(events,),
        start_new_session=True,
        cwd=folder,
        env=dict(environment),
    )


async def _open(fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=MAX_EVENT_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    return reader, transport


class TrainingChild:
    """One running attempt. `start` it, iterate `events()`, await `outcome()`; `stop()` ends it early.

    Any number of bytes may be printed: the first MiB of the console is passed on as it comes, then only the last 200
    lines, when the child has ended, with a note of how much was cut. At most 20,000 events wait for a slow reader.
    """

    def __init__(self, spec: AttemptSpec, process: ChildHandle, pipes: Sequence[int]) -> None:
        self._spec = spec
        self._process = process
        self._pipes = pipes
        self._started = time.monotonic()
        self._waiting: deque[ChildEvent] = deque(maxlen=MAX_WAITING)
        self._news = asyncio.Event()
        self._ended = False
        self._stop_reason: Reason | None = None
        self._overran = False
        self._head_left = CONSOLE_HEAD_BYTES
        self._tail: deque[Console] = deque(maxlen=CONSOLE_TAIL_LINES)
        self._last_errors: deque[str] = deque(maxlen=5)
        self._cut_bytes = 0
        self._supervision = asyncio.create_task(self._supervise(), name=f"training-child-{process.pid}")

    @classmethod
    async def start(
        cls,
        spec: AttemptSpec,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        fork_server: ForkServer | None = None,
    ) -> TrainingChild:
        """Write the spec into its work directory (created, private) and start the child. Raises OSError.

        With a `fork_server` the child is forked there; where that is not possible, and without one, `program` is the
        interpreter and what it runs.
        """
        spec_path = _prepare(spec)
        # Pipes of our own: asyncio's would make wait() last as long as any descendant keeps one of them open.
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in ("events", "stdout", "stderr")]
        readers, writers = [r for r, _ in pipes], [w for _, w in pipes]
        own = child_environment(os.environ if environment is None else environment, spec.work_dir, spec.n_jobs)
        try:
            process = await _forked(fork_server, spec_path, own, spec.work_dir, writers)
            if process is None:
                process = await _spawned(program, spec_path, own, spec.work_dir, writers)
        except BaseException:
            for fd in readers:
                os.close(fd)
            raise
        finally:
            for fd in writers:
                os.close(fd)
        return cls(spec, process, readers)

    @property
    def pid(self) -> int:
        """The child's process id, which is also that of its process group."""
        return self._process.pid

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    async def events(self) -> AsyncIterator[ChildEvent]:
        """What the child tells and prints, in the order of each stream, until it has ended. For one reader."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    async def stop(self, reason: Reason, grace_s: float = STOP_GRACE_S) -> None:
        """End the child: SIGTERM, `grace_s`, SIGKILL to its group. Returns when it is reaped. The first reason
        stands; a child that has already ended keeps its outcome."""
        if self._process.returncode is None and self._stop_reason is None:
            self._stop_reason = reason
            await self._terminate(grace_s)
        await asyncio.shield(self._supervision)

    async def outcome(self) -> Outcome:
        """The end of the attempt, once the child is reaped and its output read.

        `Failed(deadline)` where `deadline_s` passed, `Stopped` after `stop`, what the child left in `outcome.json`
        else; a child that left nothing is `out_of_memory` when it was killed by SIGKILL, else `trainer_error`.
        """
        return await asyncio.shield(self._supervision)

    async def _supervise(self) -> Outcome:
        events, stdout, stderr = [await _open(fd) for fd in self._pipes]
        reading = [
            asyncio.create_task(self._read_events(events[0])),
            asyncio.create_task(self._read_console("stdout", stdout[0])),
            asyncio.create_task(self._read_console("stderr", stderr[0])),
        ]
        try:
            await asyncio.wait_for(self._process.wait(), max(0.0, self._spec.deadline_s - self.elapsed_s))
        except TimeoutError:
            self._overran = True
            await self._terminate()
        finally:
            self._signal_group(signal.SIGKILL)  # whatever the child left behind
        _, unfinished = await asyncio.wait(reading, timeout=DRAIN_GRACE_S)
        for task in unfinished:  # a descendant in a session of its own holds the pipe open
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for _, transport in (events, stdout, stderr):
            transport.close()
        self._flush_tail()
        self._ended = True
        self._news.set()
        return self._judge()

    async def _terminate(self, grace_s: float = STOP_GRACE_S) -> None:
        self._signal_group(signal.SIGCONT)  # a frozen group takes no SIGTERM
        self._signal_group(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._signal_group(signal.SIGKILL)
            await self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _judge(self) -> Outcome:
        status = self._process.returncode
        if self._stop_reason is not None:
            return Stopped(self._stop_reason)
        found = self._read_outcome()
        if self._overran and not isinstance(found, Succeeded):
            return Failed(
                Reason.DEADLINE,
                Detail.ATTEMPT_DEADLINE,
                f"the attempt was ended after {self.elapsed_s:.1f} s; deadline_s is {self._spec.deadline_s:g}. "
                "Raise deadline_s or lower time_budget_s",
            )
        if found is not None:
            return found
        said = f"; it last said: {clean(' | '.join(self._last_errors), 400)}" if self._last_errors else ""
        if status == -signal.SIGKILL:
            return Failed(
                Reason.OUT_OF_MEMORY,
                Detail.CHILD_DIED,
                "the training process was killed (SIGKILL) and not by us: most likely the system ran out of memory. "
                f"Use less data or a lighter estimator{said}",
            )
        how = f"with status {status}" if status is None or status >= 0 else f"by {signal.Signals(-status).name}"
        return Failed(
            Reason.TRAINER_ERROR, Detail.CHILD_DIED, f"the training process ended {how} and left no outcome{said}"
        )

    def _read_outcome(self) -> Outcome | None:
        path = Path(self._spec.work_dir) / OUTCOME_FILE
        try:
            if path.is_symlink() or path.stat().st_size > MAX_OUTCOME_BYTES:
                return None
            return outcome_from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

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
        if name == "stderr" and line.line.strip():
            self._last_errors.append(line.line)
        if self._head_left > 0:
            self._head_left -= len(raw) + 1
            self._add(line)
            return
        if len(self._tail) == CONSOLE_TAIL_LINES:
            self._cut_bytes += len(self._tail[0].line) + 1
        self._tail.append(line)

    def _flush_tail(self) -> None:
        if self._cut_bytes:
            self._add(Console("trainyard", f"[{self._cut_bytes} bytes of output were cut here]"))
        for line in self._tail:
            self._add(line)

    async def _read_events(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a foreign line on the pipe is no event
                self._add(decode(line))

    def _add(self, event: ChildEvent) -> None:
        self._waiting.append(event)
        self._news.set()
