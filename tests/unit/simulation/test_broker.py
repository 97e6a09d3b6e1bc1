from __future__ import annotations

import pytest

from trainyard_schemas.events import AttemptDispatched, Event, make_event
from trainyard_schemas.lifecycle import Verdict
from trainyard_schemas.vocabulary import RunPhase
from trainyard_simulation.broker import Broker
from trainyard_simulation.effects import Signal
from trainyard_simulation.groups import Group, StaleGeneration
from trainyard_simulation.kernel import EPOCH_S, Kernel
from trainyard_simulation.processes import Process

from .making import RUN_ID, accepted_event

PARTITIONS = 12


def dispatched(task_id: str) -> Event:
    fact = AttemptDispatched(run_id=RUN_ID, attempt=1, task_id=task_id, queue="cpu", queue_id="q-cpu")
    return make_event(fact, source="test", writer="w", now=EPOCH_S)


def stored(broker: Broker, *events: Event) -> list[Verdict]:
    for event in events:
        broker.append_event(event).apply()
    return [folded.step.verdict for folded in broker.lifecycle[broker.partition(RUN_ID)]]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_broker_keeps_every_record_and_the_fold_takes_the_first(as_bytes: bool) -> None:
    broker = Broker(Kernel(1), as_bytes=as_bytes)
    verdicts = stored(broker, accepted_event(), dispatched("a"), dispatched("b"), dispatched("a"))
    assert verdicts == [Verdict.WON, Verdict.WON, Verdict.WRONG_ATTEMPT, Verdict.DUPLICATE]
    assert broker.states[RUN_ID].task_id == "a"


def test_a_view_sees_a_prefix_that_grows_to_the_whole() -> None:
    prefixes: set[int] = set()
    for seed in range(60):
        kernel = Kernel(seed)
        broker = Broker(kernel, as_bytes=False)
        view = broker.subscribe(Process("p", 1), Signal(kernel))
        stored(broker, accepted_event(), dispatched("a"), dispatched("b"))
        kernel.run_until(EPOCH_S + 0.05)
        prefixes.add(view.positions[broker.partition(RUN_ID)])
        kernel.run_until(EPOCH_S + 60.0)
        assert view.has_reached({broker.partition(RUN_ID): 3})
        assert view.states[RUN_ID].phase is RunPhase.DISPATCHED
        assert [n.offset for n in view.news] == [0, 1, 2]
    assert len(prefixes) >= 3


def test_the_dead_see_nothing() -> None:
    kernel = Kernel(1)
    broker = Broker(kernel, as_bytes=False)
    process = Process("p", 1)
    view = broker.subscribe(process, Signal(kernel))
    process.alive = False
    stored(broker, accepted_event())
    kernel.run_until(EPOCH_S + 60.0)
    assert not view.states


def test_a_commit_that_passes_an_unanswered_request_is_noted() -> None:
    kernel = Kernel(1)
    broker = Broker(kernel, as_bytes=False)
    process = Process("p", 1)
    broker.intake.join(process, Signal(kernel))
    for _ in range(2):
        broker.append_request(3, b"{}").apply()
    broker.answered.add((3, 0))
    broker.note_commit_of_requests(3, 1)
    assert broker.early_commits == []
    broker.note_commit_of_requests(3, 2)
    assert broker.early_commits == [(3, 1)]


def test_a_commit_of_an_older_generation_is_refused_and_keeps_nothing() -> None:
    kernel = Kernel(1)
    group = Group(kernel, "g", PARTITIONS)
    old = Process("old", 1)
    group.join(old, Signal(kernel))
    generation = group.generation
    group.commit(old, generation, {0: 5})
    group.join(Process("new", 1), Signal(kernel))
    with pytest.raises(StaleGeneration):
        group.commit(old, generation, {0: 9})
    assert group.committed == {0: 5}


def test_partitions_are_dealt_to_all_members_and_each_is_told() -> None:
    kernel = Kernel(1)
    group = Group(kernel, "g", PARTITIONS)
    members = [group.join(Process(name, 1), Signal(kernel)) for name in ("a", "b")]
    kernel.run_until(EPOCH_S + 25.0)
    assert sorted(p for m in members for p in m.partitions) == list(range(PARTITIONS))
    assert {m.generation for m in members} == {group.generation}


def test_a_paused_member_loses_its_partitions_and_is_the_last_to_know() -> None:
    kernel = Kernel(1)
    kernel.faults_on = False  # news of a rebalance takes 0.1 s at most
    group = Group(kernel, "g", 1)
    zombie, heir = Process("zombie", 1), Process("heir", 1)
    member = group.join(zombie, Signal(kernel))
    kernel.run_until(EPOCH_S + 10.0)
    assert member.partitions == (0,)
    zombie.paused_until = kernel.now + 100.0
    group.leave_after_timeout(zombie)
    group.join(heir, Signal(kernel))
    kernel.run_until(EPOCH_S + 60.0)
    assert group.owns(heir, 0)
    believed = list(member.partitions)
    kernel.run_until(EPOCH_S + 200.0)
    assert believed == [0]
    assert group.owns(zombie, 0) is bool(member.partitions)
