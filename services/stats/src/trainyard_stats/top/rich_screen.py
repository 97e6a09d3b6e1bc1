"""The view on a terminal. The one module of this package with rich."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainyard_schemas.codec import printable
from trainyard_stats.top.view import Endpoint, Queue, View

_MAX_ROWS = 40
_NAME_WIDTH = 24
_PIPE_WIDTH = 120
_WELL = {True: ("up", "green"), False: ("away", "bold red"), None: ("not told", "yellow")}


def console_for(stream: IO[str]) -> Console:
    """A console on a stream; what is not a terminal gets a width of its own."""
    console = Console(file=stream, highlight=False)
    return console if console.is_terminal else Console(file=stream, highlight=False, width=_PIPE_WIDTH)


def live_on(console: Console) -> Live:
    """A screen that is drawn anew at each `update`."""
    return Live(console=console, auto_refresh=False, screen=console.is_terminal)


def drawn(shown: View, source: str) -> RenderableType:
    """The whole screen."""
    return Group(_head(shown, source), Text(), _endpoints(shown), Text(), _queues(shown), Text(), _health(shown))


def _head(shown: View, source: str) -> Text:
    line = Text(f"{printable(source, 60)}  rates of the last {shown.window_s:.0f} s  ")
    for name, flag in (("ClearML", shown.clearml_is_up), ("log", shown.log_is_up)):
        word, style = _WELL[flag]
        line.append(f"{name} ")
        line.append(f"{word}  ", style)
    return line


def _endpoints(shown: View) -> RenderableType:
    if not shown.endpoints:
        return Text("No requests to deployed models have been counted yet.", "dim")
    table = _table("ENDPOINT", "REQ/MIN", "P50", "P95", "P99", "FAILED", "ALL")
    for one in shown.endpoints[:_MAX_ROWS]:
        style = "" if one.is_recent else "dim"
        cells = [Text(_milliseconds(value), style) for value in one.quantiles_s]
        failed = Text("-" if one.failed is None else f"{100 * one.failed:.1f} %", "red" if one.failed else "")
        rate = Text(f"{one.per_minute:,.1f}", "bold" if one.per_minute else "dim")
        table.add_row(Text(_name(one)), rate, *cells, failed, Text(f"{one.requests:,}"))
    if len(shown.endpoints) > _MAX_ROWS:
        table.add_row(Text(f"... and {len(shown.endpoints) - _MAX_ROWS} more", "dim"))
    return table


def _name(one: Endpoint) -> str:
    endpoint = f"{one.endpoint}/{one.version}" if one.version else one.endpoint
    return printable(endpoint if one.deployment == "default" else f"{one.deployment}: {endpoint}", _NAME_WIDTH)


def _milliseconds(value_s: float | None) -> str:
    if value_s is None:
        return "-"
    return f"{value_s * 1000:,.1f} ms" if value_s < 1 else f"{value_s:,.2f} s"


def _queues(shown: View) -> RenderableType:
    if not shown.queues:
        return Text("No queue is known: ClearML was not heard.", "dim")
    table = _table("QUEUE", "WAITING", "WHY", "OLDEST", "WORKERS")
    for queue in shown.queues:
        count = sum(queue.waiting.values())
        row = (
            Text(printable(queue.name or "(none yet)", _NAME_WIDTH)),
            Text(str(count), "bold" if count else "dim"),
            Text(_words(queue.waiting)),
            Text(f"{queue.oldest_wait_s:,.0f} s" if count else "-"),
            _workers(queue),
        )
        table.add_row(*row)
    return table


def _workers(queue: Queue) -> Text:
    if queue.workers:
        return Text(_words(queue.workers))
    return Text("none", "bold red" if queue.waiting else "dim")


def _health(shown: View) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("RUNS", "bold"), Text(_words(shown.runs)))
    table.add_row(Text("WORKERS", "bold"), Text(_words(shown.workers)))
    table.add_row(Text("LAG", "bold"), Text(_words(shown.lags), "yellow" if shown.lags else ""))
    table.add_row(Text("DEAD LETTERS", "bold"), Text(_words(shown.dead_letters)))
    if shown.rejected_rows:
        table.add_row(Text("NOT COUNTED", "bold"), Text(f"{shown.rejected_rows:,} bad rows of clearml-serving"))
    return table


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{printable(name, 60)} {count:,}" for name, count in counts.items()) or "none"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(first, overflow="ellipsis", no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name in ("WHY", "WORKERS") else "right", no_wrap=name != "WHY")
    return table
