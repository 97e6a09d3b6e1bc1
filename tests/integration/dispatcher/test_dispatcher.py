"""The dispatcher's process, from a request on the topic to a task in a queue, on the real broker."""

from __future__ import annotations

import json
import signal
import socket
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.behaviour.clearml.server import ACCESS_KEY, SECRET_KEY, embedded_server
from tests.integration.dispatcher.yard import Yard, request, until
from tests.timing import in_time
from trainyard_schemas import events as ev
from trainyard_schemas.ids import run_id_from_event, run_id_from_key, run_id_from_origin
from trainyard_schemas.lifecycle import Verdict
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_schemas.vocabulary import RunPhase


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_each_way_to_write_a_request_becomes_one_queued_task(yard: Yard) -> None:
    yard.start()
    body = request(run_name="bare run")
    (bare,) = yard.submit(body)
    data = request(run_name="structured run")
    event = {"specversion": "1.0", "id": "e1", "source": "test", "type": "trainyard.run.requested", "data": data}
    yard.publish(json.dumps(event).encode(), partition=3, key=b"any key")
    headers: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e2"),
        ("ce_source", b"test"),
        ("ce_type", b"trainyard.run.requested"),
        ("content-type", b"application/json"),
    ]
    yard.publish(json.dumps(request(run_name="binary run")).encode(), partition=4, headers=headers)
    yard.submit(request(run_name="keyed run", idempotency_key="k1"))

    story = yard.settled(4)
    expected = {
        run_id_from_origin("default", bare): "bare run",
        run_id_from_event("default", "test", "e1"): "structured run",
        run_id_from_event("default", "test", "e2"): "binary run",
        run_id_from_key("default", "k1"): "keyed run",
    }
    assert story.states.keys() == expected.keys()
    tasks = {task["hyperparams"]["Run"]["run_id"]["value"]: task for task in yard.tasks()}
    for run_id, name in expected.items():
        assert story.won(run_id) == ["run.accepted", "attempt.dispatched", "attempt.queued"]
        assert tasks[run_id]["name"] == name
        assert tasks[run_id]["status"] == "queued"
        assert tasks[run_id]["id"] == story.states[run_id].task_id
    assert sorted(yard.entries()) == sorted(task["id"] for task in tasks.values())


def test_clients_in_other_languages_may_compress_as_they_like_and_write_in_transactions(yard: Yard) -> None:
    topic = yard.kafka.topic(TopicName.RUNS_REQUESTED)

    def publish(name: str, **options: str) -> Producer:
        producer = Producer({"bootstrap.servers": yard.kafka.bootstrap, "linger.ms": 50, **options})
        transactional = "transactional.id" in options
        if transactional:
            producer.init_transactions(30)
            producer.begin_transaction()
        for i in range(20 if "compression.type" in options else 1):  # librdkafka leaves alone what would not shrink
            producer.produce(topic, json.dumps(request(run_name=name, idempotency_key=f"{name} {i}")).encode())
        if "compression.type" in options:
            producer.produce(topic, f"poison of {name}".encode() * 9)
        producer.flush(30)
        return producer

    for codec in ("gzip", "snappy", "lz4", "zstd"):
        publish(codec, **{"compression.type": codec})
    publish("aborted", **{"transactional.id": f"{topic} 1"}).abort_transaction(30)
    publish("committed", **{"transactional.id": f"{topic} 2"}).commit_transaction(30)
    yard.start()
    yard.settled(85)
    names = Counter(task["name"] for task in yard.tasks())
    assert names == {"gzip": 20, "snappy": 20, "lz4": 20, "zstd": 20, "committed": 1}
    letters = {letter.value for letter in yard.read(TopicName.RUNS_REQUESTED_DEAD_LETTER)}
    assert letters == {f"poison of {codec}".encode() * 9 for codec in ("gzip", "snappy", "lz4", "zstd")}


