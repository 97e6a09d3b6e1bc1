"""`trainyard up`, `down` and `status`."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from typing import Annotated

import typer

from trainyard_devstack.control import (
    StackStatus,
    drain_worker,
    prepare,
    stack_status,
    start_stack,
    stop_stack,
    tell_when_ready,
)
from trainyard_devstack.settings import StackSettings
from trainyard_runtime.settings import settings_or_exit

up_app = typer.Typer(add_completion=False)
down_app = typer.Typer(add_completion=False)
status_app = typer.Typer(add_completion=False)
drain_app = typer.Typer(add_completion=False)


def _tell(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def _show(status: StackStatus, as_json: bool) -> None:
    """The status on standard output, at once: who asked may go on."""
    sys.stdout.write(json.dumps(status.as_json()) + "\n" if as_json else as_text(status))
    sys.stdout.flush()


def _tell_page(status: StackStatus) -> None:
    if status.page is not None:
        _tell(f"The run page: {status.page}")


def _tell_differences(status: StackStatus) -> None:
    """Topics that somebody configured in another way than declared, which nobody undoes."""
    from trainyard_runtime.kafka.admin import KafkaUnavailableError, inspect_topics
    from trainyard_schemas.topics import TOPICS

    with contextlib.suppress(KafkaUnavailableError):
        for found in inspect_topics(status.bootstrap, status.topic_prefix, TOPICS).differences:
            _tell(f"Topic {found.topic} has {found.key}={found.actual}; declared is {found.declared}.")


@up_app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once everything is ready.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Wipe all runs, models and topics first.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Once everything is ready, one JSON object: that of `status --json`.")
    ] = False,
) -> None:
    """Start the whole system on this machine: Kafka, a ClearML API, and the services."""
    settings = settings_or_exit(StackSettings)
    if detach:
        status, started = start_stack(settings, _tell, fresh=fresh)
        _tell("The stack is ready." if started else "The stack runs already.")
        _show(status, as_json)
        _tell_page(status)
        _tell_differences(status)
        return
    prepare(settings, _tell, fresh=fresh)
    _tell("Starting; Ctrl-C ends the stack. `./trainyard status` in another terminal tells where everything listens.")
    _supervise(settings, as_json)


def _supervise(settings: StackSettings, as_json: bool) -> None:
    """Run the stack in this process until a signal ends it; once all is ready, that is said."""
    from trainyard_devstack.supervisor import Interrupted, Supervisor

    def tell(status: StackStatus) -> None:
        _tell("The stack is ready.")
        if as_json:
            with contextlib.suppress(BrokenPipeError):  # nobody reads it any more; the stack runs on
                _show(status, as_json)
        _tell_page(status)

    ended = threading.Event()
    watching = threading.Thread(target=tell_when_ready, args=(settings, tell, ended), name="tell-when-ready")
    watching.start()
    try:
        Supervisor(settings, notify=_tell).run()
    except Interrupted:
        _tell("Ended while starting.")
    finally:
        ended.set()
        watching.join()


@down_app.command()
def down(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object that says what was ended.")] = False,
) -> None:
    """End the stack; its data stay for the next `up`."""
    settings = settings_or_exit(StackSettings)
    stopped = stop_stack(settings)
    if as_json:
        document = {
            "home": str(settings.home),
            "stopped": stopped is not None,
            "supervisor": stopped.supervisor if stopped is not None else None,
            "services": list(stopped.services) if stopped is not None else [],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _tell("The stack has ended." if stopped is not None else f"No stack runs in {settings.home}.")


@drain_app.command()
def drain(
    worker: Annotated[int | None, typer.Option("--worker", metavar="PID", help="It must be this process.")] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait; no end if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Have the stack's trainer worker finish what it trains, take no more, and end. `trainyard up` starts it again."""
    ended = drain_worker(settings_or_exit(StackSettings), worker, timeout_s)
    if as_json:
        sys.stdout.write(json.dumps({"drained": ended}) + "\n")
    else:
        said = "The trainer worker has ended." if ended else "The trainer worker is still at work; it takes no more."
        _tell(f"{said} `./trainyard up --detach` starts it again.")
    if not ended:
        raise typer.Exit(1)


@status_app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with the keys of the ClearML API.")] = False,
) -> None:
    """Where everything listens, and whether it works."""
    _show(stack_status(settings_or_exit(StackSettings)), as_json)


def as_text(status: StackStatus) -> str:
    """The status for a person; without secrets."""
    rows = [
        ("kafka", status.bootstrap, f"topics {status.topic_prefix}*"),
        ("clearml", status.clearml_api, f"files {status.clearml_files}"),
        *(
            (name, service.address, f"{service.word}" + (f", pid {service.pid}" if service.pid else ""))
            for name, service in status.services.items()
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "".join(f"{name:<{widths[0]}}  {address:<{widths[1]}}  {note}\n" for name, address, note in rows)
