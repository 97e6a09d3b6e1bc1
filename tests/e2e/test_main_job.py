"""An event becomes a trained model: every door, and what comes back."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Stack


def _one_trained_run(stack: Stack, run_name: str) -> dict[str, Any]:
    end = stack.end_of(run_name)
    assert end["state"] == "completed", end
    facts = [r for r in stack.records("runs.lifecycle") if r["data"]["run_id"] == end["run_id"]]
    kinds = [r["type"].removeprefix("trainyard.") for r in facts]
    assert kinds.count("attempt.started") == 1
    assert kinds.count("run.completed") == 1
    return end


def test_a_bare_body_from_kcat_without_key_or_headers_ends_in_one_trained_run(
    stack: Stack, kcat: str, wine: dict[str, Any], run_name: str
) -> None:
    subprocess.run(
        [kcat, "-P", "-b", stack.bootstrap, "-t", "trainyard.runs.requested"],
        input=json.dumps(wine).encode(),
        check=True,
        timeout=30,
    )
    end = _one_trained_run(stack, run_name)
    printed = subprocess.run(
        [kcat, "-C", "-b", stack.bootstrap, "-t", "trainyard.runs.completed", "-o", "beginning", "-e", "-q"],
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    (line,) = [line for line in lines if line["data"]["run_id"] == end["run_id"]]
    assert {"run_id", "run_name", "project", "state", "results"} <= line["data"].keys()


def test_a_structured_cloudevent_ends_in_one_trained_run(stack: Stack, wine: dict[str, Any], run_name: str) -> None:
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "urn:other-team",
        "type": "trainyard.run.requested",
        "data": wine,
    }
    stack.publish(json.dumps(event).encode(), [("content-type", b"application/cloudevents+json; charset=UTF-8")])
    _one_trained_run(stack, run_name)


def test_a_binary_cloudevent_published_three_times_ends_in_one_trained_run(
    stack: Stack, wine: dict[str, Any], run_name: str
) -> None:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", uuid.uuid4().hex.encode()),
        ("ce_source", b"urn:other-team"),
        ("ce_type", b"trainyard.run.requested"),
        ("content-type", b"application/json"),
    ]
    for _ in range(3):
        stack.publish(json.dumps(wine).encode(), headers)
    _one_trained_run(stack, run_name)


def test_a_submit_on_the_command_line_waits_for_its_model_which_can_be_downloaded(
    stack: Stack, wine: dict[str, Any], run_name: str, tmp_path: Path
) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps(wine))
    done = stack.trainyard("submit", str(request), "--wait", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    end = _one_trained_run(stack, run_name)
    assert answer["run_id"] == end["run_id"]
    results = end["results"]
    assert results["value"] > results["baseline"]
    model = results["model"]
    token = _token(stack)
    with urllib.request.urlopen(
        urllib.request.Request(model["uri"], headers={"Authorization": f"Bearer {token}"}), timeout=30
    ) as response:
        archive = response.read()
    assert hashlib.sha256(archive).hexdigest() == model["sha256"]


def _token(stack: Stack) -> str:
    clearml = stack.status()["clearml"]
    pair = base64.b64encode(f"{clearml['access_key']}:{clearml['secret_key']}".encode()).decode()
    request = urllib.request.Request(f"{clearml['api']}/auth.login", headers={"Authorization": f"Basic {pair}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(json.load(response)["data"]["token"])


def test_a_poison_record_gets_its_answer_and_the_next_good_request_goes_on(
    stack: Stack, wine: dict[str, Any], run_name: str
) -> None:
    marker = f"poison-{run_name}"
    poison = json.dumps({**wine, "run_name": marker, "time_budget_s": "soon"}).encode()
    stack.publish(poison)
    stack.publish(json.dumps(wine).encode())
    _one_trained_run(stack, run_name)
    (rejected,) = stack.ends(lambda data: data["state"] == "rejected" and data.get("run_name") == marker)
    assert rejected["reason"] == "invalid_request"
    assert [error["path"] for error in rejected["errors"]] == ["time_budget_s"]


def test_the_same_key_with_another_body_is_a_conflict_and_with_the_same_body_the_same_run(
    stack: Stack, wine: dict[str, Any], run_name: str, tmp_path: Path
) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps(wine))
    first = stack.trainyard("submit", str(request), "--idempotency-key", run_name, "--wait", "--json")
    assert first.returncode == 0, first.stderr
    again = stack.trainyard("submit", str(request), "--idempotency-key", run_name, "--wait", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["run_id"] == json.loads(first.stdout)["run_id"]
    request.write_text(json.dumps({**wine, "time_budget_s": 7}))
    other = stack.trainyard("submit", str(request), "--idempotency-key", run_name, "--wait", "--json")
    assert other.returncode == 6, (other.returncode, other.stdout, other.stderr)
    assert json.loads(first.stdout)["run_id"] in other.stderr + other.stdout


def test_an_invalid_file_exits_3_and_names_the_field(stack: Stack, wine: dict[str, Any], tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**wine, "split": {"test_size": 2}}))
    done = stack.trainyard("submit", str(request))
    assert done.returncode == 3
    assert "split.test_size" in done.stderr


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"dataset": {"type": "tabular", "uri": "examples/wine.csv", "label": "colour"}}, "invalid_dataset", "alcohol"),
        ({"dataset": {"type": "tabular", "uri": "/etc/hostname", "label": "x"}}, "invalid_dataset", "outside"),
        (
            {"dataset": {"type": "tabular", "uri": "s3://bucket/set.csv", "label": "x"}},
            "dataset_unreachable",
            "AWS_ACCESS_KEY_ID",
        ),
        (
            {"dataset": {"type": "tabular", "uri": "https://host.invalid/set.csv", "label": "x"}},
            "dataset_unreachable",
            "has no address",
        ),
        (
            {"dataset": {"type": "tabular", "uri": "http://169.254.169.254/latest/", "label": "x"}},
            "dataset_unreachable",
            "TRAINYARD_DATA_PRIVATE_HOSTS",
        ),
        (
            {"dataset": {"type": "tabular", "clearml": {"id": "0" * 32}, "label": "x"}},
            "dataset_unreachable",
            "dataset.clearml.id",
        ),
    ],
)
def test_data_that_cannot_be_used_ends_the_run_with_its_reason(
    stack: Stack, wine: dict[str, Any], run_name: str, change: dict[str, Any], reason: str, said: str
) -> None:
    stack.publish(json.dumps(wine | change).encode())
    end = stack.end_of(run_name)
    assert (end["state"], end["reason"]) == ("failed", reason)
    assert said in end["message"]


def test_the_status_says_where_everything_is_and_up_does_nothing_twice(stack: Stack) -> None:
    before = stack.status_when(lambda status: all(s["ready"] is True for s in status["services"].values()), "all ready")
    assert before["kafka"].keys() == {"bootstrap", "topic_prefix"}
    assert before["clearml"].keys() == {"api", "files", "access_key", "secret_key"}
    assert before["services"].keys() == {"dispatcher", "trainer-worker", "stats", "submitter"}
    for service in before["services"].values():
        assert service.keys() == {"pid", "ready", "address"}
        with urllib.request.urlopen(f"{service['address']}/metrics", timeout=10) as page:
            assert page.status == 200
    assert stack.trainyard("up", "--detach").returncode == 0
    stack.status_when(lambda status: status == before, "the status from before")


def test_the_stats_service_counts_the_runs(stack: Stack, wine: dict[str, Any], run_name: str) -> None:
    stack.publish(json.dumps(wine).encode())
    _one_trained_run(stack, run_name)
    with urllib.request.urlopen(f"{stack.status()['services']['stats']['address']}/metrics", timeout=10) as page:
        text = page.read().decode()
    assert 'trainer="sklearn"' in text
    assert 'state="completed"' in text


def test_requests_of_the_examples_are_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text()
    block = readme.split("```json\n", 1)[1].split("```", 1)[0]
    assert json.loads(block) == json.loads((ROOT / "examples" / "requests" / "wine-flaml.json").read_text())