def test_a_strangers_transactions_in_the_lifecycle_hold_up_no_start_and_no_run(yard: Yard) -> None:
    topic = yard.kafka.topic(TopicName.RUNS_LIFECYCLE)
    producer = Producer({"bootstrap.servers": yard.kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in range(RUN_PARTITIONS):
        producer.produce(topic, b"foreign", partition=partition)
    producer.flush(30)
    producer.abort_transaction(30)
    yard.start()
    yard.submit(request())
    (run_id,) = yard.settled(1).states
    assert yard.story().won(run_id) == ["run.accepted", "attempt.dispatched", "attempt.queued"]


def test_a_poison_record_is_answered_and_the_good_ones_around_it_go_on(yard: Yard) -> None:
    good = [json.dumps(request(run_name=f"good {i}")).encode() for i in range(3)]
    poison: list[bytes | None] = [None, b"", b"\xff\xfe", b"{", b"[]", b'{"trainer": "nobody"}', b'{"a":1,"a":2}']
    yard.publish(good[0])
    origins = yard.publish(*poison, key=b"\x80", headers=[("x", None), ("x", b"\xff")])
    yard.publish(*good[1:])
    yard.start()
    story = yard.settled(10)
    assert sorted(s.phase for s in story.states.values()) == [RunPhase.DISPATCHED] * 3 + [RunPhase.REJECTED] * 7
    letters = yard.read(TopicName.RUNS_REQUESTED_DEAD_LETTER)
    assert len(letters) == len(poison)
    by_offset = {dict(letter.headers)["trainyard-origin-offset"]: letter for letter in letters}
    for origin, value in zip(origins, poison, strict=True):
        letter = by_offset[str(origin.offset).encode()]
        assert (letter.key, letter.value) == (b"\x80", value)
        assert letter.headers[:2] == (("x", None), ("x", b"\xff"))
        run_id = run_id_from_origin("default", origin)
        why = {name: (raw or b"").decode() for name, raw in letter.headers[2:]}
        assert why["trainyard-run-id"] == run_id
        assert why["trainyard-reason"] == story.states[run_id].reason
        assert why["trainyard-detail"] == story.states[run_id].detail
    completed = until(
        lambda: len(records := yard.read(TopicName.RUNS_COMPLETED)) == 7 and records, "7 rejections in runs.completed"
    )
    lifecycle = {record.value for record in yard.read(TopicName.RUNS_LIFECYCLE)}
    assert all(record.value in lifecycle for record in completed)


def test_a_thousand_duplicates_at_once_are_one_run(yard: Yard) -> None:
    yard.start()
    value = json.dumps(request(idempotency_key="once")).encode()
    for partition in range(4):
        yard.publish(*[value] * 250, partition=partition)
    run_id = run_id_from_key("default", "once")
    until(lambda: len(yard.story().events[run_id]) >= 1_002, "all duplicates are answered")
    story = yard.story()
    assert list(story.states) == [run_id]
    assert story.won(run_id) == ["run.accepted", "attempt.dispatched", "attempt.queued"]
    duplicates = [verdict for _, verdict in story.events[run_id] if verdict is Verdict.DUPLICATE]
    assert len(duplicates) == 999
    assert len(yard.tasks()) == 1


def test_the_same_key_with_another_body_is_told_so_and_kept(yard: Yard) -> None:
    yard.start()
    (first,) = yard.submit(request(idempotency_key="k", run_name="first one"))
    yard.settled(1)
    (second,) = yard.submit(request(idempotency_key="k", run_name="second one"), partition=5)
    loser = run_id_from_origin("default", second)
    story = until(lambda: (s := yard.story()) and loser in s.states and s, "the conflict is answered")
    state = story.states[loser]
    assert (state.phase, state.reason, state.detail) == (RunPhase.REJECTED, "invalid_request", "idempotency_conflict")
    fact = story.events[loser][0][0].fact
    assert isinstance(fact, ev.RunRejected)
    assert fact.conflicts_with == run_id_from_key("default", "k")
    assert story.states[run_id_from_key("default", "k")].request["run_name"] == "first one"
    (letter,) = yard.read(TopicName.RUNS_REQUESTED_DEAD_LETTER)
    assert json.loads(letter.value or b"")["run_name"] == "second one"
    assert dict(letter.headers)["trainyard-origin-offset"] == str(second.offset).encode()
    assert first.offset == 0


def test_an_unknown_queue_fails_the_run_with_a_sentence_that_names_it(yard: Yard) -> None:
    yard.start()
    yard.submit(request(queue="nobody-serves-this"))
    story = until(
        lambda: (s := yard.story()).states and all(x.is_ended for x in s.states.values()) and s, "the run has ended"
    )
    (state,) = story.states.values()
    assert (state.phase, state.reason, state.detail) == (RunPhase.FAILED, "clearml_rejected", "unknown_queue")
    assert "ClearML has no queue 'nobody-serves-this'; use one of " in state.message


def test_the_end_of_a_run_reaches_runs_completed_byte_for_byte_once(yard: Yard) -> None:
    yard.start()
    yard.submit(request())
    story = yard.settled(1)
    (state,) = story.states.values()
    claim = uuid.uuid4().hex
    assert state.task_id is not None
    names = {"run_id": state.run_id, "attempt": 1, "task_id": state.task_id, "claim": claim, "worker": "w"}
    yard.say(
        ev.AttemptStarted.model_validate(names),
        ev.AttemptSucceeded.model_validate(names | {"results": {"accuracy": 0.9}}),
        ev.AttemptSucceeded.model_validate(names | {"claim": uuid.uuid4().hex, "results": {}}),
    )
    (record,) = until(lambda: yard.read(TopicName.RUNS_COMPLETED), "the end is in runs.completed")
    event = ev.decode_event(record.value, record.headers)
    assert isinstance(event.fact, ev.RunCompleted)
    assert event.fact.results == {"accuracy": 0.9}
    assert record.key == state.run_id.encode()
    original = [r for r in yard.read(TopicName.RUNS_LIFECYCLE) if r.value == record.value]
    assert [(r.partition, r.headers) for r in original] == [(record.partition, record.headers)]
    assert b"\n" not in (record.value or b"")


def test_a_restarted_dispatcher_goes_on_where_it_was(yard: Yard) -> None:
    first = yard.start()
    yard.submit(*(request(run_name=f"run {i}") for i in range(5)))
    yard.settled(5)
    assert first.end() == 0
    yard.submit(*(request(run_name=f"later {i}") for i in range(5)))
    second = yard.start()
    story = yard.settled(10)
    assert all(story.won(r) == ["run.accepted", "attempt.dispatched", "attempt.queued"] for r in story.states)
    assert all(verdict.is_effective for events in story.events.values() for _, verdict in events)
    assert len(yard.tasks()) == len(set(yard.entries())) == 10
    second.end(signal.SIGKILL)


@pytest.mark.timed
@pytest.mark.patient
def test_a_standby_takes_the_lead_when_the_leader_ends(yard: Yard) -> None:
    one = yard.start(name="one")
    two = yard.start(name="two")
    until(lambda: one.leads() != two.leads(), "one of them leads")
    leader, standby = (one, two) if one.leads() else (two, one)
    yard.submit(request(run_name="before"))
    yard.settled(1)
    asked = time.monotonic()
    assert leader.end() == 0
    in_time(4, time.monotonic() - asked)
    yard.submit(request(run_name="after"))
    story = yard.settled(2)
    until(standby.leads, "the standby leads")
    assert all(story.won(r) == ["run.accepted", "attempt.dispatched", "attempt.queued"] for r in story.states)
    assert len(yard.entries()) == 2


def test_while_clearml_is_away_requests_are_accepted_and_go_on_when_it_is_back(yard: Yard, tmp_path: Path) -> None:
    port = free_port()
    keys = {"CLEARML_API_ACCESS_KEY": ACCESS_KEY, "CLEARML_API_SECRET_KEY": SECRET_KEY}
    away = {"CLEARML_API_HOST": f"http://127.0.0.1:{port}", **keys}
    dispatcher = yard.start(ready=False, **away)
    yard.submit(*(request(run_name=f"run {i}") for i in range(3)))
    until(lambda: len(yard.story().states) == 3, "the requests are accepted")

    def says_so() -> bool:
        status, page = dispatcher.page("/readyz")
        assert status == 503
        return "cannot reach" in json.loads(page)["checks"]["clearml"]

    until(says_so, "it says that it cannot reach ClearML")
    assert dispatcher.page("/healthz")[0] == 200
    with embedded_server(tmp_path / "late", "--api-port", str(port)):
        story = yard.settled(3)
        until(dispatcher.is_ready, "it is ready")
    assert {state.phase for state in story.states.values()} == {RunPhase.DISPATCHED}


def test_a_second_process_on_the_same_state_folder_is_refused(yard: Yard) -> None:
    yard.start(name="one")
    second = yard.start(name="one", ready=False)
    assert second.popen.wait(timeout=60) == 78
    assert "TRAINYARD_STATE_DIR cannot be used: another process uses the folder" in second.log_path.read_text()


def test_the_pages_tell_what_it_did(yard: Yard) -> None:
    dispatcher = yard.start()
    yard.submit(request(), request(trainer="nobody"))
    yard.settled(2)
    metrics = dispatcher.page("/metrics")[1].decode()
    assert "trainyard_requests_total 2.0" in metrics
    assert "trainyard_requests_accepted_total 1.0" in metrics
    assert 'trainyard_requests_rejected_total{detail="invalid_field",reason="invalid_request"} 1.0' in metrics
    assert "trainyard_planner_lead 1.0" in metrics
    assert f'trainyard_dispatcher_queue_runs{{queue="{yard.queue}"}} 1.0' in metrics
    assert dispatcher.page("/healthz")[0] == 200
