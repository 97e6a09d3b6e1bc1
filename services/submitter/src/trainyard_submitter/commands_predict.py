"""`trainyard predict RUN new.csv`: the model of a completed run, asked about new rows in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard_schemas.codec import printable
from trainyard_schemas.lifecycle import RunState
from trainyard_schemas.vocabulary import RunPhase
from trainyard_submitter.clearml_connection import clearml_settings
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
from trainyard_submitter.errors import ConfigurationError, FileUnusable, ModelUnusable

predict_app = typer.Typer(**SETTINGS)
MODULE = "trainyard_trainer_worker.training.predicting"
"""Started as a process: it needs the training libraries, which this package does not."""


@predict_app.command()
def predict(
    run: RunId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file with the columns of the training data.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write; standard output if not given.")
    ] = None,
    proba: Annotated[bool, typer.Option("--proba", help="The probability of each class, too.")] = False,
    python: Annotated[
        Path | None, typer.Option("--python", metavar="PATH", help="The interpreter that has the training libraries.")
    ] = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    topic_prefix: Prefix = None,
) -> None:
    """Predict new rows with the model of a completed run.

    The model is fetched once, checked by its SHA-256 and kept in the user's cache. Loading it runs code: that is as
    safe as the worker that made it.
    """
    with reported(as_json):
        if not file.is_file():
            raise FileUnusable(f"{printable(file, 200)} is no file; give a CSV file with the rows to predict")
        if out is not None:
            _writable(out)
        with connected(bootstrap, topic_prefix) as client:
            run_id = full_id(client, run)
            state = client.get(run_id)
        if state is None:
            raise unknown_run(run_id)
        archive, sha256 = _model(state)
        with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
            target = out or Path(folder) / "predictions.csv"
            verdict = _ask(python or Path(sys.executable), archive, sha256, file, target, proba=proba)
            for warning in verdict["warnings"]:
                note(f"warning: {printable(warning, 400)}")
            if as_json:
                print_json(_document(run_id, target, out, verdict))
            elif out is None:
                sys.stdout.write(target.read_text(encoding="utf-8"))
    if out is not None and not as_json:
        note(f"{verdict['rows']} predictions are in {printable(out, 200)}")


def _writable(out: Path) -> None:
    """Judged before a model is fetched. Raises FileUnusable."""
    shown = printable(out, 200)
    if out.is_dir():
        raise FileUnusable(f"--out {shown} is a folder; name the file to write the predictions to")
    if not out.parent.is_dir():
        raise FileUnusable(f"the folder of --out {shown} is not there; make it first, or name another file")


def _model(state: RunState) -> tuple[Path, str]:
    """The registered model of a completed run as a local file, and its SHA-256."""
    if state.phase is not RunPhase.COMPLETED:
        why = f"it is {state.phase.value}: `trainyard why {state.run_id[:8]}`"
        raise ModelUnusable(f"run {state.run_id} has no model; {why}")
    model = (state.results or {}).get("model")
    if not isinstance(model, dict) or not model.get("uri") or not model.get("sha256"):
        raise ModelUnusable(f"run {state.run_id} names no model with its address and SHA-256 in its results")
    from trainyard_submitter.clearml_runs import download

    sha256 = str(model["sha256"])
    if len(sha256) != 64 or not all(c in "0123456789abcdef" for c in sha256):
        raise ModelUnusable(f"run {state.run_id}: the model's SHA-256 is none")
    target = _cache() / f"{sha256}.tar.gz"
    return download(clearml_settings(os.environ), str(model["uri"]), target, sha256), sha256


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trainyard" / "models"


def _ask(python: Path, archive: Path, sha256: str, file: Path, out: Path, *, proba: bool) -> dict[str, Any]:
    command = [str(python), "-m", MODULE, str(archive), "--sha256", sha256, "--data", str(file), "--out", str(out)]
    try:
        done = subprocess.run([*command, "--proba"] if proba else command, capture_output=True, check=False)
    except OSError as error:
        raise ConfigurationError(f"--python {python} cannot be started: {error.strerror}") from error
    try:
        verdict: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if said and "No module named" in said[-1]:
            raise ConfigurationError(
                f"{python} has no trainyard-trainer-worker with its training libraries ({printable(said[-1], 120)});"
                " name one that has with --python"
            ) from None
        last = printable(said[-1], 300) if said else "no message"
        raise ModelUnusable(f"the process that loads the model ended with status {done.returncode}: {last}") from None
    if not verdict["ok"]:
        raise ModelUnusable(printable(verdict["problem"], 1_000))
    return verdict


def _document(run_id: str, target: Path, out: Path | None, verdict: dict[str, Any]) -> dict[str, Any]:
    document = {"run_id": run_id, "rows": verdict["rows"], "columns": verdict["columns"]}
    document["warnings"] = verdict["warnings"]
    if out is not None:
        return document | {"out": str(out)}
    import csv

    with target.open(encoding="utf-8", newline="") as file:
        return document | {"predictions": list(csv.DictReader(file))}
