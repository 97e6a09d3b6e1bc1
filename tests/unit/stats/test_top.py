"""`trainyard stats top`: what it computes from two looks, what it draws, and what it says where it cannot."""

from __future__ import annotations

import http.server
import io
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from rich.console import Console
from typer.testing import CliRunner

from trainyard_stats.top.commands import AddressUnknown, StatisticsUnavailable, metrics_address, top_app
from trainyard_stats.top.prometheus_text import NotMetrics, parsed
from trainyard_stats.top.quantiles import histogram_quantile
from trainyard_stats.top.rich_screen import drawn
from trainyard_stats.top.view import Look, View, view

EDGES = (0.005, 0.01, 0.1, 1.0)
HOSTILE = "\x1b[31mred\u202e<script>" + "x" * 100


def cumulative(values: list[float]) -> dict[float, float]:
    return {edge: float(sum(value <= edge for value in values)) for edge in (*EDGES, math.inf)}


def test_a_quantile_lies_in_the_bucket_of_the_true_one() -> None:
    draw = Random(5)
    for _ in range(200):
        values = sorted(draw.choice((0.003, 0.007, 0.05, 0.5)) * draw.random() for _ in range(1 + draw.randrange(50)))
        for quantile in (0.0, 0.01, 0.5, 0.95, 0.99, 1.0):
            true = values[max(0, math.ceil(quantile * len(values)) - 1)]
            found = histogram_quantile(quantile, cumulative(values))
            assert found is not None
            upper = next(edge for edge in EDGES if true <= edge)
            lower = max((edge for edge in EDGES if edge < true), default=0.0)
            assert lower <= found <= upper


def test_quantiles_are_interpolated_evenly_and_end_at_the_last_finite_edge() -> None:
    assert histogram_quantile(0.5, {1.0: 4.0, 2.0: 8.0, math.inf: 8.0}) == 1.0
    assert histogram_quantile(0.75, {1.0: 4.0, 2.0: 8.0, math.inf: 8.0}) == 1.5
    assert histogram_quantile(0.99, {1.0: 4.0, 2.0: 8.0, math.inf: 80.0}) == 2.0
    assert histogram_quantile(0.5, {1.0: 0.0, math.inf: 0.0}) is None
    assert histogram_quantile(0.5, {}) is None
    assert histogram_quantile(0.5, {math.inf: 3.0}) is None


def metrics(requests: int, fast: int, failures: int = 0, endpoint: str = "wine") -> str:
    """A text with one endpoint in two partitions: `fast` of its requests took 5 ms at most, the others up to 10."""
    name = endpoint.replace("\\", "\\\\")
    lines = ["# TYPE trainyard_stats_log_up gauge", "trainyard_stats_log_up 1", "# TYPE trainyard_clearml_up gauge"]
    lines += ["trainyard_clearml_up 0", "# TYPE trainyard_serving_requests_total counter"]
    labels = [f'deployment="default",partition="{p}",endpoint="{name}",version="1"' for p in (0, 1)]
    lines += [f"trainyard_serving_requests_total{{{label}}} {requests / 2}" for label in labels]
    lines += ["# TYPE trainyard_serving_failures_total counter"]
    lines += [f'trainyard_serving_failures_total{{{labels[0]},status="5xx"}} {failures}']
    lines += ["# TYPE trainyard_serving_latency_seconds histogram"]
    for edge, count in (("0.005", fast), ("0.01", requests - failures), ("+Inf", requests - failures)):
        lines += [f'trainyard_serving_latency_seconds_bucket{{{label},le="{edge}"}} {count / 2}' for label in labels]
    lines += ["# TYPE trainyard_runs gauge", 'trainyard_runs{state="completed",trainer="flaml"} 3']
    lines += ['trainyard_runs{state="completed",trainer="sklearn"} 4', "# TYPE trainyard_queue_waiting_runs gauge"]
    lines += ['trainyard_queue_waiting_runs{queue="gpu",why="no_worker"} 2']
    lines += ['trainyard_queue_waiting_runs{queue="gpu",why="retry"} 0']
    lines += ["# TYPE trainyard_queue_oldest_wait_seconds gauge"]
    lines += ['trainyard_queue_oldest_wait_seconds{queue="gpu",why="no_worker"} 75']
    lines += ["# TYPE trainyard_consumer_lag_records gauge"]
    lines += ['trainyard_consumer_lag_records{group="trainyard.intake",topic="t"} 7']
    return "\n".join(lines) + "\n"


