"""`trainyard worker`."""

from __future__ import annotations

from typing import Annotated

import typer

worker = typer.Typer(add_completion=False)


@worker.command()
def serve(
    queues: Annotated[
        list[str] | None, typer.Option("--queues", help="A ClearML queue to serve; repeat it, the first first.")
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[QUEUE]...", help="Further queues.")] = None,
) -> None:
    """Serve ClearML queues: claim attempts, train them, register their models.

    `trainyard worker --queues cpu services default` serves three queues, cpu first. Everything else is set by
    environment variables (TRAINYARD_KAFKA_BOOTSTRAP, CLEARML_API_HOST, TRAINYARD_DATA_ROOTS, ...).
    """
    from trainyard_trainer_worker.__main__ import main

    names = [*(queues or ()), *(more or ())]
    raise typer.Exit(main(["--queues", *names] if names else []))
