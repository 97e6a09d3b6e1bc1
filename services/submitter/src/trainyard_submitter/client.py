"""The library: publish a request, know that it stands in the log, and follow what becomes of it.

Needs kafka-python and pydantic only. A `Client` belongs to one thread.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from trainyard_runtime.failpoints import failpoint
from trainyard_runtime.kafka.sync_client import Position, SyncPublisher, SyncReader
from trainyard_schemas.codec import printable
from trainyard_schemas.ids import Origin, partition_of
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.runs import RunRequest
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName
from trainyard_schemas.vocabulary import CommandName, RunPhase
from trainyard_submitter.connection import Connection, page_of, resolve
from trainyard_submitter.errors import Conflict, RunUnknown, WaitTimeout
from trainyard_submitter.following import Answer, Followed, Watch, fold_runs
from trainyard_submitter.log_access import OpenReader, publish
from trainyard_submitter.ordering import Order, order, refuse_ended, retry_request
from trainyard_submitter.submission import Prepared, Submission, prepare, submission_of

DEFAULT_TENANT = "default"
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_SINCE_S = 7 * 24 * 3600.0
# Clocks of brokers, intake and this program may differ; an answer is searched from this long before the request.
_CLOCK_SLACK_S = 3600.0
_POLL_S = 0.25
_SILENCE_S = 900.0


class Client:
    """A connection to Trainyard through Kafka.

    `bootstrap` is `host:port[,host:port]`, `topic_prefix` includes its dot. What is not given comes from the
    environment (`TRAINYARD_KAFKA_BOOTSTRAP`, `TRAINYARD_TOPIC_PREFIX`, and what TLS and SASL need), else from the local
    stack. `timeout_s` bounds every single question to the brokers. `tenant` must be the dispatcher's.

    Raises ConfigurationError when no broker is known.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        topic_prefix: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        connection = resolve(bootstrap, topic_prefix, os.environ)
        self._address = connection.address
        self._prefix = connection.topic_prefix
        self._timeout_s = timeout_s
        self._tenant = tenant
        self._publisher: SyncPublisher | None = None

    def page(self, run_id: str = "") -> str | None:
        """Where a browser sees the runs, or one of them; None where no run page is known here."""
        return page_of(os.environ, Connection(self._address, self._prefix), run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def ping(self) -> None:
        """Raises Unavailable or NotAllowed where no broker answers or lets us in."""
        with self._reader() as reader:
            reader.ends([(self._topic(TopicName.RUNS_REQUESTED), 0)])

    def submit(
        self,
        request: RunRequest | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        event_id: str | None = None,
    ) -> Submission:
        """Publish a request and wait until the brokers have it for good.

        The same idempotency key (or the same `event_id`) with the same request is the same run, however often it is
        sent. An answer that was lost is asked for again with the same event within `timeout_s`.

        Raises:
            InvalidRequest: nothing was sent; every wrong field is named.
            Unavailable, OutcomeUnknown, NotAllowed: see `errors`.
        """
        return self.publish(self.prepare(request, idempotency_key=idempotency_key, event_id=event_id))

    def prepare(
        self,
        request: RunRequest | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        event_id: str | None = None,
    ) -> Prepared:
        """The checked record that `publish` would send. Raises InvalidRequest."""
        prepared = prepare(
            request,
            idempotency_key=idempotency_key,
            event_id=event_id or str(uuid.uuid4()),
            tenant=self._tenant,
            now=time.time(),
        )
        return prepared if event_id is None else replace(prepared, keyed=True)

    def publish(self, prepared: Prepared) -> Submission:
        """Publish a prepared request; the second half of `submit`, with its guarantees and errors."""
        published_at = time.time()
        failpoint("S1")
        origin = self._publish(prepared)
        failpoint("S3")
        return submission_of(prepared, origin, tenant=self._tenant, published_at=published_at)

    def cancel(self, run_id: str, *, message: str = "", actor: str | None = None) -> str:
        """Ask for the end of a run, and return the command's id: `run.cancel_requested` will bear it.

        The order has been acknowledged by the brokers, not obeyed yet: follow the run. Raises RunUnknown, RunEnded,
        InvalidRequest (`message` is one line of at most 2,000 characters), Unavailable, OutcomeUnknown, NotAllowed.
        """
        return self._order(run_id, CommandName.CANCEL, message, actor, None)

    def prioritise(self, run_id: str, priority: int, *, message: str = "", actor: str | None = None) -> str:
        """Give a run another priority, 0 (last) to 9 (first); as `cancel`, but answered by `run.reprioritised`."""
        return self._order(run_id, CommandName.REPRIORITISE, message, actor, priority)

    def retry(self, run_id: str) -> Submission:
        """Submit an ended run again: a new run with the same request, whose `retry_of` names the old one.

        Raises RunUnknown, SubmitterError where it has not ended or was rejected, and what `submit` raises.
        """
        return self.submit(retry_request(self._known(run_id)))

    def answer(self, submission: Submission, *, timeout_s: float) -> Answer | None:
        """What intake made of a submission; None if there is no answer within `timeout_s`."""
        watch = self._watch(submission)
        for _ in self._events([watch], [submission], timeout_s=timeout_s, progress=False):
            if watch.answer is not None:
                break
        return watch.answer

    def follow(self, run: Submission | str, *, timeout_s: float | None = None) -> Iterator[Followed]:
        """Every lifecycle event of a run from its first, as it comes, with the progress of its worker in between.

        Ends after the run's last event, or after that of the refusal of a submission. Survives an absence of the
        brokers. Raises WaitTimeout when `timeout_s` is over, Conflict where another request holds the key.
        """
        for _, followed in self.follow_all([run], timeout_s=timeout_s):
            yield followed

    def follow_all(
        self, runs: Sequence[Submission | str], *, timeout_s: float | None = None
    ) -> Iterator[tuple[int, Followed]]:
        """`follow` for several runs at once, until the last one has ended: each event with its run's place in `runs`.

        A conflict or the end of the time is raised after everything else was brought.
        """
        watches = [self._watch(run) for run in runs]
        yield from self._events(watches, runs, timeout_s=timeout_s, progress=True)
        for watch in watches:
            if watch.answer is Answer.CONFLICT:
                raise Conflict(watch.run_id)
            if not watch.is_over:
                assert timeout_s is not None
                raise WaitTimeout(watch.run_id, timeout_s)

    def wait(self, run: Submission | str, *, timeout_s: float | None = None) -> RunState:
        """The run's last state: completed, failed, cancelled or rejected.

        Raises:
            WaitTimeout: it has not ended within `timeout_s`.
            Conflict: another request holds the submission's idempotency key.
        """
        state: RunState | None = None
        for followed in self.follow(run, timeout_s=timeout_s):
            state = followed.state
        assert state is not None
        return state

    def get(self, run_id: str) -> RunState | None:
        """The run as the log tells it now; None where it holds no such run."""
        with self._reader() as reader:
            return self._told_by(reader, run_id)

    def history(self, run_id: str) -> list[Followed]:
        """All events of a run up to now, ignored ones included. Raises RunUnknown."""
        watch = Watch(run_id)
        with self._reader() as reader:
            fed = [watch.feed(r) for r in reader.read_to_end(reader.beginnings([self._lifecycle(run_id)]))]
        if watch.state is None:
            raise unknown_run(run_id)
        return [followed for followed in fed if followed is not None]

    def silence_s(self, state: RunState) -> float | None:
        """Seconds since the last sign of life of the worker that holds the run, by the worker's clock; None if there
        was none in the last quarter of an hour."""
        position = (self._topic(TopicName.RUNS_HEARTBEATS), partition_of(state.run_id, RUN_PARTITIONS))
        watch, latest = Watch(state.run_id), None
        watch.state = state
        with self._reader() as reader:
            for record in reader.read_to_end(reader.offsets_at([position], time.time() - _SILENCE_S)):
                if (followed := watch.feed(record)) is not None:
                    latest = followed.event.time
        return None if latest is None else max(0.0, time.time() - latest)

    def list_runs(
        self,
        *,
        since_s: float = DEFAULT_SINCE_S,
        state: RunPhase | None = None,
        limit: int | None = None,
    ) -> list[RunState]:
        """Runs accepted or rejected within the last `since_s` seconds, newest first."""
        topic = self._topic(TopicName.RUNS_LIFECYCLE)
        positions = [(topic, partition) for partition in range(RUN_PARTITIONS)]
        with self._reader() as reader:
            runs = fold_runs(reader.read_to_end(reader.offsets_at(positions, time.time() - since_s)))
            # Nothing but accepted: new, or an older run whose request came again.
            for run_id in [run.run_id for run in runs.values() if run.phase is RunPhase.ACCEPTED]:
                runs[run_id] = self._told_by(reader, run_id) or runs[run_id]
        found = [run for run in runs.values() if state is None or run.phase is state]
        found.sort(key=lambda run: (-run.accepted_at, run.run_id))
        return found[:limit]

    def _told_by(self, reader: SyncReader, run_id: str) -> RunState | None:
        watch = Watch(run_id)
        for record in reader.read_to_end(reader.beginnings([self._lifecycle(run_id)])):
            watch.feed(record)
        return watch.state

    def _known(self, run_id: str) -> RunState:
        state = self.get(run_id)
        if state is None:
            raise unknown_run(run_id)
        return state

    def _order(self, run_id: str, command: CommandName, message: str, actor: str | None, priority: int | None) -> str:
        refuse_ended(self._known(run_id))
        given = order(
            run_id,
            command,
            actor=actor or this_actor(),
            command_id=str(uuid.uuid4()),
            now=time.time(),
            message=message,
            priority=priority,
        )
        self._publish(given, TopicName.RUNS_COMMANDS)
        return given.command_id

    def _publish(self, prepared: Prepared | Order, name: TopicName = TopicName.RUNS_REQUESTED) -> Origin:
        if self._publisher is None:
            self._publisher = SyncPublisher(self._address, timeout_s=self._timeout_s)
        return publish(self._publisher, self._topic(name), prepared, timeout_s=self._timeout_s)

    def _events(
        self, watches: Sequence[Watch], runs: Sequence[Submission | str], *, timeout_s: float | None, progress: bool
    ) -> Iterator[tuple[int, Followed]]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._reader() as reader:
            starts: dict[Position, int] = {}
            for run in runs:
                for position, offset in self._starts(reader, run, progress).items():
                    starts[position] = min(offset, starts.get(position, offset))
            reader.assign(starts)
            while not all(watch.is_over for watch in watches):
                left_s = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
                if left_s <= 0:
                    return
                for record in reader.poll(left_s):
                    for index, watch in enumerate(watches):
                        followed = None if watch.is_over else watch.feed(record)
                        if followed is not None:
                            yield index, followed

    def _watch(self, run: Submission | str) -> Watch:
        if isinstance(run, str):
            return Watch(run)
        return Watch(run.run_id, origin=run.origin, rejected_run_id=run.rejected_run_id)

    def _starts(self, reader: SyncReader, run: Submission | str, progress: bool) -> dict[Position, int]:
        """Where to read from: a new run's events are younger than its request; a keyed one may be of any age."""
        run_id = run if isinstance(run, str) else run.run_id
        own = self._lifecycle(run_id)
        starts: dict[Position, int] = {}
        if isinstance(run, Submission):
            since = run.published_at - _CLOCK_SLACK_S
            starts |= reader.offsets_at(list({own, self._lifecycle(run.rejected_run_id)}), since)
        if isinstance(run, str) or run.keyed:
            starts |= reader.beginnings([own])
        if progress:
            starts |= reader.ends([(self._topic(TopicName.RUNS_HEARTBEATS), own[1])])
        return starts

    def _lifecycle(self, run_id: str) -> Position:
        return (self._topic(TopicName.RUNS_LIFECYCLE), partition_of(run_id, RUN_PARTITIONS))

    def _topic(self, name: TopicName) -> str:
        return f"{self._prefix}{name.value}"

    def _reader(self) -> OpenReader:
        return OpenReader(self._address, self._timeout_s)


def unknown_run(run_id: str) -> RunUnknown:
    """The error that says so."""
    return RunUnknown(f"run {run_id} is not in the log; `trainyard runs list` shows those that are")


def this_actor() -> str:
    """Who gives orders from here: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry, as in many containers
        user = f"uid-{os.getuid()}"
    return printable(f"{user}@{socket.gethostname()}", 128).translate({ord("<"): "?", ord(">"): "?"})
