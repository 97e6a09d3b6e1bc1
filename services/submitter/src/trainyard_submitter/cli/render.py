"""Runs on a terminal: one line per event with live progress below it, and tables that fit. The one module with rich."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import IO, Any, Self

from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Table
from rich.text import Text

from trainyard_schemas.codec import printable
from trainyard_schemas.events import AttemptHeartbeat
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter import runs_view
from trainyard_submitter.following import Followed

_STYLES = {
    RunPhase.COMPLETED: "green",
    RunPhase.FAILED: "red",
    RunPhase.REJECTED: "red",
    RunPhase.CANCELLED: "yellow",
    RunPhase.STARTED: "cyan",
}
# What is not a terminal has no width: wide enough that nothing is cut.
_PIPE_WIDTH = 220
# Narrower than this, a list leaves trainer and age out.
_ROOMY = 90
_GAP = 2
_BAR_WIDTH = 24


class _PlainEnd(Console):
    """Leaves a broken pipe to the root of the command, which knows its exit status."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console_for(stream: IO[str]) -> Console:
    """A console on a stream: colours and live lines only where it is a terminal."""
    console = _PlainEnd(file=stream, highlight=False, soft_wrap=False)
    return console if console.is_terminal else _PlainEnd(file=stream, highlight=False, width=_PIPE_WIDTH)


