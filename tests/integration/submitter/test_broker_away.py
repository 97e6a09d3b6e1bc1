"""A broker that is there and does not answer: stopped by SIGSTOP, as a host that swaps or a disk that hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.timing import in_time
from tests.unit.submitter.story import REQUEST
from trainyard_devstack.kafka_broker import EmbeddedKafka
from trainyard_runtime.failpoints import FailpointReached, configure_failpoints
from trainyard_runtime.kafka.admin import apply_topics
from trainyard_schemas.topics import DEFAULT_PREFIX, TOPICS
from trainyard_submitter import Client, OutcomeUnknown, Unavailable


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker of this module's own, which no other test misses while it stands still."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
        apply_topics(broker.bootstrap, DEFAULT_PREFIX, TOPICS)
        yield broker


@contextmanager
def stopped(broker: EmbeddedKafka) -> Iterator[None]:
    assert broker.process is not None
    pid = broker.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timed
@pytest.mark.patient
def test_a_request_without_an_answer_is_unknown_within_the_time_and_the_same_client_recovers(
    own_broker: EmbeddedKafka,
) -> None:
    with Client(own_broker.bootstrap, timeout_s=4) as client:
        first = client.submit(REQUEST)
        with stopped(own_broker):
            begun = time.monotonic()
            with pytest.raises(OutcomeUnknown, match="may have arrived") as caught:
                client.submit(REQUEST, idempotency_key="k")
            in_time(6, time.monotonic() - begun)
        again = client.submit(REQUEST, idempotency_key="k")
        assert caught.value.run_id == again.run_id != first.run_id


@pytest.mark.timed
@pytest.mark.patient
def test_a_question_without_an_answer_ends_within_the_time(own_broker: EmbeddedKafka) -> None:
    with Client(own_broker.bootstrap, timeout_s=4) as client, stopped(own_broker):
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            client.list_runs()
        in_time(6, time.monotonic() - begun)


@pytest.mark.timed
@pytest.mark.patient
def test_an_interruption_in_the_middle_of_a_send_closes_quietly_and_at_once(own_broker: EmbeddedKafka) -> None:
    try:
        with Client(own_broker.bootstrap, timeout_s=4) as client:
            client.submit(REQUEST)
            configure_failpoints("S2:raise")
            with stopped(own_broker):
                with pytest.raises(FailpointReached):
                    client.submit(REQUEST)
                begun = time.monotonic()
                client.close()
                in_time(2, time.monotonic() - begun)
    finally:
        configure_failpoints(None)
