"""The worker's side of the fork servers: one per trainer, started when it is first needed (or before), kept warm.

A fork server that cannot be started, or that dies, is no reason to fail an attempt: its children end with it, and the
next attempt gets a process of its own, or a new server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from trainyard_runtime.logs import get_logger
from trainyard_trainer_worker.training.environment import child_environment

READY_S: Final = 120.0
FORK_S: Final = 10.0
REPORT_S: Final = 1.0
"""How long a server has to tell how a child ended that is seen to have ended."""

LOST: Final = 1 << 16
"""The status, which no process has, of a child whose server died or hangs: nobody can tell how it ended."""


class ForkServerUnavailable(Exception):
    """No child can be had from this fork server now."""


class ChildRefused(Exception):
    """The system lets the server make no process now; the server lives."""


class ChildHandle(Protocol):
    """A child process: what asyncio's process and a forked one have in common. `pid` leads its process group."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


class ForkedChild:
    """A child of a fork server, which reaps it and tells how it ended. Its end is also seen without the server."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._server_is_gone = False
        self._pidfd: int | None = None
        with contextlib.suppress(OSError, AttributeError):  # it has ended already, or this system has none
            self._pidfd = os.pidfd_open(pid)
            self._loop.add_reader(self._pidfd, self._seen_to_end)

    async def wait(self) -> int:
        """The exit status once the child is reaped; negative for a signal, LOST where nobody can tell."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def has_ended(self, status: int) -> None:
        """The server said so."""
        if self.returncode is None:
            self.returncode = status
            self._forget()
            self._ended.set()

    def lose_server(self) -> None:
        """There is no server any more: end with it."""
        self._server_is_gone = True
        if self._pidfd is None:
            self.has_ended(LOST)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _seen_to_end(self) -> None:
        self._forget()
        self._loop.call_later(0.0 if self._server_is_gone else REPORT_S, self.has_ended, LOST)

    def _forget(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


class ForkServer:
    """One server process for one trainer."""

    def __init__(self, folder: Path, trainer: str, python: str, n_jobs: int) -> None:
        """`folder` is the worker's, cleared at its start: a killed one leaves the server's own folder in it."""
        self._parent_folder = folder
        self._trainer = trainer
        self._python = python
        self._n_jobs = n_jobs
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[int] | None = None
        self._forked: asyncio.Future[ForkedChild] | None = None
        self._children: dict[int, ForkedChild] = {}
        self._log = get_logger(component="fork_server", trainer=trainer)

    @property
    def pid(self) -> int | None:
        """The server's process id, where one runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def is_ready(self) -> bool:
        """True once all is loaded, while the server runs."""
        return self.pid is not None and self._ready is not None and self._ready.done()

    async def warm(self) -> None:
        """Start it, if it does not run, and wait until all is loaded. Raises ForkServerUnavailable.

        Whoever is tired of waiting may cancel: it goes on loading.
        """
        async with self._lock:
            await self._ensure()

    async def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: str, descriptors: Sequence[int]
    ) -> ForkedChild:
        """A child that runs `training.child` with these arguments. Raises ForkServerUnavailable: none was made."""
        async with self._lock:
            await self._ensure()
            assert self._socket is not None
            self._forked = asyncio.get_running_loop().create_future()
            message = {"arguments": list(arguments), "environment": dict(environment), "folder": folder}
            try:
                socket.send_fds(self._socket, [json.dumps(message).encode()], list(descriptors))
                async with asyncio.timeout(FORK_S):
                    return await self._forked
            except ChildRefused as problem:
                raise ForkServerUnavailable(f"the fork server of {self._trainer} cannot fork: {problem}") from problem
            except (OSError, TimeoutError) as problem:
                await self._end()
                raise ForkServerUnavailable(f"the fork server of {self._trainer} made no child: {problem}") from problem

    async def close(self) -> None:
        """End it, with all its children."""
        async with self._lock:
            await self._end()

    async def _ensure(self) -> None:
        if self.pid is None or self._listening is None or self._listening.done():
            await self._end()
            await self._start()
        assert self._ready is not None
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.shield(self._ready)
        except (OSError, TimeoutError) as problem:
            await self._end()
            raise ForkServerUnavailable(f"the fork server of {self._trainer} did not start: {problem}") from problem

    async def _start(self) -> None:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="fork-", dir=self._parent_folder)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as problem:
            raise ForkServerUnavailable(f"the fork server of {self._trainer} cannot be started: {problem}") from problem
        ours.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._python,
                "-m",
                "trainyard_trainer_worker.training.fork_server",
                self._trainer,
                "--socket-fd",
                str(theirs.fileno()),
                "--parent-pid",
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd=self._folder.name,
                env=child_environment(os.environ, self._folder.name, self._n_jobs),
            )
        except OSError as problem:
            ours.close()
            raise ForkServerUnavailable(f"the fork server of {self._trainer} cannot be started: {problem}") from problem
        finally:
            theirs.close()
        self._socket = ours
        self._ready = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen(ours), name=f"fork-server-{self._trainer}")

    async def _listen(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while answer := await loop.sock_recv(connection, 4096):
                self._take(json.loads(answer))
        except OSError as problem:
            self._log.warning("connection lost", action="listen", error=str(problem))
        for child in self._children.values():
            child.lose_server()
        self._children.clear()
        for future in (self._ready, self._forked):
            if future is not None and not future.done():
                future.set_exception(ConnectionError("it ended"))

    def _take(self, answer: Mapping[str, Any]) -> None:
        if "pid" in answer:
            child = self._children[answer["pid"]] = ForkedChild(answer["pid"])
            if self._forked is not None and not self._forked.done():
                self._forked.set_result(child)
        elif "refused" in answer:
            if self._forked is not None and not self._forked.done():
                self._forked.set_exception(ChildRefused(answer["refused"]))
        elif "ended" in answer:
            ended = self._children.pop(answer["ended"], None)
            if ended is not None:
                ended.has_ended(answer["status"])
        elif self._ready is not None and not self._ready.done():
            self._ready.set_result(answer["ready"])
            self._log.info("ready", action="start_fork_server", pid=self.pid)

    async def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None
        process, self._process = self._process, None
        if process is not None:
            try:
                async with asyncio.timeout(1.0):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        for child in self._children.values():
            child.lose_server()
        self._children.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class ForkServers:
    """All of a worker's, in its `folder`. `pythons`: interpreters that have a trainer's libraries; else it is ours."""

    def __init__(self, folder: Path, n_jobs: int, pythons: Mapping[str, Path]) -> None:
        self._folder = folder
        self._n_jobs = n_jobs
        self._pythons = pythons
        self._servers: dict[str, ForkServer] = {}

    def of(self, trainer: str) -> ForkServer:
        """The server of a trainer; it is not started by this."""
        if trainer not in self._servers:
            python = str(self._pythons.get(trainer, sys.executable))
            self._servers[trainer] = ForkServer(self._folder, trainer, python, self._n_jobs)
        return self._servers[trainer]

    async def preload(self, trainers: Sequence[str]) -> None:
        """Start the servers of these trainers; one that cannot be started is logged and left for its first attempt."""
        for trainer in trainers:
            try:
                await self.of(trainer).warm()
            except ForkServerUnavailable as problem:
                get_logger(component="fork_server").warning("not preloaded", action="preload", error=str(problem))

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))
