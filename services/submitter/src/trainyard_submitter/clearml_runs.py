"""What ClearML holds of a run: its console, its files, and who serves its queue. For programs without an event loop.

Needs the extra `uploads`. Errors: RunUnknown, ModelUnusable, NotAllowed, Unavailable.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused, ClearMLSettings
from trainyard_submitter.errors import ModelUnusable, NotAllowed, RunUnknown, Unavailable
from trainyard_submitter.explaining import QueueFacts

PAGE: Final = 500
_T = TypeVar("_T")


def console(settings: ClearMLSettings, task_id: str, seen: ConsolePlace) -> list[str]:
    """The console lines of a task after `seen`, oldest first; `seen` moves on."""

    async def act(client: ClearMLClient) -> list[str]:
        lines: list[str] = []
        while True:
            # Again from the last millisecond, which may have got more lines since.
            after_ms = None if seen.last_ms is None else seen.last_ms - 1
            page = await client.task_log(task_id, after_ms=after_ms, limit=PAGE + seen.at_last_ms)
            fresh = page[seen.at_last_ms :]
            for event in fresh:
                lines.extend(str(event.get("msg", "")).splitlines())
                seen.note(int(event.get("timestamp") or 0))
            if len(fresh) < PAGE:
                return lines

    with _translated(f"ClearML has no task {task_id}: it was deleted"):
        return _ask(settings, act)


class ConsolePlace:
    """How far a console was read: the last event's time in ms, and how many events of that millisecond were."""

    def __init__(self) -> None:
        self.last_ms: int | None = None
        self.at_last_ms = 0

    def note(self, timestamp_ms: int) -> None:
        """One more event was read."""
        self.at_last_ms = self.at_last_ms + 1 if timestamp_ms == self.last_ms else 1
        self.last_ms = timestamp_ms


def queue_facts(settings: ClearMLSettings, queue_id: str, task_id: str) -> QueueFacts:
    """Who serves a queue, and how many tasks are before ours."""

    async def act(client: ClearMLClient) -> QueueFacts:
        workers = await client.workers()
        serving = sorted(str(w.get("id")) for w in workers if queue_id in _queue_ids(w))
        entries = next((queue.entries for queue in await client.queues() if queue.id == queue_id), ())
        places = [index for index, entry in enumerate(entries) if entry.task_id == task_id]
        return QueueFacts(serving, places[0] if places else None)

    with _translated("ClearML does not tell"):
        return _ask(settings, act)


def download(settings: ClearMLSettings, uri: str, target: Path, sha256: str) -> Path:
    """Fetch a file of the file server to `target` by a rename, unless its content is there already.

    What does not have the given SHA-256 is thrown away. Raises ModelUnusable for that, and where there is no such file.
    """
    if target.is_file() and _sha256(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".incoming-")
    os.close(handle)
    partial = Path(name)
    try:
        with _translated(f"the file server has no file at {uri}: it was deleted"):
            _ask(settings, lambda client: client.download_file(uri, partial))
        if _sha256(partial) != sha256:
            raise ModelUnusable(f"the file at {uri} is not the one that the run made (its SHA-256 differs)")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _queue_ids(worker: dict[str, object]) -> set[str]:
    queues = worker.get("queues")
    return {str(queue.get("id")) for queue in queues if isinstance(queue, dict)} if isinstance(queues, list) else set()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ask(settings: ClearMLSettings, act: Callable[[ClearMLClient], Awaitable[_T]]) -> _T:
    async def main() -> _T:
        async with ClearMLClient(settings) as client:
            return await act(client)

    return asyncio.run(main())


@contextmanager
def _translated(missing: str) -> Iterator[None]:
    try:
        yield
    except ClearMLRefused as refused:
        if refused.code in (400, 404):
            kind = ModelUnusable if "file server" in missing else RunUnknown
            raise kind(missing) from refused
        raise NotAllowed(
            f"ClearML refuses ({refused.code}); check CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"
        ) from refused
    except ClearMLError as problem:
        raise Unavailable(
            f"ClearML does not answer; check CLEARML_API_HOST and CLEARML_FILES_HOST: {problem}"
        ) from problem
