"""The AsyncAPI document is one by the 3.0 model of an independent reader, and all that it refers to is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from tests.contracts.files import SCHEMAS, load
from trainyard_schemas.topics import DEFAULT_PREFIX, FOREIGN_TOPICS, TOPICS
from trainyard_schemas.vocabulary import EventType

DOCUMENT: dict[str, Any] = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())


def _references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def _resolve(reference: str) -> Any:
    if not reference.startswith("#/"):
        return load(SCHEMAS / reference)
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_an_independent_reader_accepts_it() -> None:
    read = ApplicationSchema.model_validate(DOCUMENT)
    assert len(read.channels) == len(TOPICS) + len(FOREIGN_TOPICS)


def test_everything_it_refers_to_is_there() -> None:
    references = set(_references(DOCUMENT))
    assert len(references) > 40
    for reference in references:
        assert isinstance(_resolve(reference), dict), reference


def test_every_topic_is_a_channel_under_the_default_prefix() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses == {topic.full_name(DEFAULT_PREFIX) for topic in (*TOPICS, *FOREIGN_TOPICS)}


def test_the_requests_channel_offers_the_bare_body_too() -> None:
    assert set(DOCUMENT["channels"]["runs_requested"]["messages"]) == {"run.requested", "run.requested.bare"}


@pytest.mark.parametrize("event_type", EventType, ids=lambda t: t.short)
def test_every_message_has_an_example_that_fits_its_payload(event_type: EventType) -> None:
    message = DOCUMENT["components"]["messages"][event_type.short]
    assert message["examples"]
    envelope, detail = message["payload"]["allOf"]
    data_schema = _resolve(detail["properties"]["data"]["$ref"])
    for example in message["examples"]:
        jsonschema.Draft202012Validator(_resolve(envelope["$ref"])).validate(example["payload"])
        jsonschema.Draft202012Validator(detail["properties"]["type"]).validate(example["payload"]["type"])
        jsonschema.Draft202012Validator(data_schema).validate(example["payload"]["data"])


def test_the_message_of_clearml_serving_has_examples_that_fit_its_payload() -> None:
    message = DOCUMENT["components"]["messages"]["serving.rows"]
    assert len(message["examples"]) > 3
    schema = _resolve(message["payload"]["$ref"])
    for example in message["examples"]:
        jsonschema.Draft202012Validator(schema).validate(example["payload"])
