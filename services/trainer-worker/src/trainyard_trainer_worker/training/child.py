"""`python -m trainyard_trainer_worker.training.child SPEC.json [--events-fd N] [--parent-pid P]`: one attempt.

Reads an `AttemptSpec`, waits for a byte on standard input where it has a parent, runs the phases, leaves `outcome.json`
in the work directory by a rename, and exits 0 (succeeded) or 1 (failed). Standard output and error are the console.
SIGTERM ends it within two seconds and leaves no outcome (exit 143), even while a library swallows exceptions or
computes in C.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.child_events import Phase, tells_of_no_memory
from trainyard_trainer_worker.processes import adopt_orphans, die_with_parent
from trainyard_trainer_worker.spec import (
    OUTCOME_FILE,
    AttemptError,
    AttemptSpec,
    Detail,
    Failed,
    Outcome,
    clean,
    outcome_to_json,
)
from trainyard_trainer_worker.training import phases
from trainyard_trainer_worker.training.clean_process import CleanProcess
from trainyard_trainer_worker.training.emitter import Emitter

CANCELLED_STATUS = 143
CANCEL_GRACE_S = 1.5


class Cancelled(BaseException):
    """SIGTERM came. Not an Exception: AutoML libraries take those for a model that failed, and train on."""


def attempt(spec: AttemptSpec, emitter: Emitter, clean_process: CleanProcess | None = None) -> Outcome:
    """Run the phases and give every failure its name. Lets `Cancelled` through."""
    try:
        return phases.run(spec, emitter, clean_process)
    except AttemptError as error:
        unbound_memory()
        return Failed(error.reason, error.detail, error.message, phases.usage(emitter))
    except Exception as error:  # noqa: BLE001 - the edge: whatever a library raises becomes a named outcome
        unbound_memory()
        traceback.print_exc()
        if isinstance(error, MemoryError) or tells_of_no_memory(str(error)):
            limit = "" if spec.memory_limit_bytes is None else f" (limit: {spec.memory_limit_bytes} bytes)"
            message = f"memory ran out in phase {emitter.phase}{limit}; use less data or a lighter estimator"
            return Failed(Reason.OUT_OF_MEMORY, Detail.MEMORY, message, phases.usage(emitter))
        message = f"{type(error).__name__} in phase {emitter.phase}: {clean(error, 500)}; the console has the traceback"
        if emitter.phase in (Phase.FIT, Phase.EVALUATE, Phase.IMPORTANCE):
            return Failed(Reason.TRAINER_ERROR, Detail.FIT_FAILED, message, phases.usage(emitter))
        return Failed(Reason.INTERNAL, Detail.UNEXPECTED, message, phases.usage(emitter))


def bound_memory(limit_bytes: int) -> None:
    """Let this process hold so much memory. What could be allowed before can be again: telling a failure takes some."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def unbound_memory() -> None:
    """Let this process hold as much as before `bound_memory`."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def write_outcome(work_dir: Path, outcome: Outcome) -> None:
    """Leave the outcome where the parent looks for it: whole or not at all, and on disk."""
    partial = work_dir / (OUTCOME_FILE + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(outcome_to_json(outcome), file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(work_dir / OUTCOME_FILE)


def obey_sigterm() -> None:
    """Raise `Cancelled` in the main thread, and end the process 1.5 s later whatever the main thread does.

    A Python signal handler waits for C code to return; the wake-up descriptor does not, so a thread watches that.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def on_term(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Cancelled

    def watch() -> None:
        while signal.SIGTERM not in os.read(reader, 64):
            continue
        time.sleep(CANCEL_GRACE_S)
        os._exit(CANCELLED_STATUS)

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, name="sigterm", daemon=True).start()


def main(arguments: list[str] | None = None, clean_process: CleanProcess | None = None) -> int:
    """Parse, run, write the outcome. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainyard_trainer_worker.training.child", description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--events-fd", type=int)
    parser.add_argument("--parent-pid", type=int)
    args = parser.parse_args(arguments)
    if args.parent_pid is not None:
        die_with_parent(args.parent_pid)
    if args.events_fd is not None:
        os.set_inheritable(args.events_fd, False)
    adopt_orphans()
    try:
        obey_sigterm()
        spec = AttemptSpec.from_json(json.loads(args.spec.read_text(encoding="utf-8")))
        if spec.memory_limit_bytes is not None:
            bound_memory(spec.memory_limit_bytes)
        if args.parent_pid is not None and not os.read(0, 1):  # it is wanted no more
            return CANCELLED_STATUS
        outcome = attempt(spec, Emitter(args.events_fd), clean_process)
        write_outcome(Path(spec.work_dir), outcome)
    except Cancelled:
        return CANCELLED_STATUS
    return 1 if isinstance(outcome, Failed) else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of the libraries and their exit handlers are of no use any more
