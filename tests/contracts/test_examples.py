"""The golden messages: valid by their JSON Schema, read by the code, and written back as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.contracts.files import (
    EXAMPLES,
    GOLDEN_COMMANDS,
    GOLDEN_EVENTS,
    GOLDEN_REQUEST_EVENTS,
    REFUSED,
    SCHEMAS,
    V1,
    V2,
    label,
    load,
)
from trainyard_schemas import ids
from trainyard_schemas.codec import canonical
from trainyard_schemas.commands import parse_command
from trainyard_schemas.documents import json_schemas
from trainyard_schemas.envelope import Mode, decode
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import RunAccepted, decode_event, encode_event
from trainyard_schemas.runs import RunRequest
from trainyard_schemas.upcasting import parse_request


def _errors(schema_path: str, document: Any) -> list[str]:
    schema = load(SCHEMAS / "draft" / schema_path)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return [error.message for error in validator.iter_errors(document)]


@pytest.mark.parametrize("path", sorted(json_schemas()))
def test_every_schema_is_itself_valid(path: str) -> None:
    jsonschema.Draft202012Validator.check_schema(load(SCHEMAS / "draft" / path))


@pytest.mark.parametrize("path", GOLDEN_EVENTS, ids=label)
def test_a_golden_event_fits_its_schema_and_is_written_back_as_it_was_read(path: Path) -> None:
    document = load(path)
    assert document["type"] == f"trainyard.{path.parent.name}"
    assert _errors(f"{path.parent.name}/1.json", document["data"]) == []
    event = decode_event(json.dumps(document).encode())
    value, headers = encode_event(event)
    assert json.loads(value) == document
    assert b"\n" not in value
    assert dict(headers)["content-type"].startswith(b"application/cloudevents+json")


@pytest.mark.parametrize("path", GOLDEN_EVENTS, ids=label)
def test_a_golden_event_bears_its_natural_id(path: Path) -> None:
    event = decode_event(path.read_bytes())
    assert event.id == ids.event_id(event.type, event.fact.run_id, *event.fact.key())


def test_the_golden_acceptance_holds_a_valid_request_and_its_digest() -> None:
    fact = decode_event((EXAMPLES / "run.accepted" / "by-idempotency-key.json").read_bytes()).fact
    assert isinstance(fact, RunAccepted)
    request = RunRequest.model_validate(fact.request)
    assert request.to_json() == fact.request
    assert request.digest == fact.request_digest
    assert fact.run_id == ids.run_id_from_key(fact.tenant, str(request.idempotency_key))


@pytest.mark.parametrize("path", GOLDEN_EVENTS, ids=label)
def test_readers_tolerate_additions_to_events(path: Path) -> None:
    document = load(path)
    document["data"]["added_in_a_later_version"] = {"deep": [1, 2]}
    document["laterextension"] = "x"
    assert _errors(f"{path.parent.name}/1.json", document["data"]) == []
    assert decode_event(canonical(document)).fact == decode_event(path.read_bytes()).fact


@pytest.mark.parametrize("path", GOLDEN_EVENTS, ids=label)
def test_a_golden_event_without_its_run_is_refused_by_the_schema_and_by_the_code(path: Path) -> None:
    document = load(path)
    del document["data"]["run_id"]
    assert _errors(f"{path.parent.name}/1.json", document["data"]) == ["'run_id' is a required property"]
    with pytest.raises(ValueError, match=r"data\.run_id"):
        decode_event(canonical(document))


@pytest.mark.parametrize("path", V1, ids=label)
def test_a_version_1_request_fits_its_schema(path: Path) -> None:
    assert _errors("run.requested/1.json", load(path)) == []
    assert _errors("run.requested/2.json", load(path)) == ["'schema_version' is a required property"]


@pytest.mark.parametrize("path", V2, ids=label)
def test_a_version_2_request_fits_its_schema(path: Path) -> None:
    assert _errors("run.requested/2.json", load(path)) == []


@pytest.mark.parametrize("path", GOLDEN_REQUEST_EVENTS, ids=label)
def test_a_request_in_a_cloudevent_is_read(path: Path) -> None:
    envelope = decode(path.read_bytes())
    assert envelope.mode is Mode.STRUCTURED
    assert envelope.type == "trainyard.run.requested"
    assert _errors("run.requested/2.json", envelope.data) == []
    assert parse_request(envelope.data).original_version == 2


@pytest.mark.parametrize("path", GOLDEN_COMMANDS, ids=label)
def test_a_command_is_read_and_fits_its_schema(path: Path) -> None:
    envelope = decode(path.read_bytes())
    assert envelope.type == "trainyard.run.command"
    assert _errors("run.command/1.json", envelope.data) == []
    command = parse_command(envelope.data)
    assert command.model_dump(mode="json", exclude_defaults=True) | {"schema_version": 1} == envelope.data


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"command": "retry"}, "command", "'cancel' or 'reprioritise'"),
        ({"priority": 3}, "priority", "by no other command"),
        ({"command": "reprioritise"}, "priority", "is needed by reprioritise"),
        ({"command": "reprioritise", "priority": 10}, "priority", "less than or equal to 9"),
        ({"run_id": "D0B9"}, "run_id", "a UUID in lower case"),
        ({"actor": ""}, "actor", "at least 1"),
        ({"actor": "a\nb"}, "actor", "control character U+000A"),
        ({"message": 5}, "message", "string"),
        ({"tenant": "x"}, "tenant", "is set by Trainyard, not by a command; remove it"),
        ({"reason": "x"}, "reason", "is not a field of a command; remove it"),
        ({"schema_version": 2}, "schema_version", "2 is not known here; this reader knows 1"),
        ({"schema_version": "1"}, "schema_version", "should be 1"),
    ],
)
def test_a_wrong_command_is_refused_by_the_name_of_its_field(change: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_command(load(EXAMPLES / "run.command" / "cancel.json")["data"] | change)
    (problem,) = caught.value.errors
    assert problem.path == where
    assert what in problem.message


def test_the_schema_never_refuses_what_the_code_accepts() -> None:
    """The rules between fields and the registry are the code's alone; the schema knows the rest of them."""
    schema_finds = {path.stem for path in REFUSED if _errors("run.requested/2.json", load(path)["body"])}
    assert schema_finds == {
        "clearml-id-empty",
        "clearml-id-unknown-field",
        "clearml-name-not-a-string",
        "dataset-ref-empty",
        "dataset-ref-not-a-string",
        "server-owned-run-id",
        "test-size-one",
        "version-as-a-string",
        "version-of-the-future",
    }
