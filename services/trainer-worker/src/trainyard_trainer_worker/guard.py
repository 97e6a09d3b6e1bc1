"""The worker's side of the watchdog: starts it, tells it of the lease, replaces it where it dies.

The worker's own loop holds the same timer as a second line, so that a watchdog that was killed or stopped is no hole
as long as the worker lives. Only where both stand still at once (a paused host) may a child compute on.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from trainyard_runtime.clock import steady
from trainyard_runtime.logs import get_logger
from trainyard_trainer_worker import watchdog
from trainyard_trainer_worker.lease import Lease

PROGRAM: Final = (sys.executable, "-I", "-S", str(Path(watchdog.__file__)))
_RESTART_S: Final = 0.2
_READY_S: Final = 5.0


class Guard:
    """`async with` it around a child that leads its own process group: the child computes only while the lease holds.

    Inside, a watchdog runs that knows the lease: a child that is let go there has no moment without one. Where the
    system can start none, that is logged, and the worker's own timer holds. At the end whatever is left of the child's
    group is killed.
    """

    def __init__(self, lease: Lease, pid: int, on_frozen: Callable[[bool], None] = lambda _: None) -> None:
        """`on_frozen` is told when the child is frozen, and when it is thawed."""
        self._on_frozen = on_frozen
        self._lease = lease
        self._pid = pid
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._unlisten = lease.listen(self._on_change)
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.is_frozen = False
        self._log = get_logger(component="guard", child_pid=pid)

    @property
    def watchdog_pid(self) -> int | None:
        """The watchdog's process id, where one runs."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep_watchdog(), name=f"watchdog-{self._pid}"),
            asyncio.create_task(self._hold_second_line(), name=f"guard-{self._pid}"),
        ]
        self._tasks[0].add_done_callback(lambda _: self._tried.set())
        try:
            await self._tried.wait()
        except asyncio.CancelledError:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlisten()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            try:
                async with asyncio.timeout(1.0):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _on_change(self) -> None:
        self._changed.set()
        self._tell()

    def _tell(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None and process.returncode is None:
            process.stdin.write(f"{self._lease.expires_at!r}\n".encode())

    async def _keep_watchdog(self) -> None:
        while True:
            try:
                await self._watch()
            except (OSError, RuntimeError) as problem:  # RuntimeError: no thread can be had, to wait for its end
                self._log.error("no watchdog", action="start_watchdog", error=str(problem))
            self._tried.set()
            await asyncio.sleep(_RESTART_S)

    async def _watch(self) -> None:
        """Start a watchdog, and return when it has ended."""
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            str(self._pid),
            repr(self._lease.expires_at),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )
        self._process = process
        self._tell()
        assert process.stdout is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                await process.stdout.read(1)
        self._tried.set()
        await process.wait()
        self._log.warning("the watchdog ended, and is started again", action="restart_watchdog")

    async def _hold_second_line(self) -> None:
        while True:
            self._changed.clear()
            left_s = self._lease.expires_at - steady()
            if left_s > 0:
                if self.is_frozen:
                    self._log.info("training thawed", action="thaw")
                    self._signal(signal.SIGCONT)
                    self.is_frozen = False
                    self._on_frozen(False)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, watchdog.LOOK_EVERY_S)):
                        await self._changed.wait()
                continue
            if not self.is_frozen:
                self._log.warning("training frozen: the log cannot be read", action="freeze")
                self._signal(signal.SIGSTOP)
                self.is_frozen = True
                self._on_frozen(True)
            await self._changed.wait()

    def _signal(self, number: signal.Signals) -> None:
        watchdog.signal_all(self._pid, number)
