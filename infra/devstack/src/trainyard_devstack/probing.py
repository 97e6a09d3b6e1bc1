"""Asks a running stack, and the ClearML that the environment names, for the facts of `diagnosis`."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from trainyard_devstack.diagnosis import ClearMLFacts, StatisticsFacts, TaskFacts
from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused, ClearMLSettings
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.records import LogError
from trainyard_runtime.kafka.sync_client import SyncReader
from trainyard_schemas.errors import ContractError
from trainyard_schemas.events import AttemptDispatched, Event, decode_event
from trainyard_schemas.topics import RUN_PARTITIONS, TopicName

LATEST_RECORDS = 200
"""Of each partition: a run that was dispatched lately is among them."""

LOG_TAIL_BYTES = 64 << 10
ASK_S = 5.0
_SAMPLE = re.compile(r"^(trainyard_\w+)(?:\{.*\})? ([0-9.eE+-]+)$", re.MULTILINE)


def ask_clearml(settings: ClearMLSettings, dispatched: tuple[str, str] | None) -> tuple[ClearMLFacts, TaskFacts | None]:
    """How ClearML answers, and what it knows of a run's task (`dispatched`: run and task), where there is one."""

    async def ask() -> tuple[ClearMLFacts, TaskFacts | None]:
        async with ClearMLClient(settings) as client:
            try:
                await client.ping()
                if dispatched is None:
                    return ClearMLFacts(settings.api_host), None
                found = await client.get_task(dispatched[1], ("id", "name", "status", "system_tags", "project"))
                place = found.get("project") if found is not None else None
                project = await client.project_name(str(place)) if place else None
            except ClearMLRefused as error:
                return ClearMLFacts(settings.api_host, refused=(error.code, error.msg)), None
            except ClearMLError as error:
                return ClearMLFacts(settings.api_host, silent=str(error)), None
            return ClearMLFacts(settings.api_host), TaskFacts(*dispatched, found, project)

    return asyncio.run(ask())


def newest_task(bootstrap: str, topic_prefix: str) -> tuple[str, str] | None:
    """The run that was dispatched last, and its task; None where there is none lately. Raises LogError."""
    topic = topic_prefix + TopicName.RUNS_LIFECYCLE.value
    newest: Event | None = None
    with closing(SyncReader(Address(bootstrap), timeout_s=ASK_S)) as reader:
        ends = reader.ends([(topic, partition) for partition in range(RUN_PARTITIONS)])
        for record in reader.read_to_end({place: max(0, end - LATEST_RECORDS) for place, end in ends.items()}):
            try:
                event = decode_event(record.value, record.headers)
            except ContractError:
                continue
            if isinstance(event.fact, AttemptDispatched) and (newest is None or event.time >= newest.time):
                newest = event
    if newest is None or not isinstance(newest.fact, AttemptDispatched):
        return None
    return newest.fact.run_id, newest.fact.task_id


def ask_statistics(address: str, bootstrap: str) -> StatisticsFacts:
    """What the service at `address` shows. Raises OSError, LogError."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=ASK_S) as answer:  # noqa: S310 - our own service
        sums = summed(answer.read().decode("utf-8", errors="replace"))
    return StatisticsFacts(
        int(sums.get("trainyard_serving_messages_total", 0)),
        int(sums.get("trainyard_serving_lag_messages", 0)),
        int(sums.get("trainyard_stats_lag_records", 0)),
        _last_message_at(bootstrap),
    )


def summed(text: str) -> Mapping[str, float]:
    """Every metric's samples added up, by name."""
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def tail_of(log: Path) -> list[str]:
    """The last whole lines of a log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _last_message_at(bootstrap: str) -> float | None:
    place = (TopicName.CLEARML_INFERENCE_STATS.value, 0)
    with closing(SyncReader(Address(bootstrap), timeout_s=ASK_S)) as reader:
        try:
            end = reader.ends([place])[place]
        except LogError:
            return None  # nobody has made the topic yet
        times = [record.timestamp_ms / 1000 for record in reader.read_to_end({place: max(0, end - 1)})]
    return times[-1] if times else None
