"""Every command gets one answer: a fact about its run, or a dead letter. Pure.

On `runs.commands` anybody publishes, as on `runs.requested`: a CloudEvent (structured or binary) or a bare JSON body.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from trainyard_dispatcher.intake import MAX_MESSAGE_CHARACTERS, DeadLetter, content, dead_letter
from trainyard_runtime.kafka.records import Record
from trainyard_schemas import events as ev
from trainyard_schemas.codec import printable
from trainyard_schemas.commands import RunCommand, parse_command
from trainyard_schemas.envelope import Envelope, Mode, decode
from trainyard_schemas.errors import ContractError, FieldError, Invalid, Malformed
from trainyard_schemas.ids import NAMESPACE
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.text import RUN_ID_PATTERN
from trainyard_schemas.vocabulary import CommandName, EventType


@dataclass(frozen=True, slots=True)
class Obey:
    """Append this fact: the command is one, and its run may still take it."""

    fact: ev.RunCancelRequested | ev.RunReprioritised


@dataclass(frozen=True, slots=True)
class Refuse:
    """Keep the record as a dead letter under `run_id`: it is no command, or its run is unknown or has ended."""

    run_id: str
    detail: str
    dead_letter: DeadLetter


def command_of(record: Record) -> tuple[RunCommand, str] | ContractError:
    """The command in a record and the id that makes it one of its kind, or what is wrong with it."""
    try:
        if record.unreadable:
            raise Malformed("unreadable", FieldError("", f"the record cannot be read: {record.unreadable}"))
        envelope = decode(record.value, record.headers, bare_allowed=True)
        if envelope.mode is not Mode.BARE and envelope.type != EventType.RUN_COMMAND:
            wrong = f"'{printable(envelope.type)}' does not belong here; send {EventType.RUN_COMMAND.value}"
            raise Invalid("unknown_type", FieldError("type", wrong))
        command = parse_command(envelope.data)
    except ContractError as error:
        return error
    return command, _id_of(record, envelope, command)


def answer_command(record: Record, state_of: Callable[[str], RunState | None]) -> Obey | Refuse:
    """The one answer to a record of `runs.commands`; `state_of` knows the log up to a moment after the command came."""
    read = command_of(record)
    if isinstance(read, ContractError):
        return _refuse(record, _named_run(record), read)
    command, command_id = read
    state = state_of(command.run_id)
    if state is None:
        return _refuse(record, command.run_id, _problem("unknown_run", "is no run that the log knows; check the id"))
    if state.is_ended:
        ended = f"has ended as {state.phase.value}; nothing can be asked of it any more"
        return _refuse(record, command.run_id, _problem("run_ended", ended))
    if command.command is CommandName.CANCEL:
        return Obey(
            ev.RunCancelRequested(
                run_id=command.run_id, actor=command.actor, message=command.message, command_id=command_id
            )
        )
    assert command.priority is not None
    return Obey(
        ev.RunReprioritised(
            run_id=command.run_id,
            actor=command.actor,
            message=command.message,
            command_id=command_id,
            priority=command.priority,
        )
    )


def _id_of(record: Record, envelope: Envelope, command: RunCommand) -> str:
    if command.command_id is not None:
        return command.command_id
    if envelope.source is not None and envelope.id is not None:
        parts: tuple[str, ...] = ("event", envelope.source, envelope.id)
    else:
        parts = ("origin", record.topic, str(record.partition), str(record.offset), str(record.timestamp_ms))
    return str(uuid.uuid5(NAMESPACE, "\n".join(("command", *parts))))


def _named_run(record: Record) -> str:
    """The run that a wrong command names, or nothing where no id can be read."""
    run_id = content(record).get("run_id")
    return run_id if isinstance(run_id, str) and re.fullmatch(RUN_ID_PATTERN, run_id) else ""


def _problem(detail: str, message: str) -> Invalid:
    return Invalid(detail, FieldError("run_id", message))


def _refuse(record: Record, run_id: str, error: ContractError) -> Refuse:
    message = printable(str(error), MAX_MESSAGE_CHARACTERS)
    return Refuse(run_id, error.detail, dead_letter(record, run_id, error.reason.value, error.detail, message))
