"""`trainyard demo`: the whole system on real data, in one command.

Uses the stack of this home or starts one, submits the example requests as any other program would, shows what happens,
and ends what it started.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainyard_devstack.control import StackStatus, start_stack, stop_stack
from trainyard_devstack.demo_runs import DemoRun, demo_runs
from trainyard_devstack.errors import DevstackError
from trainyard_devstack.home_files import running_supervisor
from trainyard_devstack.settings import CHECKOUT, StackSettings
from trainyard_devstack.stack import Home
from trainyard_runtime.settings import settings_or_exit
from trainyard_schemas.lifecycle import RunState
from trainyard_submitter import Client, Submission, SubmitterError, WaitTimeout
from trainyard_submitter.cli.render import EventPrinter, console_for, state_text
from trainyard_submitter.runs_view import ago, number, run_json, seconds_by_phase

EXIT_NOT_COMPLETED = 1
# A few runs of 2 to 8 s each on two cores; a machine ten times slower still gets through.
RUNS_TIMEOUT_S = 600.0
# A supervisor takes its lock within 0.5 s of its start.
SUPERVISOR_LOCK_S = 3.0

demo_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@dataclass(slots=True)
class _Trained:
    """What became of one of the demo's runs so far."""

    run: DemoRun
    submission: Submission
    state: RunState | None = None

    @property
    def is_reached(self) -> bool:
        return self.run.is_reached(self.state)


@demo_app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Train models on real data through the whole system, and show how it goes."""
    begun = time.monotonic()
    console = console_for(sys.stderr if as_json else sys.stdout)
    settings = settings_or_exit(StackSettings)
    wanted = _wanted_runs()
    with _stack(settings, console, keep=keep) as (status, ready_s):
        trained = _train(status, wanted, console)
        total_s = time.monotonic() - begun
    if as_json:
        document = {
            "runs": [_as_json(one) for one in trained],
            "seconds": {"ready": round(ready_s, 3), "total": round(total_s, 3)},
        }
        sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        _print_results(console, trained)
        _print_next(console, trained, ready_s, total_s, keep=keep, page=status.page)
    missed = [one for one in trained if not one.is_reached]
    for one in missed:
        sys.stderr.write(f"trainyard: {_miss(one)}\n")
    if missed:
        raise typer.Exit(EXIT_NOT_COMPLETED)


def _wanted_runs() -> tuple[DemoRun, ...]:
    examples = CHECKOUT / "examples"
    try:
        return demo_runs(lambda path: (examples / path).read_bytes())
    except (OSError, ValueError) as error:
        raise DevstackError(f"The demo needs the checkout's examples: {error}.") from error


@contextmanager
def _stack(settings: StackSettings, console: Console, *, keep: bool) -> Iterator[tuple[StackStatus, float]]:
    """A ready stack and the seconds until it was; one that was started here is ended afterwards unless `keep`."""
    begun = time.monotonic()
    running_before = running_supervisor(Home(settings.home)) is not None

    def tell(sentence: str) -> None:
        console.print(Text(sentence))

    if not running_before:
        tell("Starting Kafka, a ClearML API and the services ...")
    try:
        status, started = start_stack(settings, tell)
    except BaseException:
        if not running_before:
            _end_half_started(settings)
        raise
    try:
        ready_s = time.monotonic() - begun
        tell(f"The stack {f'is ready after {ready_s:.1f} s' if started else 'runs already'}: Kafka {status.bootstrap}.")
        if status.page is not None:
            tell(f"Watch the runs in a browser: {status.page}")
        yield status, ready_s
    finally:
        if started and not keep:
            stop_stack(settings)


def _end_half_started(settings: StackSettings) -> None:
    """End a supervisor that was just started, and may not hold its lock yet."""
    deadline = time.monotonic() + SUPERVISOR_LOCK_S
    while not stop_stack(settings) and time.monotonic() < deadline:
        time.sleep(0.1)


def _train(status: StackStatus, wanted: Sequence[DemoRun], console: Console) -> list[_Trained]:
    """Submit everything, and show every event until all runs have ended."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL + 1)
    with Client(status.bootstrap, topic_prefix=status.topic_prefix) as client:
        trained = [_Trained(run, client.submit(run.request)) for run in wanted]
        console.print(Text(f"Published {len(trained)} requests on {status.topic_prefix}runs.requested:"))
        width = max(len(run.name) for run in wanted)
        with EventPrinter(console) as printer:
            try:
                for index, followed in client.follow_all([t.submission for t in trained], timeout_s=RUNS_TIMEOUT_S):
                    trained[index].state = followed.state
                    printer.show(followed, trained[index].run.name.ljust(width))
            except WaitTimeout as error:
                console.print(Text(f"{error}; what has ended by now:"))
            except SubmitterError as error:
                raise DevstackError(f"The runs cannot be followed: {error}.") from error
    return trained


