"""A caller that is cancelled while it waits for an acknowledgement must end: a swallowed cancellation hangs it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from trainyard_runtime.kafka.async_log import LogWriter
from trainyard_runtime.kafka.records import AppendUnknown
from trainyard_runtime.kafka.settings import KafkaSettings


class Producer:
    """Takes every record and never acknowledges one."""

    def __init__(self) -> None:
        self.deliveries: list[asyncio.Future[Any]] = []
        self.sent = asyncio.Event()

    async def send(self, topic: str, **record: Any) -> asyncio.Future[Any]:
        self.deliveries.append(asyncio.get_running_loop().create_future())
        self.sent.set()
        return self.deliveries[-1]

    async def stop(self) -> None:
        for delivery in self.deliveries:
            if not delivery.done():
                delivery.set_exception(TimeoutError("stopped"))


def test_a_cancelled_append_is_cancelled_and_leaves_the_delivery_alone() -> None:
    async def run() -> None:
        writer, producer = LogWriter(KafkaSettings(bootstrap="127.0.0.1:1")), Producer()
        writer._producer = producer
        appending = asyncio.create_task(writer.append("t", partition=0, key=None, value=b"x"))
        await producer.sent.wait()
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
        assert not producer.deliveries[0].cancelled()
        await writer.stop()

    asyncio.run(run())


def test_an_acknowledgement_that_does_not_come_is_an_unknown_append() -> None:
    async def run() -> None:
        writer, producer = LogWriter(KafkaSettings(bootstrap="127.0.0.1:1"), timeout_ms=20), Producer()
        writer._producer = producer
        with pytest.raises(AppendUnknown):
            await writer.append("t", partition=0, key=None, value=b"x")
        await writer.stop()

    asyncio.run(run())
