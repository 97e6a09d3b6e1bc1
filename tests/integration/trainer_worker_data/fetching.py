"""A worker's fetcher on a disk of its own, with any resolver."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient
from trainyard_trainer_worker.data.cache import DataCache
from trainyard_trainer_worker.data.fetching import DataFetcher
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.spec import Failed, FetchedData

Names = Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Fetching:
    """Each run has a work directory of its own; the cache stays until `fresh`."""

    folder: Path
    cache_name: str = "cache"
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    asked: list[str] = field(default_factory=list)

    def fresh(self) -> Fetching:
        """The same with an empty cache."""
        return Fetching(self.folder, f"cache-{next(self.numbers)}", self.numbers)

    def run(
        self,
        server: ClearMLServer,
        dataset: Mapping[str, Any],
        *,
        resolve: Names | Callable[[str], Sequence[str]] | None = None,
        deadline_s: float = 60,
        **settings: Any,
    ) -> FetchedData | Failed | None:
        """One fetch. `resolve`: what each name's addresses are; unknown names have none."""

        async def resolved(host: str, _: int) -> Sequence[str]:
            self.asked.append(host)
            found = resolve(host) if callable(resolve) else (resolve or {}).get(host, ())
            if not found:
                raise OSError(f"no such host: {host}")
            return found

        async def act() -> FetchedData | Failed | None:
            async with ClearMLClient(server.settings()) as client:
                cache = DataCache(self.folder / self.cache_name, 1 << 30)
                values = DataSettings.model_validate({"s3_anonymous": False, **settings})
                fetcher = DataFetcher(values, client, cache, resolved)
                return await fetcher.fetch(dataset, self.folder / f"work-{next(self.numbers)}", deadline_s)

        return asyncio.run(act())

    def clearml(self, server: ClearMLServer, ask: Callable[[ClearMLClient], Coroutine[Any, Any, Any]]) -> Any:
        """One question to ClearML."""

        async def act() -> Any:
            async with ClearMLClient(server.settings()) as client:
                return await ask(client)

        return asyncio.run(act())

    @property
    def leftovers(self) -> list[str]:
        """Half-written files that are still there."""
        return [path.name for path in (self.folder / self.cache_name / "incoming").iterdir()]


def fetched(outcome: FetchedData | Failed | None) -> FetchedData:
    """The data; fails the test where there is none."""
    assert isinstance(outcome, FetchedData), outcome
    return outcome


def failed(outcome: FetchedData | Failed | None) -> Failed:
    """The failure; fails the test where there is none."""
    assert isinstance(outcome, Failed), outcome
    return outcome
