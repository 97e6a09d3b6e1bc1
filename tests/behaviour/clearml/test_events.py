"""Console lines, scalars and plots."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.behaviour.clearml.raw import Answer, Made, Raw, eventually, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused, Subcode, log_event, plot_event, scalar_event

FIGURE = json.dumps({"data": [{"type": "bar", "x": ["a"], "y": [1]}], "layout": {}})


def batch(raw: Raw, *events: dict[str, Any]) -> Answer:
    headers = {"Authorization": f"Bearer {raw.token}", "Content-Type": "application/json-lines"}
    content = "\n".join(json.dumps(event) for event in events).encode()
    return raw.call("events.add_batch", headers=headers, content=content)


def test_the_client_s_console_scalars_and_plots_can_be_read_again(
    clearml_server: ClearMLServer, raw: Raw, made: Made
) -> None:
    task, now_ms = made.task("in_progress"), int(time.time() * 1000)

    async def act(client: ClearMLClient) -> None:
        events = [
            log_event(task, "first line\nsecond line", timestamp_ms=now_ms, worker="here"),
            scalar_event(task, "loss", "train", 0.5, iteration=1, timestamp_ms=now_ms),
            scalar_event(task, "loss", "train", 0.25, iteration=2, timestamp_ms=now_ms + 1),
            plot_event(task, "importance", "features", FIGURE, iteration=0, timestamp_ms=now_ms),
        ]
        added = await client.add_events(events)
        assert (added.added, added.errors) == (4, 0)

    with_client(clearml_server, act)
    log = eventually(lambda: raw.ok("events.get_task_log", task=task)["events"], lambda found: len(found) == 1)
    assert log[0]["msg"] == "first line\nsecond line"
    curves = eventually(lambda: raw.ok("events.scalar_metrics_iter_histogram", task=task), lambda found: bool(found))
    assert curves["loss"]["train"]["x"] == [1, 2]
    assert curves["loss"]["train"]["y"] == [0.5, 0.25]
    plots = eventually(lambda: raw.ok("events.get_task_plots", task=task)["plots"], lambda found: len(found) == 1)
    assert plots[0]["plot_str"] == FIGURE


def test_an_empty_batch_is_17(clearml_server: ClearMLServer) -> None:
    async def act(client: ClearMLClient) -> ClearMLRefused | None:
        try:
            await client.add_events([])
        except ClearMLRefused as refusal:
            return refusal
        return None

    refusal = with_client(clearml_server, act)
    assert refusal is not None
    assert (refusal.code, refusal.subcode) == (400, Subcode.EMPTY_BATCH)


def test_a_batch_of_which_nothing_is_added_is_131(raw: Raw) -> None:
    lost = {"type": "log", "timestamp": int(time.time() * 1000), "msg": "of no task"}
    assert batch(raw, lost).code == (400, 131)


def test_a_batch_with_a_bad_event_adds_the_good_ones_and_says_so(raw: Raw, made: Made) -> None:
    now_ms = int(time.time() * 1000)
    good = {"type": "log", "task": made.task(), "timestamp": now_ms, "msg": "good"}
    answer = batch(raw, good, {"type": "log", "timestamp": now_ms, "msg": "bad"})
    assert answer.code == (200, 0)
    assert (answer.data["added"], answer.data["errors"]) == (1, 1)
    assert answer.data["errors_info"]
