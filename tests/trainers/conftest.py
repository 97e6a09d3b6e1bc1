"""Real training: a spec, a child process, and what it left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainyard_trainer_worker.child_events import ChildEvent, Console
from trainyard_trainer_worker.child_process import TrainingChild
from trainyard_trainer_worker.spec import AttemptSpec, Failed, Outcome, Succeeded

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Trained:
    """The end of one attempt."""

    outcome: Outcome
    events: tuple[ChildEvent, ...]
    work_dir: Path

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


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train a request on `examples/` (or a CSV text) in a child, as the worker does."""
    count = 0

    def run(request: Mapping[str, Any], csv: str | None = None, deadline_s: float = 60.0, **spec: Any) -> Trained:
        nonlocal count
        count += 1
        roots: tuple[str, ...] = (str(EXAMPLES),)
        if csv is not None:
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / "given.csv").write_text(csv)
            request = {**request, "dataset": {**request["dataset"], "uri": "given.csv"}}
            roots = (str(tmp_path / "data"),)
        work_dir = tmp_path / f"attempt-{count}"
        attempt = AttemptSpec("run", 1, "claim", request, str(work_dir), roots, deadline_s, **{"n_jobs": 2, **spec})

        async def scenario() -> Trained:
            child = await TrainingChild.start(attempt)
            events = [event async for event in child.events()]
            return Trained(await child.outcome(), tuple(events), work_dir)

        return asyncio.run(scenario())

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
