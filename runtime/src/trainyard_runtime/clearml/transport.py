"""One call to ClearML's API over HTTP: authentication, envelope, and the certainty of its outcome.

Every call opens its own connection. The server closes each one anyway, and a fresh one makes a refused connection a
certain "not executed", where a stale kept-alive one would leave the outcome unknown.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import httpx2

from trainyard_runtime.clearml.errors import ClearMLRefused, ClearMLUnavailable, ClearMLUnknownOutcome
from trainyard_runtime.clearml.settings import ClearMLSettings

READ_ATTEMPTS: Final = 3
"""A read is sent at most this often in all."""

READ_BACKOFF_S: Final = (0.1, 0.5)
"""Pauses between the attempts of a read."""

LOGIN: Final = "auth.login"

NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)

JSON: Final = "application/json"
JSON_LINES: Final = "application/json-lines"


class Transport:
    """Authenticated calls to one server. An async context manager; not bound to a loop until entered.

    Guarantees: an effect is sent once, except after a 401, which says that it was not executed; the token is renewed
    before it expires and once per call on a 401; no secret appears in an error.
    """

    def __init__(self, settings: ClearMLSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._token = ""
        self._renew_at = 0.0
        self._login_lock = asyncio.Lock()
        self._http: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx2.AsyncClient(
            http1=True,
            http2=False,
            timeout=httpx2.Timeout(self._settings.timeout_s, connect=self._settings.connect_timeout_s),
            headers={"Connection": "close"},
            limits=httpx2.Limits(max_connections=32, max_keepalive_connections=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    @property
    def http(self) -> httpx2.AsyncClient:
        """The HTTP client; raises RuntimeError outside `async with`."""
        if self._http is None:
            raise RuntimeError("the ClearML client is used outside of its `async with` block")
        return self._http

    @property
    def settings(self) -> ClearMLSettings:
        """The settings this transport was built with."""
        return self._settings

    async def effect(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a call that changes something, once, and return its `data`. Errors: all three of errors.py."""
        return await self._authenticated(action, _encode(body), JSON)

    async def effect_lines(self, action: str, lines: bytes) -> dict[str, Any]:
        """Send a batch as JSON lines, once, and return the answer's `data`."""
        return await self._authenticated(action, lines, JSON_LINES)

    async def read(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a call that changes nothing, up to `READ_ATTEMPTS` times within `timeout_s`, and return its `data`.

        Errors: `ClearMLRefused`, or `ClearMLUnavailable` for everything that got no usable answer.
        """
        content = _encode(body)
        give_up_at = self._monotonic() + self._settings.timeout_s
        for pause_s in (*READ_BACKOFF_S, None):
            try:
                return await self._authenticated(action, content, JSON)
            except (ClearMLUnavailable, ClearMLUnknownOutcome) as problem:
                if pause_s is None or self._monotonic() >= give_up_at:
                    raise ClearMLUnavailable(action, f"no usable answer: {problem}") from problem
                await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def token(self, *, refused: str = "") -> str:
        """A bearer token that is good for a while; a new one if the present one is `refused` or about to expire.

        Errors: `ClearMLRefused` for bad credentials, else `ClearMLUnavailable`.
        """
        async with self._login_lock:
            if not self._token or self._token == refused or self._monotonic() >= self._renew_at:
                await self._login()
            return self._token

    async def _login(self) -> None:
        settings = self._settings
        if not settings.access_key or not settings.secret_key.get_secret_value():
            raise ClearMLRefused(
                LOGIN, 401, 20, "no credentials: set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"
            )
        pair = f"{settings.access_key}:{settings.secret_key.get_secret_value()}".encode()
        sent_at = self._monotonic()
        try:
            data = await self._send(LOGIN, b"{}", JSON, "Basic " + base64.b64encode(pair).decode("ascii"))
        except ClearMLUnknownOutcome as problem:
            raise ClearMLUnavailable(LOGIN, f"could not log in: {problem}") from problem
        token = data.get("token")
        if not isinstance(token, str) or not token:
            raise ClearMLUnavailable(LOGIN, "the answer holds no token")
        self._token = token
        self._renew_at = sent_at + 0.8 * token_lifetime_s(token)

    async def _authenticated(self, action: str, content: bytes, content_type: str) -> dict[str, Any]:
        token = await self.token()
        try:
            return await self._send(action, content, content_type, f"Bearer {token}")
        except ClearMLRefused as refusal:
            if refusal.code != 401:
                raise
        token = await self.token(refused=token)
        return await self._send(action, content, content_type, f"Bearer {token}")

    async def _send(self, action: str, content: bytes, content_type: str, authorization: str) -> dict[str, Any]:
        url = f"{self._settings.api_host}/{action}"
        headers = {"Content-Type": content_type, "Authorization": authorization}
        try:
            response = await self.http.post(url, content=content, headers=headers)
        except NEVER_SENT as problem:
            raise ClearMLUnavailable(
                action, f"cannot reach {self._settings.api_host} ({describe(problem)})"
            ) from problem
        except httpx2.HTTPError as problem:
            raise ClearMLUnknownOutcome(action, f"the answer was lost ({describe(problem)})") from problem
        return read_envelope(action, response.status_code, response.content)


def describe(problem: Exception) -> str:
    """The error's kind, and its sentence where it has one."""
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


def read_envelope(action: str, status: int, content: bytes) -> dict[str, Any]:
    """The `data` of ClearML's answer.

    Errors: `ClearMLRefused` for an error envelope (and any 401), `ClearMLUnknownOutcome` for 429, 5xx other than an
    enveloped 501, and whatever is no envelope.
    """
    try:
        answer = json.loads(content)
        meta = answer["meta"]
        code, subcode, msg = int(meta["result_code"]), int(meta["result_subcode"] or 0), str(meta["result_msg"])
        data = answer.get("data") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        if status == 401:
            raise ClearMLRefused(action, 401, 0, "unauthorised") from None
        raise ClearMLUnknownOutcome(action, f"HTTP {status} with an answer that is not ClearML's") from None
    if status == 200 and code == 200:
        if not isinstance(data, dict):
            raise ClearMLUnknownOutcome(action, "the answer's data is not an object")
        return data
    if (400 <= code < 500 and code != 429) or code == 501:
        raise ClearMLRefused(action, code, subcode, msg)
    raise ClearMLUnknownOutcome(action, f"HTTP {status}, {code}/{subcode}: {msg}")


def token_lifetime_s(token: str) -> float:
    """Seconds between a JWT's `iat` and `exp` by the server's own clock; 3,600 if it does not say."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return max(1.0, float(claims["exp"]) - float(claims["iat"]))
    except (ValueError, KeyError, IndexError, TypeError, binascii.Error):
        return 3600.0


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
