"""Orders about a run as the records that carry them, and the request that tries an ended run again: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_schemas.commands import SCHEMA_VERSION, parse_command
from trainyard_schemas.envelope import encode_structured
from trainyard_schemas.errors import ContractError
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import CommandName, EventType, RunPhase
from trainyard_submitter.errors import InvalidRequest, RunEnded, SubmitterError
from trainyard_submitter.submission import SOURCE

_OF_ONE_RUN_ONLY = ("idempotency_key", "retry_of")


@dataclass(frozen=True, slots=True)
class Order:
    """A checked command as the record that gives it; `command_id` is what `run.cancel_requested` and
    `run.reprioritised` will bear."""

    run_id: str
    command_id: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def order(
    run_id: str,
    command: CommandName,
    *,
    actor: str,
    command_id: str,
    now: float,
    message: str = "",
    priority: int | None = None,
) -> Order:
    """Check a command as the dispatcher will, and build its event. Raises InvalidRequest, naming each wrong field."""
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "command": command.value,
        "actor": actor,
        "message": message,
        "command_id": command_id,
    }
    if priority is not None:
        data["priority"] = priority
    try:
        parse_command(data)
    except ContractError as error:
        raise InvalidRequest(error.detail, error.errors) from None
    value, headers = encode_structured(
        id=command_id,
        source=SOURCE,
        type=EventType.RUN_COMMAND.value,
        subject=run_id,
        time=now,
        dataschema=f"urn:trainyard:schema:run.command:{SCHEMA_VERSION}",
        data=data,
    )
    return Order(run_id, command_id, value, tuple(headers))


def refuse_ended(state: RunState) -> None:
    """Raises RunEnded where nothing can be asked of the run any more."""
    if state.is_ended:
        again = (
            "" if state.phase is RunPhase.COMPLETED else f"try it again with `trainyard runs retry {state.run_id[:8]}`"
        )
        raise RunEnded(state.run_id, state.phase.value, again)


def retry_request(state: RunState) -> Mapping[str, Any]:
    """The request that tries an ended run again: a run of its own, with the same content, that names the old one.

    Raises SubmitterError where the run has not ended, or where the log does not hold its request (it was rejected).
    """
    if not state.is_ended:
        raise SubmitterError(
            f"run {state.run_id} has not ended ({state.phase.value}); cancel it first with"
            f" `trainyard runs cancel {state.run_id[:8]}`"
        )
    if state.phase is RunPhase.REJECTED:
        raise SubmitterError(f"run {state.run_id} was rejected; correct its request and submit that")
    body = {name: value for name, value in state.request.items() if name not in _OF_ONE_RUN_ONLY}
    return {**body, "priority": state.priority, "retry_of": state.run_id}
