"""A user's clone of one of our tasks becomes a run of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.trainer_worker_protocol.world import PREFIX, RUN_ID, TASK_ID, World, accepted, dispatched, marked
from trainyard_schemas.events import AttemptStarted, AttemptSucceeded, RunFailed
from trainyard_schemas.vocabulary import CLONE_SOURCE, Reason
from trainyard_trainer_worker.clones import request_of_clone, run_of_clone
from trainyard_trainer_worker.protocol import Handled

ITS_RUN = run_of_clone("default", TASK_ID)


def clone(**run: str) -> Any:
    parameters = {
        "Run": {
            "run_id": RUN_ID,
            "attempt": "1",
            "accepted_offset": "0",
            "topic_prefix": PREFIX,
            "tenant": "default",
            **run,
        },
        "Dataset": {"uri": "wine.csv", "label": "class", "type": "tabular"},
    }
    return marked(parent="original", name="demo-run (copy)", parameters=parameters)


def test_a_clone_is_asked_for_as_a_run_of_its_own_and_not_trained_yet() -> None:
    world = World(clone(time_budget_s="20")).dispatch(dataset={"type": "tabular", "uri": "wine.csv", "label": "class"})
    assert world.pop() is Handled.ASKED
    ((source, event_id, request),) = world.requests.asked
    assert (source, event_id) == (CLONE_SOURCE, TASK_ID)
    assert (request["run_name"], request["queue"], request["time_budget_s"]) == ("demo-run (copy)", "cpu", 20)
    assert world.training.jobs == []
    assert world.tasks.told == []


def test_a_clone_whose_run_was_dispatched_with_it_is_trained_as_that_run() -> None:
    world = World(clone()).dispatch()
    world.log.put(replace_run(accepted()))
    world.log.put(dispatched().model_copy(update={"run_id": ITS_RUN}))
    assert world.pop() is Handled.SUCCEEDED
    assert world.requests.asked == []
    assert {f.run_id for f in world.log.facts(AttemptStarted)} == {ITS_RUN}
    assert {f.run_id for f in world.log.facts(AttemptSucceeded)} == {ITS_RUN}


def test_a_clone_whose_run_has_ended_is_refused_with_what_to_do() -> None:
    world = World(clone()).dispatch()
    world.log.put(replace_run(accepted()))
    end = {
        "run_name": "n",
        "project": "p",
        "trainer": "t",
        "accepted_at": "",
        "ended_at": "",
        "reason": Reason.INTERNAL,
    }
    world.log.put(RunFailed.model_validate({"run_id": ITS_RUN, **end}))
    assert world.pop() is Handled.FOREIGN
    assert "Clone it again" in world.tasks.messages[0]


def test_a_clone_of_a_run_that_the_log_does_not_hold_is_refused() -> None:
    world = World(clone())
    assert world.pop() is Handled.FOREIGN
    assert RUN_ID in world.tasks.messages[0]


def test_what_a_user_changed_counts_and_what_identified_the_original_does_not() -> None:
    original = {
        "schema_version": 2,
        "trainer": "flaml",
        "metric": None,
        "idempotency_key": "k",
        "retry_of": RUN_ID,
        "split": {"method": "row_shuffle", "test_size": 0.2, "random_seed": 42},
        "dataset": {"type": "tabular", "uri": "a.csv", "label": "y", "clearml": None},
        "priority": 5,
    }
    parameters = {
        "Run": {"trainer": "sklearn", "test_size": "0.3", "group_key": '["g"]', "priority": "high"},
        "Dataset": {"uri": "b.csv"},
    }
    request = request_of_clone(original, parameters, "copy", "cpu")
    assert request == {
        "schema_version": 2,
        "trainer": "sklearn",
        "group_key": ["g"],
        "priority": "high",
        "split": {"method": "row_shuffle", "test_size": 0.3, "random_seed": 42},
        "dataset": {"type": "tabular", "uri": "b.csv", "label": "y"},
        "run_name": "copy",
        "queue": "cpu",
    }


def replace_run(fact: Any) -> Any:
    return fact.model_copy(update={"run_id": ITS_RUN})


def test_a_clone_bears_the_run_that_follows_from_its_own_id() -> None:
    assert run_of_clone("default", "a") != run_of_clone("default", "b")
    assert run_of_clone("default", "a") != run_of_clone("other", "a")
    assert replace(clone(), id="x").parent == "original"
