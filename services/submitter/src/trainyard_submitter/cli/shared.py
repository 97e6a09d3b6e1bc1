"""What every command of this package uses: its options, its connection, its output and its exit statuses."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from trainyard_runtime.failpoints import configure_failpoints_from_environment
from trainyard_schemas.codec import printable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import Reason, RunPhase
from trainyard_submitter import explaining, runs_view
from trainyard_submitter.client import Client
from trainyard_submitter.errors import InvalidRequest, RunUnknown, SubmitterError
from trainyard_submitter.following import Followed
from trainyard_submitter.submission import Submission

EXIT_NOT_COMPLETED = 1
EXIT_INVALID = 3
_REFUSALS = (Reason.INVALID_REQUEST, Reason.UNSUPPORTED_VERSION)
_PREFIX_OF_ID = re.compile(r"^[0-9a-f-]{4,36}$")
_RUN_ID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
# After so long without news a person wants to know what is waited for; after so long again, once more.
QUIET_S = 15.0

Bootstrap = Annotated[str | None, typer.Option("--bootstrap", metavar="HOST:PORT", help="Kafka's address.")]
Prefix = Annotated[str | None, typer.Option("--topic-prefix", metavar="PREFIX", help="Prefix of the topics.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run id, or the first characters of one.")]
Message = Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why; it stands in the log for good.")]
WaitS = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for the answer.")]

SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


@contextmanager
def connected(bootstrap: str | None, topic_prefix: str | None) -> Iterator[Client]:
    """A client for the length of one command."""
    configure_failpoints_from_environment()
    # kafka-python logs every retry as an error; what matters comes as one sentence from us.
    logging.getLogger("kafka").setLevel(logging.CRITICAL + 1)
    with Client(bootstrap, topic_prefix=topic_prefix) as client:
        yield client


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """With --json a failure is one object on standard output too; the sentence and the status follow from the root."""
    try:
        yield
    except SubmitterError as error:
        if as_json:
            print_json({"error": _error_json(error)})
        raise


def full_id(client: Client, given: str) -> str:
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


def print_json(document: dict[str, Any]) -> None:
    """One object on one line of standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def note(sentence: str) -> None:
    """A sentence for the person, on standard error."""
    sys.stderr.write(f"trainyard: {sentence}\n")
    sys.stderr.flush()


def note_page(client: Client, run_id: str) -> None:
    """Say where a browser sees the run, where that is known."""
    if (page := client.page(run_id)) is not None:
        note(f"its page: {page}")


def is_quiet(as_json: bool) -> bool:
    """True where nobody reads events: whoever asks for JSON and has no terminal is a program."""
    return as_json and not sys.stderr.isatty()


def wait(client: Client, submission: Submission, timeout_s: float | None, *, quiet: bool) -> RunState:
    """Follow a submission to its end and return that; its events go to standard error unless `quiet`."""
    try:
        if quiet:
            state: RunState | None = client.wait(submission, timeout_s=timeout_s)
        else:
            state = follow(client, submission, timeout_s, sys.stderr)
    except KeyboardInterrupt:
        note(f"no longer watching; the run goes on: `trainyard runs watch {submission.run_id[:8]}`")
        raise
    assert state is not None
    return state


def follow(client: Client, run: Submission | str, timeout_s: float | None, stream: Any) -> RunState | None:
    """Show a run's events as they come, and what it waits for where none come; returns its last state."""
    from trainyard_submitter.cli.render import EventPrinter, console_for

    state: RunState | None = None
    with EventPrinter(console_for(stream)) as printer, Patience(printer.waits_for) as patience:
        for followed in client.follow(run, timeout_s=timeout_s):
            patience.news(followed)
            printer.show(followed)
            state = followed.state
    return state


class Patience:
    """Calls `say` with what a run waits for whenever nothing was heard of it for `QUIET_S` seconds."""

    def __init__(self, say: Callable[[str], None], quiet_s: float = QUIET_S) -> None:
        self._say = say
        self._quiet_s = quiet_s
        self._state: RunState | None = None
        self._heard = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._watch, name=f"patience-{id(self)}", daemon=True)

    @property
    def thread_name(self) -> str:
        """Of the thread that watches; it ends with the block."""
        return self._thread.name

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._heard.set()
        self._thread.join()

    def news(self, followed: Followed) -> None:
        """The run was heard of."""
        self._state = followed.state
        self._heard.set()

    def _watch(self) -> None:
        while not self._over:
            if self._heard.wait(self._quiet_s):
                self._heard.clear()
            elif not self._over:
                self._say(explaining.waits_for(self._state))


def exit_with(state: RunState | None) -> None:
    """Leave the command with the status that the run's end means; a completed run lets it go on."""
    if state is None or state.phase is RunPhase.COMPLETED:
        return
    refused = state.phase is RunPhase.REJECTED and state.reason in _REFUSALS
    reason = state.reason.value if state.reason else state.phase.value
    ending = printable(runs_view.why(reason, state.detail, state.message), 400)
    note(f"run {state.run_id} was {state.phase.value}: {ending}")
    raise typer.Exit(EXIT_INVALID if refused else EXIT_NOT_COMPLETED)


def _error_json(error: SubmitterError) -> dict[str, Any]:
    document: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    if isinstance(error, InvalidRequest):
        document["detail"] = error.detail
        document["errors"] = [{"path": e.path, "message": e.message} for e in error.errors]
    run_id = getattr(error, "run_id", None)
    return document | ({"run_id": run_id} if run_id else {})
