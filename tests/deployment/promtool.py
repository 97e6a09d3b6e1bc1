"""The program promtool, which checks Prometheus' files and tries rules and queries."""

from __future__ import annotations

import subprocess
from pathlib import Path


def check(promtool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it; what it found wrong is in its output and its exit."""
    return subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
