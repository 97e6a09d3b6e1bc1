"""`trainyard dispatcher` and `trainyard topics`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, NoReturn

import typer

EXIT_UNAVAILABLE = 5
EXIT_CONFLICT = 6
TIMEOUT_S = 10.0

dispatcher_app = typer.Typer(add_completion=False, help="Run the dispatcher: intake and planner.")
topics = typer.Typer(
    add_completion=False, help="Create Kafka's topics as declared, or check them.", no_args_is_help=True
)


@dispatcher_app.command("dispatcher")
def dispatcher() -> None:
    """Run the dispatcher in the foreground; its settings come from the environment."""
    from trainyard_dispatcher.__main__ import main

    raise typer.Exit(main())


@topics.command("apply")
def topics_apply(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    replication: Annotated[int, typer.Option(help="Replicas per partition; -1 is the broker's default.")] = -1,
) -> None:
    """Create the missing topics; refuse ones that could lose records."""
    from trainyard_runtime.kafka.admin import KafkaUnavailableError, LossyTopicsError, apply_topics
    from trainyard_runtime.kafka.settings import KafkaSettings
    from trainyard_runtime.settings import settings_or_exit
    from trainyard_schemas.topics import TOPICS

    kafka = settings_or_exit(KafkaSettings)
    try:
        report = apply_topics(
            kafka.address, kafka.topic_prefix, TOPICS, replication_factor=replication, timeout_s=TIMEOUT_S
        )
    except KafkaUnavailableError as error:
        _fail(str(error), EXIT_UNAVAILABLE)
    except LossyTopicsError as error:
        _fail(str(error), EXIT_CONFLICT)
    differences = [f"{d.topic}: {d.key} is {d.actual}, declared {d.declared}" for d in report.differences]
    if as_json:
        document = {"created": report.created, "unchanged": report.unchanged, "differences": differences}
        typer.echo(json.dumps(document))
        return
    for name in report.created:
        typer.echo(f"created    {name}")
    for name in report.unchanged:
        typer.echo(f"unchanged  {name}")
    for sentence in differences:
        typer.echo(f"differs    {sentence}")


@topics.command("check")
def topics_check(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what `apply` would do, and change nothing; exit 6 where a topic is missing or could lose records."""
    from trainyard_runtime.kafka.admin import KafkaUnavailableError, inspect_topics
    from trainyard_runtime.kafka.settings import KafkaSettings
    from trainyard_runtime.settings import settings_or_exit
    from trainyard_schemas.topics import TOPICS

    kafka = settings_or_exit(KafkaSettings)
    try:
        plan = inspect_topics(kafka.address, kafka.topic_prefix, TOPICS, timeout_s=TIMEOUT_S)
    except KafkaUnavailableError as error:
        _fail(str(error), EXIT_UNAVAILABLE)
    missing = [topic.name for topic in plan.create]
    differences = [f"{d.topic}: {d.key} is {d.actual}, declared {d.declared}" for d in plan.differences]
    if as_json:
        document = {
            "missing": missing,
            "unchanged": plan.unchanged,
            "differences": differences,
            "refusals": plan.refusals,
        }
        typer.echo(json.dumps(document))
    else:
        for name in plan.unchanged:
            typer.echo(f"as declared  {name}")
        for name in missing:
            typer.echo(f"missing      {name}")
        for sentence in differences:
            typer.echo(f"differs      {sentence}")
        for sentence in plan.refusals:
            typer.echo(f"refused      {sentence}")
    if missing or plan.refusals:
        raise typer.Exit(EXIT_CONFLICT)


def _fail(sentence: str, status: int) -> NoReturn:
    typer.echo(sentence, err=True)
    sys.exit(status)
