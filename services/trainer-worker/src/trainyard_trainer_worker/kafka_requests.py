"""The protocol's `Requests`: a user's clone becomes a request on `runs.requested`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.envelope import encode_structured
from trainyard_schemas.ids import partition_of
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_schemas.vocabulary import EventType

DATASCHEMA = "urn:trainyard:schema:run.requested:2"


class KafkaRequests:
    """Publishes as any other system would."""

    def __init__(self, settings: KafkaSettings, writer: LogWriter) -> None:
        self._topic = settings.topic(TopicName.RUNS_REQUESTED)
        self._writer = writer

    async def ask(self, source: str, event_id: str, request: Mapping[str, Any]) -> None:
        """See ports.Requests."""
        value, headers = encode_structured(
            id=event_id,
            source=source,
            type=EventType.RUN_REQUESTED.value,
            subject=event_id,
            time=time.time(),
            dataschema=DATASCHEMA,
            data=request,
        )
        await self._writer.append(
            self._topic,
            partition=partition_of(event_id, RUN_PARTITIONS),
            key=event_id.encode(),
            value=value,
            headers=headers,
        )
