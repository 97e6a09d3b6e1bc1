"""One replica's part of one deployment: the partitions that it holds, counted, stored and shown.

A thread of its own counts; other threads may ask `parts`, `lag` and `why_not` at any time.
"""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from trainyard_runtime.clock import steady
from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.logs import get_logger
from trainyard_stats.serving.checkpoint import VERSION, Checkpoint, best, encode, key_of, start_from
from trainyard_stats.serving.counters import Counters, Fold
from trainyard_stats.serving.declared import with_declared
from trainyard_stats.serving.fold import apply_all
from trainyard_stats.serving.metric_rules import Rules
from trainyard_stats.serving.ports import Batch, Bounds, Checkpoints, Source, SourceMissing, SourceUnavailable

_WAIT_S: Final = 0.5
_RETRY_S: Final = 1.0
_MISSING_RETRY_S: Final = 5.0
_CHECK_S: Final = 30.0
_FLUSH_S: Final = 1.0


@dataclass(slots=True)
class _Held:
    """A partition that is ours. It is shown once it has reached where the log ended when we gained it: what another
    replica showed before us is then in it, and no counter ever goes backwards."""

    fold: Fold
    next_offset: int
    shown_from: int
    stored_offset: int
    stored_at: float
    in_flight: bool = False
    end: int = 0


