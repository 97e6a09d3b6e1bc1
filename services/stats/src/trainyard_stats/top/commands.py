"""`trainyard stats top`."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from trainyard_schemas.codec import printable
from trainyard_stats.top.prometheus_text import NotMetrics, parsed
from trainyard_stats.top.view import Look, View, view

HOME, DEFAULT_HOME, STACK_FILE = "TRAINYARD_HOME", ".trainyard", "stack.json"
WINDOW_S = 60.0
AWAY_S = 30.0
ASK_S = 10.0
MAX_BYTES = 64 << 20

top_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class StatisticsUnavailable(Exception):
    """The statistics service does not answer."""

    exit_code = 5


class AddressUnknown(Exception):
    """Nobody said where the statistics service is."""

    exit_code = 78


@top_app.command()
def top(
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The service's address; that of the local stack.")
    ] = None,
    interval_s: Annotated[
        float, typer.Option("--interval-s", metavar="SECONDS", min=0.2, max=60, help="Between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one view, of one interval, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per view.")] = False,
) -> None:
    """Show deployed endpoints, runs, queues and workers as the statistics service counts them, live until Ctrl-C.

    Rates and quantiles are of the last minute; where nothing came in it, the quantiles (dim) are of all requests.
    """
    address = metrics_address(url)
    views = _views(address, interval_s)
    if as_json:
        for shown in views:
            sys.stdout.write(json.dumps(shown.as_json(), ensure_ascii=False) + "\n")
            sys.stdout.flush()
            if once:
                return
    from trainyard_stats.top.rich_screen import console_for, drawn, live_on

    console = console_for(sys.stdout)
    if once:
        console.print(drawn(next(views), address))
        return
    with live_on(console) as screen:
        for shown in views:
            screen.update(drawn(shown, address), refresh=True)


def metrics_address(url: str | None) -> str:
    """The address of `/metrics`. Raises AddressUnknown, saying what to give."""
    if url is None:
        return f"http://127.0.0.1:{_port_of_the_stack()}/metrics"
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressUnknown(f"--url is '{printable(url, 80)}'; write it as http://host:port")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/') or '/metrics'}"


def _port_of_the_stack() -> int:
    path = Path(os.environ.get(HOME) or DEFAULT_HOME) / STACK_FILE
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["services"]["stats"][1])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise AddressUnknown(
            "no statistics service is known: start the local stack with `trainyard up --detach`, or give --url"
        ) from None


def _views(address: str, interval_s: float) -> Iterator[View]:
    """A view after each interval, over what was seen in the last minute.

    Raises StatisticsUnavailable, once the service has been away for half a minute where it had answered before.
    """
    looks = deque([_look(address)])
    while True:
        time.sleep(interval_s)
        try:
            looks.append(_look(address))
        except StatisticsUnavailable:
            if time.monotonic() - looks[-1].at > AWAY_S:
                raise
            continue
        while looks[-1].at - looks[1].at >= WINDOW_S:
            looks.popleft()
        try:
            shown = view(looks[0], looks[-1])
        except (KeyError, ValueError) as error:
            raise StatisticsUnavailable(f"{address} has metrics of another version: {error!r}") from error
        yield shown


def _look(address: str) -> Look:
    try:
        with urllib.request.urlopen(address, timeout=ASK_S) as answer:  # noqa: S310 - http or https, see metrics_address
            text = answer.read(MAX_BYTES).decode("utf-8", errors="replace")
        return Look(time.monotonic(), parsed(text))
    except urllib.error.HTTPError as error:
        with error:
            raise StatisticsUnavailable(f"{address} answers {error.code}; is it the statistics service?") from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise StatisticsUnavailable(
            f"the statistics service at {address} does not answer ({reason}); `trainyard status` tells what runs"
        ) from error
    except NotMetrics as error:
        raise StatisticsUnavailable(f"{address}: {error}") from error
