"""Children in an instant: `python -m ...training.fork_server TRAINER --socket-fd N --parent-pid P`.

Loads what attempts of one trainer need, once, and forks a child for each attempt. The socket brings one JSON object per
attempt (`arguments`, `environment`, `folder`) with four descriptors (standard input, events, standard output, standard
error), and takes `{"pid": P}` when the child runs, or `{"refused": why}`, and `{"ended": P, "status": S}` when it is
reaped; `status` is negative for a signal. What a child leaves behind becomes the server's own and is killed, whatever
session it is in. When the socket ends, or the parent dies, every child is killed. It runs no threads: forking is safe.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Iterable
from typing import Any, NoReturn

from trainyard_trainer_worker.processes import adopt_orphans, die_with_parent
from trainyard_trainer_worker.watchdog import descendants

MAX_MESSAGE_BYTES = 1 << 20


def preload(trainer: str) -> None:
    """Import everything that an attempt of this trainer imports. What is missing is left for the attempt to name."""
    from trainyard_trainer_worker import trainers
    from trainyard_trainer_worker.spec import AttemptError

    for module in ("child", "phases", "steps", "plots", "verification"):
        importlib.import_module(f"trainyard_trainer_worker.training.{module}")
    with contextlib.suppress(AttemptError, ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainers.load(trainer, {})
        importlib.import_module("matplotlib.font_manager")  # finds the fonts: a second of each drawing otherwise


def serve(connection: socket.socket) -> None:
    """Fork for every request until the socket ends; then kill what is left."""
    children: set[int] = set()
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                _reap(connection, children)
            if connection in ready:
                message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, 4)
                if not message:
                    break
                _fork(connection, json.loads(message), descriptors, children)
    _kill(descendants(os.getpid()))


def _reap(connection: socket.socket, children: set[int]) -> None:
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid not in children:
            continue
        children.discard(pid)
        _kill(_left_behind(children))
        _say(connection, {"ended": pid, "status": os.waitstatus_to_exitcode(raw)})


def _left_behind(children: set[int]) -> set[int]:
    """Descendants of ours that belong to no living child: children adopt what is left behind below them."""
    found = set(descendants(os.getpid()))
    for pid in children:
        found -= {pid, *descendants(pid)}
    return found


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _fork(connection: socket.socket, request: dict[str, Any], descriptors: list[int], children: set[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as problem:  # no memory, or too many processes: the worker tries by itself
        _say(connection, {"refused": str(problem)})
    else:
        if pid == 0:
            _become_child(connection, request, descriptors, server)
        with contextlib.suppress(OSError):  # the child does the same: whoever is first
            os.setpgid(pid, pid)
        children.add(pid)
        _say(connection, {"pid": pid})
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _become_child(connection: socket.socket, request: dict[str, Any], descriptors: list[int], server: int) -> NoReturn:
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.close()
        stdin, events, stdout, stderr = descriptors
        for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
            os.close(source)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        from trainyard_trainer_worker.training import child
        from trainyard_trainer_worker.training.clean_process import CleanProcess

        clean_process = CleanProcess.fork(close=(events,))  # now: nothing has been computed here
        arguments = [*request["arguments"], "--events-fd", str(events), "--parent-pid", str(server)]
        status = child.main(arguments, clean_process)
    except BaseException as error:  # noqa: BLE001 - the edge of a process: nothing may return into the server's loop
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _say(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        connection.send(json.dumps(answer).encode())


def main(arguments: list[str] | None = None) -> int:
    """Load, say that all is loaded, serve."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_trainer_worker.training.fork_server")
    parser.add_argument("trainer")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent_pid)
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=options.socket_fd) as connection:
        preload(options.trainer)
        gc.collect()
        gc.freeze()
        _say(connection, {"ready": os.getpid()})
        serve(connection)
    return 0


if __name__ == "__main__":
    status = main()
    os._exit(status)