class Replica:
    """Counts one deployment's messages. `run` is the thread's work; it returns after `stop`."""

    def __init__(
        self,
        deployment: str,
        topic: str,
        source: Source,
        checkpoints: Checkpoints,
        *,
        rules: Callable[[], Rules],
        max_endpoints: int,
        checkpoint_s: float,
        surely_held_s: float,
    ) -> None:
        """`surely_held_s`: how long it may stand still before another one may hold its partitions."""
        self.deployment = deployment
        self.why_not = "has not joined its group yet"
        self.is_missing = False
        self.writer = uuid.uuid4().hex
        self._topic = topic
        self._source = source
        self._checkpoints = checkpoints
        self._rules = rules
        self._max_endpoints = max_endpoints
        self._checkpoint_s = checkpoint_s
        self._surely_held_s = surely_held_s
        self._held: dict[int, _Held] = {}
        self._alive_at = steady()
        self._stop = threading.Event()
        self._log = get_logger(component="serving", deployment=deployment)

    def stop(self) -> None:
        """Make `run` store what it holds and return, within about two seconds."""
        self._stop.set()

    def parts(self) -> dict[tuple[str, int], Counters]:
        """The counters to show, by deployment and partition, and at 0 what the rules declare.

        None of a replica that stood still for long: another one may show them by now.
        """
        if steady() - self._alive_at > self._surely_held_s:
            return {}
        return {
            (self.deployment, partition): with_declared(held.fold)
            for partition, held in self._held.copy().items()
            if held.next_offset >= held.shown_from
        }

    def lag(self) -> dict[int, int]:
        """Messages per held partition that are there and not counted yet."""
        return {p: max(0, held.end - held.next_offset) for p, held in self._held.copy().items()}

    def run(self) -> None:
        """Count until `stop`; begin again from the checkpoints whenever the source or the checkpoints are away."""
        try:
            while not self._stop.is_set():
                try:
                    self._count()
                except SourceMissing as error:
                    self.is_missing, self.why_not = True, str(error)
                    self._stop.wait(_MISSING_RETRY_S)
                except SourceUnavailable as error:
                    self.why_not = str(error)
                    self._log.warning("begins again from its checkpoints", action="begin_again", error=str(error))
                finally:
                    self._source.close()
                    self._held.clear()
                self._stop.wait(_RETRY_S)
        finally:
            self._checkpoints.close()

    def _count(self) -> None:
        self._source.open(self)
        self.is_missing = self._has_joined = False
        self.why_not = "joins its group"
        self._alive_at = looked_at = checked_at = steady()
        while not self._stop.is_set():
            batches = self._source.next(_WAIT_S)
            now = steady()
            if now - self._alive_at > self._surely_held_s:
                self._held.clear()  # what was held may be another's: nothing of it is stored or shown
                raise SourceUnavailable(
                    f"stood still for {now - self._alive_at:.0f} s, in which its session may have ended"
                )
            self._alive_at = now
            if self._has_joined:
                is_level = all(h.next_offset >= h.shown_from for h in self._held.values())
                self.why_not = "ok" if is_level else "catches up with the log"
            for batch in batches:
                self._count_batch(batch)
            if batches:
                failpoint("Q1")
            self._store_what_is_due(now)
            if now - looked_at >= 1.0:
                looked_at = now
                self._look_around()
            if now - checked_at >= _CHECK_S:
                checked_at = now
                self._source.check()

    def _count_batch(self, batch: Batch) -> None:
        held = self._held.get(batch.partition)
        if held is None:
            return  # of an assignment that is over
        known = bisect_left(batch.offsets, held.next_offset)
        values = batch.values[known:] if known else batch.values
        if values:
            end = batch.offsets[-1] + 1
            held.fold.counters.skipped += end - held.next_offset - len(values)
            apply_all(held.fold, values)
            held.next_offset = end

    def gained(self, bounds: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Go on from each partition's best checkpoint."""
        self._has_joined = True
        if not bounds:
            return {}
        topic_id = self._source.topic_id
        keys = {partition: key_of(self.deployment, self._topic, partition) for partition in bounds}
        stored = self._checkpoints.read(keys.values())
        rules = self._rules()
        for partition, bound in bounds.items():
            start = start_from(best(stored[keys[partition]], topic_id), topic_id, bound.low, bound.high)
            fold = Fold(start.counters, rules, self._max_endpoints)
            self._held[partition] = _Held(fold, start.offset, bound.high, start.offset, steady(), end=bound.high)
            self._log.info("gained", action="gain", partition=partition, offset=start.offset, end=bound.high)
        return {partition: self._held[partition].next_offset for partition in bounds}

    def handing_over(self, partitions: Iterable[int]) -> None:
        """Store what the next one will go on from."""
        leaving = {p: held for p in partitions if (held := self._held.pop(p, None)) is not None}
        for partition, held in leaving.items():
            if held.next_offset != held.stored_offset:
                self._store(partition, held)
        self._checkpoints.flush(_FLUSH_S)
        self._log.info("handed over", action="hand_over", partitions=sorted(leaving))

    def lost(self, partitions: Iterable[int]) -> None:
        """Forget them."""
        for partition in partitions:
            self._held.pop(partition, None)
        self._log.warning("lost to the group", action="lose", partitions=sorted(partitions))

    def _look_around(self) -> None:
        rules = self._rules()
        for partition, end in self._source.ends().items():
            if (held := self._held.get(partition)) is not None:
                held.end = max(end, held.next_offset)
        for held in self._held.values():
            if held.fold.rules is not rules:
                held.fold.use(rules)

    def _store_what_is_due(self, now: float) -> None:
        for partition, held in self._held.items():
            due = held.next_offset != held.stored_offset and now - held.stored_at >= self._checkpoint_s
            if due and not held.in_flight:
                self._store(partition, held)
        self._checkpoints.poll()

    def _store(self, partition: int, held: _Held) -> None:
        offset = held.next_offset
        value = encode(Checkpoint(VERSION, self._source.topic_id, offset, self.writer, time.time(), held.fold.counters))
        held.in_flight, held.stored_at = True, steady()

        def acknowledged(is_stored: bool) -> None:
            held.in_flight = False
            if is_stored:
                held.stored_offset = offset
                if self._held.get(partition) is held:
                    self._source.note({partition: offset})

        self._checkpoints.append(key_of(self.deployment, self._topic, partition), value, acknowledged)
        failpoint("Q2")
