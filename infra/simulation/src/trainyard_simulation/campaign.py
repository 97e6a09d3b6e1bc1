"""Many seeds in several processes, and one report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from trainyard_simulation.coverage import never_met
from trainyard_simulation.mutations import MUTATIONS
from trainyard_simulation.processes import ProgramError
from trainyard_simulation.search import exposures, search, search_below
from trainyard_simulation.world import run_seed

CHUNK_SEEDS = 200
MAX_FAILURES = 50


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a promise, and how; `trainyard sim --seed N --trace` shows it again."""

    seed: int
    messages: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """The sum of what was run. `coverage` counts how often each fault and window was met."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    failed_seeds: int = 0
    failures: list[Failure] = field(default_factory=list)
    coverage: Counter[str] = field(default_factory=Counter)

    @property
    def seeds_per_s(self) -> float:
        return self.seeds / self.seconds if self.seconds else 0.0

    def add(self, other: Report) -> None:
        """Take in a part. Only the first failures are kept, all are counted."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.failed_seeds += other.failed_seeds
        self.failures = sorted([*self.failures, *other.failures], key=lambda f: f.seed)[:MAX_FAILURES]
        self.coverage.update(other.coverage)

    def to_json(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "failed_seeds": self.failed_seeds,
            "seconds": round(self.seconds, 3),
            "seeds_per_s": round(self.seeds_per_s, 1),
            "steps": self.steps,
            "failures": [{"seed": f.seed, "messages": list(f.messages)} for f in self.failures],
            "coverage": dict(sorted(self.coverage.items())),
            "never_met": never_met(self.coverage),
        }


def run_seeds(seeds: Sequence[int], mutation: str | None = None) -> Report:
    """Run some seeds in this process, under a mutation where one is named. Raises KeyError for an unknown one."""
    report = Report()
    began = time.perf_counter()
    with MUTATIONS[mutation]() if mutation is not None else nullcontext():
        for seed in seeds:
            report.add(_run_one(seed))
    report.seconds = time.perf_counter() - began
    return report


def _run_one(seed: int) -> Report:
    try:
        result = run_seed(seed)
    except ProgramError as error:
        return Report(1, failed_seeds=1, failures=[Failure(seed, (str(error),))])
    messages = tuple(str(v) for v in result.violations)
    failures = [Failure(seed, messages)] if messages else []
    return Report(1, result.steps, failed_seeds=len(failures), failures=failures, coverage=result.coverage)


def run_campaign(
    first: int,
    last: int,
    *,
    jobs: int = 1,
    mutation: str | None = None,
    on_progress: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Run the seeds `first` to `last`, both included, in `jobs` processes."""
    total = Report()
    began = time.perf_counter()
    chunks = [range(at, min(at + CHUNK_SEEDS, last + 1)) for at in range(first, last + 1, CHUNK_SEEDS)]
    for part in _parts(chunks, jobs, mutation):
        total.add(part)
        total.seconds = time.perf_counter() - began
        on_progress(total)
    return total


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What a bounded exhaustive search found: how many schedules there were, and those that broke a promise."""

    schedules: int
    broken: tuple[str, ...]


def run_search(seed: int, depth: int, *, jobs: int = 1, mutation: str | None = None) -> SearchReport:
    """Every placement of up to `depth` faults in the world of `seed`, in `jobs` processes."""
    requests = range(1, len(exposures(seed)) + 1)
    calls = [(seed, first, depth, mutation) for first in requests] if depth else []
    parts = [_search_part(seed, 0, 0, mutation)]
    if jobs <= 1:
        parts += [_search_part(*call) for call in calls]
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            parts += [done.result() for done in [pool.submit(_search_part, *call) for call in calls]]
    return SearchReport(sum(p.schedules for p in parts), tuple(b for p in parts for b in p.broken))


def _search_part(seed: int, first: int, depth: int, mutation: str | None) -> SearchReport:
    schedules = 0
    broken: list[str] = []
    with MUTATIONS[mutation]() if mutation is not None else nullcontext():
        for placement in search_below(seed, first, depth) if first else search(seed, 0):
            schedules += 1
            if placement.messages:
                broken.append(str(placement))
    return SearchReport(schedules, tuple(broken[:MAX_FAILURES]))


def _parts(chunks: list[range], jobs: int, mutation: str | None) -> Iterator[Report]:
    if jobs <= 1 or len(chunks) == 1:
        for chunk in chunks:
            yield run_seeds(chunk, mutation)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_seeds, chunk, mutation) for chunk in chunks]):
            yield done.result()
