"""SIGSTOP of worker and planner in every window, and their waking: one terminal event, one visible outcome."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.faults.survival.conftest import SHORT, Survival
from tests.integration.trainer_worker.stage import until

WINDOWS = ("W1", "W2", "W3", "W4", "W5", "W6")


def stands_still(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def test_workers_that_stand_still_in_every_window_at_once_are_followed_by_another_and_wake_to_nothing(
    survival: Survival,
) -> None:
    """Six workers, each of which stops in its own window with the first run that it takes."""
    survival.dispatcher()
    stuck = [survival.worker(window.lower(), TRAINYARD_FAILPOINT=f"{window}:stop@1") for window in WINDOWS]
    for number in range(len(WINDOWS)):
        survival.submit({**SHORT, "retry": {"max_attempts": 5, "backoff_s": 0}}, number)
    for worker, window in zip(stuck, WINDOWS, strict=True):
        until(lambda pid=worker.popen.pid: stands_still(pid), f"the worker stands still in {window}", 120)  # type: ignore[misc]
    survival.worker("other")

    def completed() -> bool:
        states = survival.story().states.values()
        return len(states) == len(WINDOWS) and all(state.phase.value == "completed" for state in states)

    until(completed, "all runs complete without those that stand still", 180)
    for worker in stuck:
        worker.popen.send_signal(signal.SIGCONT)
    for worker in stuck:
        until(lambda log=worker.log: any(line.get("action") == "handle" for line in log()), "it is through with it")  # type: ignore[misc]
        assert worker.popen.poll() is None
    survival.check_ends()
    assert {state.phase.value for state in survival.story().states.values()} == {"completed"}


@pytest.mark.parametrize("window", ["O1", "O2"])
def test_a_planner_that_stands_still_at_the_end_of_a_run_is_followed_by_another_and_wakes_to_nothing(
    survival: Survival, window: str
) -> None:
    first = survival.dispatcher("first", TRAINYARD_FAILPOINT=f"{window}:stop@1")
    survival.worker()
    survival.submit(SHORT)
    until(lambda: stands_still(first.popen.pid), f"the planner stands still in {window}", 120)
    survival.dispatcher("second")
    ended = survival.ends_once("completed", attempts=1)
    said_bytes = first.log_path.stat().st_size
    first.popen.send_signal(signal.SIGCONT)
    until(lambda: first.log_path.stat().st_size > said_bytes and first.is_ready(), "the first one goes on")
    survival.check_ends()
    assert survival.when("completed") == ended
