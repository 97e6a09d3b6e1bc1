"""Intake's answers: every record gets exactly one, and none gets an exception."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from typing import Any

import pytest

from trainyard_dispatcher.intake import MAX_KEPT_BYTES, Answer, answer, reject_as_internal
from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.ids import run_id_from_event, run_id_from_key, run_id_from_origin

Headers = tuple[tuple[str, bytes | None], ...]


def request(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "trainer": "flaml",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "class"},
        "task_type": "classification",
        "run_name": "a run",
    } | changes


def structured(data: Any, **changes: Any) -> bytes:
    envelope = {"specversion": "1.0", "id": "e1", "source": "s", "type": "trainyard.run.requested", "data": data}
    return json.dumps({k: v for k, v in (envelope | changes).items() if v is not ...}).encode()


def record(value: bytes | None, headers: Headers = (), key: bytes | None = None) -> Record:
    return Record("t.runs.requested", 3, 42, 1_700_000_000_000, key, value, headers)


def asked(body: Any, headers: Headers = ()) -> Answer:
    return answer(record(json.dumps(body).encode(), headers), "default")


def rejection(found: Answer) -> ev.RunRejected:
    assert isinstance(found.fact, ev.RunRejected)
    assert found.dead_letter is not None
    return found.fact


ORIGIN_RUN = run_id_from_origin("default", record(b"").origin)


def test_a_bare_body_is_accepted_under_the_place_where_it_stands() -> None:
    found = asked(request())
    assert isinstance(found.fact, ev.RunAccepted)
    assert found.dead_letter is None
    assert found.run_id == ORIGIN_RUN
    assert found.fact.request["split"] == {"method": "row_shuffle", "test_size": 0.2, "random_seed": 42}
    assert found.fact.original_schema_version == 2
    assert (found.fact.origin.topic, found.fact.origin.partition, found.fact.origin.offset) == (
        "t.runs.requested",
        3,
        42,
    )


def test_a_version_1_body_is_upcast_and_what_it_did_not_know_is_kept() -> None:
    body = request(owner="team a")
    del body["schema_version"]
    fact = asked(body).fact
    assert isinstance(fact, ev.RunAccepted)
    assert (fact.original_schema_version, fact.request["schema_version"], fact.unknown) == (1, 2, {"owner": "team a"})


def test_an_event_is_the_run_of_its_source_and_id_in_both_modes() -> None:
    expected = run_id_from_event("default", "s", "e1")
    assert answer(record(structured(request())), "default").run_id == expected
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_source", b"s"),
        ("ce_type", b"trainyard.run.requested"),
    )
    assert asked(request(), headers).run_id == expected


def test_the_idempotency_key_comes_before_the_events_identity_and_belongs_to_the_tenant() -> None:
    value = structured(request(idempotency_key="k"))
    assert answer(record(value), "default").run_id == run_id_from_key("default", "k")
    assert answer(record(value), "other").run_id == run_id_from_key("other", "k")


def test_any_key_and_foreign_headers_are_fine() -> None:
    odd: Headers = (("trace", None), ("trace", b"\xff\xfe"), ("trainyard-reason", b"mine"))
    assert isinstance(answer(record(json.dumps(request()).encode(), odd, key=b"\xff"), "default").fact, ev.RunAccepted)


def test_a_wrong_envelope_hides_nothing_of_the_request_inside() -> None:
    body = structured(request(run_name="nightly", project="Team A")).replace(b'"1.0"', b'"0.3"')
    fact = rejection(answer(record(body), "default"))
    assert (fact.run_name, fact.project, fact.trainer) == ("nightly", "Team A", "flaml")


def test_a_dead_letter_that_is_sent_again_as_it_is_says_only_why_it_was_refused_now() -> None:
    letter = answer(record(b"{", (("x", b"1"),)), "default").dead_letter
    assert letter is not None
    again = answer(record(letter.value, letter.headers), "default").dead_letter
    assert again is not None
    assert [name for name, _ in again.headers] == [name for name, _ in letter.headers]


@pytest.mark.parametrize("size", [MAX_KEPT_BYTES + 1, 50_000_000])
def test_a_record_that_no_dead_letter_can_hold_costs_next_to_nothing(size: int) -> None:
    letters = record(b'{"password":"' + bytes(size) + b'"}', (("x", b"1"),))
    tracemalloc.start()
    try:
        letter = answer(letters, "default").dead_letter
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert letter is not None
    assert (letter.key, letter.value) == (None, b"")
    assert "trainyard-omitted" in dict(letter.headers)
    assert peak < 1 << 20


def test_data_far_away_is_accepted_without_looking_at_it() -> None:
    for uri in ("s3://bucket/data.csv", "https://example.org/data.csv"):
        assert isinstance(asked(request(dataset={"type": "tabular", "uri": uri, "label": "y"})).fact, ev.RunAccepted)


@pytest.mark.parametrize(
    ("value", "headers", "detail"),
    [
        (None, (), "tombstone"),
        (b"", (), "empty"),
        (b"  \n", (), "empty"),
        (b"\xff\xfe{\x00}\x00", (), "not_utf8"),
        (b"\xef\xbb\xbf{}", (), "byte_order_mark"),
        (b'{"trainer": "fla', (), "not_json"),
        (b"{} {}", (), "trailing_bytes"),
        (b'{"a": 1, "a": 2}', (), "duplicate_key"),
        (b'{"a": NaN}', (), "not_json"),
        (b'{"a": 1e999}', (), "number_out_of_range"),
        (b'{"a": ' + b"9" * 5_000 + b"}", (), "number_out_of_range"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (), "too_deep"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', (), "too_large"),
        (b"[1]", (), "not_an_object"),
        (b'"text"', (), "not_an_object"),
        (b'{"a": "\\ud800"}', (), "lone_surrogate"),
        (structured(request(), type="trainyard.run.completed"), (), "unknown_type"),
        (structured(request(), specversion="0.3"), (), "invalid_envelope"),
        (structured(request(), id=...), (), "invalid_envelope"),
        (structured("text"), (), "invalid_envelope"),
        (structured(request(), dataschema="urn:trainyard:schema:run.requested:1"), (), "invalid_envelope"),
        (structured(request(), time="yesterday"), (), "invalid_envelope"),
        (structured(request()), (("ce_id", b"other"),), "invalid_envelope"),
        (json.dumps(request()).encode(), (("ce_id", b"\xff"),), "invalid_envelope"),
        (json.dumps(request()).encode(), (("ce_specversion", b"1.0"),), "invalid_envelope"),
        (json.dumps(request()).encode(), (("content-type", None),), "invalid_envelope"),
        (json.dumps(request()).encode(), tuple(("h", b"v") for _ in range(10_000)), "invalid_envelope"),
        (json.dumps(request(schema_version=999)).encode(), (), "schema_version"),
        (json.dumps(request(dataset_ref="@result")).encode(), (), "invalid_field"),
    ],
)
def test_a_bad_record_is_rejected_with_its_kind_and_kept_as_it_was(
    value: bytes | None, headers: Headers, detail: str
) -> None:
    began = time.process_time()
    found = answer(record(value, headers, key=b"k"), "default")
    assert time.process_time() - began < 0.25
    fact = rejection(found)
    assert fact.detail == detail
    assert fact.run_id == ORIGIN_RUN
    letter = found.dead_letter
    assert letter is not None
    assert (letter.key, letter.value, letter.headers[: len(headers)]) == (b"k", value, headers)
    why = {name: (raw or b"").decode() for name, raw in letter.headers[len(headers) :]}
    assert why == {
        "trainyard-reason": fact.reason,
        "trainyard-detail": detail,
        "trainyard-message": fact.message,
        "trainyard-run-id": ORIGIN_RUN,
        "trainyard-origin-topic": "t.runs.requested",
        "trainyard-origin-partition": "3",
        "trainyard-origin-offset": "42",
        "trainyard-origin-timestamp": "1700000000000",
    }
    assert fact.message.isprintable()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"trainer": "nobody"}, "trainer"),
        ({"metric": "rmse"}, "metric"),
        ({"run_id": "x"}, "run_id"),
        ({"task_id": "x"}, "task_id"),
        ({"tenant": "x"}, "tenant"),
        ({"image": "x"}, "image"),
        ({"env": {}}, "env"),
        ({"surprise": 1}, "surprise"),
        ({"time_budget_s": -1}, "time_budget_s"),
        ({"time_budget_s": "60"}, "time_budget_s"),
        ({"priority": 10}, "priority"),
        ({"run_name": "a\nb c"}, "run_name"),
        ({"run_name": "a\x1b[31m b"}, "run_name"),
        ({"run_name": "<script>x</script>"}, "run_name"),
        ({"run_name": "x" * 10_240}, "run_name"),
        ({"schema_version": "2"}, "schema_version"),
        ({"dataset": {"type": "tabular", "uri": "https://u:secret-canary@h/x", "label": "y"}}, "dataset.uri"),
        (
            {"dataset": {"type": "tabular", "uri": "s3://b/x?X-Amz-Signature=secret-canary", "label": "y"}},
            "dataset.uri",
        ),
        ({"https://bob:secret-canary@host/": 1}, "https://***@host/"),
        ({"https://bob:" + "secret-canary" * 20 + "@host/": 1}, "https://***@host/"),
        ({"token=secret-canary": 1}, "token=***"),
        ({"password": "secret-canary"}, "password"),
        ({"trainer": "https://bob:secret-canary@host/"}, "trainer"),
        ({"metric": "https://bob:secret-canary@host/"}, "metric"),
        ({"task_type": "https://bob:secret-canary@host/"}, "task_type"),
        ({"queue": "https://bob:secret-canary@host/<"}, "queue"),
        ({"run_name": "https://bob:secret-canary@host/", "project": "token=secret-canary", "priority": 10}, "priority"),
        ({"extras": {"https://bob:secret-canary@host/": {}}}, "extras"),
        ({"dataset": {"type": "tabular", "label": "y"}}, "dataset"),
        ({"dataset": {"type": "tabular", "label": "y"}, "dataset_ref": "@x"}, "dataset_ref"),
    ],
)
def test_a_wrong_field_is_named_and_no_secret_is_repeated(change: dict[str, Any], path: str) -> None:
    found = asked(request(**change))
    fact = rejection(found)
    assert any(problem.path.startswith(path) for problem in fact.errors), fact.errors
    assert "secret-canary" not in repr(found)
    assert fact.trainer == change.get("trainer", "flaml").replace("bob:secret-canary", "***")


def _nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("filling", "detail"),
    [(_nested(60), "too_deep"), (list(range(9_950)), "too_many_values"), ("y" * 523_800, "too_large")],
    ids=["deep", "values", "bytes"],
)
def test_a_request_at_the_limits_whose_acceptance_nobody_could_read_is_rejected(filling: Any, detail: str) -> None:
    fact = rejection(asked(request(extras={"flaml": {"x": filling}})))
    assert fact.detail == detail
    assert "more than can be kept" in fact.message


@pytest.mark.parametrize("filling", [_nested(57), list(range(9_900)), "y" * 520_000], ids=["deep", "values", "bytes"])
def test_a_large_request_is_accepted_as_an_event_that_can_be_read(filling: Any) -> None:
    fact = asked(request(extras={"flaml": {"x": filling}})).fact
    assert isinstance(fact, ev.RunAccepted)
    value, headers = ev.encode_event(ev.make_event(fact, source="trainyard/dispatcher", writer="w" * 32, now=1.7e9))
    assert ev.decode_event(value, headers).fact == fact


def test_a_rejection_burns_no_key_and_does_not_take_the_events_run() -> None:
    bad = request(idempotency_key="k", trainer="nobody")
    assert asked(bad).run_id == ORIGIN_RUN
    assert answer(record(structured(bad)), "default").run_id == ORIGIN_RUN


def test_an_error_of_our_own_is_an_answer_too_and_tells_no_content() -> None:
    found = reject_as_internal(record(b"{}"), "default", ValueError("secret-canary"))
    fact = rejection(found)
    assert (fact.reason, fact.detail) == ("internal", "unexpected_error")
    assert "secret-canary" not in fact.message


def test_a_record_that_no_client_can_read_is_answered_too() -> None:
    bad = Record("t.runs.requested", 3, 42, 0, None, None, unreadable="a header's name is not UTF-8")
    fact = rejection(answer(bad, "default"))
    assert fact.detail == "unreadable"
    assert "UTF-8" in fact.message


def test_ten_thousand_mutated_bodies_are_each_answered_once() -> None:
    rng = random.Random(7)
    good = json.dumps(request()).encode()
    kinds = {"accepted": 0, "rejected": 0}
    for _ in range(10_000):
        body = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(body))
            match rng.randrange(4):
                case 0:
                    body[at] = rng.randrange(256)
                case 1:
                    del body[at : at + rng.randint(1, 9)]
                case 2:
                    body[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 5)))
                case _:
                    body[at:at] = rng.choice([b'"', b"{", b"[", b",", b"null", b"1e9", b"\\u0000", b"}"])
        found = answer(record(bytes(body)), "default")
        kinds["accepted" if isinstance(found.fact, ev.RunAccepted) else "rejected"] += 1
        assert (found.dead_letter is None) == isinstance(found.fact, ev.RunAccepted)
        ev.encode_event(ev.make_event(found.fact, source="s", writer="w", now=0.0))
    assert kinds["accepted"] > 100
    assert kinds["rejected"] > 5_000
