"""The published documents of the contracts, made from the code that enforces them: JSON Schemas and AsyncAPI.

Pure: a document is a function of the code and of the golden examples. `generate` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from trainyard_schemas.commands import RunCommand
from trainyard_schemas.events import FACTS, dataschema
from trainyard_schemas.runs import SCHEMA_VERSION as REQUEST_VERSION
from trainyard_schemas.runs import RunRequest
from trainyard_schemas.serving import ServingMessage
from trainyard_schemas.topics import DEFAULT_PREFIX, FOREIGN_TOPICS, TOPICS, Topic, TopicName
from trainyard_schemas.vocabulary import EventType

_BODIES: Mapping[EventType, tuple[int, type[BaseModel]]] = {
    EventType.RUN_REQUESTED: (REQUEST_VERSION, RunRequest),
    EventType.RUN_COMMAND: (1, RunCommand),
}
"""What other systems send: the newest version, and its class. Each is read as a bare JSON body too."""

SERVING_SCHEMA = f"{TopicName.CLEARML_INFERENCE_STATS.value}/1.json"
"""Where the schema of clearml-serving's messages is."""

SERVICES = ("submitter", "dispatcher", "trainer-worker", "stats")
_DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"
_STRUCTURED = "application/cloudevents+json"
DEAD_LETTER_HEADERS = (
    ("trainyard-reason", "why the record could not be handled, from the closed vocabulary of reasons"),
    ("trainyard-detail", "a code that narrows the reason"),
    ("trainyard-message", "a sentence that names the field, what was wrong and what to do"),
    ("trainyard-origin-topic", "where the record stood"),
    ("trainyard-origin-partition", "where the record stood"),
    ("trainyard-origin-offset", "where the record stood"),
    ("trainyard-origin-timestamp", "the record's own timestamp, milliseconds since the epoch"),
    (
        "trainyard-run-id",
        "a request's: the run_id of its run.rejected; a command's: the run that it names, or nothing",
    ),
)
DEAD_LETTER_NOTES = (
    ("trainyard-redacted", "there where secrets were replaced by stars"),
    ("trainyard-omitted", "there where nothing of the record is kept, and why"),
)


def schema_path(event_type: EventType, version: int) -> str:
    """Where the schema of an event's data is, below the folder of schemas: `run.accepted/1.json`."""
    return f"{event_type.short}/{version}.json"


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema (2020-12) of the data of every event type and version, by `schema_path`.

    They hold what one field alone can break. Rules between fields, and the registry of trainers, are checked by
    `upcasting.parse_request`.
    """
    found = {
        schema_path(EventType.RUN_REQUESTED, 1): _request_v1(),
        schema_path(EventType.RUN_REQUESTED, REQUEST_VERSION): _headed(
            RunRequest.model_json_schema(), f"urn:trainyard:schema:run.requested:{REQUEST_VERSION}"
        ),
    }
    found[schema_path(EventType.RUN_COMMAND, 1)] = _headed(
        RunCommand.model_json_schema(), dataschema(EventType.RUN_COMMAND)
    )
    found[SERVING_SCHEMA] = _headed(
        ServingMessage.model_json_schema(), f"urn:trainyard:schema:{TopicName.CLEARML_INFERENCE_STATS.value}:1"
    )
    for event_type, fact in FACTS.items():
        found[schema_path(event_type, 1)] = _headed(fact.model_json_schema(), dataschema(event_type))
    return found


def _headed(schema: Mapping[str, Any], identity: str) -> dict[str, Any]:
    return {"$schema": _DRAFT_2020_12, "$id": identity, **schema}


def _request_v1() -> dict[str, Any]:
    """Version 1: the same fields, no version said or 1, and unknown top-level fields pass."""
    schema = RunRequest.model_json_schema()
    schema["description"] = (
        "One request to train, version 1: schema_version is absent or 1, unknown top-level fields are kept and not "
        "used. Upcast to version 2 on reading."
    )
    schema["properties"]["schema_version"] = {"const": 1, "default": 1, "title": "Schema Version", "type": "integer"}
    schema["required"] = [name for name in schema["required"] if name != "schema_version"]
    schema["additionalProperties"] = True
    return _headed(schema, "urn:trainyard:schema:run.requested:1")


def asyncapi(
    examples: Mapping[EventType, Sequence[tuple[str, Mapping[str, Any]]]], serving: Sequence[tuple[str, Any]] = ()
) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of all topics.

    `examples` are whole CloudEvents by type, each with its name; `serving` are messages of clearml-serving.
    """
    topics = (*TOPICS, *FOREIGN_TOPICS)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Trainyard",
            "version": "0.1.0",
            "description": "Requests to train, the facts of every run, and their outcomes. Topics bear the default "
            f"prefix {DEFAULT_PREFIX!r} here; it is configurable.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _STRUCTURED,
        "channels": {channel_id(topic.name): _channel(topic) for topic in topics},
        "operations": {name: operation for topic in topics for name, operation in _operations(topic)},
        "components": {
            "messages": {
                **{t.short: _message(t, examples.get(t, ())) for t in EventType},
                **{f"{t.short}.bare": _bare(t, examples.get(t, ())) for t in _BODIES},
                "dead-letter": _dead_letter(),
                "stats.checkpoint": _checkpoint(),
                "serving.rows": _serving_rows(serving),
            },
            "schemas": {"CloudEvent": _cloud_event()},
        },
    }


