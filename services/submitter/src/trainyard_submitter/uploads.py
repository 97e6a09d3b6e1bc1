"""Put a local data file where workers find it: on ClearML's file server, under a path made of its SHA-256.

from trainyard_submitter.uploads import upload_file

uploaded = upload_file("my.csv")
request = {"dataset": {"type": "tabular", "uri": uploaded.uri, "label": "y"}, ...}

The same content has the same path, so it is sent once, whoever has it. Needs the extra `uploads`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END, SEEK_SET, FileIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused, ClearMLSettings
from trainyard_runtime.settings import read_settings
from trainyard_schemas.content_address import content_path
from trainyard_submitter.errors import FileUnusable, NotAllowed, Unavailable

if TYPE_CHECKING:
    from typing_extensions import Buffer

READ_BYTES: Final = 1 << 20
ATTEMPTS: Final = 3
BACKOFF_S: Final = (0.5, 2.0)

OnProgress = Callable[[int, int], None]
"""Called with the bytes sent so far and the size of the file, in the thread that uploads."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file on the file server. `sent` is False where the same content was there already."""

    uri: str
    sha256: str
    size_bytes: int
    sent: bool


def upload_file(
    path: str | os.PathLike[str], *, clearml: ClearMLSettings | None = None, on_progress: OnProgress | None = None
) -> Uploaded:
    """`upload` for programs without an event loop; `clearml` is read from the environment unless given.

    Errors: those of `upload`, and the runtime's ConfigurationError for variables that are wrong.
    """
    settings = clearml or read_settings(ClearMLSettings)

    async def act() -> Uploaded:
        async with ClearMLClient(settings) as client:
            return await upload(client, path, on_progress=on_progress)

    return asyncio.run(act())


async def upload(
    client: ClearMLClient, path: str | os.PathLike[str], *, on_progress: OnProgress | None = None
) -> Uploaded:
    """Send the file, unless its content is there already, and return its address.

    Repeating it is harmless. Memory stays small, whatever the size. Errors: FileUnusable (no such file, it is no
    plain file, it changed meanwhile), NotAllowed (the credentials), Unavailable (the file server does not answer).
    """
    try:
        with await asyncio.to_thread(_opened, Path(path)) as file:
            sha256 = await asyncio.to_thread(_sha256, file)
            sending = _Sending(file, os.fstat(file.fileno()).st_size, on_progress)
            return await _store(client, sending, sha256)
    except OSError as problem:
        raise FileUnusable(f"{path} cannot be read: {problem.strerror}") from problem
    except ClearMLRefused as refused:
        raise NotAllowed(
            f"ClearML's file server refuses the upload ({refused.code}); check CLEARML_API_ACCESS_KEY and "
            "CLEARML_API_SECRET_KEY"
        ) from refused
    except ClearMLError as problem:
        raise Unavailable(
            f"ClearML does not take the upload; check CLEARML_API_HOST and CLEARML_FILES_HOST: {problem}"
        ) from problem


class _Sending(RawIOBase):
    """The file as it goes out: as many bytes as it had at first, hashed and told on the way, again after a rewind."""

    def __init__(self, file: RawIOBase, size: int, on_progress: OnProgress | None) -> None:
        self._file = file
        self._on_progress = on_progress
        self.size = size
        self._hash, self._at = hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """Of what was sent since the last rewind."""
        return self._hash.hexdigest()

    def told(self, at: int) -> None:
        """Say how far it is."""
        if self._on_progress is not None:
            self._on_progress(at, self.size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)[: self.size - self._at]
        read = self._file.readinto(view) or 0 if view else 0
        if view and not read:
            raise FileUnusable("the file became shorter while it was sent; try again when nobody writes to it")
        self._hash.update(view[:read])
        self._at += read
        self.told(self._at)
        return read

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """To the start (a rewind) or the end (how long it is), nowhere else."""
        self._at = {SEEK_SET: 0, SEEK_END: self.size}[whence] + offset
        self._file.seek(self._at)
        self._hash = hashlib.sha256()
        return self._at

    def tell(self) -> int:
        return self._at


def _opened(path: Path) -> FileIO:
    if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
        raise FileUnusable(f"{path} is no plain file; give a CSV file")
    return path.open("rb", buffering=0)


def _sha256(file: RawIOBase) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(READ_BYTES):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


async def _store(client: ClearMLClient, sending: _Sending, sha256: str) -> Uploaded:
    path = content_path(sha256)
    if await client.file_size(path) == sending.size:
        sending.told(sending.size)
        return Uploaded(client.file_url(path), sha256, sending.size, sent=False)
    uri = await _send(client, path, sending)
    if sending.sha256 != sha256:
        await client.delete_file(uri)
        raise FileUnusable("the file changed while it was sent; try again when nobody writes to it")
    return Uploaded(uri, sha256, sending.size, sent=True)


async def _send(client: ClearMLClient, path: str, sending: _Sending) -> str:
    for attempt in range(ATTEMPTS):
        try:
            return await client.upload_file(path, cast(BinaryIO, sending))
        except ClearMLRefused:
            raise
        except ClearMLError:  # same path, same bytes: sending again is harmless
            if attempt + 1 == ATTEMPTS:
                raise
            await asyncio.sleep(BACKOFF_S[attempt])
    raise AssertionError("unreachable: the last attempt returns or raises")
