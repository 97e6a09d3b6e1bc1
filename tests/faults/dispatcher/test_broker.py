"""The broker dies, stops and comes back, and members come and go, under a working dispatcher."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from tests.integration.dispatcher.yard import Dispatcher, Yard, request, until, yard_at
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_schemas.topics import TopicName


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker of its own: it will be treated badly."""
    with EmbeddedKafka(tmp_path / "kafka", notify=print) as kafka:
        yield kafka


@pytest.fixture
def own_yard(broker: EmbeddedKafka, topic_prefix: str, clearml_server: ClearMLServer, tmp_path: Path) -> Iterator[Yard]:
    with yard_at(broker.bootstrap, topic_prefix, clearml_server, tmp_path) as found:
        yield found


def _each_has_one_task_in_the_queue(yard: Yard, runs: int) -> None:
    story = yard.settled(runs, 120)
    entries = yard.entries()
    assert len(story.states) == runs
    for run_id, state in story.states.items():
        assert story.won(run_id) == ["run.accepted", "attempt.dispatched", "attempt.queued"], run_id
        assert entries.count(state.task_id or "") == 1, run_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_ends_and_comes_back_loses_and_doubles_nothing(
    own_yard: Yard, broker: EmbeddedKafka, number: signal.Signals
) -> None:
    dispatcher = own_yard.start()
    own_yard.submit(*(request(run_name=f"before {i}") for i in range(5)))
    own_yard.settled(5)
    assert broker.process is not None
    broker.process.send_signal(number)
    broker.process.wait(timeout=30)
    time.sleep(3)
    broker.start()
    own_yard.submit(*(request(run_name=f"after {i}") for i in range(5)), partition=7)
    _each_has_one_task_in_the_queue(own_yard, 10)
    until(dispatcher.is_ready, "the same process is ready again")


def test_a_broker_that_stands_still_for_longer_than_every_timeout_loses_nothing(
    own_yard: Yard, broker: EmbeddedKafka
) -> None:
    dispatcher = own_yard.start()
    own_yard.submit(request(run_name="before"))
    own_yard.settled(1)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(22)
    finally:
        broker.process.send_signal(signal.SIGCONT)
    own_yard.submit(*(request(run_name=f"after {i}") for i in range(5)), partition=7)
    _each_has_one_task_in_the_queue(own_yard, 6)
    until(dispatcher.is_ready, "the same process is ready again")


def test_members_that_come_and_go_under_load_lose_and_double_nothing(yard: Yard) -> None:
    stays = yard.start(name="stays", TRAINYARD_MAX_QUEUE_DEPTH="1000")
    runs = 0
    for turn in range(4):
        yard.submit(*(request(run_name=f"run {turn} {i}") for i in range(20)), partition=turn)
        goes = yard.start(name="goes", ready=False, TRAINYARD_MAX_QUEUE_DEPTH="1000")
        yard.submit(*(request(run_name=f"more {turn} {i}") for i in range(20)), partition=turn + 4)
        until(goes.is_ready, "the other one works")
        _end(goes, hard=turn % 2 == 1)
        runs += 40
    _each_has_one_task_in_the_queue(yard, runs)
    assert stays.popen.poll() is None
    assert yard.read(TopicName.RUNS_REQUESTED_DEAD_LETTER) == []


def _end(dispatcher: Dispatcher, *, hard: bool) -> None:
    dispatcher.end(signal.SIGKILL if hard else signal.SIGTERM)
