"""A replica between its ports: what it shows and stores when it stands still longer than its session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from trainyard_stats.confluent.source import HEARTBEAT_S, SESSION_S, SURELY_HELD_S
from trainyard_stats.serving import replica as replica_module
from trainyard_stats.serving.metric_rules import NO_RULES, Rules, parse_rules
from trainyard_stats.serving.ports import Batch, Bounds, Members
from trainyard_stats.serving.replica import Replica


class OneBatchThenSilence:
    """A source that gives one message, and whose third answer comes only when the test lets it."""

    def __init__(self) -> None:
        self.topic_id = "id"
        self.opened = 0
        self.standing_still, self.go_on = threading.Event(), threading.Event()
        self._answers = 0

    def open(self, members: Members) -> None:
        self.opened += 1
        if self.opened == 1:
            members.gained({0: Bounds(0, 1)})

    def next(self, timeout_s: float) -> Sequence[Batch]:
        self._answers += 1
        if self._answers == 1:
            return [Batch(0, range(1), [b'[{"_url": "a", "_latency": 0.1}]'])]
        if self._answers == 3:
            self.standing_still.set()
            assert self.go_on.wait(30)
        time.sleep(0.01)
        return ()

    def check(self) -> None: ...

    def ends(self) -> Mapping[int, int]:
        return {}

    def note(self, offsets: Mapping[int, int]) -> None: ...

    def close(self) -> None: ...


class Stored:
    """A log of checkpoints that only remembers what it was given."""

    def __init__(self) -> None:
        self.appended: list[str] = []

    def read(self, keys: Iterable[str]) -> Mapping[str, list[bytes]]:
        return {key: [] for key in keys}

    def append(self, key: str, value: bytes, acknowledged: Callable[[bool], None]) -> None:
        self.appended.append(key)
        acknowledged(True)

    def poll(self) -> None: ...

    def flush(self, timeout_s: float) -> None: ...

    def close(self) -> None: ...


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def replica_of(
    source: OneBatchThenSilence, checkpoints: Stored, surely_held_s: float, rules: Rules = NO_RULES
) -> Replica:
    return Replica(
        "d",
        "topic",
        source,
        checkpoints,
        rules=lambda: rules,
        max_endpoints=10,
        checkpoint_s=600.0,
        surely_held_s=surely_held_s,
    )


def test_a_replica_that_stands_still_longer_than_its_session_shows_and_stores_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(replica_module, "steady", lambda: now_s)
    source, checkpoints = OneBatchThenSilence(), Stored()
    replica = replica_of(source, checkpoints, surely_held_s=0.6)
    thread = threading.Thread(target=replica.run, daemon=True)
    thread.start()
    assert source.standing_still.wait(20)
    assert replica.parts() != {}
    now_s += 0.7
    assert replica.parts() == {}
    assert source.opened == 1, "it shows nothing although it has not been told yet"
    source.go_on.set()
    until(lambda: source.opened == 2)
    assert replica.parts() == {}
    assert checkpoints.appended == []
    replica.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_each_partition_that_is_held_shows_what_the_rules_declare() -> None:
    rules = parse_rules({"b/1": {"log_frequency": 1.0}})
    replica = replica_of(OneBatchThenSilence(), Stored(), SURELY_HELD_S, rules)
    replica.gained({2: Bounds(0, 0), 5: Bounds(0, 0), 7: Bounds(0, 9)})
    parts = replica.parts()
    assert {place: [*counters.endpoints] for place, counters in parts.items()} == {("d", 2): ["b/1"], ("d", 5): ["b/1"]}
    replica.lost([2])
    assert [*replica.parts()] == [("d", 5)]


@pytest.mark.parametrize(
    ("stood_still_s", "shown"), [(SESSION_S - HEARTBEAT_S, 0), (2 * HEARTBEAT_S, 1)], ids=["may be another's", "ours"]
)
def test_what_the_broker_may_have_given_to_another_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, stood_still_s: float, shown: int
) -> None:
    """The last heartbeat before a standstill may be as old as two are apart, and the broker counts from it."""
    now_s = 1_000.0
    monkeypatch.setattr(replica_module, "steady", lambda: now_s)
    source = OneBatchThenSilence()
    replica = replica_of(source, Stored(), SURELY_HELD_S)
    thread = threading.Thread(target=replica.run, daemon=True)
    thread.start()
    assert source.standing_still.wait(20)
    assert len(replica.parts()) == 1
    now_s += stood_still_s
    assert len(replica.parts()) == shown, "as a scrape sees it that comes before anything else wakes"
    source.go_on.set()
    replica.stop()
    thread.join(20)
    assert not thread.is_alive()
