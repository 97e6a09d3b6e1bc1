"""Proves the invariants from the evidence alone. It shares no code with the fold: it has a small one of its own.

The numbers are those of the design's reliability page: 1 answers and ends, 2 one task per attempt, 3 one execution
per attempt, 4 commits, 5 the table, 7 the sums, 8 nothing stuck.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from trainyard_dispatcher.ports import TaskStatus
from trainyard_schemas import events as ev
from trainyard_simulation.evidence import Evidence
from trainyard_simulation.producers import Kind
from trainyard_simulation.training import Execution


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the invariant's number, and a sentence."""

    invariant: int
    message: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.message}"


@dataclass(slots=True)
class Story:
    """One run, as its records tell it when the first legal one wins."""

    accepted: ev.RunAccepted | None = None
    rejected: ev.RunRejected | None = None
    losing: list[ev.RunAccepted] = field(default_factory=list)
    tasks: dict[int, str] = field(default_factory=dict)
    claims: dict[int, str] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    end: ev.RunEnd | None = None

    def read(self, fact: ev.Fact) -> None:
        """Take the next record of this run, in offset order."""
        if isinstance(fact, ev.RunAccepted):
            if self.accepted is None and self.rejected is None:
                self.accepted = fact
            elif self.accepted is not None and fact.request_digest != self.accepted.request_digest:
                self.losing.append(fact)
        elif isinstance(fact, ev.RunRejected):
            if self.accepted is None and self.rejected is None:
                self.rejected = fact
        elif self.accepted is not None and self.end is None:
            self._read_step(fact)

    def _read_step(self, fact: ev.Fact) -> None:
        last = len(self.tasks)
        if isinstance(fact, ev.AttemptDispatched):
            over = last == 0 or self.outcomes.get(last) in ("failed", "lost")
            if fact.attempt == last + 1 and over:
                self.tasks[fact.attempt] = fact.task_id
        elif isinstance(fact, ev.AttemptStarted):
            open_ = fact.attempt == last and last not in self.outcomes and last not in self.claims
            if open_ and fact.task_id == self.tasks.get(last):
                self.claims[last] = fact.claim
        elif isinstance(fact, ev.AttemptLost):
            holds = last in self.claims and fact.claim in (None, self.claims[last])
            if fact.attempt == last and last not in self.outcomes and holds:
                self.outcomes[last] = "lost"
        elif isinstance(fact, ev.AttemptSucceeded | ev.AttemptFailed):
            if fact.attempt == last and last not in self.outcomes and fact.claim == self.claims.get(last):
                self.outcomes[last] = "succeeded" if isinstance(fact, ev.AttemptSucceeded) else "failed"
        elif isinstance(fact, ev.AttemptCancelled):
            if fact.attempt == last and last not in self.outcomes and fact.claim in (None, self.claims.get(last)):
                self.outcomes[last] = "cancelled"
        elif isinstance(fact, ev.RunEnd) and fact.attempt == last and self._may_end(fact, last):
            self.end = fact

    def _may_end(self, fact: ev.RunEnd, last: int) -> bool:
        outcome = self.outcomes.get(last)
        if isinstance(fact, ev.RunCompleted):
            return outcome == "succeeded"
        if isinstance(fact, ev.RunFailed):
            return last == 0 or outcome in ("failed", "lost")
        return last == 0 or outcome in ("failed", "lost", "cancelled")


def check(evidence: Evidence) -> list[Violation]:
    """All violations in the evidence; none is the promise kept."""
    stories = _stories(evidence)
    return [
        *_answers(evidence, stories),
        *_identities(evidence, stories),
        *_ends(stories),
        *_tasks(evidence, stories),
        *_executions(evidence, stories),
        *_overlaps(evidence),
        *_acts(evidence, stories),
        *_models(evidence, stories),
        *_commits(evidence),
        *_sums(evidence, stories),
        *_copies(evidence, stories),
        *_leftovers(evidence, stories),
    ]


def _stories(evidence: Evidence) -> dict[str, Story]:
    stories: dict[str, Story] = defaultdict(Story)
    for events in evidence.lifecycle.values():
        for event in events:
            stories[event.fact.run_id].read(event.fact)
    return stories


