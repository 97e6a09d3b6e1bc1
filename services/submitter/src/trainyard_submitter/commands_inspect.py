"""`trainyard runs events|logs|artifacts` and `trainyard why`: what became of a run, and where it left things."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from trainyard_schemas.codec import printable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter import explaining, runs_view
from trainyard_submitter.cli.shared import (
    SETTINGS,
    AsJson,
    Bootstrap,
    Prefix,
    RunId,
    connected,
    full_id,
    note,
    print_json,
    reported,
)
from trainyard_submitter.client import unknown_run
from trainyard_submitter.errors import ConfigurationError, RunUnknown, SubmitterError

why_app = typer.Typer(**SETTINGS)
FOLLOW_EVERY_S = 1.0


def events(run: RunId, as_json: AsJson = False, bootstrap: Bootstrap = None, topic_prefix: Prefix = None) -> None:
    """Every event of a run in the log, ignored ones with the reason. With --json, one line of JSON per event."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        history = client.history(full_id(client, run))
    if as_json:
        for followed in history:
            print_json(runs_view.event_json(followed))
        return
    from trainyard_submitter.cli.render import console_for, print_events

    print_events(console_for(sys.stdout), history)


def logs(
    run: RunId,
    follows: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """The console of a run's latest attempt, from its ClearML task. With --json, one object per line."""
    from trainyard_submitter import clearml_runs
    from trainyard_submitter.clearml_connection import clearml_settings

    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        settings = clearml_settings(os.environ)
        place, task_id, told = clearml_runs.ConsolePlace(), None, False
        while True:
            state = client.get(run_id)  # before the console, so that nothing is missed at the end
            if state is None:
                raise unknown_run(run_id)
            if state.task_id is None and not follows:
                raise RunUnknown(
                    f"run {run_id} has no ClearML task ({state.phase.value}); `trainyard why {run_id[:8]}`"
                )
            if state.task_id != task_id:
                task_id, place = state.task_id, clearml_runs.ConsolePlace()
            for line in clearml_runs.console(settings, task_id, place) if task_id else ():
                told = True
                if as_json:
                    print_json({"run_id": run_id, "attempt": state.attempt, "line": line})
                else:
                    typer.echo(printable(line.expandtabs(), 4_000))
            if state.is_ended or not follows:
                break
            time.sleep(FOLLOW_EVERY_S)
    if not told:
        note(f"the console of attempt {state.attempt} is empty")


def artifacts(
    run: RunId,
    folder: Annotated[
        Path | None, typer.Option("--get", metavar="DIR", help="Fetch the files into a folder, hashes checked.")
    ] = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """The files that a run left: its model, tables and plots."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        state = client.get(run_id)
        if state is None:
            raise unknown_run(run_id)
        found = runs_view.files_of(state)
        if not found:
            raise RunUnknown(f"run {run_id} left no files ({state.phase.value}); `trainyard why {run_id[:8]}`")
        if folder is not None:
            for entry in found:
                entry["path"] = str(_fetched(entry, folder))
    if as_json:
        print_json({"run_id": run_id, "artifacts": found})
        return
    from trainyard_submitter.cli.render import console_for, print_files

    print_files(console_for(sys.stdout), found)


@why_app.command()
def why(run: RunId, as_json: AsJson = False, bootstrap: Bootstrap = None, topic_prefix: Prefix = None) -> None:
    """Explain in plain words why a run is where it is, and what to do."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        history = client.history(run_id)
        state = history[-1].state
        assert state is not None
        queue = _queue_of(state)
        silent_s = client.silence_s(state) if state.phase is RunPhase.STARTED else None
    sentence = explaining.why(history, time.time(), queue, silent_s)
    if as_json:
        print_json(runs_view.run_json(state) | {"why": sentence})
    else:
        typer.echo(sentence)


def _queue_of(state: RunState) -> explaining.QueueFacts | None:
    """What ClearML says of the queue that the run waits in; None where it does not, for the log explains the rest."""
    if state.phase is not RunPhase.DISPATCHED or state.queue_id is None or state.task_id is None:
        return None
    from trainyard_submitter import clearml_runs
    from trainyard_submitter.clearml_connection import clearml_settings

    try:
        return clearml_runs.queue_facts(clearml_settings(os.environ), state.queue_id, state.task_id)
    except ConfigurationError:
        return None
    except SubmitterError as error:
        note(f"ClearML was not heard: {printable(error, 200)}")
        return None


def _fetched(entry: dict[str, Any], folder: Path) -> Path:
    from trainyard_submitter import clearml_runs
    from trainyard_submitter.clearml_connection import clearml_settings

    uri = str(entry["uri"])
    name = PurePosixPath(unquote(urlsplit(uri).path)).name
    if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        name = "file"
    target = folder / name
    return clearml_runs.download(clearml_settings(os.environ), uri, target, str(entry["sha256"]))
