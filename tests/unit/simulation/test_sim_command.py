from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from trainyard_simulation.campaign import MAX_FAILURES, Failure, Report, run_campaign, run_seeds
from trainyard_simulation.commands import app
from trainyard_simulation.processes import ProgramError
from trainyard_simulation.search import exposures


def invoked(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.output


def test_a_campaign_of_kept_promises_exits_with_0() -> None:
    code, output = invoked("--seeds", "1..20", "--jobs", "1")
    assert code == 0
    assert "20 seeds, 0 broken" in output


def test_a_campaign_answers_with_one_json_object() -> None:
    code, output = invoked("--seeds", "1..20", "--jobs", "1", "--json")
    document = json.loads(output)
    assert code == 0
    assert (document["seeds"], document["failed_seeds"], document["failures"]) == (20, 0, [])
    assert document["coverage"]["verdict won"] > 20
    assert document["steps"] > 1_000


def test_a_broken_promise_exits_with_1_and_says_how_to_see_it() -> None:
    code, output = invoked("--seeds", "1..60", "--jobs", "1", "--mutation", "no-healing")
    assert code == 1
    assert "BROKEN" in output
    _, hint = output.split("trainyard sim ")
    assert hint.split() == ["--seed", hint.split()[1], "--trace", "--mutation", "no-healing"]
    again, trace = invoked(*hint.split())
    assert again == 1
    assert "BROKEN" in trace


def test_one_seed_shows_its_trace() -> None:
    code, output = invoked("--seed", "3", "--trace")
    assert code == 0
    assert "append run.accepted" in output
    assert "all promises kept" in output


def test_one_seed_answers_with_one_json_object() -> None:
    code, output = invoked("--seed", "7", "--json")
    document: dict[str, Any] = json.loads(output)
    assert code == 0
    assert "trace" not in document
    assert len(document["digest"]) == 32
    assert json.loads(invoked("--seed", "7", "--json", "--trace")[1])["trace"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--seeds", "5"], "A..B"),
        (["--seeds", "9..3"], "ends before it begins"),
        (["--seeds", "a..b"], "A..B"),
        (["--mutation", "typo"], "no-healing"),
        (["--trace"], "--seed"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_give(arguments: list[str], named: str) -> None:
    code, output = invoked(*arguments)
    assert code == 2
    assert named in output


def test_two_processes_find_what_one_finds() -> None:
    alone, together = run_campaign(1, 210, jobs=1), run_campaign(1, 210, jobs=2)
    assert (alone.seeds, alone.steps, alone.coverage) == (together.seeds, together.steps, together.coverage)
    assert together.seeds == 210


def test_only_the_first_failures_are_kept_and_all_are_counted() -> None:
    total = Report()
    for seed in reversed(range(MAX_FAILURES + 5)):
        total.add(Report(1, failed_seeds=1, failures=[Failure(seed, ("x",))]))
    assert total.failed_seeds == MAX_FAILURES + 5
    assert [f.seed for f in total.failures] == list(range(MAX_FAILURES))


def test_a_bug_in_the_code_under_simulation_is_a_failed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seed: int) -> None:
        raise ProgramError(f"planner-1: KeyError in {seed}")

    monkeypatch.setattr("trainyard_simulation.campaign.run_seed", broken)
    report = run_seeds([4])
    assert report.failures == [Failure(4, ("planner-1: KeyError in 4",))]


def test_a_search_says_how_many_schedules_it_went_through() -> None:
    code, output = invoked("--exhaustive", "1", "--seed", "3", "--jobs", "1", "--json")
    document = json.loads(output)
    assert (code, document["broken"]) == (0, [])
    assert document["schedules"] == 1 + sum(len(met.faults()) for met in exposures(3))


def test_a_broken_search_names_the_fault_and_exits_with_1() -> None:
    code, output = invoked("--exhaustive", "1", "--seed", "1", "--jobs", "1", "--mutation", "no-healing")
    assert code == 1
    assert "BROKEN  seed 1, crash " in output
