"""`trainyard gateway`."""

from __future__ import annotations

import typer

from trainyard_submitter.cli.shared import SETTINGS

gateway_app = typer.Typer(**SETTINGS)


@gateway_app.command()
def gateway() -> None:
    """Serve the run page, read-only, until SIGTERM. Its settings are variables, which `.env.example` lists."""
    from trainyard_submitter.gateway.__main__ import main

    raise typer.Exit(main())
