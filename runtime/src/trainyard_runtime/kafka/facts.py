"""The event in a record of the run topics, as every reader of ours takes it. Pure."""

from __future__ import annotations

from trainyard_runtime.kafka.records import Record
from trainyard_schemas.errors import FieldError, Invalid
from trainyard_schemas.events import Event, decode_event


def event_in(record: Record) -> Event:
    """The event in a record of `runs.lifecycle` or `runs.heartbeats`.

    One whose key is not its run's id is none: who follows one run looks at no other key, and all must fold the same.
    Raises ContractError.
    """
    event = decode_event(record.value, record.headers)
    if record.key != event.fact.run_id.encode():
        raise Invalid("misplaced", FieldError("key", "is not the run_id of the event"))
    return event
