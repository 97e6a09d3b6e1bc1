"""`trainyard stats`."""

from __future__ import annotations

import typer

stats_app = typer.Typer(
    add_completion=False, help="Run the statistics service: runs by state and trainer, for Prometheus."
)


@stats_app.command("stats")
def stats() -> None:
    """Run the statistics service in the foreground; its settings come from the environment."""
    from trainyard_stats.__main__ import main

    raise typer.Exit(main())
