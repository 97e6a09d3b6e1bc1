"""From facts to findings: why ClearML is not heard, why a task is not seen there, what statistics get. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from trainyard_devstack.findings import Finding, Level
from trainyard_schemas.codec import printable

WEB_PORTS: Final = (8080, 80, 443)
"""Where ClearML's page usually is; the API's port is 8008."""

UNAUTHORISED: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class ClearMLFacts:
    """How a ClearML server answered. `refused` is the status and sentence of an answer that said no, `silent` why there
    was none that can be understood; both None: it answers and takes the keys."""

    api_host: str
    refused: tuple[int, str] | None = None
    silent: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A run's task by the log, and what ClearML says of it and its project's name: `task` None where it knows none."""

    run_id: str
    task_id: str
    task: Mapping[str, Any] | None
    project: str | None = None


def clearml(facts: ClearMLFacts) -> Finding:
    """Whether ClearML is heard and takes the keys; a wrong address and wrong keys are told apart."""
    host = facts.api_host
    if facts.refused is not None and facts.refused[0] in UNAUTHORISED:
        return Finding(
            "clearml",
            Level.CHANGE,
            f"authentication failed: {host} answers, and refuses the keys ({printable(facts.refused[1], 120)}). Make"
            " new ones in ClearML's page (Settings, Workspace, App credentials) and set CLEARML_API_ACCESS_KEY and"
            " CLEARML_API_SECRET_KEY, the same for every service.",
        )
    if facts.refused is not None:
        code, sentence = facts.refused
        return Finding("clearml", Level.FAILS, f"{host} answers {code}: {printable(sentence, 200)}")
    if facts.silent is not None:
        port = urlsplit(host).port
        hint = (
            f" Port {port} is the page's, the API's is 8008." if port in WEB_PORTS else " Is it the API's port (8008)?"
        )
        return Finding(
            "clearml",
            Level.FAILS,
            f"connection error: {host} does not answer as ClearML's API ({printable(facts.silent, 160)}). Is the server"
            f" up (`curl {host}/debug.ping`), and CLEARML_API_HOST right?{hint}",
        )
    return Finding("clearml", Level.OK, f"{host} answers and takes the keys")


def task(facts: TaskFacts) -> Finding:
    """Where a run's task is to be seen in ClearML's page, and why it may not be."""
    run = f"task {facts.task_id} of run {facts.run_id[:8]}"
    if facts.task is None:
        return Finding(
            "task",
            Level.CHANGE,
            f"{run} is not on this ClearML: somebody deleted it, or the dispatcher that made it uses another"
            " CLEARML_API_HOST, or keys of another workspace, than those given here. Compare both.",
        )
    project = printable(facts.project or "no project", 80)
    name, status = printable(str(facts.task.get("name")), 80), printable(str(facts.task.get("status")), 20)
    tags = facts.task.get("system_tags") or ()
    if "archived" in tags:
        message = f"{run} is archived: ClearML's page shows it in the archive of project '{project}' only."
        return Finding("task", Level.NOTE, message)
    if "hidden" in tags:
        message = f"{run} is hidden: the page shows it in '{project}' with hidden ones shown (its Settings) only."
        return Finding("task", Level.NOTE, message)
    message = f"{run} is '{name}' in project '{project}', {status}; clear the page's filters where it is not shown"
    return Finding("task", Level.OK, message)


@dataclass(frozen=True, slots=True)
class StatisticsFacts:
    """What the statistics service shows, and when clearml-serving last sent something (seconds since the epoch)."""

    messages: int
    lag_messages: int
    lag_records: int
    last_message_at: float | None


def statistics(facts: StatisticsFacts) -> Finding:
    """Whether statistics keep up, and since when nothing has come."""
    if facts.last_message_at is None:
        seen = (
            "nothing from clearml-serving yet; it sends what succeeded, up to 10 s late, to the Kafka that its"
            " CLEARML_DEFAULT_KAFKA_SERVE_URL names"
        )
    else:
        at = datetime.fromtimestamp(facts.last_message_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        seen = f"{facts.messages:,} messages of clearml-serving counted, the last sent {at}"
    behind = facts.lag_messages + facts.lag_records
    if behind:
        return Finding("statistics", Level.NOTE, f"{seen}; {behind:,} records behind: ask again in a few seconds.")
    return Finding("statistics", Level.OK, f"{seen}; no lag")


def last_error(lines: Iterable[str]) -> str | None:
    """The last error of a service's log (one JSON object a line), as one sentence with its time; None without one."""
    found = None
    for line in lines:
        try:
            entry = json.loads(line)
            is_error = entry["level"] in ("error", "critical")
        except (ValueError, TypeError, KeyError):
            continue
        if is_error:
            found = entry
    if found is None:
        return None
    said = [str(found.get("event", ""))]
    if found.get("error"):
        said.append(str(found["error"]))
    elif found.get("exception"):
        said.append(str(found["exception"]).strip().rpartition("\n")[2])
    return printable(f"{str(found.get('timestamp', ''))[:19]} {': '.join(said)}", 300)
