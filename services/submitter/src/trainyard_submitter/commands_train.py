"""`trainyard train my.csv --label y`: from a file to a model in one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from trainyard_runtime.clearml import ClearMLSettings
from trainyard_schemas.codec import printable
from trainyard_schemas.content_address import content_path
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.trainers import TRAINERS
from trainyard_submitter import runs_view
from trainyard_submitter.clearml_connection import clearml_settings
from trainyard_submitter.cli.shared import (
    SETTINGS,
    AsJson,
    Bootstrap,
    Prefix,
    connected,
    exit_with,
    note,
    note_page,
    print_json,
    reported,
    wait,
)
from trainyard_submitter.client import Client
from trainyard_submitter.csv_files import read_label, sha256_of
from trainyard_submitter.errors import ConfigurationError, Unavailable
from trainyard_submitter.inference import Inference, TaskType, infer, refuse
from trainyard_submitter.submission import Prepared
from trainyard_submitter.training_request import Wish, numbers_known, trainer_known, training_request

train_app = typer.Typer(**SETTINGS)
_TASKS: dict[str, TaskType] = {"classification": "classification", "regression": "regression"}


@train_app.command()
def train(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file with a header line.")],
    label: Annotated[str, typer.Option("--label", "-l", metavar="COLUMN", help="The column to predict.")],
    trainer: Annotated[str, typer.Option("--trainer", help="flaml, autogluon or sklearn.")] = "flaml",
    time_s: Annotated[float, typer.Option("--time", metavar="SECONDS", min=1, help="How long to fit.")] = 60.0,
    metric: Annotated[str | None, typer.Option("--metric", help="What to compare models by.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="classification or regression.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="COLUMN",
            help="Keep rows with equal values on one side of the split; given twice, rows equal in both columns.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the run.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="ClearML project.")] = None,
    test_size: Annotated[float | None, typer.Option("--test-size", help="Share of rows that is held out.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the split and the training.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="ClearML queue.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=0, max=9, help="0 (last) to 9 (first).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the event and send nothing.")] = False,
    up: Annotated[bool, typer.Option("--up", help="Start the local stack where none runs.")] = False,
    as_json: AsJson = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for the model.")
    ] = None,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Train a model on a CSV file: find out what to learn, upload, submit, wait, and show the result."""
    with reported(as_json):
        wish = Wish(label, trainer, time_s, name, project, tuple(group or ()), test_size, seed, queue, priority)
        found = _judge(file, wish, task, metric)
        note(found.sentence)
        for warning in found.warnings:
            note(f"warning: {warning}")
        settings = _with_stack(up, lambda: clearml_settings(os.environ), bootstrap, topic_prefix)
        with connected(bootstrap, topic_prefix) as client:
            # Judged before anything is sent: a request that intake would refuse costs no upload.
            prepared = _prepared(client, wish, found, file, _address_of(file, settings))
            if dry_run:
                if as_json:
                    print_json({"run_id": prepared.run_id, "event": json.loads(prepared.value)})
                else:
                    _show_event(prepared, sys.stdout)
                return
            sent = _upload(file, settings)
            if sent != prepared.request.dataset.uri:
                prepared = _prepared(client, wish, found, file, sent)
            note("this event asks for the run (send it yourself: any Kafka client, topic runs.requested):")
            _show_event(prepared, sys.stderr)
            submission = client.publish(prepared)
            if not as_json:
                note_page(client, submission.run_id)
            state = wait(client, submission, timeout_s, quiet=False)
    if as_json:
        print_json(
            runs_view.run_json(state)
            | {"event_id": prepared.event_id, "dataset": prepared.request.dataset.uri}
            | {"feature_importance": (state.results or {}).get("feature_importance")}
        )
    exit_with(state)
    if not as_json:
        _show_result(state, file)


def _judge(file: Path, wish: Wish, task: str | None, metric: str | None) -> Inference:
    if task is not None and task not in _TASKS:
        refuse("field_invalid", "--task", f"'{printable(task)}' is none of {', '.join(_TASKS)}")
    trainer_known(wish.trainer)
    numbers_known(wish)
    asked = None if task is None else _TASKS[task]
    found = infer(read_label(file, wish.label, wish.groups), task_type=asked, metric=metric)
    legal = TRAINERS[wish.trainer].metrics[found.task_type]
    if found.metric not in legal:
        why = f"'{printable(found.metric)}' is no metric of {found.task_type}; use one of {', '.join(legal)}"
        refuse("metric_unknown", "--metric", why)
    return found


def _address_of(file: Path, settings: ClearMLSettings) -> str:
    return f"{settings.files_host}/{quote(content_path(sha256_of(file)))}"


def _prepared(client: Client, wish: Wish, found: Inference, file: Path, uri: str) -> Prepared:
    return client.prepare(
        training_request(wish, stem=file.stem, uri=uri, task_type=found.task_type, metric=found.metric)
    )


def _with_stack(up: bool, known: Any, bootstrap: str | None, topic_prefix: str | None) -> ClearMLSettings:
    """ClearML's settings once Kafka answers; starts the local stack where `up` allows it."""
    try:
        settings: ClearMLSettings = known()
        with connected(bootstrap, topic_prefix) as client:
            client.ping()
        return settings
    except (ConfigurationError, Unavailable) as error:
        if not up:
            raise type(error)(f"{error} (or give --up, which starts the local stack)") from error
    note("no stack answers; starting one (`trainyard down` ends it)")
    done = subprocess.run(
        [sys.executable, "-m", "trainyard_submitter", "up", "--detach"], stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise Unavailable("the local stack did not start; `trainyard doctor` looks for the reason")
    found: ClearMLSettings = known()
    return found


def _upload(file: Path, settings: ClearMLSettings) -> str:
    from trainyard_submitter.cli.render import TransferBar, console_for
    from trainyard_submitter.uploads import upload_file

    with TransferBar(console_for(sys.stderr), f"uploading {printable(file.name, 40)}") as bar:
        uploaded = upload_file(file, clearml=settings, on_progress=bar.show)
    if not uploaded.sent:
        note(f"{printable(file.name, 80)} is on the file server already, and was not sent again")
    return uploaded.uri


def _show_event(prepared: Prepared, stream: Any) -> None:
    stream.write(json.dumps(json.loads(prepared.value), indent=2, ensure_ascii=False) + "\n")
    stream.flush()


def _show_result(state: RunState, file: Path) -> None:
    from trainyard_submitter.cli.render import console_for, print_result

    print_result(console_for(sys.stdout), state, file.name)
