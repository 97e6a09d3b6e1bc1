"""The commands `trainyard submit` and `trainyard runs`."""

from __future__ import annotations

import re
import sys
import time
from typing import Annotated

import typer

from trainyard_schemas.codec import printable
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter import commands_inspect, commands_order, runs_view
from trainyard_submitter.cli.documents import read_request
from trainyard_submitter.cli.shared import (
    SETTINGS,
    AsJson,
    Bootstrap,
    Prefix,
    RunId,
    connected,
    exit_with,
    follow,
    full_id,
    is_quiet,
    note,
    note_page,
    print_json,
    reported,
    wait,
)
from trainyard_submitter.client import DEFAULT_SINCE_S, Client, unknown_run
from trainyard_submitter.errors import Conflict
from trainyard_submitter.following import Answer
from trainyard_submitter.submission import Submission

# A conflict over a key is known when intake has answered; longer than this a submit does not wait for it.
_ANSWER_S = 5.0

submit_app = typer.Typer(**SETTINGS)
runs_app = typer.Typer(**SETTINGS, no_args_is_help=True, help="List, show, watch, cancel and retry runs.")


@submit_app.command()
def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A request in JSON or YAML; - reads standard input.")],
    waits: Annotated[bool, typer.Option("--wait", help="Show progress, and end when the run has ended.")] = False,
    as_json: AsJson = False,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="Sending the same key again is the same run.")
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long --wait waits.")
    ] = None,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Publish a request to train, and say which run it is."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        submission = client.submit(read_request(file), idempotency_key=key)
        for warning in submission.warnings:
            note(f"warning: {printable(warning, 300)}")
        if waits:
            if not as_json:
                note_page(client, submission.run_id)
            _end(client, submission, timeout_s, as_json)
            return
        answer = client.answer(submission, timeout_s=_ANSWER_S) if submission.keyed else None
        if answer is Answer.CONFLICT:
            raise Conflict(submission.run_id)
        if answer is Answer.REJECTED:
            _end(client, submission, _ANSWER_S, as_json)
            return
        state = runs_view.REQUESTED if answer is None else answer.value
        if as_json:
            print_json(runs_view.submission_json(submission, state))
        else:
            print(submission.run_id)  # noqa: T201 - the one word that a script wants
            note(f"{state}; follow it with `trainyard runs watch {submission.run_id[:8]}`")
            note_page(client, submission.run_id)


@runs_app.command("list")
def list_runs(
    as_json: AsJson = False,
    state: Annotated[RunPhase | None, typer.Option("--state", help="Only runs in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, newest first.")] = 20,
    since: Annotated[str, typer.Option("--since", metavar="AGE", help="How far to look back: 90s, 30m, 12h, 7d.")] = (
        f"{DEFAULT_SINCE_S / 86_400:.0f}d"
    ),
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """The latest runs, newest first."""
    since_s = _age(since)
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        found = client.list_runs(since_s=since_s, state=state, limit=limit)
    if as_json:
        print_json({"runs": [runs_view.run_json(run) for run in found]})
    elif not found:
        note(f"no runs in the last {since}; submit one with `trainyard submit FILE`")
    else:
        from trainyard_submitter.cli.render import console_for, print_runs

        print_runs(console_for(sys.stdout), found, time.time())


@runs_app.command()
def show(run: RunId, as_json: AsJson = False, bootstrap: Bootstrap = None, topic_prefix: Prefix = None) -> None:
    """One run: its state, its results and its events."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        history = client.history(run_id)
        if not as_json:
            note_page(client, run_id)
    state = history[-1].state
    assert state is not None
    if as_json:
        document = runs_view.run_json(state) | {
            "request": dict(state.request),
            "results": dict(state.results or {}),
            "events": [runs_view.event_json(followed) for followed in history],
        }
        print_json(document)
        return
    from trainyard_submitter.cli.render import console_for, print_run

    print_run(console_for(sys.stdout), state, history)


@runs_app.command()
def watch(
    run: RunId,
    as_json: AsJson = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to watch.")
    ] = None,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Every event of a run as it comes, until the run has ended. With --json, one line of JSON per event."""
    with reported(False), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        if client.get(run_id) is None:
            raise unknown_run(run_id)
        if not as_json:
            note_page(client, run_id)
        if as_json:
            state = None
            for followed in client.follow(run_id, timeout_s=timeout_s):
                print_json(runs_view.event_json(followed))
                state = followed.state
        else:
            state = follow(client, run_id, timeout_s, sys.stdout)
    exit_with(state)


def _end(client: Client, submission: Submission, timeout_s: float | None, as_json: bool) -> None:
    """Follow a submission to its end, print it, and exit with what its end means."""
    state = wait(client, submission, timeout_s, quiet=is_quiet(as_json))
    if as_json:
        print_json(runs_view.run_json(state) | {"event_id": submission.event_id})
    else:
        print(state.run_id)  # noqa: T201 - the one word that a script wants
        for warning in runs_view.warnings_of(state):
            note(f"warning: {warning}")
    exit_with(state)


def _age(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise typer.BadParameter("write a number and a unit, like 90s, 30m, 12h or 7d", param_hint="--since")
    return int(match[1]) * {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}[match[2]]


runs_app.command()(commands_order.cancel)
runs_app.command()(commands_order.retry)
runs_app.command()(commands_order.prioritise)
runs_app.command()(commands_inspect.events)
runs_app.command()(commands_inspect.logs)
runs_app.command()(commands_inspect.artifacts)
