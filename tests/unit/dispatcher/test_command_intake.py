"""Every command gets one answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.dispatcher.runs import accepted, state_after
from trainyard_dispatcher.command_intake import Obey, Refuse, answer_command
from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.lifecycle import RunState

FIRST = accepted()
RUN = FIRST.run_id
OPEN = state_after(FIRST)
ENDED = state_after(
    FIRST,
    ev.RunFailed.model_validate(
        {
            "run_id": RUN,
            "run_name": "n",
            "project": "p",
            "trainer": "t",
            "accepted_at": "",
            "ended_at": "",
            "reason": "internal",
        }
    ),
)
CANCEL = {"run_id": RUN, "command": "cancel", "actor": "alice", "message": "wrong data"}


def record(body: Any, *, offset: int = 4, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Record("trainyard.runs.commands", 1, offset, 1_000, None, value, headers)


def answered(body: Any, state: RunState | None = OPEN, **more: Any) -> Obey | Refuse:
    return answer_command(record(body, **more), lambda run_id: state if run_id == RUN else None)


def as_event(body: dict[str, Any], **attributes: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e1",
        "source": "s",
        "type": "trainyard.run.command",
        "data": body,
    } | attributes


def test_a_cancel_becomes_a_fact_with_who_asked_and_why() -> None:
    reply = answered(CANCEL)
    assert isinstance(reply, Obey)
    assert isinstance(reply.fact, ev.RunCancelRequested)
    assert (reply.fact.actor, reply.fact.message) == ("alice", "wrong data")


def test_a_change_of_priority_becomes_a_fact() -> None:
    reply = answered(CANCEL | {"command": "reprioritise", "priority": 9})
    assert isinstance(reply, Obey)
    assert isinstance(reply.fact, ev.RunReprioritised)
    assert reply.fact.priority == 9


def test_the_same_command_has_the_same_id_however_it_is_told_to_be_one() -> None:
    def command_id(body: Any, **more: Any) -> str:
        reply = answered(body, **more)
        assert isinstance(reply, Obey)
        return reply.fact.command_id

    assert command_id(CANCEL | {"command_id": "mine"}) == "mine"
    assert command_id(as_event(CANCEL), offset=4) == command_id(as_event(CANCEL), offset=9)
    assert command_id(as_event(CANCEL)) != command_id(as_event(CANCEL, id="e2"))
    assert command_id(CANCEL, offset=4) == command_id(CANCEL, offset=4)
    assert command_id(CANCEL, offset=4) != command_id(CANCEL, offset=9)


@pytest.mark.parametrize(
    ("body", "state", "detail", "says"),
    [
        (b"", OPEN, "empty", ""),
        (b"\xff", OPEN, "not_utf8", ""),
        (b"[]", OPEN, "not_an_object", ""),
        (CANCEL | {"command": "dance"}, OPEN, "invalid_field", "command"),
        (CANCEL | {"actor": None}, OPEN, "invalid_field", "actor"),
        (CANCEL | {"schema_version": 7}, OPEN, "schema_version", "7 is not known"),
        (as_event(CANCEL, type="trainyard.run.requested"), OPEN, "unknown_type", "send trainyard.run.command"),
        (CANCEL, None, "unknown_run", "run_id: is no run"),
        (CANCEL, ENDED, "run_ended", "has ended as failed"),
    ],
)
def test_what_cannot_be_obeyed_is_kept_with_why(body: Any, state: RunState | None, detail: str, says: str) -> None:
    reply = answered(body, state)
    assert isinstance(reply, Refuse)
    assert reply.detail == detail
    assert reply.dead_letter.value == record(body).value
    headers = dict(reply.dead_letter.headers)
    assert (headers["trainyard-detail"] or b"").decode() == detail
    assert says in (headers["trainyard-message"] or b"").decode()
    named = b'"run_id"' in (record(body).value or b"")
    assert headers["trainyard-run-id"] == (RUN.encode() if named else b"")
