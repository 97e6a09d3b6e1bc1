"""Small things about processes on Linux that the child, its parent and the verifier share."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, and end at once if it has ended already.

    The kernel watches the parent's thread that started us: start children from a thread that lives as long as the
    process. Elsewhere than on Linux only the check is made.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(143)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that no session of theirs hides them (Linux only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