def _answers(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """Every record of `runs.requested` has exactly one kind of answer."""
    accepted: dict[tuple[int, int], set[str]] = defaultdict(set)
    losing: set[tuple[int, int]] = set()
    rejected: dict[tuple[int, int], set[str]] = defaultdict(set)
    for events in evidence.lifecycle.values():
        for event in events:
            fact = event.fact
            if isinstance(fact, ev.RunAccepted):
                accepted[fact.origin.partition, fact.origin.offset].add(fact.run_id)
            elif isinstance(fact, ev.RunRejected):
                rejected[fact.origin.partition, fact.origin.offset].add(fact.run_id)
    for story in stories.values():
        losing |= {(f.origin.partition, f.origin.offset) for f in story.losing}
    for partition, records in evidence.requested.items():
        for record in records:
            at = (partition, record.offset)
            where = f"the request at {partition}/{record.offset}"
            if len(accepted[at]) + len(rejected[at]) == 0:
                yield Violation(1, f"{where} has no answer")
            if len(accepted[at]) > 1 or len(rejected[at]) > 1:
                yield Violation(1, f"{where} was answered as two runs")
            if accepted[at] and rejected[at] and at not in losing:
                yield Violation(1, f"{where} was accepted and rejected")
            if at in losing and not rejected[at]:
                yield Violation(1, f"{where} lost its key to another request and was not told")


def _identities(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """What producers meant to be one run is one run; what is rubbish is none."""
    by_origin = {(s.accepted.origin.partition, s.accepted.origin.offset) for s in stories.values() if s.accepted}
    wins: dict[str, int] = defaultdict(int)
    asked: set[str] = set()
    for records in evidence.requested.values():
        for record in records:
            if (record.partition, record.offset) not in by_origin:
                continue
            for known in evidence.acknowledged:
                if known.intent.value == record.value:
                    if known.intent.kind is Kind.POISON:
                        yield Violation(1, f"{known.intent.body} was accepted")
                    wins[known.intent.identity] += 1
                    break
    for known in evidence.acknowledged:
        if known.intent.identity:
            asked.add(known.intent.identity)
    for identity in sorted(asked):
        if wins[identity] != 1:
            yield Violation(1, f"{identity}: {wins[identity]} runs were accepted instead of one")


def _ends(stories: dict[str, Story]) -> Iterator[Violation]:
    for run_id, story in stories.items():
        if story.accepted is not None and story.end is None:
            yield Violation(1, f"run {run_id} has no terminal event")


def _tasks(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """Only the winning task of an attempt was ever in a queue; nobody made a second entry without looking."""
    seen: set[str] = set()
    for entry in evidence.entries:
        task = evidence.tasks[entry.task_id]
        if entry.by == "a user":
            continue
        winner = stories[task.run_id].tasks.get(task.attempt)
        is_unasked_clone = winner is None and not task.is_ours
        if winner != entry.task_id and not is_unasked_clone:
            yield Violation(2, f"{entry.by} queued {entry.task_id}, which did not win attempt {task.attempt}")
        if entry.task_id in seen and entry.blind:
            yield Violation(2, f"{entry.by} made a second entry of {entry.task_id} without looking at its status")
        seen.add(entry.task_id)


def _executions(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    done: dict[tuple[str, int], str] = {}
    for run in evidence.executions:
        story, at = stories[run.run_id], (run.run_id, run.attempt)
        if at in done:
            yield Violation(3, f"attempt {run.attempt} of {run.run_id} was trained by {done[at]} and by {run.by}")
        done[at] = run.by
        if story.tasks.get(run.attempt) != run.task_id:
            yield Violation(2, f"{run.by} trained {run.task_id}, which did not win attempt {run.attempt}")
        if story.claims.get(run.attempt) != run.claim:
            yield Violation(3, f"{run.by} trained {run.task_id} under a claim that did not win")
    for run_id, story in stories.items():
        for attempt, outcome in story.outcomes.items():
            if outcome == "succeeded" and (run_id, attempt) not in done:
                yield Violation(3, f"attempt {attempt} of {run_id} succeeded without having been trained")


def _overlaps(evidence: Evidence) -> Iterator[Violation]:
    """Two attempts of a run never compute at the same time; the moment after a host's resumption is not counted."""
    by_run: dict[str, list[Execution]] = defaultdict(list)
    for run in evidence.executions:
        by_run[run.run_id].append(run)
    for run_id, runs in by_run.items():
        spans = sorted((since, until, run.attempt) for run in runs for since, until in run.spans)
        for (_, until, one), (since, _, other) in pairwise(spans):
            if one != other and since < until:
                yield Violation(3, f"attempts {one} and {other} of {run_id} computed at the same time")


def _acts(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """No run is cancelled that nobody touched."""
    for run_id, story in stories.items():
        if isinstance(story.end, ev.RunCancelled) and run_id not in evidence.meddled_with:
            yield Violation(1, f"run {run_id} was cancelled and nobody asked for it")


def _models(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """Exactly the model of the attempt that won can be seen."""
    for run_id, story in stories.items():
        won = {story.claims[n] for n, outcome in story.outcomes.items() if outcome == "succeeded"}
        shown = evidence.shown_models.get(run_id, frozenset())
        if shown - won:
            yield Violation(3, f"a model of {run_id} can be seen whose attempt did not win")
        if evidence.came_to_rest and won - shown and story.accepted is not None:
            yield Violation(8, f"the model of {run_id} was never shown")


def _commits(evidence: Evidence) -> Iterator[Violation]:
    for partition, offset in sorted(set(evidence.early_commits)):
        yield Violation(4, f"a commit passed the request at {partition}/{offset} before it was answered")
    for partition, records in evidence.requested.items():
        if evidence.committed.get(partition, 0) > len(records):
            yield Violation(4, f"partition {partition} is committed beyond its end")


def _sums(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """Accepted + rejected + duplicates = input; each rejected has a dead letter with the same bytes, and only those."""
    letters: dict[str, set[bytes | None]] = defaultdict(set)
    for record in evidence.dead_letters:
        answered_as = dict(record.headers).get("trainyard-run-id") or b""
        letters[answered_as.decode()].add(record.value)
    for run_id, story in stories.items():
        if story.rejected is None:
            continue
        origin = story.rejected.origin
        bytes_there = evidence.requested[origin.partition][origin.offset].value
        if letters.pop(run_id, set()) != {bytes_there}:
            yield Violation(7, f"the rejected request {run_id} has no dead letter with its bytes")
    if evidence.came_to_rest:
        for run_id in sorted(letters):
            yield Violation(7, f"there is a dead letter for {run_id}, which was not rejected")


def _copies(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    """What stands in `runs.completed` is the one winning end of each run, perhaps more than once, and nothing else."""
    if evidence.completed is None:
        return
    copied: dict[str, list[ev.Fact]] = defaultdict(list)
    for event in evidence.completed:
        copied[event.fact.run_id].append(event.fact)
    for run_id, story in stories.items():
        end = story.end or story.rejected
        found = copied.pop(run_id, [])
        if end is not None and (not found or any(fact != end for fact in found)):
            yield Violation(7, f"the end of {run_id} is not what runs.completed has of it: {len(found)} events")
        elif end is None and found:
            yield Violation(7, f"runs.completed has an end of {run_id}, which has none")
    for run_id in sorted(copied):
        yield Violation(7, f"runs.completed has an end of {run_id}, which has none")


def _leftovers(evidence: Evidence, stories: dict[str, Story]) -> Iterator[Violation]:
    if not evidence.came_to_rest:
        yield Violation(8, "the world did not come to rest")
        return
    for task_id in evidence.queued_now:
        yield Violation(8, f"{task_id} still stands in a queue")
    open_ = (TaskStatus.CREATED, TaskStatus.QUEUED, TaskStatus.IN_PROGRESS)
    for task_id, task in evidence.tasks.items():
        if task.is_ours and task.status in open_ and task_id not in evidence.deleted:
            yield Violation(8, f"{task_id} is {task.status.value} though no attempt needs it")
