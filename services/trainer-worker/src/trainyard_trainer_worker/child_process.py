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
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainyard_runtime.logs import get_logger
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker import usage
from trainyard_trainer_worker.child_events import ChildEvent
from trainyard_trainer_worker.child_output import ChildOutput
from trainyard_trainer_worker.child_verdict import End, judge
from trainyard_trainer_worker.fork_servers import ChildHandle, ForkServer, ForkServerUnavailable
from trainyard_trainer_worker.spec import OUTCOME_FILE, SPEC_FILE, AttemptSpec, Outcome, Stopped, outcome_from_json
from trainyard_trainer_worker.training.environment import child_environment
from trainyard_trainer_worker.watchdog import signal_all

STOP_GRACE_S = 2.0
METER_EVERY_S = 0.5
MAX_OUTCOME_BYTES = 16 << 20
PROGRAM = (sys.executable, "-m", "trainyard_trainer_worker.training.child")


def _prepare(spec: AttemptSpec) -> Path:
    work_dir = Path(spec.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    (work_dir / OUTCOME_FILE).unlink(missing_ok=True)
    spec_path = work_dir / SPEC_FILE
    spec_path.write_text(json.dumps(spec.to_json()), encoding="utf-8")
    return spec_path


async def _forked(
    server: ForkServer | None, spec_path: Path, environment: Mapping[str, str], folder: str, ends: Sequence[int]
) -> ChildHandle | None:
    if server is None:
        return None
    try:
        return await server.fork([str(spec_path)], environment, folder, ends)
    except ForkServerUnavailable as problem:
        get_logger(component="child_process").warning("not forked", action="fork", error=str(problem))
        return None


async def _spawned(
    program: Sequence[str], spec_path: Path, environment: Mapping[str, str], folder: str, ends: Sequence[int]
) -> ChildHandle:
    stdin, events, stdout, stderr = ends
    return await asyncio.create_subprocess_exec(
        *program,
        str(spec_path),
        "--events-fd",
        str(events),
        "--parent-pid",
        str(os.getpid()),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=(events,),
        start_new_session=True,
        cwd=folder,
        env=dict(environment),
    )


class TrainingChild:
    """One running attempt. `start` it, `begin()`, iterate `events()`, await `outcome()`; `stop()` ends it early.

    Its output is bounded as `ChildOutput` says, its memory (that of all its processes together) by the spec.
    """

    def __init__(self, spec: AttemptSpec, process: ChildHandle, pipes: Sequence[int], go: int) -> None:
        self._spec = spec
        self._process = process
        self._output = ChildOutput(pipes)
        self._go: int | None = go
        self._meter = usage.Meter(process.pid)
        self._oom_kills_before = usage.oom_kills()
        self._started = time.monotonic()
        self._stop_reason: Reason | None = None
        self._overran = False
        self._over_memory_bytes: int | None = None
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

        It computes nothing before `begin()`: whoever guards it is to be there first.

        With a `fork_server` the child is forked there; where that is not possible, and without one, `program` is the
        interpreter and what it runs.
        """
        spec_path = _prepare(spec)
        own = child_environment(os.environ if environment is None else environment, spec.work_dir, spec.n_jobs)
        ours: list[int] = []
        ends: list[int] = []
        with contextlib.ExitStack() as theirs:
            try:
                # Pipes of our own: asyncio's would make wait() last as long as any descendant keeps one of them open.
                for _ in ("standard input", "events", "standard output", "standard error"):
                    reader, writer = os.pipe2(os.O_CLOEXEC)
                    mine, its = (reader, writer) if ours else (writer, reader)
                    ours.append(mine)
                    theirs.callback(os.close, its)
                    ends.append(its)
                process = await _forked(fork_server, spec_path, own, spec.work_dir, ends)
                if process is None:
                    process = await _spawned(program, spec_path, own, spec.work_dir, ends)
            except BaseException:
                for fd in ours:
                    os.close(fd)
                raise
        go, *readers = ours
        return cls(spec, process, readers, go)

    @property
    def pid(self) -> int:
        """The child's process id, which is also that of its process group."""
        return self._process.pid

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def begin(self) -> None:
        """Let it compute. Harmless twice, and on a child that has ended."""
        if self._go is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._go, b"\n")
            self._close_go()

    def events(self) -> AsyncIterator[ChildEvent]:
        """What the child tells and prints, in the order of each stream, until it has ended. For one reader."""
        return self._output.events()

    async def stop(self, reason: Reason, grace_s: float = STOP_GRACE_S) -> None:
        """End the child: SIGTERM, `grace_s`, SIGKILL to its group; with no grace it gets SIGKILL at once, and a frozen
        one computes no more. Returns when it is reaped. The first reason stands; a child that has ended keeps its
        outcome.
        """
        if self._process.returncode is None and self._stop_reason is None:
            self._stop_reason = reason
            await self._terminate(grace_s)
        await asyncio.shield(self._supervision)

    async def outcome(self) -> Outcome:
        """The end of the attempt, once the child is reaped and its output read; see `child_verdict.judge`.

        The results of a failure too hold the processor's time and the peak of memory of the child and its descendants.
        """
        return await asyncio.shield(self._supervision)

    async def _supervise(self) -> Outcome:
        await self._output.start()
        metering = asyncio.create_task(self._meter_for_ever(), name=f"meter-{self.pid}")
        try:
            async with asyncio.timeout(max(0.0, self._spec.deadline_s - self.elapsed_s)):
                await self._process.wait()
        except TimeoutError:
            self._overran = True
            await self._terminate()
        finally:
            metering.cancel()
            self._close_go()
            self._signal_group(signal.SIGKILL)  # whatever the child left behind
        await asyncio.gather(metering, return_exceptions=True)
        await self._output.drain()
        outcome = judge(self._end())
        return (
            outcome if isinstance(outcome, Stopped) else replace(outcome, results=self._meter.added_to(outcome.results))
        )

    async def _meter_for_ever(self) -> None:
        limit_bytes = self._spec.memory_limit_bytes
        while True:
            private_bytes = self._meter.sample().private_bytes
            if limit_bytes is not None and private_bytes > limit_bytes:
                self._over_memory_bytes = private_bytes
                signal_all(self.pid, signal.SIGKILL)
                return
            await asyncio.sleep(METER_EVERY_S)

    async def _terminate(self, grace_s: float = STOP_GRACE_S) -> None:
        if grace_s:
            self._signal_group(signal.SIGCONT)  # a frozen group takes no SIGTERM
            self._signal_group(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            signal_all(self.pid, signal.SIGKILL)
            await self._process.wait()

    def _close_go(self) -> None:
        if self._go is not None:
            os.close(self._go)
            self._go = None

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self) -> End:
        kills, status = usage.oom_kills(), self._process.returncode
        assert status is not None
        return End(
            status=status,
            found=self._read_outcome(),
            stopped=self._stop_reason,
            overran=self._overran,
            elapsed_s=self.elapsed_s,
            deadline_s=self._spec.deadline_s,
            last_said=self._output.last_said,
            memory_limit_bytes=self._spec.memory_limit_bytes,
            over_memory_bytes=self._over_memory_bytes,
            oom_killed=None if kills is None or self._oom_kills_before is None else kills > self._oom_kills_before,
        )

    def _read_outcome(self) -> Outcome | None:
        path = Path(self._spec.work_dir) / OUTCOME_FILE
        try:
            if path.is_symlink() or path.stat().st_size > MAX_OUTCOME_BYTES:
                return None
            return outcome_from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None
