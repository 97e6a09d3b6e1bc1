"""What anybody may ask of a run that has been accepted: `RunCommand`, version 1, on `runs.commands`.

Read as a CloudEvent (`trainyard.run.command`) or as a bare JSON body, with any key or none. A command is an order, not
a fact: the planner writes what it makes of it (`run.cancel_requested`, `run.reprioritised`) into the book of record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from trainyard_schemas.errors import FieldError, Invalid, UnsupportedVersion
from trainyard_schemas.runs import WHOLE, Part, whole
from trainyard_schemas.text import Key, Line, RunId, Tag
from trainyard_schemas.upcasting import sentences
from trainyard_schemas.vocabulary import CommandName

SCHEMA_VERSION = 1


class RunCommand(Part):
    """An order about one run. `actor` says who gives it and `message` why; both stand in the log for good.

    `priority`, 0 (last) to 9 (first), belongs to `reprioritise`. `command_id` makes sending it twice harmless; without
    one the CloudEvent's source and id do, else each record is a command of its own.
    """

    schema_version: Annotated[Literal[1], WHOLE] = 1
    run_id: RunId
    command: Annotated[CommandName, Field(strict=False)]
    actor: Tag
    message: Line = ""
    priority: Annotated[int, Field(ge=0, le=9), WHOLE] | None = None
    command_id: Key | None = None

    @model_validator(mode="after")
    def _priority_belongs_to_reprioritise(self) -> Self:
        if (self.command is CommandName.REPRIORITISE) != (self.priority is not None):
            raise ValueError("priority: is needed by reprioritise, and by no other command")
        return self


def parse_command(data: Mapping[str, Any]) -> RunCommand:
    """The command in an event's data.

    Raises:
        UnsupportedVersion: a newer `schema_version`.
        Invalid: every wrong field is named.
    """
    version = whole(data.get("schema_version", SCHEMA_VERSION))
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        known = FieldError("schema_version", f"{version} is not known here; this reader knows {SCHEMA_VERSION}")
        raise UnsupportedVersion("schema_version", known)
    try:
        return RunCommand.model_validate(dict(data))
    except ValidationError as error:
        found = sentences(error.errors(include_url=False, include_input=False), of="a command")
        raise Invalid("invalid_field", *found) from None
