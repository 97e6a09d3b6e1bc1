"""The library against a real broker; what intake, planner and worker would write is written by the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.integration.submitter.conftest import Append
from tests.timing import in_time
from tests.unit.submitter.story import (
    REQUEST,
    accepted,
    dispatched,
    heartbeat,
    rejected,
    started,
    succeeded,
    whole_life,
)
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.admin import inspect_topics
from trainyard_runtime.kafka.records import LogRefused, Record
from trainyard_runtime.kafka.sync_client import SyncPublisher, SyncReader
from trainyard_schemas.envelope import decode
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TOPICS
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter import Answer, Client, Conflict, RunUnknown, Unavailable, WaitTimeout


@pytest.fixture
def reader(kafka_bootstrap: str) -> Iterator[SyncReader]:
    made = SyncReader(Address(kafka_bootstrap))
    yield made
    made.close()


def requests_of(reader: SyncReader, prefix: str, run_id: str) -> list[Record]:
    position = (f"{prefix}runs.requested", partition_of(run_id, RUN_PARTITIONS))
    return [r for r in reader.read_to_end(reader.beginnings([position])) if r.key == run_id.encode()]


def test_an_acknowledged_request_stands_where_the_submission_says(
    client: Client, reader: SyncReader, prefix: str
) -> None:
    submission = client.submit(REQUEST)
    (record,) = requests_of(reader, prefix, submission.run_id)
    assert (record.topic, record.partition, record.offset, record.timestamp_ms) == (
        submission.origin.topic,
        submission.origin.partition,
        submission.origin.offset,
        submission.origin.timestamp_ms,
    )
    assert decode(record.value, record.headers).id == submission.event_id


def test_a_run_is_waited_for_to_its_end(client: Client, append: Append) -> None:
    submission = client.submit(REQUEST)
    append(whole_life(submission.run_id, submission.origin))
    state = client.wait(submission, timeout_s=20)
    assert state.phase is RunPhase.COMPLETED
    assert state.results is not None
    assert state.results["value"] == 0.9722
    assert client.get(submission.run_id) == state


def test_events_and_progress_are_followed_as_they_come(client: Client, append: Append) -> None:
    submission = client.submit(REQUEST)
    run_id = submission.run_id
    append([accepted(run_id, submission.origin), dispatched(run_id), started(run_id)])
    seen = []
    for followed in client.follow(submission, timeout_s=20):
        seen.append(followed.event.type.short)
        if seen[-1] == "attempt.started":
            append([heartbeat(run_id)])
        elif seen[-1] == "attempt.heartbeat":
            append([succeeded(run_id), whole_life(run_id, submission.origin)[-1]])
    assert seen == [
        "run.accepted",
        "attempt.dispatched",
        "attempt.started",
        "attempt.heartbeat",
        "attempt.succeeded",
        "run.completed",
    ]


def test_several_runs_are_followed_through_one_reader(client: Client, append: Append) -> None:
    submissions = [client.submit(REQUEST) for _ in range(3)]
    for submission in submissions:
        append(whole_life(submission.run_id, submission.origin))
    seen: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for index, followed in client.follow_all([*submissions], timeout_s=20):
        assert followed.event.fact.run_id == submissions[index].run_id
        seen[index].append(followed.event.type.short)
    assert [len(types) for types in seen.values()] == [6, 6, 6]
    assert {types[-1] for types in seen.values()} == {"run.completed"}


def test_a_refusal_is_found_under_the_requests_own_place(client: Client, append: Append) -> None:
    submission = client.submit(REQUEST, idempotency_key=uuid.uuid4().hex)
    append([rejected(submission.rejected_run_id, submission.origin)])
    assert client.answer(submission, timeout_s=20) is Answer.REJECTED
    state = client.wait(submission, timeout_s=20)
    assert (state.phase, state.detail) == (RunPhase.REJECTED, "invalid_field")
    assert client.get(submission.run_id) is None


def test_the_same_key_with_another_request_is_a_conflict(client: Client, append: Append) -> None:
    key = uuid.uuid4().hex
    first = client.submit(REQUEST, idempotency_key=key)
    append(whole_life(first.run_id, first.origin))
    changed = REQUEST | {"metric": "f1_macro"}
    second = client.submit(changed, idempotency_key=key)
    assert second.run_id == first.run_id
    append([accepted(second.run_id, second.origin, changed)])
    with pytest.raises(Conflict) as caught:
        client.wait(second, timeout_s=20)
    assert caught.value.run_id == first.run_id
    assert client.wait(first, timeout_s=20).phase is RunPhase.COMPLETED


def test_the_same_key_with_the_same_request_is_the_same_run_even_long_after_it_ended(
    client: Client, append: Append
) -> None:
    key = uuid.uuid4().hex
    first = client.submit(REQUEST, idempotency_key=key)
    append(whole_life(first.run_id, first.origin))
    again = client.submit(REQUEST, idempotency_key=key)
    assert client.answer(again, timeout_s=0.5) is None
    append([accepted(again.run_id, again.origin)])
    assert client.wait(again, timeout_s=20).phase is RunPhase.COMPLETED


@pytest.mark.timed
@pytest.mark.patient
def test_waiting_ends_in_time_and_says_that_the_run_goes_on(client: Client, append: Append) -> None:
    submission = client.submit(REQUEST)
    append([accepted(submission.run_id, submission.origin)])
    begun = time.monotonic()
    with pytest.raises(WaitTimeout, match="it goes on"):
        client.wait(submission, timeout_s=1)
    in_time(3, time.monotonic() - begun)


def test_an_older_run_whose_request_comes_again_is_listed_as_what_it_is(client: Client, append: Append) -> None:
    key = uuid.uuid4().hex
    first = client.submit(REQUEST, idempotency_key=key)
    append(whole_life(first.run_id, first.origin))
    ended_at = time.time()
    time.sleep(1)  # what is listed begins after the end
    again = client.submit(REQUEST, idempotency_key=key)
    append([accepted(again.run_id, again.origin)])
    listed = client.list_runs(since_s=time.time() - ended_at - 0.5)
    assert [run.phase for run in listed if run.run_id == again.run_id] == [RunPhase.COMPLETED]


def test_an_event_that_is_sent_again_after_long_is_waited_for_to_the_end_that_it_has(
    client: Client, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = uuid.uuid4().hex
    first = client.submit(REQUEST, event_id=event_id)
    append(whole_life(first.run_id, first.origin))
    time.sleep(1)
    monkeypatch.setattr("trainyard_submitter.client._CLOCK_SLACK_S", -0.5)  # as if an hour had passed
    again = client.submit(REQUEST, event_id=event_id)
    append([accepted(again.run_id, again.origin)])
    assert client.wait(again, timeout_s=20).phase is RunPhase.COMPLETED


def test_runs_are_listed_newest_first_and_by_state(client: Client, append: Append) -> None:
    first, second = client.submit(REQUEST), client.submit(REQUEST)
    append(whole_life(first.run_id, first.origin))
    append([accepted(second.run_id, second.origin)])
    everything = [run.run_id for run in client.list_runs()]
    assert {first.run_id, second.run_id} <= set(everything)
    assert second.run_id not in [run.run_id for run in client.list_runs(state=RunPhase.COMPLETED)]
    assert len(client.list_runs(limit=1)) == 1
    assert client.list_runs(since_s=-3_600) == []


def test_a_run_that_is_not_in_the_log_is_unknown(client: Client) -> None:
    unknown = str(uuid.uuid4())
    assert client.get(unknown) is None
    with pytest.raises(RunUnknown):
        client.history(unknown)


@pytest.mark.timed
@pytest.mark.patient
def test_a_broker_that_is_not_there_is_reported_within_the_time() -> None:
    begun = time.monotonic()
    with Client("127.0.0.1:9", timeout_s=2) as nowhere:
        with pytest.raises(Unavailable, match="nothing was sent"):
            nowhere.submit(REQUEST)
        with pytest.raises(Unavailable):
            nowhere.list_runs()
    in_time(6, time.monotonic() - begun)


def test_topics_that_are_not_there_are_reported_and_never_created(kafka_bootstrap: str) -> None:
    with (
        Client(kafka_bootstrap, topic_prefix="mistyped.", timeout_s=2) as mistaken,
        pytest.raises(Unavailable, match=r"mistyped\.runs\.requested"),
    ):
        mistaken.submit(REQUEST)
    assert len(inspect_topics(kafka_bootstrap, "mistyped.", TOPICS).create) == len(TOPICS)


def test_a_record_that_the_broker_finds_too_large_is_refused_and_the_next_one_goes_on(
    kafka_bootstrap: str, prefix: str
) -> None:
    publisher = SyncPublisher(Address(kafka_bootstrap), timeout_s=10)
    with pytest.raises(LogRefused):
        publisher.publish(f"{prefix}runs.requested", b"x" * 2_000_000, partition=0)
    assert publisher.publish(f"{prefix}runs.requested", b"x", partition=0).offset >= 0
    publisher.close()


def test_a_client_whose_connection_is_cut_publishes_again_with_the_same_event(
    kafka_bootstrap: str, prefix: str, reader: SyncReader
) -> None:
    """The first answer is lost (the producer is taken away after the send): the event is sent again, one run."""
    with Client(kafka_bootstrap, topic_prefix=prefix, timeout_s=8) as client:
        client.submit(REQUEST)
        publisher = client._publisher
        assert publisher is not None
        lost = threading.Event()
        original = publisher._connected

        def cut_once(try_s: float) -> object:
            producer = original(try_s)
            if not lost.is_set():
                lost.set()
                send = producer.send

                def send_and_lose(*args: object, **kwargs: object) -> object:
                    future = send(*args, **kwargs)
                    future.get(10)
                    return _Lost()

                producer.send = send_and_lose
            return producer

        publisher._connected = cut_once  # type: ignore[method-assign]
        submission = client.submit(REQUEST)
    records = requests_of(reader, prefix, submission.run_id)
    assert len(records) == 2
    assert len({record.value for record in records}) == 1
    assert submission.origin.offset == records[-1].offset


class _Lost:
    def get(self, timeout: float) -> object:
        from kafka.errors import KafkaTimeoutError

        raise KafkaTimeoutError("lost")


@pytest.mark.parametrize(("window", "arrived"), [("S1", {0}), ("S2", {0, 1}), ("S3", {1})])
def test_a_submitter_killed_in_any_window_leaves_one_run_under_its_key(
    kafka_bootstrap: str, prefix: str, reader: SyncReader, client: Client, window: str, arrived: set[int]
) -> None:
    key = uuid.uuid4().hex
    killed = _cli(kafka_bootstrap, prefix, key, failpoint=f"{window}:kill")
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout == b""
    submission = client.submit(REQUEST, idempotency_key=key)
    records = requests_of(reader, prefix, submission.run_id)
    assert len(records) - 1 in arrived
    assert {decode(r.value, r.headers).data["idempotency_key"] for r in records} == {key}


def _cli(bootstrap: str, prefix: str, key: str, failpoint: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "trainyard_submitter", "submit", "-", "--idempotency-key", key],
        input=json.dumps(REQUEST).encode(),
        env=os.environ
        | {
            "TRAINYARD_KAFKA_BOOTSTRAP": bootstrap,
            "TRAINYARD_TOPIC_PREFIX": prefix,
            "TRAINYARD_FAILPOINT": failpoint,
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
