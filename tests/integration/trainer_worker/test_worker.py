"""The worker as a process, against a real broker and a ClearML server."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.trainer_worker.stage import ROOT, Process, Stage, example, until
from tests.timing import in_time
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_schemas.events import AttemptFailed, AttemptStarted, AttemptSucceeded
from trainyard_schemas.lifecycle import fold
from trainyard_schemas.topics import TopicName
from trainyard_schemas.upcasting import parse_request
from trainyard_schemas.vocabulary import CLONE_SOURCE, EventType, Reason, RunPhase
from trainyard_trainer_worker.training.packing import read

MAX_IDLE_BYTES = 60 << 20

SDK_SCRIPT = """
import json, sys
from clearml import Task, Model
task = Task.get_task(task_id=sys.argv[1])
model = task.models["output"][0]
print("ANSWER " + json.dumps({
    "status": str(task.get_status()),
    "console": task.get_reported_console_output(number_of_reports=100),
    "scalars": task.get_reported_scalars(),
    "model": {"id": model.id, "name": model.name, "uri": model.url, "tags": list(model.tags),
              "project": model.project, "published": model.published, "metadata": model.get_all_metadata()},
    "parameters": task.get_parameters(),
    "artifacts": {name: artifact.url for name, artifact in task.artifacts.items()},
    "hashes": {name: artifact.hash for name, artifact in task.artifacts.items()},
    "plots": [[plot["metric"], plot["variant"], plot["plot_str"]] for plot in task.get_reported_plots()],
    "archive": Model(model.id).get_local_copy(raise_on_error=True),
}, default=str))
"""


def quick(**changes: Any) -> dict[str, Any]:
    """A request that trains in tenths of a second once its libraries are loaded."""
    return {**example("wine-sklearn"), "extras": {"sklearn": {"estimator": "logreg"}}, **changes}


def through_the_sdk(stage: Stage, task_id: str) -> dict[str, Any]:
    """What the real SDK reads of a task."""
    config = stage.folder / "clearml.conf"
    config.touch()
    done = subprocess.run(
        [sys.executable, "-c", SDK_SCRIPT, task_id],
        env={**stage.environment(), "CLEARML_CONFIG_FILE": str(config), "HOME": str(stage.folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER "))
    found: dict[str, Any] = json.loads(answer.removeprefix("ANSWER "))
    return found


def content_of(stage: Stage, uri: str) -> bytes:
    """A file's bytes, as the file server gives them."""
    content: bytes = stage.clearml(lambda client: client.read_file(uri))
    return content


SUBSCRIBERS_NEED = {
    "trainer", "task_type", "metric", "value", "baseline", "greater_is_better", "metrics", "baseline_metrics", "model",
    "artifacts", "dataset", "split", "seconds", "cpu_seconds", "peak_memory_bytes", "worker", "clearml", "versions",
    "leaderboard", "feature_importance", "verified",
}  # fmt: skip


def test_an_autogluon_run_ends_with_all_that_a_subscriber_needs_and_a_model_that_the_sdk_fetches(stage: Stage) -> None:
    stage.start_worker()
    run = stage.dispatch(example("wine-autogluon"))
    fact = stage.outcome(run.run_id, 120).fact
    assert isinstance(fact, AttemptSucceeded), fact
    results: dict[str, Any] = fact.results
    assert set(results) >= SUBSCRIBERS_NEED
    assert "left_out" not in results
    assert results["value"] > 0.9 > results["baseline"]
    assert results["model"].keys() >= {"id", "name", "version", "uri", "sha256", "bytes"}
    assert results["peak_memory_bytes"] > 50 << 20
    assert results["cpu_seconds"] > results["seconds"]["fit"] / 10
    assert results["dataset"]["sha256"] == hashlib.sha256((ROOT / "examples" / "wine.csv").read_bytes()).hexdigest()
    for artifact in results["artifacts"]:
        content = content_of(stage, artifact["uri"])
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (artifact["sha256"], artifact["bytes"])
    stage.wait_status(run.task_id, "completed")
    seen = through_the_sdk(stage, run.task_id)
    assert seen["model"]["name"] == "wine-autogluon"
    archive = read(Path(seen["archive"]), results["model"]["sha256"])
    assert archive.format == "autogluon.tabular"
    assert "validation accuracy" in seen["scalars"]


def started(stage: Stage, run_id: str) -> list[AttemptStarted]:
    return [e.fact for _, e in stage.events(run_id) if isinstance(e.fact, AttemptStarted)]


