"""Real training: a spec, a child process, and what it left."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainyard_trainer_worker.child_events import ChildEvent, Console
from trainyard_trainer_worker.child_process import TrainingChild
from trainyard_trainer_worker.fork_servers import ForkServers
from trainyard_trainer_worker.spec import AttemptSpec, Failed, Outcome, Succeeded
from trainyard_trainer_worker.training.child import attempt
from trainyard_trainer_worker.training.clean_process import CleanProcess
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.verification import verify

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Trained:
    """The end of one attempt."""

    outcome: Outcome
    events: tuple[ChildEvent, ...]
    work_dir: Path
    seconds: float
    """From the moment in which its process was let go."""

    @property
    def results(self) -> Mapping[str, Any]:
        """The results of an attempt that succeeded; fails the test with what went wrong where it did not."""
        console = [e.line for e in self.events if isinstance(e, Console)]
        assert isinstance(self.outcome, Succeeded), (self.outcome, console[-30:])
        return self.outcome.results

    @property
    def failure(self) -> Failed:
        """The failure of an attempt that failed."""
        assert isinstance(self.outcome, Failed), self.outcome
        return self.outcome


Train = Callable[..., Trained]


class Here(CleanProcess):
    """Stands in for the clean process: this one."""

    def __init__(self) -> None:
        """There is nothing to start."""

    def ask(self, path: Path, sha256: str, limit_s: float) -> dict[str, Any]:
        return verify(path, sha256)

    def end(self) -> None:
        """There is nothing to end."""


@pytest.fixture
def specify(tmp_path: Path) -> Callable[..., AttemptSpec]:
    """A spec for a request on `examples/`, or on a CSV text. Each has a work directory of its own."""
    count = 0

    def make(
        request: Mapping[str, Any],
        csv: str | None = None,
        deadline_s: float = 120.0,
        n_jobs: int = 2,
        memory_limit_bytes: int | None = None,
    ) -> AttemptSpec:
        nonlocal count
        count += 1
        root = EXAMPLES
        if csv is not None:
            root = tmp_path / "data"
            root.mkdir(exist_ok=True)
            (root / "given.csv").write_text(csv)
        work_dir = str(tmp_path / f"attempt-{count}")
        return AttemptSpec("run", 1, "claim", request, work_dir, (str(root),), deadline_s, n_jobs, memory_limit_bytes)

    return make


@pytest.fixture(scope="session")
def fork_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, ForkServers]]:
    """A worker's fork servers, and the loop that they live in."""
    with asyncio.Runner() as runner:
        servers = ForkServers(tmp_path_factory.mktemp("fork-servers"), 2, {})
        yield runner, servers
        runner.run(servers.close())


@pytest.fixture
def train(specify: Callable[..., AttemptSpec], fork_servers: tuple[asyncio.Runner, ForkServers]) -> Train:
    """Train in a child of a fork server, as the worker does."""
    runner, servers = fork_servers

    def run(*args: Any, **kwargs: Any) -> Trained:
        spec = specify(*args, **kwargs)

        async def scenario() -> Trained:
            child = await TrainingChild.start(spec, fork_server=servers.of(str(spec.request["trainer"])))
            begun = time.monotonic()
            child.begin()
            events = [event async for event in child.events()]
            return Trained(await child.outcome(), tuple(events), Path(spec.work_dir), time.monotonic() - begun)

        return runner.run(scenario())

    return run


@pytest.fixture
def train_here(specify: Callable[..., AttemptSpec]) -> Train:
    """Train in this process, and check the model here: the same code without the imports of two more processes.

    `train` has both; with it every trainer trains on every example.
    """

    def run(*args: Any, **kwargs: Any) -> Trained:
        spec = specify(*args, **kwargs)
        Path(spec.work_dir).mkdir()
        begun = time.monotonic()
        # Hypothesis listens to the garbage collector, and what an alarm raises in a listener is an error of its own.
        listeners, gc.callbacks[:] = gc.callbacks[:], []
        try:
            outcome = attempt(spec, Emitter(None), Here())
        finally:
            gc.callbacks[:] = listeners
        return Trained(outcome, (), Path(spec.work_dir), time.monotonic() - begun)

    return run


def body(trainer: str, label: str, task_type: str, metric: str, **more: Any) -> dict[str, Any]:
    """A RunRequest v2 with a short budget."""
    return {
        "schema_version": 2,
        "trainer": trainer,
        "dataset": {"type": "tabular", "uri": more.pop("uri", "given.csv"), "label": label},
        "task_type": task_type,
        "metric": metric,
        "time_budget_s": more.pop("time_budget_s", 2),
        **more,
    }
