"""The base of the facade's parts."""

from __future__ import annotations

from trainyard_runtime.clearml.transport import Transport


class Calls:
    """Calls that share one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
