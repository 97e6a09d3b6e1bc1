"""What is drawn fits the terminal that it is drawn on, and nothing that a name holds can harm it."""

from __future__ import annotations

import io
import queue
import threading

import pytest
from pydantic import JsonValue
from rich.cells import cell_len
from rich.console import Console

from tests.unit.submitter.story import RESULTS, Log, accepted, completed, dispatched, heartbeat, started, succeeded
from trainyard_schemas import events as ev
from trainyard_schemas.ids import Origin, run_id_from_key
from trainyard_schemas.lifecycle import RunState
from trainyard_submitter import runs_view
from trainyard_submitter.cli.render import (
    EventPrinter,
    TransferBar,
    console_for,
    print_events,
    print_files,
    print_result,
    print_run,
    print_runs,
)
from trainyard_submitter.cli.shared import Patience
from trainyard_submitter.following import Followed, Watch

RUN = run_id_from_key("default", "k")
HOSTILE = "\x1b[31mred\u202e[bold]x[/bold] " + "y" * 300
WIDTHS = (60, 80, 200)


def life() -> tuple[RunState, list[Followed]]:
    """A run whose every text tries to break out."""
    warnings: list[JsonValue] = [HOSTILE, 7, *(f"column {n}\n  was left out" for n in range(11))]
    results: dict[str, JsonValue] = {
        **RESULTS,
        "feature_importance": {HOSTILE: 0.5, "b": 0.1, "none": 0.0},
        "warnings": warnings,
    }
    begun = accepted(RUN, Origin("t", 1, 5, 1_000))
    facts: list[ev.Fact] = [
        begun.model_copy(update={"request": {**begun.request, "run_name": HOSTILE}, "warnings": (HOSTILE,)}),
        dispatched(RUN),
        started(RUN).model_copy(update={"worker": HOSTILE}),
        succeeded(RUN).model_copy(update={"results": results}),
        completed(RUN).model_copy(update={"results": results}),
    ]
    watch = Watch(RUN)
    followed = [f for r in Log().append(facts) if (f := watch.feed(r)) is not None]
    assert watch.state is not None
    return watch.state, followed


@pytest.mark.parametrize("width", WIDTHS)
def test_every_line_fits_the_terminal(width: int) -> None:
    state, followed = life()
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    print_runs(console, [state], now=2_000.0)
    print_run(console, state, followed)
    print_events(console, followed)
    files = [{"name": HOSTILE, "uri": "http://files/" + "z" * 400, "bytes": 10_000, "sha256": "0" * 64}]
    print_files(console, files)
    print_result(console, state, HOSTILE)
    shown = out.getvalue()
    assert max(cell_len(line) for line in shown.splitlines()) <= width
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[bold]" in shown, "markup in a name is text"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_line_fits_the_terminal_and_shows_a_bar(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    watch = Watch(RUN)
    facts = [accepted(RUN, Origin("t", 1, 5, 1_000)), dispatched(RUN), started(RUN), heartbeat(RUN)]
    with EventPrinter(console) as printer:
        for record in Log().append(facts):
            followed = watch.feed(record)
            assert followed is not None
            printer.show(followed)
        with console.capture() as captured:
            console.print(printer.live)
    assert "fit, 1/3, 2 s left" in captured.get()
    assert "━" in captured.get()
    assert max(cell_len(line) for line in captured.get().splitlines()) <= width


def test_what_is_piped_holds_no_escape_and_is_not_cut() -> None:
    state, followed = life()
    out = io.StringIO()
    console = console_for(out)
    print_runs(console, [state], now=2_000.0)
    print_events(console, followed)
    with EventPrinter(console) as printer:
        for one in followed:
            printer.show(one)
        printer.waits_for("still waiting for a worker")
    with TransferBar(console, "uploading") as bar:
        bar.show(1, 2)
    shown = out.getvalue()
    assert "\x1b" not in shown
    assert RUN in shown
    assert "still waiting for a worker" in shown
    assert "uploading" not in shown


def test_the_strongest_features_come_first_and_those_without_effect_not_at_all() -> None:
    assert runs_view.top_features({"feature_importance": {"a": 0.1, "b": 0.25, "c": 0.0, "d": -0.1}}) == [
        "b 0.25",
        "a 0.1",
    ]
    assert runs_view.top_features({}) == []


def test_what_the_training_warned_of_is_shown_a_line_each_and_of_many_the_first_ten() -> None:
    state, followed = life()
    shown = runs_view.warnings_of(state)
    assert [len(shown[0]), *shown[1:3]] == [200, "column 0 was left out", "column 1 was left out"]
    assert shown[10:] == [f"and 2 more: trainyard runs show {state.run_id[:8]} --json"]
    result, run = io.StringIO(), io.StringIO()
    print_result(console_for(result), state, "my.csv")
    print_run(console_for(run), state, followed)
    for out in (result, run):
        lines = [line.split(maxsplit=1)[1] for line in out.getvalue().splitlines() if line.startswith("warning ")]
        assert [line.strip() for line in lines[1:3] + lines[-1:]] == [*shown[1:3], shown[-1]]
    assert runs_view.warnings_of(followed[0].state or state) == []


def test_after_a_silence_it_is_said_what_the_run_waits_for_and_news_start_the_silence_anew() -> None:
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    _, followed = life()
    with Patience(said.put, quiet_s=0.2) as patience:
        assert "intake" in said.get(timeout=30)
        patience.news(followed[1])
        while "queue cpu" not in said.get(timeout=30):  # what was said meanwhile is of the time before
            continue
    assert not any(thread.name == patience.thread_name for thread in threading.enumerate())