def test_a_dispatched_attempt_becomes_a_registered_model_that_the_real_sdk_reads(stage: Stage) -> None:
    stage.start_worker(CLEARML_MODEL_TAGS="candidate", CLEARML_MODEL_PUBLISH="true")
    run = stage.dispatch(example("wine-sklearn"))
    fact = stage.outcome(run.run_id).fact
    assert isinstance(fact, AttemptSucceeded), fact
    results: dict[str, Any] = fact.results
    assert results["value"] > results["baseline"]
    assert results["clearml"] == {"task_id": run.task_id, "project_id": stage.task(run.task_id)["project"]}
    assert {"fit", "evaluate", "verify", "publish"} <= set(results["seconds"])
    stage.wait_status(run.task_id, "completed")
    state = fold(stage.events(run.run_id))
    assert state is not None
    assert state.phase is RunPhase.ATTEMPT_SUCCEEDED

    seen = through_the_sdk(stage, run.task_id)
    model = results["model"]
    assert seen["status"] == "completed"
    assert seen["model"]["id"] == model["id"]
    assert seen["model"]["name"] == model["name"] == "wine-sklearn"
    assert set(seen["model"]["tags"]) == {"candidate", "sklearn"}
    assert seen["model"]["published"] is True
    assert seen["model"]["metadata"]["run_id"]["value"] == run.run_id
    shown = {name: seen["parameters"][f"Model/{name}"] for name in ("id", "name", "project", "version")}
    assert shown == {
        "id": model["id"],
        "name": "wine-sklearn",
        "project": "Trainyard examples-Models",
        "version": str(model["version"]),
    }
    with open(seen["archive"], "rb") as archive:  # noqa: PTH123
        assert hashlib.sha256(archive.read()).hexdigest() == model["sha256"]
    assert all(part in model["uri"] for part in (run.run_id, "/1/", fact.claim))
    assert seen["artifacts"]["feature_importance"].endswith(".csv")
    assert seen["hashes"] == {artifact["name"]: artifact["sha256"] for artifact in results["artifacts"]}
    assert {name for name, _, _ in seen["plots"]} == {"confusion_matrix", "feature_importance_plot"}
    assert all(json.loads(figure)["data"] for _, _, figure in seen["plots"])
    metadata = {name: item["value"] for name, item in seen["model"]["metadata"].items()}
    assert float(metadata["metrics.accuracy"]) == results["metrics"]["accuracy"]
    assert metadata["artifacts.metrics"] == seen["artifacts"]["metrics"]
    console = "".join(seen["console"])
    assert f"run {run.run_id}, attempt 1" in console
    assert "[trainyard] fit:" in console
    assert seen["scalars"]["accuracy"]["held-out"]["y"] == [results["metrics"]["accuracy"]]

    beats = [e for _, e in stage.events(run.run_id, TopicName.RUNS_HEARTBEATS)]
    assert {e.type for e in beats} == {EventType.ATTEMPT_HEARTBEAT}
    assert [e.fact.seq for e in beats] == list(range(len(beats)))  # type: ignore[attr-defined]
    gaps = [after.time - before.time for before, after in itertools.pairwise(beats)]
    assert all(gap >= 0.9 for gap in gaps), gaps


def test_bad_data_fails_its_attempt_and_the_next_run_of_the_same_name_is_a_new_version(stage: Stage) -> None:
    worker = stage.start_worker()
    name = f"versions {stage.queue}"
    data = example("wine-sklearn")["dataset"]
    bad = stage.dispatch(quick(dataset={**data, "label": "colour"}))
    first = stage.dispatch(quick(run_name=name))
    second = stage.dispatch(quick(run_name=name))
    failed = stage.outcome(bad.run_id).fact
    assert isinstance(failed, AttemptFailed)
    assert (failed.reason, failed.detail) == (Reason.INVALID_DATASET, "label_missing")
    assert "cultivar" in failed.message
    stage.wait_status(bad.task_id, "failed")
    task = stage.task(bad.task_id)
    assert task["status_reason"] == "invalid_dataset"
    assert "cultivar" in task["status_message"]
    versions = []
    for run in (first, second):
        fact = stage.outcome(run.run_id).fact
        assert isinstance(fact, AttemptSucceeded), fact
        versions.append(fact.results["model"]["version"])  # type: ignore[index, call-overload]
    assert versions == [1, 2]
    stage.wait_status(second.task_id, "completed")
    text = until(lambda: 'result="succeeded"} 2.0' in (page := worker.page("/metrics")[1]) and page, "two runs counted")
    assert 'trainyard_worker_tasks_total{result="failed"} 1.0' in text
    assert "trainyard_worker_outbox_depth 0.0" in text
    assert 'trainyard_worker_phase_seconds_count{phase="fit"} 2.0' in text


def test_a_task_that_was_popped_twice_is_trained_by_one_worker_and_left_alone_by_the_other(stage: Stage) -> None:
    slow = stage.start_worker("slow", TRAINYARD_FAILPOINT="W1:stop@1")
    run = stage.dispatch(quick())
    process = psutil.Process(slow.popen.pid)
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the slow worker has popped it and stands still")
    quick_one = stage.start_worker("quick")
    stage.enqueue_again(run)
    fact = stage.outcome(run.run_id).fact
    assert isinstance(fact, AttemptSucceeded), fact
    slow.popen.send_signal(signal.SIGCONT)

    def results(process: Process) -> list[str]:
        return [line["result"] for line in process.log() if line.get("action") == "handle"]

    until(lambda: results(slow) and results(quick_one), "both are through with it")
    assert (results(slow), results(quick_one)) == (["not_dispatched"], ["succeeded"])
    assert [claim.claim for claim in started(stage, run.run_id)] == [fact.claim]
    stage.wait_status(run.task_id, "completed")


