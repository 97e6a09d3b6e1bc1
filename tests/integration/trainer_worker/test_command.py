"""`trainyard worker` itself: what it may be told on the command line, and in which order it serves its queues."""

from __future__ import annotations

import pytest
import typer.main

from tests.integration.trainer_worker.stage import Stage, example
from trainyard_schemas.events import AttemptStarted, AttemptSucceeded
from trainyard_submitter import cli
from trainyard_trainer_worker.__main__ import parser_for
from trainyard_trainer_worker.commands import worker

PRODUCT = "trainyard_submitter"
QUICK = {**example("wine-sklearn"), "extras": {"sklearn": {"estimator": "logreg"}}}


def test_the_products_command_takes_queues_in_both_forms_and_slots(stage: Stage) -> None:
    first, second, third = (f"{stage.queue}-{part}" for part in ("first", "second", "third"))
    name = f"w-{stage.queue}"
    arguments = ("worker", "--queues", first, second, "--slots", "2", "--queues", third)
    process = stage.start_worker("worker", *arguments, module=PRODUCT, TRAINYARD_WORKER_NAME=name)
    assert "trainyard_worker_slots 2.0" in process.page("/metrics")[1]
    shown = {w["id"]: [queue["name"] for queue in w["queues"]] for w in stage.clearml(lambda c: c.workers())}
    assert set(shown) >= {name, f"{name}:1"}
    assert sorted(shown[name]) == sorted(shown[f"{name}:1"]) == sorted([first, second, third])
    assert process.end() == 0


def test_what_the_module_takes_the_products_command_takes_too() -> None:
    of_the_module = {name for action in parser_for("worker")._actions for name in action.option_strings} - {"-h"}
    command = typer.main.get_command(worker)
    of_the_command = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert of_the_module <= of_the_command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slots", "0"], "--slots: Input should be greater than or equal to 1"),
        (["--slots", "two"], "--slots: Input should be a valid integer"),
        (["--slots", ""], "--slots: Input should be a valid integer"),
        (["--queues", "q"], "--queues: Value error, queue names have 3 to 128 characters"),
    ],
)
def test_what_no_worker_can_do_is_a_usage_error_of_the_command(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["worker", *arguments]) == 2
    assert f"trainyard worker: error: {said}" in capsys.readouterr().err


def test_all_that_waits_in_the_first_queue_is_taken_before_what_waits_in_the_second(stage: Stage) -> None:
    first, second = f"{stage.queue}-first", f"{stage.queue}-second"
    runs = [stage.dispatch(QUICK, queue) for queue in (second, first, second, first)]
    stage.start_worker("worker", "--queues", f"{first},{second}")
    ends = [stage.outcome(run.run_id).fact for run in runs]
    assert all(isinstance(end, AttemptSucceeded) for end in ends), ends
    claimed_at = {
        index: event.time
        for index, run in enumerate(runs)
        for _, event in stage.events(run.run_id)
        if isinstance(event.fact, AttemptStarted)
    }
    assert sorted(claimed_at, key=lambda index: claimed_at[index]) == [1, 3, 0, 2]