def seen(before: str, now: str, window_s: float = 30.0) -> View:
    return view(Look(100.0, parsed(before)), Look(100.0 + window_s, parsed(now)))


def test_rates_quantiles_and_failures_are_of_the_window() -> None:
    (endpoint,) = seen(metrics(100, 100), metrics(160, 100, failures=6)).endpoints
    assert (endpoint.requests, endpoint.per_minute, endpoint.failed) == (160, 120.0, 0.1)
    assert endpoint.is_recent
    assert all(value is not None and 0.005 < value <= 0.01 for value in endpoint.quantiles_s)


def test_where_nothing_came_the_quantiles_are_of_everything() -> None:
    (endpoint,) = seen(metrics(100, 90), metrics(100, 90)).endpoints
    assert (endpoint.per_minute, endpoint.failed, endpoint.is_recent) == (0.0, None, False)
    assert endpoint.quantiles_s[0] is not None
    assert endpoint.quantiles_s[0] < 0.005 < (endpoint.quantiles_s[1] or 0.0)


def test_a_counter_that_began_anew_is_no_negative_rate() -> None:
    (endpoint,) = seen(metrics(100, 90), metrics(10, 9)).endpoints
    assert endpoint.per_minute == 20.0


def test_the_fleet_is_summed_and_says_what_is_wrong() -> None:
    shown = seen(metrics(0, 0), metrics(0, 0)).as_json()
    assert shown["runs"] == {"completed": 7}
    assert shown["queues"] == [
        {"queue": "gpu", "waiting": {"no_worker": 2}, "oldest_wait_s": 75.0, "workers": {}},
    ]
    assert shown["lag_records"] == {"trainyard.intake": 7}
    assert (shown["clearml_up"], shown["log_up"]) == (False, True)


def test_the_screen_fits_80_columns_and_shows_hostile_names_as_text() -> None:
    shown = seen(metrics(2, 2, endpoint=HOSTILE), metrics(4, 4, endpoint=HOSTILE))
    out = io.StringIO()
    Console(file=out, width=80).print(drawn(shown, "http://127.0.0.1:1/metrics"))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "REQ/MIN" in text
    assert "no_worker 2" in text


@pytest.mark.parametrize("text", ["<html>", "up 1\n", 'trainyard_stats_log_up{ 1"'])
def test_what_is_no_answer_of_ours_is_said(text: str) -> None:
    with pytest.raises(NotMetrics):
        parsed(text)


@pytest.fixture
def service() -> Iterator[str]:
    """A service whose counter grows at every look."""
    looks = 0

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal looks
            looks += 1
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(metrics(100 * looks, 100 * looks).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_one_view_as_json_or_as_tables(service: str) -> None:
    done = CliRunner().invoke(top_app, ["--url", service, "--once", "--json", "--interval-s", "0.2"])
    assert done.exit_code == 0, done.output
    (endpoint,) = json.loads(done.stdout)["endpoints"]
    assert (endpoint["endpoint"], endpoint["requests"], endpoint["quantiles_of"]) == ("wine", 200, "window")
    table = CliRunner().invoke(top_app, ["--url", service, "--once", "--interval-s", "0.2"])
    assert "wine/1" in table.stdout


def test_the_address_is_that_of_the_stack_or_the_given_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    with pytest.raises(AddressUnknown, match="trainyard up --detach"):
        metrics_address(None)
    (tmp_path / "stack.json").write_text(json.dumps({"services": {"stats": [1, 4711]}}))
    assert metrics_address(None) == "http://127.0.0.1:4711/metrics"
    assert metrics_address("stats:9999") == "http://stats:9999/metrics"
    assert metrics_address("https://user:secret@stats/at/metrics") == "https://stats/at/metrics"
    for wrong in ("file:///etc/passwd", "http://", "ftp://x"):
        with pytest.raises(AddressUnknown, match="--url"):
            metrics_address(wrong)


@pytest.mark.parametrize(("path", "says"), [("/elsewhere", "answers 404"), (None, "does not answer")])
def test_a_service_that_does_not_answer_is_unavailable(service: str, path: str | None, says: str) -> None:
    url = service + path if path else "http://127.0.0.1:1"
    done = CliRunner().invoke(top_app, ["--url", url, "--once"])
    assert isinstance(done.exception, StatisticsUnavailable)
    assert done.exception.exit_code == 5
    assert says in str(done.exception)