@pytest.mark.timed
def test_the_log_wakes_a_worker_long_before_it_would_look(stage: Stage) -> None:
    stage.start_worker(TRAINYARD_WORKER_POLL_S="300")
    time.sleep(0.5)  # let it look once and find nothing
    dispatched_at = time.monotonic()
    run = stage.dispatch(quick())
    until(lambda: started(stage, run.run_id), "the run is claimed")
    in_time(5.0, time.monotonic() - dispatched_at)


def test_a_foreign_task_is_failed_with_a_message_and_a_users_clone_is_asked_for_as_a_run(stage: Stage) -> None:
    run = stage.dispatch(quick())

    async def enqueue_others(client: Any) -> tuple[str, str]:
        queue_id = await client.ensure_queue(stage.queue)
        assert await client.get_next_task(queue_id) == run.task_id
        project = await client.ensure_project("Somebody else's")
        foreign = await client.create_task({"name": "not ours", "type": "training", "project": project})
        clone = await client.clone_task(run.task_id, "a user's clone")
        for task_id in (foreign, clone):
            await client.enqueue_task(task_id, queue_id)
        return foreign, clone

    foreign, clone = stage.clearml(enqueue_others)
    stage.start_worker()
    stage.wait_status(foreign, "failed")
    assert "no Run/run_id" in stage.task(foreign)["status_message"]
    asked = until(lambda: stage.requests(clone), "the clone is asked for")
    (envelope,) = asked
    assert (envelope.source, envelope.id) == (CLONE_SOURCE, clone)
    assert envelope.data["run_name"] == "a user's clone"
    assert envelope.data["queue"] == stage.queue
    assert parse_request(envelope.data).request.trainer == "sklearn"
    assert started(stage, run.run_id) == []
    assert stage.task(run.task_id)["status"] == "queued"


@pytest.mark.timed
def test_sigterm_ends_training_within_two_seconds_as_host_shutdown(stage: Stage) -> None:
    worker = stage.start_worker()
    run = stage.dispatch(example("wine-flaml"))
    until(lambda: started(stage, run.run_id), "the run is claimed")
    children = until(lambda: psutil.Process(worker.popen.pid).children(recursive=True), "the child runs")
    name = started(stage, run.run_id)[0].worker
    assert name in {w["id"] for w in stage.clearml(lambda client: client.workers())}
    at = time.monotonic()
    assert worker.end(signal.SIGTERM) == 0
    in_time(2.5, time.monotonic() - at)
    fact = stage.outcome(run.run_id, 2).fact
    assert isinstance(fact, AttemptFailed)
    assert fact.reason is Reason.HOST_SHUTDOWN
    assert psutil.wait_procs(children, timeout=2)[1] == []
    assert stage.task(run.task_id)["status"] == "failed"
    assert name not in {w["id"] for w in stage.clearml(lambda client: client.workers())}


def test_a_worker_is_alive_but_not_ready_while_its_log_is_away_and_leaves_the_queue_alone(stage: Stage) -> None:
    run = stage.dispatch(quick())
    stage.kafka = KafkaSettings(bootstrap="127.0.0.1:9", topic_prefix=stage.kafka.topic_prefix)
    worker = stage.start_worker(wait=False, TRAINYARD_WORKER_POLL_S="0.2")
    until(lambda: json.loads(worker.page("/readyz")[1])["checks"]["clearml"] == "registered", "it registers")
    status, body = worker.page("/readyz")
    assert status == 503
    assert json.loads(body)["checks"]["log"] == "not readable"
    assert worker.page("/healthz")[0] == 200
    queues = {queue.name: queue for queue in stage.clearml(lambda client: client.queues())}
    assert [entry.task_id for entry in queues[stage.queue].entries] == [run.task_id]
    assert worker.end() == 0


@pytest.mark.timed
def test_an_idle_worker_is_small(stage: Stage) -> None:
    worker = stage.start_worker()
    process = psutil.Process(worker.popen.pid)
    before = process.cpu_times()
    time.sleep(4)  # the measurement itself
    after = process.cpu_times()
    assert process.memory_full_info().uss < MAX_IDLE_BYTES
    in_time(4 * 0.05, after.user + after.system - before.user - before.system)
    assert "pandas" not in "".join(m.path for m in process.memory_maps())


def test_wrong_settings_end_with_78_and_name_the_variable(stage: Stage) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainyard_trainer_worker"],
        env={**stage.environment(), "TRAINYARD_KAFKA_BOOTSTRAP": "nowhere", "TRAINYARD_WORKER_POLL_S": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    assert done.returncode == 78
    assert "TRAINYARD_KAFKA_BOOTSTRAP" in done.stderr
