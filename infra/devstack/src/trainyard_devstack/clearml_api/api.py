"""The API server's HTTP edge: path, body, authentication, dispatch, envelope. A plain ASGI application."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog

from trainyard_devstack.clearml_api import delay
from trainyard_devstack.clearml_api.auth import API_VERSION, Authenticator
from trainyard_devstack.clearml_api.call import Call, Handler, new_id
from trainyard_devstack.clearml_api.catalogue import KNOWN_CALLS
from trainyard_devstack.clearml_api.errors import ApiError, bad_field
from trainyard_devstack.clearml_api.store import Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH: Final = re.compile(r"^/(?:v(?P<version>\d+(?:\.\d+)?)/)?(?P<name>[a-zA-Z_]\w*\.[a-zA-Z_]\w*)/?$")
LOGIN: Final = "auth.login"
PING: Final = "debug.ping"
BATCHES: Final = frozenset({"events.add_batch"})

log = structlog.get_logger()


class ApiApp:
    """Calls run one after the other, each in one transaction; the transaction is rolled back on a refusal."""

    def __init__(
        self,
        store: Store,
        authenticator: Authenticator,
        calls: Mapping[str, Handler],
        *,
        real_delays: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._calls = calls
        self._real_delays = real_delays
        self._clock = clock
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = await read_body(receive)
        if content is None:
            return
        if self._real_delays:
            async with self._turn:
                started = time.perf_counter()
                status, answer, wanted_s = self._answer(scope, content)
                await asyncio.sleep(max(0.0, wanted_s - (time.perf_counter() - started)))
        else:
            status, answer, _ = self._answer(scope, content)
        await send_json(send, status, answer)

    def _answer(self, scope: Scope, content: bytes) -> tuple[int, dict[str, Any], float]:
        path = PATH.match(scope["path"])
        name = path["name"] if path else ""
        version = (path and path["version"]) or API_VERSION
        wanted_s = 0.0
        try:
            if path is None:
                raise ApiError(400, 0, f"Invalid request path {scope['path']}")
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            body, lines = parse_body(name, content, scope["query_string"])
            if self._real_delays:
                queue = body.get("queue")
                wanted_s = delay.call_ms(name, self._store.length(queue) if isinstance(queue, str) else 0) / 1000
            data = self._execute(name, headers, body, lines)
        except ApiError as error:
            log.debug("refused", action=name, code=error.code, subcode=error.subcode, reason=error.msg)
            envelope = self._envelope(name, version, error.code, error.subcode, error.msg, error.data, {})
            return error.code, envelope, wanted_s
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, sqlite3.Error) as problem:
            log.exception("a handler failed", action=name)
            msg = f"General error ({type(problem).__name__})"
            return 500, self._envelope(name, version, 500, 100, msg, {}, {}), wanted_s
        return 200, self._envelope(name, version, 200, 0, "OK", {}, data), wanted_s

    def _execute(self, name: str, headers: Mapping[str, str], body: dict[str, Any], lines: list[Any]) -> dict[str, Any]:
        now_s = self._clock()
        if name == PING:
            return {"msg": "ClearML-compatible API server of Trainyard"}
        if name not in self._calls and name not in KNOWN_CALLS:
            raise ApiError(404, 0, f"Unable to find endpoint for name {name} and version {API_VERSION}")
        if name == LOGIN:
            lifetime_s = body.get("expiration_sec")
            asked = lifetime_s if isinstance(lifetime_s, int) and lifetime_s > 0 else None
            return {"token": self._authenticator.login(headers, now_s, asked)}
        self._authenticator.check(headers, now_s)
        handler = self._calls.get(name)
        if handler is None:
            raise ApiError(501, 0, f"{name} is not implemented by this development server")
        with self._store.transaction():
            return handler(Call(self._store, datetime.fromtimestamp(now_s, UTC), body, lines))

    @staticmethod
    def _envelope(
        name: str, version: str, code: int, subcode: int, msg: str, error_data: Any, data: Any
    ) -> dict[str, Any]:
        call_id = new_id()
        return {
            "meta": {
                "id": call_id,
                "trx": call_id,
                "endpoint": {"name": name, "requested_version": version, "actual_version": API_VERSION},
                "result_code": code,
                "result_subcode": subcode,
                "result_msg": msg,
                "error_stack": None,
                "error_data": error_data,
            },
            "data": data,
        }


def parse_body(name: str, content: bytes, query_string: bytes) -> tuple[dict[str, Any], list[Any]]:
    """The body as an object (query parameters are defaults) and, for a batch, its lines. Errors: 400/12."""
    defaults: dict[str, Any] = dict(parse_qsl(query_string.decode("latin-1")))
    try:
        if name in BATCHES:
            return defaults, [json.loads(line) for line in content.splitlines() if line.strip()]
        body = json.loads(content) if content.strip() else {}
    except ValueError:
        raise bad_field("body", "not JSON") from None
    if not isinstance(body, dict):
        raise bad_field("body", "expected an object")
    return {**defaults, **body}, []


async def read_body(receive: Receive) -> bytes | None:
    """The whole body, or None if the client left before sending it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_json(send: Send, status: int, value: Any) -> None:
    """Answer with JSON and close the connection: kept alive, it breaks the SDK's forked reporter now and then."""
    content = json.dumps(value, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
