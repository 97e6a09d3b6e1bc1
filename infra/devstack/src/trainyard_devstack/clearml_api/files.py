"""The file server: multipart upload, download with ranges, delete. An ASGI application."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from trainyard_devstack.clearml_api.api import Receive, Scope, Send
from trainyard_devstack.clearml_api.auth import Authenticator
from trainyard_devstack.clearml_api.errors import ApiError

LONGEST_NAME_BYTES = 255


class FilesApp:
    """Files under one folder. A file appears whole or not at all; nothing outside the folder can be reached."""

    def __init__(self, root: Path, authenticator: Authenticator, *, clock: Callable[[], float] = time.time) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root.resolve()
        self._authenticator = authenticator
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ApiError as error:
            response = PlainTextResponse(error.msg, status_code=error.code)
        except ClientDisconnect:
            return
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.url.path
        if path == "/" and request.method in ("GET", "HEAD"):
            return PlainTextResponse("OK")
        try:
            self._authenticator.check(request.headers, self._clock(), basic=False)
        except ApiError:
            async for _ in request.stream():  # an answer before the body was read would reach the sender as a reset
                continue
            raise
        match request.method:
            case "POST" if path == "/":
                return await self._upload(request)
            case "GET" | "HEAD":
                found = self._existing(request)
                return FileResponse(found, media_type="application/octet-stream")
            case "DELETE":
                found = self._existing(request)
                found.unlink()
                self._prune(found.parent)
                return Response(status_code=200)
        raise ApiError(405, 0, f"{request.method} {path} is not possible")

    async def _upload(self, request: Request) -> Response:
        paths: list[str] = []
        async with request.form(max_files=1000) as form:
            for name, part in form.multi_items():
                if not isinstance(part, UploadFile):
                    raise ApiError(400, 0, f"{name} is not a file")
                await asyncio.to_thread(self._store, self._target(name), part.file)
                paths.append(name)
        if not paths:
            raise ApiError(400, 0, "no file in the request")
        return Response(json.dumps(paths), media_type="application/json")

    def _store(self, target: Path, source: BinaryIO) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._root, prefix=".upload-", delete=False) as partial:
            try:
                shutil.copyfileobj(source, partial, 1 << 20)
                partial.flush()
                Path(partial.name).replace(target)
            except OSError:
                Path(partial.name).unlink(missing_ok=True)
                raise

    def _target(self, name: str) -> Path:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or ".." in parts or "\0" in name or parts[0].startswith(".upload-"):
            raise ApiError(400, 0, f"not a path for a file: {name!r}")
        if any(len(os.fsencode(part)) > LONGEST_NAME_BYTES for part in parts):
            raise ApiError(400, 0, f"a part of the path is longer than {LONGEST_NAME_BYTES} bytes")
        target = self._root.joinpath(*parts)
        if target.is_dir() or any(parent.is_file() for parent in target.parents if parent != self._root):
            raise ApiError(400, 0, f"{name!r} is a folder or lies under a file")
        return target

    def _existing(self, request: Request) -> Path:
        try:
            target = self._target(request.scope["path"])
        except ApiError as error:
            raise ApiError(404, 0, error.msg) from error
        if not target.is_file():
            raise ApiError(404, 0, "no such file")
        return target

    def _prune(self, folder: Path) -> None:
        while folder != self._root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
