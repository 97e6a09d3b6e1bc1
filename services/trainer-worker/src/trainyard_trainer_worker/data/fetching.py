"""Remote data, put together: find it, open it, keep it, check it, and hand the training child a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused
from trainyard_runtime.logs import get_logger
from trainyard_runtime.settings import ConfigurationError
from trainyard_schemas.vocabulary import Reason
from trainyard_trainer_worker.data.addresses import AddressRefused, PrivateHosts, WebAddress, web_address
from trainyard_trainer_worker.data.cache import Content, DataCache, Known, too_large
from trainyard_trainer_worker.data.clearml_datasets import STATE, ClearMLDatasets, DatasetTask, of_dataset
from trainyard_trainer_worker.data.httpx2_fetch import WebFetch, refused_status, resolve_by_system
from trainyard_trainer_worker.data.manifest import LinkedFile, StoredFile, choose, entries_of
from trainyard_trainer_worker.data.obstore_fetch import S3Fetch
from trainyard_trainer_worker.data.plan import ClearMLRef, InBucket, Object, OnFileServer, OnWeb, plan, remote_object
from trainyard_trainer_worker.data.ports import Body, Resolve, TryAgain
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.data.zip_entry import read_entry
from trainyard_trainer_worker.spec import AttemptError, Detail, Failed, FetchedData, clean, dataset_unreachable

DATA_FILE: Final = "dataset.csv"
MAX_STATE_BYTES: Final = 64 << 20
ATTEMPTS: Final = 3
BACKOFF_S: Final = (0.5, 2.0)


class DataFetcher:
    """Fetches what a request's `dataset` names. One per worker; `fetch` may run many times at once.

    Raises ConfigurationError for a file server that no address can name.
    """

    def __init__(
        self, settings: DataSettings, client: ClearMLClient, cache: DataCache, resolve: Resolve = resolve_by_system
    ) -> None:
        self._settings = settings
        self._client = client
        self._cache = cache
        self._file_servers = _addresses(client.file_url(""), *settings.files_aliases)
        self._web = WebFetch(
            PrivateHosts.parse(settings.private_hosts), stall_timeout_s=settings.stall_timeout_s, resolve=resolve
        )
        self._s3 = S3Fetch(settings)
        self._datasets = ClearMLDatasets(client)
        self._log = get_logger(component="data")

    async def fetch(self, dataset: Mapping[str, Any], work_dir: Path, deadline_s: float) -> FetchedData | Failed | None:
        """The data as a file in `work_dir` (made if need be); None for local data, which the child reads by itself.

        `Failed` says what is wrong with the request, the data or the way to it, or that `deadline_s` passed. May be
        cancelled at any time: what was half fetched is removed.
        """
        try:
            async with asyncio.timeout(deadline_s):
                return await self._fetch(dataset, work_dir)
        except TimeoutError:
            return Failed(
                Reason.DEADLINE,
                Detail.ATTEMPT_DEADLINE,
                f"the attempt was ended after {deadline_s:.1f} s, while its data was fetched; raise deadline_s",
            )
        except AttemptError as error:
            return Failed(error.reason, error.detail, error.message)
        except OSError as problem:
            return Failed(
                Reason.INTERNAL,
                Detail.UNEXPECTED,
                f"the worker cannot keep fetched data: {problem.strerror or problem}",
            )

    async def _fetch(self, dataset: Mapping[str, Any], work_dir: Path) -> FetchedData | None:
        source = plan(dataset, self._file_servers)
        if source is None:
            return None
        await asyncio.to_thread(work_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        target = work_dir / DATA_FILE
        if isinstance(source, ClearMLRef):
            return await self._from_dataset(source, target)
        content = await self._object(source, target)
        return FetchedData(str(target), source.location, content.sha256, content.size_bytes)

    async def _object(self, source: Object, target: Path, *, cached: bool = True) -> Content:
        """One remote file at `target`: from the cache where its content is known to be there, else fetched.

        What is only on the way to the data is not `cached`.
        """
        expected = None if isinstance(source, InBucket) else source.sha256
        if expected is not None:
            found = await self._cache.get(expected, target)
            if found is not None:
                return found
        known = self._cache.known(self._key(source)) if cached else None
        for attempt in range(ATTEMPTS):
            try:
                return await self._store(source, target, known, expected, cached)
            except TryAgain as problem:
                if attempt + 1 == ATTEMPTS:
                    raise
                self._log.info("data not fetched yet", action="fetch", detail=problem.detail, error=problem.message)
                await asyncio.sleep(BACKOFF_S[attempt])
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _store(
        self, source: Object, target: Path, known: Known | None, expected: str | None, cached: bool
    ) -> Content:
        async with self._open(source, known.validator if known else None) as body:
            if body is not None:
                return await self._keep(body, source, target, expected, cached)
        found = await self._cache.get(known.sha256, target) if known else None
        if found is not None:
            return found
        async with self._open(source, None) as body:  # the cache has lost what the server says is unchanged
            if body is None:
                raise dataset_unreachable(Detail.SERVER_ERROR, f"{source.location}: the server sends no content")
            return await self._keep(body, source, target, expected, cached)

    async def _keep(self, body: Body, source: Object, target: Path, expected: str | None, cached: bool) -> Content:
        limit = self._settings.max_file_bytes
        if body.size_bytes is not None and body.size_bytes > limit:
            raise too_large(source.location, limit)
        with self._cache.incoming(limit, source.location) as incoming:
            async for chunk in body.chunks:
                await incoming.add(chunk)
            if body.size_bytes is not None and incoming.size_bytes != body.size_bytes:
                raise TryAgain(
                    Detail.CONNECTION_FAILED,
                    f"{source.location}: {incoming.size_bytes} of {body.size_bytes} bytes came",
                )
            _check_content(incoming.content, expected, source.location)
            content = await incoming.keep(target, cached=cached)
        if body.validator is not None and cached:
            self._cache.remember(self._key(source), Known(content.sha256, body.validator))
        self._log.info("data fetched", action="fetch", location=source.location, size_bytes=content.size_bytes)
        return content

    def _key(self, source: Object) -> str:
        if isinstance(source, InBucket):
            return f"{self._s3.endpoint} {source.location}"
        return f"files {source.path}" if isinstance(source, OnFileServer) else source.address.url

    @asynccontextmanager
    async def _open(self, source: Object, validator: str | None) -> AsyncIterator[Body | None]:
        if isinstance(source, OnWeb):
            async with self._web.open(source.address, validator) as body:
                yield body
        elif isinstance(source, InBucket):
            async with self._s3.open(source, validator) as body:
                yield body
        else:
            async with self._open_on_file_server(source) as body:
                yield body

    @asynccontextmanager
    async def _open_on_file_server(self, source: OnFileServer) -> AsyncIterator[Body]:
        """With the worker's own credentials, at the configured file server only."""
        try:
            async with self._client.open_file(self._client.file_url(source.path)) as (size, chunks):
                yield Body(_named(chunks, source.location), size)
        except ClearMLRefused as refused:
            raise refused_status(refused.code, source.location) from refused
        except ClearMLError as problem:
            raise TryAgain(
                Detail.CONNECTION_FAILED, f"{source.location}: ClearML's file server gives no usable answer"
            ) from problem

    async def _from_dataset(self, ref: ClearMLRef, target: Path) -> FetchedData:
        task = await self._again(ref)
        state = await self._state(task, target.with_name("state.json"))
        entry = choose(entries_of(state, task.id), ref.path, task.id)
        location = f"clearml://{task.id}/{entry.path}"
        if isinstance(entry, LinkedFile):
            field = f"the link {clean(entry.path)} of the ClearML dataset {task.id}"
            link = remote_object(entry.uri, field, self._file_servers)
            try:
                content = await self._object(link, target)
            except AttemptError as problem:
                raise of_dataset(problem, field) from problem
        else:
            content = await self._stored(task, entry, target, location)
        return FetchedData(str(target), location, content.sha256, content.size_bytes, task.id)

    async def _again(self, ref: ClearMLRef) -> DatasetTask:
        for pause_s in BACKOFF_S:
            try:
                return await self._datasets.find(ref)
            except TryAgain:
                await asyncio.sleep(pause_s)
        return await self._datasets.find(ref)

    async def _state(self, task: DatasetTask, target: Path) -> Any:
        source = remote_object(task.uri(STATE), f"the state of the ClearML dataset {task.id}", self._file_servers)
        content = await self._object(source, target, cached=False)
        if content.size_bytes > MAX_STATE_BYTES:
            raise too_large(f"the state of the ClearML dataset {task.id}", MAX_STATE_BYTES)
        try:
            return await asyncio.to_thread(lambda: json.loads(target.read_bytes()))
        except (ValueError, RecursionError):
            return None

    async def _stored(self, task: DatasetTask, entry: StoredFile, target: Path, location: str) -> Content:
        if entry.sha256 is not None:
            found = await self._cache.get(entry.sha256, target)
            if found is not None:
                return found
        owner = task
        if entry.dataset_id != task.id:
            try:
                owner = await self._again(ClearMLRef(id=entry.dataset_id))
            except AttemptError as problem:
                raise of_dataset(problem, f"the ClearML dataset {task.id} has a parent") from problem
        what = f"the archive {clean(entry.artifact)} of the ClearML dataset {owner.id}"
        source = remote_object(owner.uri(entry.artifact), what, self._file_servers)
        archive = target.with_name("archive.zip")
        await self._object(source, archive, cached=False)
        try:
            with self._cache.incoming(self._settings.max_file_bytes, location) as incoming:
                async for chunk in read_entry(archive, entry.path, what):
                    await incoming.add(chunk)
                _check_content(incoming.content, entry.sha256, location)
                return await incoming.keep(target)
        finally:
            archive.unlink(missing_ok=True)


def _check_content(content: Content, expected: str | None, location: str) -> None:
    if expected is not None and content.sha256 != expected:
        raise AttemptError(
            Reason.INVALID_DATASET,
            Detail.CONTENT_DIFFERS,
            f"{location}: the bytes there have SHA-256 {content.sha256}, not {expected} as promised; upload them again",
        )


async def _named(chunks: AsyncIterator[bytes], location: str) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except ClearMLError as problem:
        raise TryAgain(Detail.CONNECTION_FAILED, f"{location}: the file server broke off") from problem


def _addresses(*urls: str) -> tuple[WebAddress, ...]:
    try:
        return tuple(web_address(url) for url in urls)
    except AddressRefused as refused:
        raise ConfigurationError(f"CLEARML_FILES_HOST {refused}.") from refused
