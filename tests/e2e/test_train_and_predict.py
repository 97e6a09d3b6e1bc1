"""A CSV file in somebody's home becomes a model, and the model predicts: the first minute of a new user."""

from __future__ import annotations

import concurrent.futures
import csv
import io
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Stack
from trainyard_devstack.kafka_jars import default_cache_dir, ensure_jars

Run = Callable[..., subprocess.CompletedProcess[str]]
KINDS = {0: "small", 1: "large"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with data in it, outside of every folder that workers may read."""
    made = tmp_path / "home"
    made.mkdir()
    draw = random.Random(7)
    rows = [(draw.random(), draw.choice("ab"), draw.random()) for _ in range(160)]
    lines = [f"{x:.4f},{city},{noise:.4f},{KINDS[int(x > 0.5)]}" for x, city, noise in rows]
    (made / "my.csv").write_text("\n".join(["size,city,noise,kind", *lines]) + "\n")
    (made / "new.csv").write_text("noise,size,colour,city\n0.1,0.9,red,a\n0.1,0.05,blue,b\n0.2,0.95,red,\n")
    return made


def launcher(home: Path, stack_home: Path) -> Run:
    """`./trainyard`, started in `home` by a user who has no more than that."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(
            [str(ROOT / "trainyard"), *arguments],
            env={**kept, "HOME": str(home), "TRAINYARD_HOME": str(stack_home)},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def trainyard(stack: Stack, home: Path) -> Run:
    """The launcher, which finds the running stack."""
    return launcher(home, stack.home)


def test_a_file_in_the_home_folder_becomes_a_model_that_predicts_by_the_classes_names(
    stack: Stack, trainyard: Run, home: Path, run_name: str
) -> None:
    done = trainyard(
        "train", "my.csv", "--label", "kind", "--trainer", "sklearn", "--time", "5", "--name", run_name, "--json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["run_id"], answer["state"]) == (stack.end_of(run_name)["run_id"], "completed")
    assert answer["value"] > answer["baseline"]
    assert max(answer["feature_importance"], key=answer["feature_importance"].get) == "size"
    assert "'kind' holds text with 2 different values" in done.stderr
    assert all(word in done.stderr for word in ("accepted", "dispatched", "started", "completed"))

    # The printed event is the very record that stands in Kafka.
    event = json.loads(done.stderr[done.stderr.index("{") : done.stderr.rindex("}") + 1])
    assert event in [r for r in stack.requests() if r.get("subject") == answer["run_id"]]

    said = trainyard("predict", answer["run_id"], "new.csv")
    assert said.returncode == 0, said.stderr
    assert [row["prediction"] for row in csv.DictReader(io.StringIO(said.stdout))] == ["large", "small", "large"]
    assert "columns that the model does not know are not used: 'colour'" in said.stderr
    assert list((home / ".cache" / "trainyard" / "models").glob("*.tar.gz"))

    told = trainyard("predict", answer["run_id"], "new.csv", "--proba", "--out", "p.csv", "--json")
    assert json.loads(told.stdout)["rows"] == 3
    with (home / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["prediction", "probability_large", "probability_small"]
    assert all(abs(float(row["probability_large"]) + float(row["probability_small"]) - 1) < 1e-9 for row in rows)

    (home / "short.csv").write_text("size,noise\n0.1,0.2\n")
    lacking = trainyard("predict", answer["run_id"], "short.csv")
    assert lacking.returncode == 3
    assert "lacks 1 of the 3 columns that the model was trained on: 'city'" in lacking.stderr

    assert "It completed with " in trainyard("why", answer["run_id"]).stdout
    assert trainyard("runs", "cancel", answer["run_id"]).returncode == 6


def accepted(stack: Stack, run_name: str) -> str:
    """The id of the run of this name, once it is accepted."""
    return str(fact_of(stack, "run.accepted", lambda data: data["request"]["run_name"] == run_name)["run_id"])


def fact_of(stack: Stack, event_type: str, belongs: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    """The data of the first event of this type that `belongs`, once it is in the log of all runs."""
    deadline = time.monotonic() + 60
    while True:
        for record in stack.records("runs.lifecycle"):
            if record["type"] == f"trainyard.{event_type}" and belongs(record["data"]):
                return dict(record["data"])
        assert time.monotonic() < deadline, f"there is no such {event_type}"
        time.sleep(0.2)


def test_the_console_of_an_autogluon_run_is_followed_to_its_end_and_its_model_predicts(
    trainyard: Run, stack: Stack, run_name: str
) -> None:
    arguments = ("train", "my.csv", "--label", "kind", "--trainer", "autogluon", "--time", "10", "--name", run_name)
    with concurrent.futures.ThreadPoolExecutor() as beside:
        training = beside.submit(trainyard, *arguments, "--json")
        run_id = accepted(stack, run_name)
        followed = trainyard("runs", "logs", run_id, "--follow", "--json")
        done = training.result()
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "completed"), done.stderr
    assert followed.returncode == 0, followed.stderr
    lines = [json.loads(line)["line"] for line in followed.stdout.splitlines()]
    assert any("Beginning AutoGluon training" in line for line in lines)
    whole = [json.loads(line)["line"] for line in trainyard("runs", "logs", run_id, "--json").stdout.splitlines()]
    assert lines == whole, "following loses no line and doubles none"

    said = trainyard("predict", run_id, "new.csv")
    assert said.returncode == 0, said.stderr
    assert [row["prediction"] for row in csv.DictReader(io.StringIO(said.stdout))] == ["large", "small", "large"]


def test_a_training_that_may_starts_the_stack_that_is_not_there(home: Path, tmp_path: Path) -> None:
    trainyard = launcher(home, tmp_path / "stack")
    jars = default_cache_dir(os.environ)
    ensure_jars(jars, print)
    (home / ".cache" / "trainyard").mkdir(parents=True)
    (home / ".cache" / "trainyard" / "jars").symlink_to(jars)  # what a user has who has started a stack before
    arguments = ("train", "my.csv", "--label", "kind", "--trainer", "sklearn", "--time", "5", "--json")
    try:
        lacking = trainyard(*arguments)
        assert lacking.returncode == 78, lacking.stderr
        assert "--up" in lacking.stderr
        done = trainyard(*arguments, "--up")
        assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "completed"), done.stderr
        assert trainyard("status", "--json").returncode == 0, "the stack stays"
    finally:
        assert trainyard("down").returncode == 0


def test_a_dry_run_prints_the_event_and_sends_nothing(trainyard: Run, stack: Stack, run_name: str) -> None:
    done = trainyard("train", "my.csv", "--label", "kind", "--name", run_name, "--dry-run")
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)
    assert event["data"]["dataset"]["label"] == "kind"
    assert all(r.get("subject") != event["subject"] for r in stack.requests())


def test_a_wrong_label_is_answered_before_anything_is_sent(trainyard: Run) -> None:
    done = trainyard("train", "my.csv", "--label", "kinds")
    assert done.returncode == 3
    assert "Did you mean 'kind'?" in done.stderr


def test_a_run_in_training_is_cancelled_by_a_command(trainyard: Run, stack: Stack, run_name: str) -> None:
    sent = trainyard("train", "my.csv", "--label", "kind", "--time", "120", "--name", run_name, "--timeout", "3")
    assert sent.returncode == 1, sent.stderr
    run_id = accepted(stack, run_name)
    done = trainyard("runs", "cancel", run_id, "--message", "enough", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "cancelled"
    assert "enough" in trainyard("why", run_id).stdout
    again = trainyard("runs", "retry", run_id, "--json")
    assert json.loads(again.stdout)["retry_of"] == run_id
    assert trainyard("runs", "cancel", json.loads(again.stdout)["run_id"]).returncode == 0


def test_a_drained_worker_finishes_its_run_and_comes_back_with_the_next_up(
    trainyard: Run, stack: Stack, run_name: str
) -> None:
    sent = trainyard(
        "train", "my.csv", "--label", "kind", "--trainer", "flaml", "--time", "6", "--name", run_name, "--timeout", "4"
    )
    assert sent.returncode == 1, sent.stderr
    run_id = accepted(stack, run_name)
    fact_of(stack, "attempt.started", lambda data: data["run_id"] == run_id)
    done = trainyard("worker", "drain", "--timeout", "120", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"drained": True}), done.stderr
    assert stack.end_of(run_name)["state"] == "completed"
    worker = stack.status()["services"]["trainer-worker"]
    assert (worker["drained"], worker["pid"]) == (True, None)
    assert trainyard("up", "--detach").returncode == 0
    stack.wait_until_ready("trainer-worker")
