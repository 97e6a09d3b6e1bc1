"""Child processes that are ended by their own pid and cannot outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SCRIPT = Path(__file__).with_name("die_with_parent.py")


def start_child(
    command: Sequence[str],
    *,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, its output appended to `log_path`.

    The kernel ends it when the calling thread ends, so call this from the main thread. The returned pid is the
    command's own.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            process_group=0,
        )


def end_child(child: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """End a child: SIGTERM, and after `grace_s` seconds SIGKILL to its whole group. Returns its exit status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
    status = child.wait()
    kill_group(child.pid)
    return status


def kill_group(group_id: int) -> None:
    """SIGKILL every process of a group that we started; a group that has gone is fine."""
    try:
        os.killpg(group_id, signal.SIGKILL)
    except ProcessLookupError:
        return


def last_lines(path: Path, count: int = 12, *, since_byte: int = 0, max_bytes: int = 65_536) -> str:
    """The last lines that a log got after `since_byte`, for a person; empty when there are none."""
    try:
        with path.open("rb") as log:
            log.seek(max(since_byte, path.stat().st_size - max_bytes))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])
