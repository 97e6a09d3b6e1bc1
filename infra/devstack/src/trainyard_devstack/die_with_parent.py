"""Runs a command that cannot outlive the process that started it: `python die_with_parent.py PARENT_PID COMMAND...`.

Linux sends SIGKILL to the command when the thread that started it ends (prctl, PR_SET_PDEATHSIG, kept across exec), so
commands are started from a thread that lives as long as its process, which is the main one. Elsewhere the command just
runs, and its parent's orderly end is what ends it. The command keeps this process's pid.

A script instead of a `preexec_fn`, because Python code between fork and exec of a process with threads can deadlock.
"""

import os
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def main(argv: list[str]) -> None:
    """Bind to the parent, then become the command. Ends quietly if the parent has already gone."""
    parent_pid, command = int(argv[1]), argv[2:]
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent_pid:
        return
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is this script's purpose
    except OSError as error:
        sys.exit(f"{command[0]} could not be started: {error.strerror}.")


if __name__ == "__main__":
    main(sys.argv)
