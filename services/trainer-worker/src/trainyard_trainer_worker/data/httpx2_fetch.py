"""Files from web addresses, with httpx2: every host is resolved once, judged, and connected to by that address.

Redirects are followed by hand, and each hop is judged like the first. No proxy, no cookie, no credential and no
compression is used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urljoin

import httpx2

from trainyard_trainer_worker.data import addresses
from trainyard_trainer_worker.data.addresses import AddressRefused, PrivateHosts, WebAddress
from trainyard_trainer_worker.data.ports import Body, Resolve, TryAgain
from trainyard_trainer_worker.spec import AttemptError, Detail, dataset_unreachable, invalid_dataset

MAX_REDIRECTS: Final = 5
MAX_ADDRESSES: Final = 4
CONNECT_TIMEOUT_S: Final = 10.0
CHUNK_BYTES: Final = 1 << 20
MAX_LOCATION_CHARS: Final = 8_192
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The addresses that the system's resolver gives. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class WebFetch:
    """Opens files at http and https addresses. Nothing is sent to an address that is not public or allowed by name."""

    def __init__(
        self,
        private_hosts: PrivateHosts,
        *,
        stall_timeout_s: float,
        resolve: Resolve = resolve_by_system,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._private_hosts = private_hosts
        self._resolve = resolve
        self._timeout = httpx2.Timeout(stall_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._tls = tls

    @asynccontextmanager
    async def open(self, address: WebAddress, validator: str | None = None) -> AsyncIterator[Body | None]:
        """See ports.Opened. Raises AttemptError, TryAgain where trying again may help."""
        verify = self._tls or httpx2.create_ssl_context()
        async with httpx2.AsyncClient(verify=verify, trust_env=False, timeout=self._timeout) as client:
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._get(client, address, validator)
                try:
                    if response.status_code in _REDIRECTS:
                        address = _next(address, response.headers.get("location", ""))
                        continue
                    if response.status_code == 304 and validator:
                        yield None
                        return
                    _check(response, address)
                    yield _body(response, address)
                    return
                finally:
                    await response.aclose()
        raise dataset_unreachable(
            Detail.CONNECTION_FAILED, f"{address.location}: more than {MAX_REDIRECTS} redirects; give the final address"
        )

    async def _get(self, client: httpx2.AsyncClient, address: WebAddress, validator: str | None) -> httpx2.Response:
        headers = {"Host": address.host_header, "Accept": "text/csv, */*", "Accept-Encoding": "identity"}
        if validator:
            headers["If-None-Match"] = validator
        failed = "no address"
        for ip in (await self._addresses(address))[:MAX_ADDRESSES]:
            shown = f"[{ip}]" if ":" in ip else ip
            request = client.build_request(
                "GET",
                f"{address.scheme}://{shown}:{address.port}{address.target}",
                headers=headers,
                extensions={"sni_hostname": address.host},
            )
            try:
                return await client.send(request, stream=True, follow_redirects=False)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as problem:
                failed = _told(problem)
            except httpx2.HTTPError as problem:
                raise TryAgain(Detail.CONNECTION_FAILED, f"{address.location}: {_told(problem)}") from problem
        raise TryAgain(Detail.CONNECTION_FAILED, f"{address.location} cannot be reached ({failed})")

    async def _addresses(self, address: WebAddress) -> Sequence[str]:
        """The addresses to connect to. One that is not public refuses the host, whatever the others are."""
        allowed = self._private_hosts.allow(address.host, address.port)
        if addresses.literal(address.host) is not None:
            found: Sequence[str] = [address.host]
        else:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    found = await self._resolve(address.host, address.port)
            except (OSError, UnicodeError) as problem:  # TimeoutError is an OSError
                raise TryAgain(
                    Detail.HOST_UNKNOWN, f"{address.location}: the host's name has no address here; check its spelling"
                ) from problem
        for ip in found:
            literal = addresses.literal(ip.partition("%")[0])
            why = "not an address" if literal is None else addresses.refusal(literal)
            if why is not None and not allowed:
                raise dataset_unreachable(
                    Detail.ADDRESS_NOT_ALLOWED,
                    f"{address.location}: the host's address is {why}; data is fetched from public addresses and from "
                    "hosts that the operator names in TRAINYARD_DATA_PRIVATE_HOSTS",
                )
        return found


def _next(address: WebAddress, location: str) -> WebAddress:
    if not location or len(location) > MAX_LOCATION_CHARS:
        raise dataset_unreachable(Detail.SERVER_ERROR, f"{address.location}: a redirect without a usable address")
    try:
        following = addresses.web_address(urljoin(address.url, location))
    except (AddressRefused, ValueError) as refused:
        said = str(refused) if isinstance(refused, AddressRefused) else "is no valid URL"
        raise dataset_unreachable(
            Detail.ADDRESS_NOT_ALLOWED, f"{address.location}: redirects to an address that {said}"
        ) from None
    if address.scheme == "https" and following.scheme != "https":
        raise dataset_unreachable(
            Detail.ADDRESS_NOT_ALLOWED,
            f"{address.location}: redirects from https to http, where anybody could change it",
        )
    return following


def _check(response: httpx2.Response, address: WebAddress) -> None:
    status = response.status_code
    if status == 200:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise invalid_dataset(
                Detail.NOT_CSV,
                f"{address.location}: the server sends it compressed though asked not to; give plain CSV",
            )
        return
    raise refused_status(status, address.location)


def refused_status(status: int, location: str) -> AttemptError:
    """What an HTTP status other than success means for the data."""
    if status in (401, 403):
        return dataset_unreachable(
            Detail.ACCESS_DENIED, f"{location}: the server answered {status}; the worker may not read it"
        )
    if status in (404, 410):
        return dataset_unreachable(Detail.FILE_MISSING, f"{location}: the server answered {status}; nothing is there")
    if status == 429 or status >= 500:
        return TryAgain(Detail.SERVER_ERROR, f"{location}: the server answered {status}")
    return dataset_unreachable(Detail.SERVER_ERROR, f"{location}: the server answered {status} instead of the file")


def _body(response: httpx2.Response, address: WebAddress) -> Body:
    length, tag = response.headers.get("content-length", ""), response.headers.get("etag", "")
    return Body(
        _chunks(response, address),
        int(length) if length.isascii() and length.isdigit() else None,
        tag if tag.startswith('"') and len(tag) <= 200 else None,
    )


async def _chunks(response: httpx2.Response, address: WebAddress) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw(CHUNK_BYTES):
            yield chunk
    except httpx2.HTTPError as problem:
        raise TryAgain(Detail.CONNECTION_FAILED, f"{address.location}: {_told(problem)}") from problem


def _told(problem: Exception) -> str:
    """The kind of failure: its sentence could hold the address with a redirect's signature."""
    if isinstance(problem, httpx2.TimeoutException):
        return "it took too long"
    if "CERTIFICATE_VERIFY_FAILED" in str(problem):
        return "its certificate is not valid"
    return f"the connection failed: {type(problem).__name__}"
