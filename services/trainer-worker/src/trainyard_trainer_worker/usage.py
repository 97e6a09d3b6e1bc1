"""What a training's processes use together, as Linux tells it, and whether the system ran out of memory.

A training child adopts what its own children leave behind, so its tree holds all that it started. Where there is no
/proc nothing is known, and nothing is bounded here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DEFAULT_SHARE: Final = 0.8
"""Of this host's memory, or of its cgroup's: what a training may hold where no limit is set."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and its descendants. `private_bytes` is resident and no file's; `cpu_s` is also of ended ones."""

    resident_bytes: int
    private_bytes: int
    cpu_s: float


class Meter:
    """Samples one tree and keeps the greatest figures, since a process that has ended can no longer be asked."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak_bytes = 0
        self.cpu_s = 0.0

    def sample(self) -> Usage:
        """What is used now."""
        usage = read(self._pid)
        self.peak_bytes = max(self.peak_bytes, usage.resident_bytes)
        self.cpu_s = max(self.cpu_s, usage.cpu_s)
        return usage

    def added_to(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """`results` with the figures of the whole tree, where they are greater than those that the child knows."""
        known = {"cpu_seconds": round(self.cpu_s, 2), "peak_memory_bytes": self.peak_bytes}
        greater = {name: value for name, value in known.items() if value > (results.get(name) or 0)}
        return {**results, **greater}


def read(pid: int) -> Usage:
    """The sum over `pid` and its descendants; zeros where it has ended."""
    resident = private = 0
    cpu_s = 0.0
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        try:
            memory = Path(f"/proc/{process}/statm").read_bytes().split()
            times = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[11:15]
            threads = os.listdir(f"/proc/{process}/task")  # noqa: PTH208 - names are all that is wanted
            for thread in threads:
                waiting += map(int, Path(f"/proc/{process}/task/{thread}/children").read_bytes().split())
        except (OSError, ValueError):
            continue
        resident += int(memory[1]) * _PAGE_BYTES
        private += (int(memory[1]) - int(memory[2])) * _PAGE_BYTES
        cpu_s += sum(map(int, times)) / _TICKS
    return Usage(resident, private, cpu_s)


def oom_kills() -> int | None:
    """How often the kernel has killed for want of memory, in our cgroup or on this host; None: it does not tell."""
    for path in (_cgroup() / "memory.events", Path("/proc/vmstat")):
        try:
            fields = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
            return int(fields["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def default_memory_limit_bytes() -> int:
    """80 % of what this host, or the cgroup that bounds us, has."""
    total = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    for path in (_cgroup() / "memory.max", Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            total = min(total, int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # "max": not bounded
            continue
    return int(total * DEFAULT_SHARE)


def _cgroup() -> Path:
    """Our cgroup's folder, under cgroup v2; the root's elsewhere."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / own.lstrip("/")
