"""kill -9 in every window of intake and dispatch: one winning task and one queue entry a run, whoever goes on."""

from __future__ import annotations

import signal

import pytest

from tests.integration.dispatcher.yard import Dispatcher, Yard, request, until
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName

RUNS = 5


def _check(yard: Yard, runs: int) -> None:
    story = yard.settled(runs)
    entries = yard.entries()
    assert len(story.states) == runs
    for run_id, state in story.states.items():
        assert story.won(run_id) == ["run.accepted", "attempt.dispatched", "attempt.queued"], run_id
        assert entries.count(state.task_id or "") == 1, run_id
    assert len(entries) == runs
    assert yard.read(TopicName.RUNS_REQUESTED_DEAD_LETTER) == []


def _was_killed(dispatcher: Dispatcher) -> None:
    assert dispatcher.popen.wait(timeout=60) == -signal.SIGKILL


@pytest.mark.parametrize("window", ["I1", "I2", "I3"])
def test_killed_in_a_window_of_intake_each_request_still_has_one_run(yard: Yard, window: str) -> None:
    """Two intakes share the partitions, so one request goes to each: some are in the hands of the one that dies."""
    dying = yard.start(name="dying", TRAINYARD_FAILPOINT=f"{window}:kill")
    yard.start(name="other")
    for partition in range(RUN_PARTITIONS):
        yard.submit(request(run_name=f"run {partition}"), partition=partition)
    _was_killed(dying)
    yard.start(name="dying")
    _check(yard, RUN_PARTITIONS)


@pytest.mark.parametrize("window", ["D1", "D2", "D3", "D4", "D5", "D6"])
def test_killed_in_a_window_of_dispatch_each_run_has_one_task_in_the_queue(yard: Yard, window: str) -> None:
    dying = yard.start(name="dying", TRAINYARD_FAILPOINT=f"{window}:kill@3")
    until(dying.leads, "the one that will die leads")
    yard.start(name="other")
    yard.submit(*(request(run_name=f"run {i}", idempotency_key=f"k{i}") for i in range(RUNS)))
    if dying.popen.poll() is None and not dying.leads():
        # The lead moved with the second one's arrival: the other one's end gives it back.
        yard.dispatchers[-1].end(signal.SIGKILL)
        yard.submit(*(request(run_name=f"more {i}", idempotency_key=f"m{i}") for i in range(RUNS)))
        _was_killed(dying)
        yard.start(name="third")
        _check(yard, 2 * RUNS)
        return
    _was_killed(dying)
    _check(yard, RUNS)


def test_killed_before_the_copy_the_end_of_a_run_is_copied_by_the_next_one(yard: Yard) -> None:
    dying = yard.start(name="dying", TRAINYARD_FAILPOINT="O2:kill")
    yard.submit(request(trainer="nobody"))
    _was_killed(dying)
    assert yard.read(TopicName.RUNS_COMPLETED) == []
    yard.start(name="dying")
    (record,) = until(lambda: yard.read(TopicName.RUNS_COMPLETED), "the end is copied")
    assert b"run.rejected" in (record.value or b"")


@pytest.mark.parametrize("window", ["P1", "P2"])
def test_killed_while_the_fold_is_stored_it_goes_on_from_what_was_stored(yard: Yard, window: str) -> None:
    dying = yard.start(name="dying", TRAINYARD_FAILPOINT=f"{window}:kill")
    yard.submit(*(request(run_name=f"run {i}") for i in range(RUNS)))
    _was_killed(dying)
    yard.start(name="dying")
    _check(yard, RUNS)


def test_a_paused_leader_that_wakes_up_late_makes_no_second_task_win(yard: Yard) -> None:
    """SIGSTOP for longer than the session: its successor does the work, and the zombie's records are ignored."""
    leader = yard.start(name="one", TRAINYARD_FAILPOINT="D2:stop@2")
    until(leader.leads, "the first one leads")
    yard.submit(*(request(run_name=f"run {i}", idempotency_key=f"k{i}") for i in range(RUNS)))
    other = yard.start(name="two")
    until(other.leads, "the second one leads", 90)
    yard.settled(RUNS, 90)
    leader.popen.send_signal(signal.SIGCONT)
    until(lambda: leader.page("/healthz")[0] == 200, "the paused one is awake")
    yard.submit(request(run_name="after", idempotency_key="after"))
    _check(yard, RUNS + 1)
