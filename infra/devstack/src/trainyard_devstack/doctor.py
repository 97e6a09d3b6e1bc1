"""`trainyard doctor`: what this machine and the stack on it need, checked one by one, each with what to do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from trainyard_devstack import diagnosis
from trainyard_devstack.control import StackStatus, stack_status
from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.findings import Finding, Level
from trainyard_devstack.home_files import running_supervisor
from trainyard_devstack.java import find_java
from trainyard_devstack.kafka_jars import default_cache_dir, kafka_version, locked_jars
from trainyard_devstack.probing import ask_clearml, ask_statistics, newest_task, tail_of
from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import Home
from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.kafka.admin import KafkaUnavailableError, inspect_topics
from trainyard_runtime.kafka.records import LogError
from trainyard_runtime.settings import ConfigurationError as InvalidSettings
from trainyard_runtime.settings import read_settings, settings_or_exit
from trainyard_schemas.topics import TOPICS

EXIT_UNAVAILABLE = 5
EXIT_CONFIGURATION = 78
SUPPORTED_PYTHON = ((3, 11), (3, 13))
MIN_FREE_MB = 500
# The broker takes 340 MB, our services together 350 MB, a small training 300 MB.
MIN_AVAILABLE_MB = 1_000

doctor_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@doctor_app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Check this machine and the stack that runs on it, and say what to do about what is wrong."""
    findings = list(examine(settings_or_exit(StackSettings)))
    if as_json:
        sys.stdout.write(json.dumps({"findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            sys.stdout.write(f"{finding.level.value:<6}  {finding.check:<{width}}  {finding.message}\n")
    status = exit_status(findings)
    if status:
        raise typer.Exit(status)


def exit_status(findings: list[Finding]) -> int:
    """0 where nothing is wrong; what has to be changed goes before what may get well by itself."""
    levels = {finding.level for finding in findings}
    if Level.CHANGE in levels:
        return EXIT_CONFIGURATION
    return EXIT_UNAVAILABLE if Level.FAILS in levels else 0


def examine(settings: StackSettings) -> Iterator[Finding]:
    """All checks, the machine's first. Starts, changes and downloads nothing."""
    yield check_python(sys.version_info[:2])
    yield _java()
    yield _jars()
    yield _home(settings)
    yield check_memory(Path("/proc/meminfo"))
    yield from _data_roots(settings)
    yield from _stack(settings)


def check_python(version: tuple[int, int]) -> Finding:
    """Whether this Python is one that the tests run on."""
    low, high = SUPPORTED_PYTHON
    shown = f"{version[0]}.{version[1]}"
    if low <= version <= high:
        return Finding("python", Level.OK, shown)
    return Finding("python", Level.CHANGE, f"{shown} is not supported: use 3.11, 3.12 or 3.13.")


def check_memory(meminfo: Path) -> Finding:
    """Whether the stack and a small training fit into what is available; the file is Linux's."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return Finding("memory", Level.NOTE, "cannot be told on this system; about 1 GB is needed.")
    available_mb = next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    if available_mb >= MIN_AVAILABLE_MB:
        return Finding("memory", Level.OK, f"{available_mb:,} MB available")
    sentence = f"{available_mb:,} MB available, about {MIN_AVAILABLE_MB:,} MB are needed: end other programs."
    return Finding("memory", Level.NOTE, sentence)


def _java() -> Finding:
    return _checked("java", lambda: f"{(java := find_java(os.environ)).major} at {java.program}")


def _jars() -> Finding:
    jars = locked_jars()
    cache = default_cache_dir(os.environ)
    missing = [jar for jar in jars if not (cache / jar.relative_path).is_file()]
    if not missing:
        return Finding("kafka", Level.OK, f"Apache Kafka {kafka_version(jars)} in {cache}")
    return Finding("kafka", Level.NOTE, f"{len(missing)} of {len(jars)} jars will be downloaded at the first start.")


def _home(settings: StackSettings) -> Finding:
    existing = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "home", Level.CHANGE, f"{settings.home} cannot be written: set TRAINYARD_HOME to another folder."
        )
    free_mb = shutil.disk_usage(existing).free // 2**20
    if free_mb < MIN_FREE_MB:
        return Finding("home", Level.CHANGE, f"{settings.home} has {free_mb:,} MB free, {MIN_FREE_MB} are needed.")
    return Finding("home", Level.OK, f"{settings.home}, {free_mb:,} MB free")


def _data_roots(settings: StackSettings) -> Iterator[Finding]:
    for root in settings.allowed_data_roots():
        if Path(root).is_dir():
            yield Finding("data root", Level.OK, root)
        else:
            yield Finding("data root", Level.CHANGE, f"{root} is no folder: correct TRAINYARD_DATA_ROOTS.")


def _stack(settings: StackSettings) -> Iterator[Finding]:
    home = Home(settings.home)
    if running_supervisor(home) is None:
        yield Finding("stack", Level.NOTE, "does not run: `./trainyard up --detach` starts it.")
        if os.environ.get("CLEARML_API_HOST"):
            yield from _clearml(None)
        return
    try:
        status = stack_status(settings)
    except DevstackError as error:
        yield Finding("stack", Level.FAILS, str(error))
        return
    yield Finding("stack", Level.OK, f"runs; Kafka {status.bootstrap}, ClearML API {status.clearml_api}")
    yield _topics(status)
    for name, service in status.services.items():
        said = diagnosis.last_error(tail_of(home.log_of(name)))
        if service.ready:
            earlier = f"; its last error: {said}" if said else ""
            yield Finding(name, Level.OK, f"ready, pid {service.pid}, {service.address}{earlier}")
        elif service.drained:
            yield Finding(name, Level.NOTE, "is drained: `./trainyard up --detach` starts it again.")
        else:
            why = f" Its last error: {said}." if said else ""
            yield Finding(name, Level.FAILS, f"is not ready; {home.log_of(name)} tells why.{why}")
    yield from _clearml(status)
    yield _statistics(status)


def _clearml(status: StackStatus | None) -> Iterator[Finding]:
    """The ClearML that the environment names, or else the stack's, and the task that the stack dispatched last."""
    try:
        settings = read_settings(ClearMLSettings)
    except InvalidSettings as error:
        yield Finding("clearml", Level.CHANGE, str(error))
        return
    if status is not None and not os.environ.get("CLEARML_API_HOST"):
        keys = status.credentials
        own = {"api_host": status.clearml_api, "access_key": keys.access_key, "secret_key": SecretStr(keys.secret_key)}
        settings = settings.model_copy(update=own)
    try:
        dispatched = None if status is None else newest_task(status.bootstrap, status.topic_prefix)
    except LogError:
        dispatched = None  # the topics' finding tells
    answer, task = ask_clearml(settings, dispatched)
    yield diagnosis.clearml(answer)
    if task is not None:
        yield diagnosis.task(task)


def _statistics(status: StackStatus) -> Finding:
    try:
        return diagnosis.statistics(ask_statistics(status.services["stats"].address, status.bootstrap))
    except (OSError, LogError, KeyError) as error:
        return Finding("statistics", Level.FAILS, f"cannot be asked: {error}")


def _topics(status: StackStatus) -> Finding:
    try:
        plan = inspect_topics(status.bootstrap, status.topic_prefix, TOPICS)
    except KafkaUnavailableError as error:
        return Finding("topics", Level.FAILS, str(error))
    if plan.refusals:
        return Finding("topics", Level.CHANGE, "; ".join(plan.refusals))
    if plan.create:
        names = ", ".join(topic.name for topic in plan.create)
        return Finding("topics", Level.FAILS, f"missing: {names}; `./trainyard topics apply` creates them.")
    if plan.differences:
        differing = "; ".join(f"{d.topic} {d.key} is {d.actual}, declared {d.declared}" for d in plan.differences)
        return Finding("topics", Level.NOTE, differing)
    return Finding("topics", Level.OK, f"{len(plan.unchanged)} as declared")


def _checked(check: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(check, Level.OK, ask())
    except ConfigurationError as error:
        return Finding(check, Level.CHANGE, str(error))
