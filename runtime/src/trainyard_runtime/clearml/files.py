"""The file server: upload, download, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import httpx2

from trainyard_runtime.clearml.calls import Calls
from trainyard_runtime.clearml.errors import ClearMLRefused, ClearMLUnavailable, ClearMLUnknownOutcome
from trainyard_runtime.clearml.transport import NEVER_SENT, describe

CHUNK_BYTES = 1 << 20
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""Compressed on the way, a file would have another length and could be a bomb."""


class FileCalls(Calls):
    """Files under `settings.files_host`, named by a path such as `project/run.task/models/model.zip`."""

    async def upload_file(self, path: str, content: bytes | BinaryIO) -> str:
        """Store bytes, or the whole of a seekable stream, under `path` and return its URL. Overwrites.

        Errors: `ClearMLRefused`, `ClearMLUnavailable`, `ClearMLUnknownOutcome` (repeating is harmless: same path).
        """
        name = path.strip("/")

        async def post(headers: dict[str, str]) -> httpx2.Response:
            return await self._transport.http.post(
                f"{self._files_host}/",
                files={name: (name, content, "application/octet-stream")},
                headers=headers,
                timeout=self._transfer_timeout,
            )

        response = await self._authorised("files.upload", post)
        self._check("files.upload", response.status_code, name)
        return self.file_url(name)

    async def download_file(self, url: str, target: Path) -> int:
        """Write the file at `url` to `target` and return its size in bytes. On an error `target` may be incomplete.

        Errors: those of `open_file`.
        """
        size = 0
        async with self.open_file(url) as (_, chunks):
            with target.open("wb") as out:
                async for chunk in chunks:
                    out.write(chunk)
                    size += len(chunk)
        return size

    async def read_file(self, url: str) -> bytes:
        """The content of a small file."""
        async with self.open_file(url) as (_, chunks):
            return b"".join([chunk async for chunk in chunks])

    async def file_size(self, path: str) -> int | None:
        """Size in bytes of the file under `path`; None if there is none. Errors: as `open_file`."""
        url = self.file_url(path)

        async def head(headers: dict[str, str]) -> httpx2.Response:
            return await self._transport.http.head(url, headers={**headers, **_AS_IT_IS})

        try:
            response = await self._authorised("files.head", head)
            if response.status_code == 404:
                return None
            self._check("files.head", response.status_code, path)
        except ClearMLUnknownOutcome as problem:
            raise ClearMLUnavailable("files.head", f"{url}: {problem}") from problem
        return _length(response) or 0

    @asynccontextmanager
    async def open_file(self, url: str) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        """The file at `url`: its size in bytes, where the server says it, and its bytes as they are stored.

        Our credentials go to the configured file server only. Errors, also while reading: `ClearMLRefused` (404: no
        such file), `ClearMLUnavailable`.
        """
        ours = _origin(url) == _origin(self._files_host)
        token = await self._transport.token() if ours else ""
        try:
            for attempt in ("first", "after a new login"):
                headers = {"Authorization": f"Bearer {token}", **_AS_IT_IS} if ours else _AS_IT_IS
                async with self._transport.http.stream(
                    "GET", url, headers=headers, timeout=self._transfer_timeout
                ) as response:
                    if response.status_code == 401 and ours and attempt == "first":
                        token = await self._transport.token(refused=token)
                        continue
                    self._check("files.download", response.status_code, url)
                    yield _length(response), _told(url, response.aiter_raw(CHUNK_BYTES))
                    return
        except httpx2.HTTPError as problem:
            raise ClearMLUnavailable("files.download", f"{url}: {describe(problem)}") from problem
        except ClearMLUnknownOutcome as problem:
            raise ClearMLUnavailable("files.download", f"{url}: {problem}") from problem

    async def delete_file(self, url: str) -> None:
        """Delete a file. Errors: `ClearMLRefused` (404: no such file)."""

        async def delete(headers: dict[str, str]) -> httpx2.Response:
            return await self._transport.http.delete(url, headers=headers)

        self._check("files.delete", (await self._authorised("files.delete", delete)).status_code, url)

    def file_url(self, path: str) -> str:
        """The URL under which the file server serves `path`."""
        return f"{self._files_host}/{quote(path.strip('/'))}"

    @property
    def _files_host(self) -> str:
        return self._transport.settings.files_host

    @property
    def _transfer_timeout(self) -> httpx2.Timeout:
        settings = self._transport.settings
        return httpx2.Timeout(settings.transfer_timeout_s, connect=settings.connect_timeout_s)

    async def _authorised(
        self, action: str, send: Callable[[dict[str, str]], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        token = await self._transport.token()
        try:
            response = await send({"Authorization": f"Bearer {token}"})
            if response.status_code == 401:
                token = await self._transport.token(refused=token)
                response = await send({"Authorization": f"Bearer {token}"})
        except NEVER_SENT as problem:
            raise ClearMLUnavailable(action, f"cannot reach {self._files_host} ({describe(problem)})") from problem
        except httpx2.HTTPError as problem:
            raise ClearMLUnknownOutcome(action, f"the answer was lost ({describe(problem)})") from problem
        return response

    @staticmethod
    def _check(action: str, status: int, name: str) -> None:
        if status in (200, 206):
            return
        if 400 <= status < 500 and status != 429:
            raise ClearMLRefused(action, status, 0, f"the file server refused {name}")
        raise ClearMLUnknownOutcome(action, f"the file server answered {status} for {name}")


def _origin(url: str) -> tuple[str, str, int | None]:
    """What credentials are bound to. A URL that cannot be read has an origin of its own."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url, "", None
    host = "" if "@" in parts.netloc else parts.hostname or ""
    return parts.scheme, host, port


def _length(response: httpx2.Response) -> int | None:
    said = response.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() else None


async def _told(url: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except httpx2.HTTPError as problem:
        raise ClearMLUnavailable("files.download", f"{url}: {describe(problem)}") from problem
