"""HTTP by uvicorn, without its clock: its main loop wakes ten times a second for nothing that is used here."""

from __future__ import annotations

import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

GRACE_S: Final = 1


class HttpServer:
    """Serves an application on a socket that listens, from `start` to `stop`."""

    def __init__(self, application: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            application,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._listener = listener

    async def start(self) -> None:
        """Answer requests."""
        await self._server.startup(sockets=[self._listener])

    async def stop(self) -> None:
        """Answer those that have begun, within `GRACE_S`, and close."""
        await self._server.shutdown(sockets=[self._listener])
