"""A tap on a broker: everything that our services have written there fits its contract.

`python -m tests.contracts.tap HOST:PORT` looks at a running stack; the test session looks at its own broker at its end.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import jsonschema
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from trainyard_runtime.kafka.records import Record
from trainyard_schemas import ids
from trainyard_schemas.documents import json_schemas
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import decode_event, encode_event
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName, topic

SOURCES = {"trainyard/dispatcher", "trainyard/trainer-worker", "trainyard/submitter"}
"""Who is held to the contracts; tests publish poison and forgeries under other names, or none."""

TAPPED = (TopicName.RUNS_REQUESTED, TopicName.RUNS_LIFECYCLE, TopicName.RUNS_HEARTBEATS, TopicName.RUNS_COMPLETED)
MOST_PER_TYPE = 500
"""Records of one type that are also held to the JSON Schema (0.5 ms each); the code reads every one."""

_VALIDATORS = {path: jsonschema.Draft202012Validator(schema) for path, schema in json_schemas().items()}


@dataclass(slots=True)
class Found:
    """What a tap saw: how many records of each event type, and a sentence per broken one."""

    seen: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def tap(bootstrap: str) -> Found:
    """Read every run topic under every prefix to its end."""
    found = Found()
    for name, record in _records(bootstrap):
        document = _document(record.value)
        if document is None or document.get("source") not in SOURCES:
            continue
        short = str(document.get("type", "")).removeprefix("trainyard.")
        found.seen[short] += 1
        problem = _problem(name, short, document, record, schema_too=found.seen[short] <= MOST_PER_TYPE)
        if problem:
            found.broken.append(f"{record.topic}-{record.partition}@{record.offset} {short}: {problem}")
    return found


def _records(bootstrap: str) -> Iterator[tuple[TopicName, Record]]:
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "tap",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })  # fmt: skip
    try:
        wanted = {
            (full, partition): name
            for full, found in consumer.list_topics(timeout=30).topics.items()
            for name in TAPPED
            if full.endswith(name.value)
            for partition in found.partitions
        }
        consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in wanted])
        unread = set(wanted)
        while unread:
            message = consumer.poll(30)
            assert message is not None, f"the broker has been silent for 30 s; unread: {sorted(unread)[:3]}"
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            error = message.error()
            if error is None:
                headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
                record = Record(topic, partition, offset, 0, message.key(), message.value(), tuple(headers))
                yield wanted[topic, partition], record
            else:
                assert error.code() == KafkaError._PARTITION_EOF, str(error)
                unread.discard((topic, partition))
    finally:
        consumer.close()


def _document(value: bytes | None) -> dict[str, Any] | None:
    try:
        document = json.loads(value or b"")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _problem(name: TopicName, short: str, document: dict[str, Any], record: Any, *, schema_too: bool) -> str | None:
    if short not in {event_type.short for event_type in topic(name).event_types}:
        return "is no event of this topic"
    if schema_too:
        version = document["data"].get("schema_version", 1)
        validator = _VALIDATORS.get(f"{short}/{version}.json")
        if validator is None:
            return f"there is no schema of its version {version}"
        for error in validator.iter_errors(document["data"]):
            return f"{error.json_path}: {error.message[:200]}"
    if name is TopicName.RUNS_REQUESTED:
        return None
    try:
        event = decode_event(record.value, record.headers)
    except ContractError as error:
        return str(error)
    run_id = event.fact.run_id
    if record.key != run_id.encode():
        return "its key is not its run_id"
    if record.partition != ids.partition_of(run_id, RUN_PARTITIONS):
        return "it is not on its run's partition"
    if event.id != ids.event_id(event.type, run_id, *event.fact.key()):
        return "its id is not its natural one"
    if json.loads(encode_event(event)[0]) != document:
        return "it is not written back as it was read"
    return None


if __name__ == "__main__":
    result = tap(sys.argv[1])
    print(json.dumps({"seen": dict(sorted(result.seen.items())), "broken": result.broken}, indent=2))
    sys.exit(1 if result.broken else 0)
