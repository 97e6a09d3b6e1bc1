"""The one facade over ClearML's REST API that services use."""

from __future__ import annotations

from typing import Self

from trainyard_runtime.clearml.files import FileCalls
from trainyard_runtime.clearml.models import EventCalls, ModelCalls
from trainyard_runtime.clearml.queues import QueueCalls, WorkerCalls
from trainyard_runtime.clearml.settings import ClearMLSettings
from trainyard_runtime.clearml.tasks import TaskCalls
from trainyard_runtime.clearml.transport import Transport


class ClearMLClient(TaskCalls, QueueCalls, WorkerCalls, ModelCalls, EventCalls, FileCalls):
    """`async with ClearMLClient(ClearMLSettings()) as clearml: await clearml.queues()`.

    Nothing is sent before the first call. Effects are sent once and never retried; reads up to three times. Every
    failure is a `ClearMLError` (errors.py). May be used by many coroutines of one event loop at a time.
    """

    def __init__(self, settings: ClearMLSettings, *, transport: Transport | None = None) -> None:
        super().__init__(transport or Transport(settings))

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__(*_)

    async def ping(self) -> None:
        """Check that the server answers and takes our credentials. Errors: `ClearMLRefused`, `ClearMLUnavailable`."""
        await self._transport.token()
        await self._transport.read("debug.ping", {})
