"""`trainyard submit` and `trainyard runs` as a user starts them, on a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.submitter.conftest import Append, Run
from tests.timing import in_time
from tests.unit.submitter.story import REQUEST, RESULTS, accepted, completed, rejected, succeeded, whole_life
from trainyard_runtime.kafka.address import Address
from trainyard_runtime.kafka.sync_client import SyncReader
from trainyard_schemas import events as ev
from trainyard_schemas.ids import Origin, partition_of, run_id_from_key, run_id_from_origin
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_submitter import Client


@pytest.fixture
def requested(kafka_bootstrap: str, prefix: str) -> Iterator[Callable[[str], list[Origin]]]:
    """Where the requests for a run stand."""
    reader = SyncReader(Address(kafka_bootstrap))

    def places(run_id: str) -> list[Origin]:
        position = (f"{prefix}runs.requested", partition_of(run_id, RUN_PARTITIONS))
        records = reader.read_to_end(reader.beginnings([position]))
        return [record.origin for record in records if record.key == run_id.encode()]

    yield places
    reader.close()


def test_a_submit_prints_the_run_id_and_nothing_else_on_stdout(trainyard: Run, client: Client) -> None:
    done = trainyard("submit", "-", given=json.dumps(REQUEST))
    assert done.returncode == 0
    assert uuid.UUID(done.stdout.strip()).version == 5
    assert "trainyard runs watch" in done.stderr


def test_a_yaml_file_with_json_output_gives_one_object(trainyard: Run, tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(
        "schema_version: 2\ntrainer: flaml\ntask_type: regression\nmetric: rmse\ngroup_key: [user]\n"
        "dataset: {type: tabular, uri: a.csv, label: y}\n"
    )
    done = trainyard("submit", str(file), "--json")
    shown = json.loads(done.stdout)
    assert done.returncode == 0
    assert (shown["state"], shown["trainer"]) == ("requested", "flaml")
    assert shown["warnings"][0].startswith("group_key:")


def test_wait_follows_to_the_end_and_exits_0_when_it_completed(
    append: Append, environment: dict[str, str], requested: Callable[[str], list[Origin]]
) -> None:
    key = uuid.uuid4().hex
    run_id = run_id_from_key("default", key)
    waiting = _waiting(environment, "--json", "--idempotency-key", key)
    _until(lambda: bool(requested(run_id)))
    append(whole_life(run_id, requested(run_id)[0]))
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, err) == (0, b"")
    shown = json.loads(out)
    assert (shown["state"], shown["value"], shown["baseline"]) == ("completed", 0.9722, 0.3889)


def test_what_the_training_warned_of_reaches_the_person_who_waits(
    append: Append, environment: dict[str, str], requested: Callable[[str], list[Origin]], trainyard: Run
) -> None:
    key = uuid.uuid4().hex
    run_id = run_id_from_key("default", key)
    waiting = _waiting(environment, "--idempotency-key", key)
    _until(lambda: bool(requested(run_id)))
    results = {"results": {**RESULTS, "warnings": ["3 rows were left out"]}}
    ends = [fact.model_copy(update=results) for fact in (succeeded(run_id), completed(run_id))]
    append([*whole_life(run_id, requested(run_id)[0])[:-2], *ends])
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out.decode()) == (0, f"{run_id}\n")
    assert err.decode().splitlines()[-1] == "trainyard: warning: 3 rows were left out"
    assert "3 rows were left out" in trainyard("runs", "show", run_id).stdout


def test_show_watch_and_list_tell_the_same_run(trainyard: Run, append: Append, client: Client) -> None:
    submission = client.submit(REQUEST)
    run_id = submission.run_id
    append(whole_life(run_id, submission.origin))
    shown = json.loads(trainyard("runs", "show", run_id[:13], "--json").stdout)
    assert [e["type"] for e in shown["events"]][-1] == "trainyard.run.completed"
    assert shown["request"]["run_name"] == REQUEST["run_name"]
    watched = trainyard("runs", "watch", run_id, "--json")
    assert watched.returncode == 0
    assert [json.loads(line) for line in watched.stdout.splitlines()] == shown["events"]
    assert run_id in [run["run_id"] for run in json.loads(trainyard("runs", "list", "--json").stdout)["runs"]]
    assert run_id in trainyard("runs", "list").stdout
    text = trainyard("runs", "show", run_id).stdout
    assert "accuracy 0.9722 (baseline 0.3889)" in text
    assert all(line in trainyard("runs", "watch", run_id).stdout for line in ("completed ", "by host:1"))


def test_a_run_that_failed_exits_1(trainyard: Run, append: Append, client: Client) -> None:
    submission = client.submit(REQUEST)
    run_id = submission.run_id
    end = whole_life(run_id, submission.origin)[-1]
    failed = ev.RunFailed.model_validate(
        end.model_dump()
        | {"attempt": 0, "state": "failed", "reason": "invalid_dataset", "detail": "label_missing", "message": "no y"}
    )
    append([accepted(run_id, submission.origin), failed])
    done = trainyard("runs", "watch", run_id)
    assert done.returncode == 1
    assert "invalid_dataset/label_missing: no y" in done.stderr


def test_a_rejected_run_exits_3_and_says_why(trainyard: Run, append: Append, client: Client) -> None:
    submission = client.submit(REQUEST)
    append([rejected(submission.rejected_run_id, submission.origin)])
    done = trainyard("runs", "watch", submission.rejected_run_id)
    assert done.returncode == 3
    assert "queue: is served by nobody" in done.stderr


def test_a_conflict_exits_6_with_the_run_that_holds_the_key(trainyard: Run, append: Append, client: Client) -> None:
    key = uuid.uuid4().hex
    first = client.submit(REQUEST, idempotency_key=key)
    append([accepted(first.run_id, first.origin)])
    # Intake's answer to the next request on this partition, written before it is sent: the place is known.
    changed = REQUEST | {"metric": "f1_macro"}
    for offset in range(first.origin.offset + 1, first.origin.offset + 3):
        append([accepted(first.run_id, Origin(first.origin.topic, first.origin.partition, offset, 0), changed)])
    done = trainyard("submit", "-", "--json", "--idempotency-key", key, given=json.dumps(changed))
    assert done.returncode == 6
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["run_id"]) == ("Conflict", first.run_id)
    assert first.run_id in done.stderr


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"trainer": "magic"}, "trainer: 'magic' is not a trainer"),
        ({"metric": "rmse"}, "metric: 'rmse' does not fit"),
        ({"run_id": "x"}, "run_id: is set by Trainyard"),
        ({"schema_version": "2"}, "schema_version: is not a whole number"),
    ],
)
def test_an_invalid_request_exits_3_and_names_the_field(trainyard: Run, body: dict[str, object], named: str) -> None:
    done = trainyard("submit", "-", "--json", given=json.dumps(REQUEST | body))
    assert done.returncode == 3
    assert named in done.stderr
    assert json.loads(done.stdout)["error"]["errors"][0]["path"] == named.partition(":")[0]
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.timed
@pytest.mark.patient
def test_an_absent_broker_exits_5_within_10_seconds(trainyard: Run) -> None:
    begun = time.monotonic()
    done = trainyard("submit", "-", given=json.dumps(REQUEST), TRAINYARD_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert done.returncode == 5
    assert "no Kafka broker answers at 127.0.0.1:9" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    in_time(10, time.monotonic() - begun)


def test_usage_and_configuration_have_their_own_exits(trainyard: Run, tmp_path: Path) -> None:
    assert trainyard("submit").returncode == 2
    assert trainyard("submit", str(tmp_path / "none.json")).returncode == 2
    assert trainyard("runs", "list", "--since", "yesterday").returncode == 2
    assert trainyard("runs", "show", "no-such-run").returncode == 3
    assert trainyard("runs", "list", TRAINYARD_KAFKA_BOOTSTRAP="", TRAINYARD_HOME=str(tmp_path)).returncode == 78


def test_ctrl_c_while_waiting_is_clean_and_says_that_the_run_goes_on(
    environment: dict[str, str], append: Append
) -> None:
    key = uuid.uuid4().hex
    run_id = run_id_from_key("default", key)
    append([accepted(run_id, Origin("x", 0, 0, 0))])
    waiting = _waiting(environment, "--idempotency-key", key)
    assert waiting.stderr is not None
    assert b"accepted" in waiting.stderr.readline()  # from here on it waits
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert b"the run goes on" in err


def test_a_reader_that_leaves_ends_the_command_quietly(environment: dict[str, str], append: Append) -> None:
    origin = Origin("x", 0, 0, 0)
    for _ in range(5):
        run_id = run_id_from_origin("default", Origin("x", 0, 0, uuid.uuid4().int >> 80))
        append([rejected(run_id, origin)])
    listing = subprocess.Popen(
        [sys.executable, "-m", "trainyard_submitter", "runs", "list", "--limit", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.stderr is not None
    with listing.stderr:
        assert listing.stderr.read() == b""
    assert listing.wait(timeout=60) == 141


def _waiting(environment: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "trainyard_submitter", "submit", "-", "--wait", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(REQUEST).encode())
    process.stdin.close()
    process.stdin = None
    return process


def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