def _as_json(trained: _Trained) -> dict[str, Any]:
    """One run as the demo's JSON shows it: the fields of `trainyard runs show`, and the floor."""
    if trained.state is None:
        shown: dict[str, Any] = {
            "run_id": trained.submission.run_id,
            "run_name": trained.run.name,
            "trainer": trained.run.request.get("trainer"),
            "state": "requested",
            "metric": trained.run.request.get("metric"),
            "value": None,
            "baseline": None,
            "seconds": {},
            "model": None,
        }
    else:
        shown = run_json(trained.state)
    return shown | {"floor": trained.run.floor, "demand": trained.run.demand, "reached": trained.is_reached}


def _print_results(console: Console, trained: Sequence[_Trained]) -> None:
    reached = _table("run", "state", "metric", value=True, baseline=True, demanded=False)
    took = _table("run", **dict.fromkeys(_SECONDS, True))
    for one in trained:
        results = (one.state.results or {}) if one.state else {}
        seconds = seconds_by_phase(one.state) if one.state else {}
        reached.add_row(
            Text(one.run.name),
            state_text(one.state.phase) if one.state else Text("requested"),
            Text(str(results.get("metric", one.run.request.get("metric", "")))),
            Text(number(results.get("value")), style="green" if one.is_reached else "red"),
            Text(number(results.get("baseline"))),
            Text(one.run.demand),
        )
        took.add_row(Text(one.run.name), *(_sum(seconds, phases) for phases in _SECONDS.values()))
    for title, table in (("On data that was held out from training:", reached), ("Seconds by phase:", took)):
        console.print()
        console.print(Text(title))
        console.print(table)


_SECONDS: Mapping[str, tuple[str, ...]] = {
    "dispatch": ("dispatch",),
    "queue": ("queue",),
    "import": ("import",),
    "data": ("data", "split"),
    "fit": ("fit",),
    "evaluate": ("evaluate", "importance"),
    "model": ("pack", "report", "verify", "publish"),
    "total": ("total",),
}
"""The columns of the second table: each the sum of some of a run's phases."""


def _table(*names: str, **to_the_right: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name, right in (dict.fromkeys(names, False) | to_the_right).items():
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return table


def _sum(seconds: Mapping[str, float], phases: Sequence[str]) -> Text:
    known = [seconds[phase] for phase in phases if phase in seconds]
    return Text(f"{sum(known):.1f}" if known else "-")


def _print_next(
    console: Console, trained: Sequence[_Trained], ready_s: float, total_s: float, *, keep: bool, page: str | None
) -> None:
    def say(sentence: str) -> None:
        console.print(Text(sentence), soft_wrap=True)

    say("")
    say("Where the models are:")
    for one in trained:
        model = ((one.state.results or {}) if one.state else {}).get("model")
        uri = model.get("uri") if isinstance(model, dict) else None
        say(f"  {one.run.name}: {uri or '-'}")
    say("")
    say(f"Ready after {ready_s:.1f} s, everything trained after {ago(total_s)}. What to try next:")
    if not keep:
        say("  ./trainyard up --detach          the same stack, with these runs and models still in it")
    say(f"  ./trainyard runs show {trained[0].submission.run_id[:8]}    every event and figure of one run")
    if keep and page is not None:
        say(f"  {page}    the same runs in a browser")
    say("  ./trainyard submit examples/requests/diabetes-flaml.json --wait    a run of your own choice")
    say("  examples/clients/README.md       publish from your own program, in any language")


def _miss(one: _Trained) -> str:
    if one.state is None:
        return f"{one.run.name}: no answer came; the dispatcher's log tells more"
    shown = run_json(one.state)
    if shown["state"] != "completed":
        why = shown["message"] or shown["reason"] or "it has not ended"
        return f"{one.run.name}: {shown['state']}, {why}"
    reached = f"{shown['metric']} {number(shown['value'])} (baseline {number(shown['baseline'])})"
    return f"{one.run.name}: {reached}; demanded is {one.run.demand}, and better than the baseline"
