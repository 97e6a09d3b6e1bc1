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
    slots: Annotated[
        str | None,
        typer.Option("--slots", metavar="N", help="Attempts that run side by side, over TRAINYARD_WORKER_SLOTS."),
    ] = None,
) -> None:
    """Serve ClearML queues: claim attempts, train them, register their models.

    `trainyard worker --queues cpu services default --slots 2` serves three queues, cpu first, two attempts at a time.
    Everything else is set by environment variables (TRAINYARD_KAFKA_BOOTSTRAP, CLEARML_API_HOST,
    TRAINYARD_DATA_ROOTS, ...).
    """
    from trainyard_trainer_worker.__main__ import main

    names = [*(queues or ()), *(more or ())]
    arguments = [*(["--queues", *names] if names else []), *(["--slots", slots] if slots is not None else [])]
    raise typer.Exit(main(arguments, program="trainyard worker"))
