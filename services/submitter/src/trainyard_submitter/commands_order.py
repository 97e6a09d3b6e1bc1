"""`trainyard runs cancel|retry|prioritise`: orders about a run."""

from __future__ import annotations

from typing import Annotated

import typer

from trainyard_schemas import events as ev
from trainyard_schemas.codec import printable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter import runs_view
from trainyard_submitter.cli.shared import (
    AsJson,
    Bootstrap,
    Message,
    Prefix,
    RunId,
    WaitS,
    connected,
    exit_with,
    full_id,
    is_quiet,
    note,
    print_json,
    reported,
    wait,
)
from trainyard_submitter.client import Client
from trainyard_submitter.errors import RunEnded, WaitTimeout

Actor = Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Who asks; user@host if not given.")]


def cancel(
    run: RunId,
    message: Message = "",
    actor: Actor = None,
    timeout_s: WaitS = 60.0,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Ask for the end of a run, and wait for it. Status 6 where the run had ended already."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        command_id = client.cancel(run_id, message=message, actor=actor)
        state, asked = _answer(client, run_id, command_id, timeout_s)
        if state.is_ended and state.phase is not RunPhase.CANCELLED:
            raise RunEnded(run_id, state.phase.value, "it had ended before the order reached it")
        if not state.is_ended and not asked:
            raise WaitTimeout(run_id, timeout_s)
    if as_json:
        print_json(runs_view.run_json(state) | {"command_id": command_id})
    elif state.is_ended:
        note(f"run {run_id} was cancelled{f': {printable(state.message, 300)}' if state.message else ''}")
    else:
        note(f"the order stands in the log; the run has not ended within {timeout_s:g} s: `trainyard why {run_id[:8]}`")


def prioritise(
    run: RunId,
    priority: Annotated[int, typer.Argument(metavar="N", min=0, max=9, help="0 (last) to 9 (first).")],
    message: Message = "",
    actor: Actor = None,
    timeout_s: WaitS = 30.0,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Give a run another priority among those that wait. Status 6 where the run had ended already."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        run_id = full_id(client, run)
        command_id = client.prioritise(run_id, priority, message=message, actor=actor)
        state, asked = _answer(client, run_id, command_id, timeout_s, until_ended=False)
        if not asked and state.is_ended:
            raise RunEnded(run_id, state.phase.value, "it had ended before the order reached it")
        if not asked:
            raise WaitTimeout(run_id, timeout_s)
    if as_json:
        print_json(runs_view.run_json(state) | {"command_id": command_id})
    else:
        late = "" if state.phase is RunPhase.ACCEPTED else " (it stands in its queue already, or beyond)"
        note(f"run {run_id} has priority {state.priority}{late}")


def retry(
    run: RunId,
    waits: Annotated[bool, typer.Option("--wait", help="Show progress, and end when the run has ended.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long --wait waits.")
    ] = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Try an ended run again: a new run with the same request, which names the old one in `retry_of`."""
    with reported(as_json), connected(bootstrap, topic_prefix) as client:
        old = full_id(client, run)
        submission = client.retry(old)
        if not waits:
            if as_json:
                print_json(runs_view.submission_json(submission, runs_view.REQUESTED) | {"retry_of": old})
            else:
                typer.echo(submission.run_id)
                note(f"tries {old} again; follow it with `trainyard runs watch {submission.run_id[:8]}`")
            return
        state = wait(client, submission, timeout_s, quiet=is_quiet(as_json))
        if as_json:
            print_json(runs_view.run_json(state) | {"retry_of": old})
        else:
            typer.echo(state.run_id)
    exit_with(state)


def _answer(
    client: Client, run_id: str, command_id: str, timeout_s: float, *, until_ended: bool = True
) -> tuple[RunState, bool]:
    """The run's last state within the time, and whether the log holds our order (or, for a cancel, anybody's)."""
    state: RunState | None = None
    asked = False
    try:
        for followed in client.follow(run_id, timeout_s=timeout_s):
            fact, state = followed.event.fact, followed.state
            ours = isinstance(fact, ev.RunCancelRequested | ev.RunReprioritised) and fact.command_id == command_id
            asked = asked or ours or (until_ended and state is not None and state.cancel_actor is not None)
            if asked and not until_ended:
                break
    except WaitTimeout:
        pass
    assert state is not None
    return state, asked