class EventPrinter:
    """Prints events as they come; on a terminal the latest progress stands in a live line below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._phases: dict[str, str] = {}
        self._progress: dict[str, str] = {}
        self._bars: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("waiting", spinner="dots")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, followed: Followed, label: str = "") -> None:
        """One event: a line of its own, or, for progress, the live line (without a terminal: one line per phase).

        `label` is put before it, to tell several runs apart.
        """
        fact = followed.event.fact
        if not followed.counts:
            return
        if isinstance(fact, AttemptHeartbeat):
            self._show_progress(fact, label)
            return
        self._line(followed.event.time, label, runs_view.headline(followed))
        self._progress.pop(label, None)
        self._bars.pop(label, None)
        self._update()

    def waits_for(self, sentence: str) -> None:
        """Nothing was heard for long: the live line, or without a terminal a line of its own."""
        if self._status is not None:
            self._status.update(Text(sentence))
        else:
            self._line(time.time(), "", sentence)

    def _show_progress(self, fact: AttemptHeartbeat, label: str) -> None:
        if self._status is not None:
            self._progress[label] = runs_view.progress(fact)
            if fact.step is not None and fact.total:
                self._bars[label] = (fact.step, fact.total)
            else:
                self._bars.pop(label, None)
            self._update()
        elif self._phases.get(label) != fact.phase:
            self._phases[label] = fact.phase
            self._line(time.time(), label, printable(f"{fact.phase} ...", 80))

    def _line(self, epoch_s: float, label: str, text: str) -> None:
        clock = datetime.fromtimestamp(epoch_s).astimezone().strftime("%H:%M:%S")
        before = f"{label}  " if label else ""
        self._console.print(Text.assemble((clock, "dim"), "  ", (before, "bold"), text), overflow="fold")

    @property
    def live(self) -> Table:
        """The line below the events: the latest progress of each run, with a bar where its total is known."""
        live = Table.grid(padding=(0, 1))
        for label, text in self._progress.items() or (("", "waiting"),):
            done, total = self._bars.get(label, (0.0, 0.0))
            bar = ProgressBar(total=total, completed=done, width=_BAR_WIDTH) if total > 0 else Text("")
            live.add_row(Text(f"{label}: {text}" if label else text, no_wrap=True, overflow="ellipsis"), bar)
        return live

    def _update(self) -> None:
        if self._status is not None:
            self._status.update(self.live)


class TransferBar:
    """A progress bar of one file; nothing where the console is no terminal."""

    def __init__(self, console: Console, what: str) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, sent: int, total: int) -> None:
        """Bytes sent so far, and of how many."""
        self._progress.update(self._task, completed=sent, total=total)


def print_result(console: Console, run: RunState, file_name: str) -> None:
    """What a person wants to know of a completed run: the score beside the baseline, what matters, what to do next."""
    results, short = run.results or {}, run.run_id[:8]
    model = results.get("model")
    place_of_model = model.get("uri", "") if isinstance(model, Mapping) else ""
    rows = [
        ("run", run.run_id),
        ("score", runs_view.score(results)),
        ("model", str(place_of_model)),
        *((f"feature {place}", text) for place, text in enumerate(runs_view.top_features(results), 1)),
        *(("warning", text) for text in runs_view.warnings_of(run)),
        ("predict", f"trainyard predict {short} new.csv"),
        ("more", f"trainyard runs artifacts {short} --get {short}   trainyard runs logs {short}"),
    ]
    table = Table(box=None, pad_edge=False, show_header=False, title=Text(f"trained on {printable(file_name, 60)}"))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        if text:
            table.add_row(name, Text(printable(text, 400)))
    console.print(table)


def print_runs(console: Console, runs: Iterable[RunState], now: float) -> None:
    """A table of runs, newest first as given. A narrow terminal gets fewer columns, and none wider than itself."""
    fixed = {"run": 8 if console.is_terminal else 36, "trainer": 11, "state": 9, "age": 6, "took": 6}
    for name in ("trainer", "age"):
        if console.width < _ROOMY:
            del fixed[name]
    left = max(12, console.width - sum(fixed.values()) - _GAP * (len(fixed) + 1))
    widths = fixed | {"name": left * 2 // 5, "result": left - left * 2 // 5}
    columns = [name for name in ("run", "name", "trainer", "state", "age", "took", "result") if name in widths]
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        justify: JustifyMethod = "right" if name in ("age", "took") else "left"
        table.add_column(name, width=widths[name], justify=justify, no_wrap=True, overflow="ellipsis")
    for run in runs:
        cells = {
            "run": Text(run.run_id[: fixed["run"]]),
            "name": Text(runs_view.name_of(run)),
            "trainer": Text(printable(run.request.get("trainer") or "-", 20)),
            "state": state_text(run.phase),
            "age": Text(runs_view.ago(now - run.accepted_at)),
            "took": Text(runs_view.ago((run.ended_at or now) - run.accepted_at)),
            "result": Text(runs_view.ending(run)),
        }
        table.add_row(*(cells[name] for name in columns))
    console.print(table)


def print_run(console: Console, run: RunState, history: Iterable[Followed]) -> None:
    """One run: its fields, then its events."""
    shown = runs_view.run_json(run)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for field, value in shown.items():
        if value in (None, "", {}):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {runs_view.number(v) if isinstance(v, float) else v}" for k, v in value.items())
        table.add_row(field, state_text(run.phase) if field == "state" else Text(printable(value, 400)))
    for warning in runs_view.warnings_of(run):
        table.add_row("warning", Text(warning))
    console.print(table)
    console.print()
    printer = EventPrinter(console)
    for followed in history:
        printer.show(followed)


def state_text(phase: RunPhase) -> Text:
    """A state in its colour."""
    return Text(phase.value, style=_STYLES.get(phase, ""))


def print_events(console: Console, history: Iterable[Followed]) -> None:
    """Every event of a run, one line each; one that does not count says why."""
    for followed in history:
        clock = datetime.fromtimestamp(followed.event.time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        line = Text.assemble((clock, "dim"), "  ", runs_view.headline(followed))
        if not followed.counts and followed.verdict is not None:
            line.append(f"  (ignored: {followed.verdict.value})", style="dim")
        console.print(line, overflow="fold")


def print_files(console: Console, files: Iterable[Mapping[str, Any]]) -> None:
    """A table of a run's files: name, size, and the path here, or else the address."""
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    for entry in files:
        size = entry.get("bytes")
        shown = f"{size / 1024:,.0f} KiB" if isinstance(size, int) else "-"
        table.add_row(
            Text(printable(entry.get("name"), 60)), Text(shown), Text(printable(entry.get("path") or entry["uri"], 400))
        )
    console.print(table)
