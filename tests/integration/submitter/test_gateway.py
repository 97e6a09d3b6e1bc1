"""The gateway before a real broker: the table is the log's, live, and the same after a start anew."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from tests.integration.submitter.conftest import Append
from tests.timing import in_time
from tests.unit.submitter import story
from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.ids import Origin
from trainyard_submitter.gateway.app import Gateway, build
from trainyard_submitter.gateway.settings import GatewaySettings

pytestmark = pytest.mark.timed

ORIGIN = Origin("t.runs.requested", 0, 0, 1_000_000)
DEADLINE_S = 60.0
NOBODY = "http://127.0.0.1:9"


def asked(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def ask(gateway: Gateway, path: str) -> tuple[int, Any]:
    return await asyncio.to_thread(asked, gateway.address + path)


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while not await holds():
        assert time.monotonic() < give_up_at, what
        await asyncio.sleep(0.05)


@pytest.fixture
def served(kafka_bootstrap: str, prefix: str) -> Callable[[Callable[[Gateway], Awaitable[None]]], None]:
    """Runs a test's coroutine beside a gateway whose ClearML is away."""

    def serve(test: Callable[[Gateway], Awaitable[None]]) -> None:
        async def both() -> None:
            clearml = ClearMLSettings(
                api_host=NOBODY, files_host=NOBODY, access_key="K", secret_key=SecretStr("canary-key")
            )
            kafka = KafkaSettings(bootstrap=kafka_bootstrap, topic_prefix=prefix)
            gateway, stop = build(GatewaySettings(), kafka, clearml), asyncio.Event()
            running = asyncio.create_task(gateway.run(stop))

            async def ready() -> bool:
                assert not running.done(), running
                return bool(gateway.address) and (await ask(gateway, "/readyz"))[0] == 200

            try:
                await until(ready, "the gateway is not ready")
                await test(gateway)
            finally:
                stop.set()
                begun = time.monotonic()
                await running
                in_time(2, time.monotonic() - begun)  # it did not end in 2 s

        asyncio.run(both())

    return serve


def test_the_table_follows_the_log_live_and_is_the_same_after_a_start_anew(served: Any, append: Append) -> None:
    run_id = str(uuid.uuid4())
    life = story.whole_life(run_id, ORIGIN)
    shown: list[Any] = []

    async def follow(gateway: Gateway) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.address.rsplit(":", 1)[1]))
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: here\r\n\r\n")
        await reader.readuntil(b"event: hello\n")
        await asyncio.to_thread(append, [*life[:4], story.heartbeat(run_id)])
        async with asyncio.timeout(DEADLINE_S):
            while not (shown and shown[-1]["progress"]):
                await reader.readuntil(b"event: run\ndata: ")
                row = json.loads(await reader.readuntil(b"\n\n"))
                shown.extend([row] if row["run_id"] == run_id else [])
                if shown and shown[-1]["state"] == "started" and not shown[-1]["progress"]:
                    await asyncio.to_thread(append, [story.heartbeat(run_id).model_copy(update={"seq": 2})])
        assert shown[-1]["progress"]["phase"] == "fit"
        await asyncio.to_thread(append, life[4:])

        async def ended() -> bool:
            return bool((await ask(gateway, f"/api/runs/{run_id}"))[1].get("state") == "completed")

        await until(ended, "the run is not shown as completed")
        shown.append((await ask(gateway, f"/api/runs/{run_id}"))[1])
        writer.close()

    async def again(gateway: Gateway) -> None:
        assert (await ask(gateway, f"/api/runs/{run_id}"))[1] == shown[-1]

    served(follow)
    served(again)


def test_where_clearml_is_away_the_rest_is_shown(served: Any, append: Append) -> None:
    run_id = str(uuid.uuid4())

    async def look(gateway: Gateway) -> None:
        await asyncio.to_thread(append, story.whole_life(run_id, ORIGIN)[:3])

        async def known() -> bool:
            return (await ask(gateway, f"/api/runs/{run_id}"))[0] == 200

        await until(known, "the run is not shown")
        (_, run), (_, queues), (_, log) = [
            await ask(gateway, path) for path in (f"/api/runs/{run_id}", "/api/queues", f"/api/runs/{run_id}/log")
        ]
        assert "ClearML was not asked" in run["why"]
        assert "cannot reach" in queues["clearml"]
        assert [queue["name"] for queue in queues["queues"]] == ["cpu"]
        assert "cannot reach" in log["why_not"]
        assert "canary-key" not in json.dumps([run, queues, log])

    served(look)
