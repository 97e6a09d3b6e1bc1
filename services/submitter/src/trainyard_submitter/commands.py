"""The commands `trainyard submit` and `trainyard runs`."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainyard_runtime.failpoints import configure_failpoints_from_environment
from trainyard_schemas.codec import printable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_submitter import runs_view
from trainyard_submitter.cli.documents import read_request
from trainyard_submitter.client import DEFAULT_SINCE_S, Client
from trainyard_submitter.errors import Conflict, InvalidRequest, RunUnknown, SubmitterError
from trainyard_submitter.following import Answer
from trainyard_submitter.submission import Submission

if TYPE_CHECKING:
    from trainyard_submitter.cli.render import EventPrinter

EXIT_NOT_COMPLETED = 1
EXIT_INVALID = 3
# A conflict over a key is known when intake has answered; longer than this a submit does not wait for it.
_ANSWER_S = 5.0
_REFUSALS = (Reason.INVALID_REQUEST, Reason.UNSUPPORTED_VERSION)
_PREFIX_OF_ID = re.compile(r"^[0-9a-f-]{4,36}$")
_RUN_ID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

Bootstrap = Annotated[str | None, typer.Option("--bootstrap", metavar="HOST:PORT", help="Kafka's address.")]
Prefix = Annotated[str | None, typer.Option("--topic-prefix", metavar="PREFIX", help="Prefix of the topics.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run id, or the first characters of one.")]

_SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
submit_app = typer.Typer(**_SETTINGS)
runs_app = typer.Typer(**_SETTINGS, no_args_is_help=True, help="List, show and watch runs.")


@submit_app.command()
def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A request in JSON or YAML; - reads standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Show progress, and end when the run has ended.")] = False,
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
    with _reported(as_json), _client(bootstrap, topic_prefix) as client:
        submission = client.submit(read_request(file), idempotency_key=key)
        for warning in submission.warnings:
            _note(f"warning: {printable(warning, 300)}")
        if wait:
            _wait(client, submission, timeout_s, as_json)
            return
        answer = client.answer(submission, timeout_s=_ANSWER_S) if submission.keyed else None
        if answer is Answer.CONFLICT:
            raise Conflict(submission.run_id)
        if answer is Answer.REJECTED:
            _wait(client, submission, _ANSWER_S, as_json)
            return
        state = runs_view.REQUESTED if answer is None else answer.value
        if as_json:
            _print_json(runs_view.submission_json(submission, state))
        else:
            print(submission.run_id)  # noqa: T201 - the one word that a script wants
            _note(f"{state}; follow it with `trainyard runs watch {submission.run_id[:8]}`")


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
    with _reported(as_json), _client(bootstrap, topic_prefix) as client:
        found = client.list_runs(since_s=since_s, state=state, limit=limit)
    if as_json:
        _print_json({"runs": [runs_view.run_json(run) for run in found]})
    elif not found:
        _note(f"no runs in the last {since}; submit one with `trainyard submit FILE`")
    else:
        from trainyard_submitter.cli.render import console_for, print_runs

        print_runs(console_for(sys.stdout), found, time.time())


@runs_app.command()
def show(run: RunId, as_json: AsJson = False, bootstrap: Bootstrap = None, topic_prefix: Prefix = None) -> None:
    """One run: its state, its results and its events."""
    with _reported(as_json), _client(bootstrap, topic_prefix) as client:
        run_id = _full_id(client, run)
        history = client.history(run_id)
    state = history[-1].state
    assert state is not None
    if as_json:
        document = runs_view.run_json(state) | {
            "request": dict(state.request),
            "results": dict(state.results or {}),
            "events": [runs_view.event_json(followed) for followed in history],
        }
        _print_json(document)
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
    with _reported(False), _client(bootstrap, topic_prefix) as client:
        run_id = _full_id(client, run)
        if client.get(run_id) is None:
            raise RunUnknown(f"run {run_id} is not in the log; `trainyard runs list` shows those that are")
        if as_json:
            state = None
            for followed in client.follow(run_id, timeout_s=timeout_s):
                _print_json(runs_view.event_json(followed))
                state = followed.state
        else:
            state = _follow(client, run_id, timeout_s, sys.stdout)
    _exit_with(state)


def _wait(client: Client, submission: Submission, timeout_s: float | None, as_json: bool) -> None:
    """Follow a submission to its end, print it, and exit with what its end means."""
    try:
        # Whoever asked for JSON is a program: events are for a person at a terminal.
        if as_json and not sys.stderr.isatty():
            state: RunState | None = client.wait(submission, timeout_s=timeout_s)
        else:
            state = _follow(client, submission, timeout_s, sys.stderr)
    except KeyboardInterrupt:
        _note(f"no longer watching; the run goes on: `trainyard runs watch {submission.run_id[:8]}`")
        raise
    assert state is not None
    if as_json:
        _print_json(runs_view.run_json(state) | {"event_id": submission.event_id})
    else:
        print(state.run_id)  # noqa: T201 - the one word that a script wants
    _exit_with(state)


def _follow(client: Client, run: Submission | str, timeout_s: float | None, stream: Any) -> RunState | None:
    from trainyard_submitter.cli.render import EventPrinter, console_for

    state: RunState | None = None
    printer: EventPrinter
    with EventPrinter(console_for(stream)) as printer:
        for followed in client.follow(run, timeout_s=timeout_s):
            printer.show(followed)
            state = followed.state
    return state


def _exit_with(state: RunState | None) -> None:
    if state is None or state.phase is RunPhase.COMPLETED:
        return
    refused = state.phase is RunPhase.REJECTED and state.reason in _REFUSALS
    reason = state.reason.value if state.reason else state.phase.value
    ending = printable(runs_view.why(reason, state.detail, state.message), 400)
    _note(f"run {state.run_id} was {state.phase.value}: {ending}")
    raise typer.Exit(EXIT_INVALID if refused else EXIT_NOT_COMPLETED)


def _full_id(client: Client, given: str) -> str:
    """The run id that `given` is, or begins. Raises RunUnknown."""
    if _RUN_ID.match(given):
        return given
    if not _PREFIX_OF_ID.match(given):
        raise RunUnknown(f"'{printable(given, 40)}' is no run id; give one, or at least its first 4 characters")
    found = sorted({run.run_id for run in client.list_runs() if run.run_id.startswith(given)})
    if len(found) != 1:
        what = f"{len(found)} runs begin" if found else "no run of the last 7 days begins"
        raise RunUnknown(f"{what} with '{given}'; give a whole run id, see `trainyard runs list`")
    return found[0]


def _age(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise typer.BadParameter("write a number and a unit, like 90s, 30m, 12h or 7d", param_hint="--since")
    return int(match[1]) * {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}[match[2]]


@contextmanager
def _client(bootstrap: str | None, topic_prefix: str | None) -> Iterator[Client]:
    configure_failpoints_from_environment()
    # kafka-python logs every retry as an error; what matters comes as one sentence from us.
    logging.getLogger("kafka").setLevel(logging.CRITICAL + 1)
    with Client(bootstrap, topic_prefix=topic_prefix) as client:
        yield client


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    """With --json a failure is one object on standard output too; the sentence and the status follow from the root."""
    try:
        yield
    except SubmitterError as error:
        if as_json:
            _print_json({"error": _error_json(error)})
        raise


def _error_json(error: SubmitterError) -> dict[str, Any]:
    document: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    if isinstance(error, InvalidRequest):
        document["detail"] = error.detail
        document["errors"] = [{"path": e.path, "message": e.message} for e in error.errors]
    run_id = getattr(error, "run_id", None)
    return document | ({"run_id": run_id} if run_id else {})


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def _note(sentence: str) -> None:
    sys.stderr.write(f"trainyard: {sentence}\n")
