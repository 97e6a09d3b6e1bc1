"""What a test may ask about a process that can end at any moment."""

from __future__ import annotations

import psutil


def has_ended(pid: int) -> bool:
    """True once the process is gone, or waits only for its parent to notice."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
