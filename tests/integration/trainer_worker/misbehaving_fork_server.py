"""A fork server of scikit-learn whose `fit` misbehaves as `extras.sklearn.misbehave` says, and else is the real one.

`python misbehaving_fork_server.py -m trainyard_trainer_worker.training.fork_server sklearn ...`: as an interpreter is
called, so that a worker takes it for one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from trainyard_trainer_worker.trainers.base import FitTask, FittedModel, Reporter
from trainyard_trainer_worker.trainers.sklearn import SklearnTrainer
from trainyard_trainer_worker.training import fork_server

PRINTED_LINES = 100_000
LINE = "x" * 999
RESIDENT_BYTES = 400 << 20
DAEMON = """
import os, pathlib, sys, time
partial = pathlib.Path(sys.argv[1] + ".partial")
partial.write_text(str(os.getpid()))
partial.rename(sys.argv[1])
time.sleep(600)
"""
START = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], start_new_session=True)"


def raise_error(_note: Path) -> None:
    """As a library does that dislikes the data."""
    raise ValueError("the planted trainer does not like the colours")


def hang(_note: Path) -> None:
    """As a library does that takes what SIGTERM raises for a model that failed."""
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def hold_too_much_together(note: Path) -> None:
    """As a library does that trains in processes, each within its own limit."""
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            while not note.exists():
                time.sleep(0.01)
            held = b"x" * RESIDENT_BYTES
            time.sleep(600)
            os._exit(len(held) % 2)
        pids.append(pid)
    partial = note.with_suffix(".partial")
    partial.write_text(" ".join(map(str, pids)))
    partial.rename(note)
    time.sleep(600)


def leave_a_process_behind(note: Path) -> None:
    """As a library does that starts a daemon: in a session of its own, its parent ended."""
    subprocess.run([sys.executable, "-c", START, DAEMON, str(note)], check=True)
    while not note.exists():
        time.sleep(0.01)


def print_a_hundred_megabytes(_note: Path) -> None:
    """As a library does with its verbose switch on."""
    for _ in range(PRINTED_LINES // 1_000):
        sys.stdout.write(f"{LINE}\n" * 1_000)
    sys.stdout.write("the planted trainer is through\n")


MISBEHAVIOURS: Mapping[str, Callable[[Path], object]] = {
    "raises": raise_error,
    "exits 0": lambda _: os._exit(0),
    "exits 7": lambda _: os._exit(7),
    "asks to exit": lambda _: sys.exit(7),
    "is killed": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": hang,
    "allocates too much": lambda _: bytearray(2 << 30),
    "holds too much": hold_too_much_together,
    "leaves a process": leave_a_process_behind,
    "goes on twice": lambda _: os.fork(),
    "prints": print_a_hundred_megabytes,
}


def misbehaving(fit: Callable[[SklearnTrainer, FitTask, Reporter], FittedModel]) -> Callable[..., FittedModel]:
    """`fit`, after what the request asks for; it may leave the number of a process in the file `note`."""

    def wrapped(trainer: SklearnTrainer, task: FitTask, reporter: Reporter) -> FittedModel:
        if (how := task.extras.get("misbehave")) is not None:
            MISBEHAVIOURS[str(how)](Path(str(task.extras["note"])))
        return fit(trainer, task, reporter)

    return wrapped


if __name__ == "__main__":
    SklearnTrainer.fit = misbehaving(SklearnTrainer.fit)  # type: ignore[method-assign]
    sys.exit(fork_server.main(sys.argv[3:]))
