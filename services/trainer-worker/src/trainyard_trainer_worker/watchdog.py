"""`python watchdog.py PID EXPIRES_AT`: freezes a training child when its lease expires. Standard library, none of ours.

A process of its own, independent of the worker that started it. `EXPIRES_AT` is the moment on the steady clock until
which the child may compute, in seconds; standard input brings later ones, one a line. When it passes, the child's
process group and all its descendants get SIGSTOP; a later moment brings SIGCONT. When the input ends, the worker is
gone (or done): everything that is still there gets SIGKILL. One byte on standard output says that it watches. What
escapes: a descendant whose parent has ended and that made a session of its own.
"""

import contextlib
import os
import select
import signal
import sys
import time

LOOK_EVERY_S = 1.0
"""No wait is longer: timers stand still while the host is suspended, and the lease's clock does not."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wait_s(expires_at: float, now: float, is_frozen: bool) -> float | None:
    """Seconds until it is to look again; 0: the child is to be frozen; None: nothing to do but to wait for news."""
    return None if is_frozen else min(LOOK_EVERY_S, max(0.0, expires_at - now))


def signal_all(pid: int, number: int) -> None:
    """Send a signal to the group that `pid` leads, and to its descendants that left the group."""
    outside = [p for p in descendants(pid) if _group(p) != pid]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
    for other in outside:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(other, number)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def descendants(pid: int) -> list[int]:
    """All processes whose chain of parents leads to `pid`; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib would double this process's memory
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - see above
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.append(child)
            waiting.append(child)
    return found


def main() -> None:
    """Watch until the input ends."""
    pid, expires_at, rest = int(sys.argv[1]), float(sys.argv[2]), b""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    is_frozen = expires_at <= time.clock_gettime(_CLOCK)
    signal_all(pid, signal.SIGSTOP if is_frozen else signal.SIGCONT)  # another one before it may have left it otherwise
    os.write(1, b"\n")
    while True:
        timeout_s = wait_s(expires_at, time.clock_gettime(_CLOCK), is_frozen)
        readable, _, _ = select.select([0], [], [], timeout_s)
        if readable:
            chunk = os.read(0, 4096)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                expires_at = float(lines[-1])
                if is_frozen and expires_at > time.clock_gettime(_CLOCK):
                    signal_all(pid, signal.SIGCONT)
                    is_frozen = False
        elif not is_frozen and expires_at <= time.clock_gettime(_CLOCK):
            signal_all(pid, signal.SIGSTOP)
            is_frozen = True
    signal_all(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
