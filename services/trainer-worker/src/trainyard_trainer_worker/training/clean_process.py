"""A process that has the libraries of a trainer and nothing of its data, and is asked one thing over a socket: whether
a packed model, loaded there, still predicts as it did.

The child of a fork server forks it before anything else: what the server imported is there at once, and costs nothing.
Elsewhere it is a new interpreter that imports while the fit runs. A process that has computed must not fork it: after a
parallel region of OpenMP, what is forked waits for ever in its own first one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from trainyard_trainer_worker.processes import die_with_parent

SLICE_S: Final = 1.0
"""How long one look for the answer waits. Time is counted in looks: one that a SIGSTOP cuts in two is still one."""


class NoAnswer(Exception):
    """The clean process said nothing, or nothing that can be read; the message tells what is known of its end."""


class CleanProcess:
    """A running clean process, which cannot outlive its maker; `end` it."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid: Final = pid
        self._connection = connection
        self._reaped = False

    @classmethod
    def fork(cls, close: Iterable[int] = ()) -> Self:
        """One with all that this process has loaded, less the descriptors `close`."""
        ours, its = socket.socketpair()
        maker = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                die_with_parent(maker)
                ours.close()
                for descriptor in close:
                    os.close(descriptor)
                status = answer(its)
            except BaseException:  # noqa: BLE001 - the edge of a process: nothing may return into the maker's code
                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(status)
        its.close()
        return cls(pid, ours)

    @classmethod
    def spawn(cls, preload: str) -> Self:
        """A new interpreter that begins to import the modules `preload` (separated by commas)."""
        ours, its = socket.socketpair()
        with its:
            its.set_inheritable(True)
            command = [sys.executable, "-m", "trainyard_trainer_worker.training.verify", "--preload", preload]
            command += ["--socket-fd", str(its.fileno()), "--parent-pid", str(os.getpid())]
            return cls(os.posix_spawn(sys.executable, command, os.environ), ours)

    def end(self) -> None:
        """Kill it, if it runs, and reap it."""
        self._connection.close()
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._reaped = True

    def ask(self, path: Path, sha256: str, limit_s: float) -> dict[str, Any]:
        """The verdict of `verification.verify`. It may hold as much memory as this process. Raises NoAnswer."""
        task = {"path": str(path), "sha256": sha256, "data_limit_bytes": resource.getrlimit(resource.RLIMIT_DATA)[0]}
        received = bytearray()
        self._connection.settimeout(min(SLICE_S, limit_s))
        looks = max(1, round(limit_s / SLICE_S))
        try:
            self._connection.sendall(json.dumps(task).encode() + b"\n")
            while not received.endswith(b"\n"):
                try:
                    part = self._connection.recv(1 << 16)
                except TimeoutError:
                    looks -= 1
                    if looks == 0:
                        raise NoAnswer(f"none within {limit_s:g} s") from None
                    continue
                if not part:
                    raise NoAnswer(self._end())
                received += part
            verdict: dict[str, Any] = json.loads(received)
        except OSError as error:
            raise NoAnswer(f"{error}; {self._end()}") from error
        except ValueError as error:
            raise NoAnswer(f"not JSON: {error}") from error
        return verdict

    def _end(self) -> str:
        """How it ended, in words. Its side of the socket is closed: it has ended or is about to, or a model's code
        closed it."""
        deadline = time.monotonic() + SLICE_S
        while time.monotonic() < deadline:
            pid, raw = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._reaped = True
                return f"status {os.waitstatus_to_exitcode(raw)}"
            time.sleep(0.01)
        return "its socket is closed, and it runs"


def answer(connection: socket.socket) -> int:
    """The clean process's side: wait for the task, send the verdict. Returns the exit status: 0 for a good model, 1 for
    a bad one, 2 where nothing was asked."""
    from trainyard_trainer_worker.training.verification import verify

    with connection, connection.makefile("rwb") as stream:
        line = stream.readline()
        if not line.strip():
            return 2
        task = json.loads(line)
        resource.setrlimit(
            resource.RLIMIT_DATA, (task["data_limit_bytes"], resource.getrlimit(resource.RLIMIT_DATA)[1])
        )
        verdict = verify(Path(task["path"]), task["sha256"])
        stream.write(json.dumps(verdict).encode() + b"\n")
    return 0 if verdict["ok"] else 1
