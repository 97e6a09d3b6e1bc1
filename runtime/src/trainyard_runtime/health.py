"""The small HTTP pages of a service: `/` what it is, `/healthz` alive, `/readyz` can work, `/metrics` for Prometheus.

Standard library only; GET and HEAD, one request per connection, bounded in time and size.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from trainyard_runtime.settings import ConfigurationError

REQUEST_TIMEOUT_S = 5.0
MAX_REQUEST_BYTES = 16 * 1024
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TEXT = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_JSON = "application/json"
_ACCEPTS_OPENMETRICS = re.compile(rb"\r\naccept:[^\r\n]*application/openmetrics-text", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service can really work now, and per check a word or a sentence on why not."""

    ready: bool
    checks: Mapping[str, str] = field(default_factory=dict)


class HealthServer:
    """Serves the pages from `start` to `stop`; the callbacks are called per request and must not block."""

    def __init__(
        self,
        service: str,
        host: str,
        port: int,
        *,
        readiness: Callable[[], Readiness],
        metrics: Callable[[], bytes],
        openmetrics: Callable[[], bytes] | None = None,
    ) -> None:
        """`openmetrics` gives the metrics to a client that asks for that format; without it all get `metrics`."""
        self._service = service
        self._host = host
        self._port = port
        self._readiness = readiness
        self._metrics = metrics
        self._openmetrics = openmetrics
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """`http://host:port` with the port that is really used. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("the health server has not been started")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises ConfigurationError where the host is none of this machine or the port cannot be had."""
        with _blamed(self._port):
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=MAX_REQUEST_BYTES)

    async def stop(self) -> None:
        """Stop listening; a page that is being sent is cut off."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return  # a client that sends no request, too large a one, or leaves is its own problem
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3 or parts[0] not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, _JSON, b'{"error":"only GET is served here"}\n')
        path = parts[1].split("?", 1)[0]
        if path == "/metrics" and self._openmetrics is not None and _ACCEPTS_OPENMETRICS.search(head):
            status, content_type, body = HTTPStatus.OK, OPENMETRICS_TEXT, self._openmetrics()
        else:
            status, content_type, body = self._page(path)
        return _response(status, content_type, body, without_body=parts[0] == "HEAD")

    def _page(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/healthz":
            return HTTPStatus.OK, _JSON, _json({"alive": True})
        if path == "/readyz":
            found = self._readiness()
            status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _JSON, _json({"ready": found.ready, "checks": dict(found.checks)})
        if path == "/metrics":
            return HTTPStatus.OK, PROMETHEUS_TEXT, self._metrics()
        if path == "/":
            return HTTPStatus.OK, _JSON, _json({"service": self._service, "pages": ["/healthz", "/readyz", "/metrics"]})
        return HTTPStatus.NOT_FOUND, _JSON, _json({"error": "no such page"})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, for a service that serves its pages otherwise. Raises ConfigurationError as `start`."""
    with _blamed(port):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0])


@contextmanager
def _blamed(port: int) -> Iterator[None]:
    """What keeps a service from listening, as a ConfigurationError that names the variable."""
    try:
        yield
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(
            f"TRAINYARD_HTTP_HOST cannot be resolved ({error}); give an address of this machine."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            sentence = "TRAINYARD_HTTP_HOST is no address of this machine; 127.0.0.1 always is."
        elif error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "is taken by another process" if error.errno == errno.EADDRINUSE else "needs more rights"
            sentence = f"TRAINYARD_HTTP_PORT {port} {why}; choose another one, or 0 for a free one."
        else:
            raise
        raise ConfigurationError(sentence) from error


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True).encode() + b"\n"


def _response(status: HTTPStatus, content_type: str, body: bytes, *, without_body: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if without_body else body)
