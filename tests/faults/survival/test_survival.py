"""kill -9 and SIGSTOP of everybody in every window of a worker: one terminal event, one visible outcome."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.faults.survival.conftest import LEASE_S, LONG, SHORT, Survival
from tests.integration.trainer_worker.stage import until
from tests.processes import has_ended
from tests.timing import in_time
from trainyard_schemas.events import AttemptLost
from trainyard_schemas.vocabulary import Reason


@pytest.mark.parametrize(("window", "attempts"), [("W1", 1), ("W2", 2), ("W3", 2), ("W4", 2), ("W5", 2), ("W6", 1)])
def test_a_worker_that_is_killed_in_any_window_is_followed_by_another(
    survival: Survival, window: str, attempts: int
) -> None:
    """W1: the planner queues the task again. W2 to W5: lost, and the next attempt. W6: the planner shows and closes."""
    survival.dispatcher()
    dying = survival.worker("dying", TRAINYARD_FAILPOINT=f"{window}:kill")
    survival.submit(SHORT)
    assert dying.popen.wait(60) == -signal.SIGKILL
    survival.worker("other")
    survival.ends_once("completed", attempts=attempts)


@pytest.mark.timed
@pytest.mark.patient
def test_a_worker_that_stands_still_for_longer_than_its_lease_is_frozen_and_superseded(survival: Survival) -> None:
    survival.dispatcher()
    stuck = survival.worker("stuck")
    survival.submit(LONG)
    survival.when("started")
    child = survival.training_child(stuck)
    stuck.popen.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    until(lambda: child.status() == psutil.STATUS_STOPPED, "the watchdog froze the child")
    in_time(LEASE_S + 2.0, time.monotonic() - stopped_at)
    survival.worker("other")
    state = survival.when("completed")
    assert state.attempt == 2
    assert child.status() == psutil.STATUS_STOPPED, "it computed no more"
    stuck.popen.send_signal(signal.SIGCONT)
    until(lambda: has_ended(child.pid), "its child is ended")
    until(lambda: any(line.get("result") == "superseded" for line in stuck.log()), "it leaves without a word")
    survival.ends_once("completed", attempts=2)
    lost = [e for events in survival.story().events.values() for e, v in events if isinstance(e.fact, AttemptLost)]
    assert len({e.id for e in lost}) == 1


def test_a_short_stop_of_the_worker_freezes_nothing_for_good_and_the_run_completes_in_its_first_attempt(
    survival: Survival,
) -> None:
    survival.dispatcher()
    worker = survival.worker()
    survival.submit({**LONG, "time_budget_s": 18})  # so long that a busy machine sees it stand still
    survival.when("started")
    child = survival.training_child(worker)
    worker.popen.send_signal(signal.SIGSTOP)
    until(lambda: child.status() == psutil.STATUS_STOPPED, "the watchdog froze the child")
    worker.popen.send_signal(signal.SIGCONT)
    until(lambda: child.status() != psutil.STATUS_STOPPED, "it is thawed")
    survival.ends_once("completed", attempts=1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_watchdog_that_is_killed_or_stopped_disturbs_no_run(survival: Survival, number: signal.Signals) -> None:
    survival.dispatcher()
    worker = survival.worker()
    survival.submit(LONG)
    survival.when("started")
    survival.watchdog(worker).send_signal(number)
    survival.ends_once("completed", attempts=1)


def test_a_child_that_is_killed_fails_its_attempt_with_a_reason_and_the_worker_goes_on(survival: Survival) -> None:
    survival.dispatcher()
    worker = survival.worker()
    survival.submit(LONG)
    survival.when("started")
    survival.training_child(worker).kill()
    ended = survival.ends_once("failed", attempts=1)
    assert ended.reason is Reason.TRAINER_ERROR
    assert "SIGKILL" in ended.message
    assert worker.popen.poll() is None


def test_a_child_that_stands_still_is_ended_by_its_deadline(survival: Survival) -> None:
    survival.dispatcher()
    worker = survival.worker()
    survival.submit({**LONG, "deadline_s": 25})
    survival.when("started")
    os.kill(survival.training_child(worker).pid, signal.SIGSTOP)
    assert survival.ends_once("failed", attempts=1).reason is Reason.DEADLINE


@pytest.mark.parametrize("window", ["O1", "O2"])
def test_a_planner_that_is_killed_at_the_end_of_a_run_is_followed_by_another(survival: Survival, window: str) -> None:
    dying = survival.dispatcher("dying", TRAINYARD_FAILPOINT=f"{window}:kill")
    survival.worker()
    survival.submit(SHORT)
    assert dying.popen.wait(60) == -signal.SIGKILL
    survival.dispatcher("other")
    survival.ends_once("completed", attempts=1)


def test_a_planner_that_stands_still_while_a_run_trains_does_no_harm_when_it_wakes(survival: Survival) -> None:
    survival.dispatcher("first")
    first = survival.yard.dispatchers[0]
    until(first.leads, "the first one leads")
    survival.worker()
    survival.submit(LONG)
    survival.when("started")
    first.popen.send_signal(signal.SIGSTOP)
    survival.dispatcher("second")
    survival.when("completed")
    first.popen.send_signal(signal.SIGCONT)
    survival.ends_once("completed", attempts=1)
