"""10,000 mutated bodies: each is answered once, by a request or by a ContractError, and no secret is repeated."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from typing import Any

from tests.contracts.files import GOLDEN_EVENTS, GOLDEN_REQUEST_EVENTS, V1, V2
from trainyard_schemas.envelope import decode
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import Event, decode_event, encode_event
from trainyard_schemas.lifecycle import RunState, apply
from trainyard_schemas.upcasting import ParsedRequest, parse_request

CANARY = "hunter2canary"
SPLICES = (
    b"\x00", b"\xff", b"{", b"}", b"[", b'"', b"\\", b",", b"NaN", b"1e999", b"\\ud800", b"null", b'{"a":1}', b"9" * 30,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2.5, 10**18, 1e300, "", "x", "\x1b[2J", "a" * 5_000, [], {}, [[]], {"": {}}, [None] * 40,
)  # fmt: skip


def _bytes_mutated(rng: random.Random, value: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(value) + 1)
        match rng.randrange(5):
            case 0:
                value = value[:at] + rng.choice(SPLICES) + value[at:]
            case 1:
                value = value[:at] + value[at + rng.randint(1, 20) :]
            case 2:
                value = value[:at] + bytes([rng.randrange(256)]) + value[at + 1 :]
            case 3:
                value = value[:at] + value[max(0, at - rng.randint(1, 60)) :]
            case _:
                value = value[:at]
    return value


def _parts(document: Any) -> list[dict[str, Any]]:
    found, pending = [], [document]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            found.append(part)
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return found


def _fields_mutated(rng: random.Random, document: dict[str, Any]) -> bytes:
    for _ in range(rng.randint(1, 3)):
        part = rng.choice(_parts(document))
        key = rng.choice([*part, "new", "\x1b[31m", "run_id", "schema_version"])
        if rng.randrange(4) == 0:
            part.pop(key, None)
        else:
            part[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(document).encode()


def _answer(value: bytes) -> ParsedRequest | ContractError:
    try:
        return parse_request(decode(value, bare_allowed=True).data)
    except ContractError as error:
        return error


def _read(value: bytes) -> Event | ContractError:
    try:
        return decode_event(value)
    except ContractError as error:
        return error


def test_each_of_10_000_mutated_bodies_gets_exactly_one_answer() -> None:
    rng = random.Random(20261105)
    corpus = [path.read_bytes() for path in (*V1, *V2, *GOLDEN_REQUEST_EVENTS)]
    answers: Counter[str] = Counter()
    for _ in range(10_000):
        original = rng.choice(corpus)
        value = _bytes_mutated(rng, original) if rng.randrange(2) else _fields_mutated(rng, json.loads(original))
        answer = _answer(value)
        if isinstance(answer, ContractError):
            assert answer.errors
            assert answer.detail
            assert all(error.message and error.message.isprintable() for error in answer.errors), value
            assert len(str(answer)) < 20_000
            answers[answer.detail] += 1
        else:
            answers["accepted"] += 1
    assert answers.total() == 10_000
    assert answers["accepted"] > 1_000
    assert answers["invalid_field"] > 1_000
    assert answers["not_json"] > 1_000
    assert {"not_utf8", "trailing_bytes", "empty", "schema_version", "invalid_envelope"} <= set(answers)


def test_each_of_10_000_mutated_events_is_read_and_folded_or_refused() -> None:
    """A record of the lifecycle topic that raised anything else would end every service that folds it."""
    rng = random.Random(42)
    corpus = [path.read_bytes() for path in GOLDEN_EVENTS]
    answers: Counter[str] = Counter()
    state: RunState | None = None
    for offset in range(10_000):
        original = rng.choice(corpus)
        mutated = _bytes_mutated(rng, original) if rng.randrange(3) == 0 else _fields_mutated(rng, json.loads(original))
        event = _read(mutated)
        if isinstance(event, ContractError):
            assert all(found.message.isprintable() for found in event.errors), mutated
            answers[event.detail] += 1
            continue
        step = apply(state, event, offset)
        state = None if step.state is None or step.state.is_ended else step.state
        value, headers = encode_event(event)
        assert decode_event(value, headers).fact == event.fact
        answers[step.verdict] += 1
    assert answers.total() == 10_000
    assert {"won", "unknown_run", "invalid_field", "invalid_envelope", "unknown_type", "not_json"} <= set(answers)


def test_no_answer_repeats_a_secret_of_the_body() -> None:
    rng = random.Random(7)
    secret = {
        "schema_version": 2,
        "trainer": "flaml",
        "dataset": {"type": "tabular", "uri": f"s3://key:{CANARY}@datasets/demo.csv", "label": "label"},
        "task_type": "classification",
        "extras": {"flaml": {"fit_args": {"password": CANARY}}},
        "storage_password": CANARY,
    }
    refused = 0
    for _ in range(2_000):
        document = json.loads(json.dumps(secret))
        value = (
            _fields_mutated(rng, document) if rng.randrange(2) else _bytes_mutated(rng, json.dumps(document).encode())
        )
        answer = _answer(value)
        if isinstance(answer, ContractError):
            refused += 1
            assert CANARY not in f"{answer} {answer!r} {answer.errors!r}"
    assert refused > 1_500