def channel_id(name: TopicName) -> str:
    """A topic's name as AsyncAPI's tools like ids: `runs_requested`."""
    return name.value.replace(".", "_").replace("-", "_")


_OTHER_MESSAGES: Mapping[TopicName, tuple[str, ...]] = {
    TopicName.STATS_CHECKPOINTS: ("stats.checkpoint",),
    TopicName.CLEARML_INFERENCE_STATS: ("serving.rows",),
}


def _messages_of(topic: Topic) -> list[str]:
    names = [t.short for t in topic.event_types]
    names += [f"{t.short}.bare" for t in topic.event_types if t in _BODIES]
    if topic.name.value.endswith(".dead-letter"):
        names.append("dead-letter")
    return names + list(_OTHER_MESSAGES.get(topic.name, ()))


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.full_name(DEFAULT_PREFIX),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages_of(topic)},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": [topic.config["cleanup.policy"]],
                    "retention.ms": topic.retention_ms,
                },
            }
        },
    }


def _operations(topic: Topic) -> list[tuple[str, dict[str, Any]]]:
    """What each service of ours does with a topic. Anybody else does the opposite of what is named here."""
    channel = channel_id(topic.name)
    return [
        (
            f"{service}.{action}.{channel}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel}"},
                "tags": [{"name": service}],
                "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in _messages_of(topic)],
            },
        )
        for action, names in (("send", topic.producers), ("receive", topic.consumers))
        for service in names
        if service in SERVICES
    ]


def _message(event_type: EventType, examples: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    version, document = _BODIES.get(event_type) or (1, FACTS[event_type])
    doc = document.__doc__
    return {
        "name": event_type.value,
        "title": event_type.short,
        "summary": (doc or "").strip().partition("\n")[0],
        "contentType": _STRUCTURED,
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEvent"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event_type.value},
                        "data": {"$ref": f"./draft/{schema_path(event_type, version)}"},
                    },
                },
            ]
        },
        "examples": [{"name": name, "payload": dict(payload)} for name, payload in examples],
    }


def _bare(event_type: EventType, examples: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    return {
        "name": f"{event_type.short}.bare",
        "title": f"{event_type.short} as a bare JSON body",
        "summary": "The data alone, without an envelope: what `kcat` sends.",
        "contentType": "application/json",
        "payload": {"$ref": f"./draft/{schema_path(event_type, _BODIES[event_type][0])}"},
        "examples": [{"name": name, "payload": dict(payload["data"])} for name, payload in examples],
    }


def _dead_letter() -> dict[str, Any]:
    return {
        "name": "dead-letter",
        "title": "a record that could not be handled",
        "summary": "The original key, value and headers, byte for byte but for secrets (`trainyard-redacted` tells of "
        "some), with why and whence in further headers.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": text}
                for name, text in (*DEAD_LETTER_HEADERS, *DEAD_LETTER_NOTES)
            },
            "required": [name for name, _ in DEAD_LETTER_HEADERS],
        },
        "payload": {},
    }


def _checkpoint() -> dict[str, Any]:
    return {
        "name": "stats.checkpoint",
        "title": "what was counted of one partition, and how far",
        "summary": "Counters and offset in one record; the key names deployment, topic and partition. For the "
        "statistics service alone: its form may change with any version.",
        "contentType": "application/vnd.msgpack",
        "payload": {},
    }


def _serving_rows(examples: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {
        "name": "serving.rows",
        "title": "rows of clearml-serving",
        "summary": "What a clearml-serving process publishes about its requests: a list of flat rows, no key, no "
        "headers.",
        "contentType": "application/json",
        "payload": {"$ref": f"./draft/{SERVING_SCHEMA}"},
        "examples": [{"name": name, "payload": payload} for name, payload in examples],
    }


def _cloud_event() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "description": "CloudEvents 1.0, structured JSON.",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": text,
            "subject": {**text, "description": "the run_id"},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "dataschema": {**text, "description": "the name of the schema of data, with its version"},
            "writer": {**text, "description": "one incarnation of the process that wrote the event"},
            "data": {"type": "object"},
        },
    }
