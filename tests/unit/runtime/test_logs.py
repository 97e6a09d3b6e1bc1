"""Logs are JSON lines, and a secret is in none of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from trainyard_runtime.logs import REPEAT_AFTER_S, bound, configure_logs, get_logger


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before = list(root.handlers), root.level
    configure_logs("tester", secrets=["hunter2-canary"], stream=stream)
    yield stream
    root.handlers[:], _ = before
    root.setLevel(before[1])
    structlog.reset_defaults()


def _read(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_holds_what_is_bound_and_when_and_who(lines: io.StringIO) -> None:
    with bound(run_id="r1", partition=3, offset=7):
        get_logger(component="intake").info("accepted", action="accept")
    (line,) = _read(lines)
    assert line["event"] == "accepted"
    assert (line["service"], line["component"], line["level"]) == ("tester", "intake", "info")
    assert (line["run_id"], line["partition"], line["offset"]) == ("r1", 3, 7)
    assert str(line["timestamp"]).endswith("Z")


def test_a_secret_is_masked_wherever_it_stands(lines: io.StringIO) -> None:
    log = get_logger()
    log.info("say hunter2-canary", nested={"deep": ["x hunter2-canary y"]}, odd=ValueError("hunter2-canary"))
    log.info("named", password="abc", clearml_secret_key="def")
    logging.getLogger("library").warning("a library says %s", "hunter2-canary")
    try:
        raise RuntimeError("hunter2-canary")
    except RuntimeError:
        log.exception("failed")
    written = lines.getvalue()
    assert "hunter2" not in written
    assert '"abc"' not in written
    assert len(_read(lines)) == 4


def test_lines_of_libraries_have_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("aiokafka.consumer").warning("partition %d moved", 3)
    logging.getLogger("aiokafka.consumer").info("chatter")
    (line,) = _read(lines)
    assert (line["event"], line["logger"], line["service"]) == ("partition 3 moved", "aiokafka.consumer", "tester")


def test_a_library_that_repeats_itself_is_written_once_and_counted(
    lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = logging.getLogger("aiokafka.conn")
    now = 1_000.0
    monkeypatch.setattr("time.time", lambda: now)
    for node in range(50):
        library.error("node %s is away", node)
    library.error("something else")
    now += REPEAT_AFTER_S
    library.error("node %s is away", 99)
    said = [str(line["event"]) for line in _read(lines)]
    assert said == [
        "node 0 is away",
        "something else",
        "node 99 is away (and 49 times since the last such line)",
    ]
