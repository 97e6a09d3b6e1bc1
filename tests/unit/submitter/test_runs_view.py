from __future__ import annotations

import io

from rich.console import Console

from tests.unit.submitter.story import Log, heartbeat, rejected, whole_life
from trainyard_schemas.ids import Origin, run_id_from_key
from trainyard_submitter import runs_view
from trainyard_submitter.cli.render import EventPrinter, print_run, print_runs
from trainyard_submitter.following import Followed, Watch

RUN = run_id_from_key("default", "k")
ORIGIN = Origin("trainyard.runs.requested", 1, 5, 1_000)


def life() -> tuple[Watch, list[Followed]]:
    watch = Watch(RUN)
    return watch, [f for r in Log().append(whole_life(RUN, ORIGIN)) if (f := watch.feed(r)) is not None]


def test_a_completed_run_as_json_has_its_result_its_model_and_its_seconds_by_phase() -> None:
    watch, _ = life()
    assert watch.state is not None
    shown = runs_view.run_json(watch.state)
    assert shown["state"] == "completed"
    assert (shown["metric"], shown["value"], shown["baseline"]) == ("accuracy", 0.9722, 0.3889)
    assert shown["seconds"] == {"dispatch": 1.0, "queue": 2.0, "data": 0.1, "fit": 1.5, "total": 5.0}
    assert shown["model"]["id"] == "m1"


def test_each_event_is_one_line() -> None:
    _, followed = life()
    assert [runs_view.headline(f) for f in followed] == [
        "accepted",
        "dispatched        attempt 1 to queue cpu, ClearML task " + "f" * 32,
        "queued            in queue cpu",
        "started           by host:1",
        "attempt succeeded accuracy 0.9722 (baseline 0.3889)",
        "completed         accuracy 0.9722 (baseline 0.3889)",
    ]


def test_progress_is_a_line_with_phase_step_and_time_left() -> None:
    assert runs_view.progress(heartbeat(RUN)) == "fit, 1/3, 2 s left"


def test_a_table_fits_a_narrow_terminal_and_nothing_hostile_reaches_it() -> None:
    fact = rejected(RUN, ORIGIN).model_copy(update={"run_name": "\x1b[31mred\u202e [bold]x[/bold]" + "y" * 500})
    watch = Watch(RUN)
    (followed,) = [f for r in Log().append([fact]) if (f := watch.feed(r)) is not None]
    assert watch.state is not None
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, color_system=None)
    print_runs(console, [watch.state], now=2_000.0)
    print_run(console, watch.state, [followed])
    lines = out.getvalue().splitlines()
    assert lines[1].startswith(RUN[:8])
    assert max(len(line) for line in lines[:2]) <= 60
    assert "\x1b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    assert "[bold]x" in out.getvalue()


def test_without_a_terminal_progress_prints_one_line_per_phase() -> None:
    watch, followed = life()
    out = io.StringIO()
    beats = Log("trainyard.runs.heartbeats").append([heartbeat(RUN), heartbeat(RUN)])
    printer = EventPrinter(Console(file=out, width=200))
    for one in (*followed[:4],):
        printer.show(one)
    progress = Watch(RUN)
    for record in Log().append(whole_life(RUN, ORIGIN)[:4]):
        progress.feed(record)
    for record in beats:
        shown = progress.feed(record)
        assert shown is not None
        printer.show(shown)
    assert [line[10:] for line in out.getvalue().splitlines()][-2:] == ["started           by host:1", "fit ..."]
    assert watch.is_over
