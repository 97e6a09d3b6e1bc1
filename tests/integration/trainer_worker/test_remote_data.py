"""Remote data through the worker as a process: trained on, named in the results, and no secret of it anywhere."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from tests.integration.trainer_worker.stage import ROOT, Stage, until
from tests.integration.trainer_worker.test_worker import quick
from tests.integration.trainer_worker_data.test_s3 import ask
from tests.integration.trainer_worker_data.web_server import Answer, web_server
from tests.timing import in_time
from trainyard_schemas.events import AttemptFailed, AttemptHeartbeat, AttemptSucceeded
from trainyard_schemas.topics import TopicName
from trainyard_schemas.vocabulary import EventType, Reason
from trainyard_submitter.uploads import upload_file

WINE = ROOT / "examples" / "wine.csv"
CANARIES = ("canary-access-key-1", "canary/secret+key-2", "canary-session-3")


def on(dataset: dict[str, Any]) -> dict[str, Any]:
    request = quick()
    kept = {name: value for name, value in request["dataset"].items() if name not in ("uri", "path")}
    return {**request, "dataset": {**kept, **dataset}}


def results_of(stage: Stage, run_id: str) -> dict[str, Any]:
    fact = stage.outcome(run_id).fact
    assert isinstance(fact, AttemptSucceeded), fact
    return fact.results


def test_an_upload_and_an_s3_object_are_trained_on_and_no_secret_shows(stage: Stage) -> None:
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    try:
        endpoint = "http://{}:{}".format(*s3.get_host_and_port())
        ask(f"{endpoint}/data-sets")
        access, secret, token = CANARIES
        keys = {"access_key_id": access, "secret_access_key": secret, "session_token": token, "endpoint": endpoint}
        store = S3Store("data-sets", config=keys, client_options={"allow_http": True})  # type: ignore[arg-type]
        obstore.put(store, "wine.csv", WINE.read_bytes())
        worker = stage.start_worker(
            AWS_ENDPOINT_URL=endpoint, AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=secret, AWS_SESSION_TOKEN=token
        )
        uploaded = upload_file(WINE, clearml=stage.server.settings())
        wanted = {"sha256": hashlib.sha256(WINE.read_bytes()).hexdigest(), "size_bytes": WINE.stat().st_size}
        runs = [stage.dispatch(on({"uri": uri})) for uri in (uploaded.uri, "s3://data-sets/wine.csv")]
        found = [results_of(stage, run.run_id) for run in runs]
        assert [one["dataset"] for one in found] == [
            {"location": uploaded.uri, **wanted},
            {"location": "s3://data-sets/wine.csv", **wanted},
        ]
        assert found[0]["value"] == found[1]["value"]
        refused = stage.dispatch(on({"uri": "s3://data-sets/none.csv"}))
        fact = stage.outcome(refused.run_id).fact
        assert isinstance(fact, AttemptFailed)
        assert (fact.reason, fact.detail) == (Reason.DATASET_UNREACHABLE, "file_missing")
        assert worker.end() == 0
        texts = [worker.log_path.read_text()]
        for run in (*runs, refused):
            texts += [json.dumps(stage.task(run.task_id), default=str)]
            texts += [str(event) for _, event in stage.events(run.run_id)]
            texts += [str(event) for _, event in stage.events(run.run_id, TopicName.RUNS_HEARTBEATS)]
        texts += [
            path.read_text(errors="replace")
            for path in (stage.folder / "worker").rglob("*")
            if path.is_file() and path.suffix in (".json", ".log", "")
        ]
        assert len(texts) > 12
        for planted in (*CANARIES, stage.server.secret_key):
            assert [text[:200] for text in texts if planted in text] == []
    finally:
        s3.stop()


def test_a_clearml_dataset_is_trained_on_and_its_id_is_among_the_results(stage: Stage) -> None:
    from tests.behaviour.clearml.test_datasets import entry, packed  # its fixtures are for its own folder

    archive = packed({"sets/wine.csv": WINE.read_bytes()})
    state = {"dataset_file_entries": [entry("sets/wine.csv", WINE.read_bytes())]}

    async def make(client: Any) -> str:
        uris = {
            "state": await client.upload_file(f"{stage.queue}/state.json", json.dumps(state).encode()),
            "data": await client.upload_file(f"{stage.queue}/data.zip", archive),
        }
        artifacts = [{"key": key, "type": "custom", "uri": uri, "mode": "output"} for key, uri in uris.items()]
        body = {"name": "wine", "type": "data_processing", "system_tags": ["dataset"]}
        task_id = str(await client.create_task({**body, "execution": {"artifacts": artifacts}}))
        await client.task_started(task_id)
        await client.task_completed(task_id)
        return task_id

    dataset_id = stage.clearml(make)
    stage.start_worker()
    run = stage.dispatch(on({"clearml": {"id": dataset_id}}))
    assert results_of(stage, run.run_id)["dataset"] == {
        "location": f"clearml://{dataset_id}/sets/wine.csv",
        "sha256": hashlib.sha256(WINE.read_bytes()).hexdigest(),
        "size_bytes": WINE.stat().st_size,
        "id": dataset_id,
    }


@pytest.mark.timed
def test_while_data_comes_the_attempt_lives_in_phase_data_and_ends_with_its_host(stage: Stage) -> None:
    go_on = threading.Event()

    def held(_: int) -> Answer:
        go_on.wait(60)
        return Answer(WINE.read_bytes())

    with web_server() as web:
        web.answers["/wine.csv"] = held
        worker = stage.start_worker(TRAINYARD_DATA_PRIVATE_HOSTS=f"127.0.0.1:{web.port}")
        run = stage.dispatch(on({"uri": web.url("/wine.csv", "127.0.0.1")}))

        def phases() -> list[str]:
            beats = (event.fact for _, event in stage.events(run.run_id, TopicName.RUNS_HEARTBEATS))
            return [beat.phase for beat in beats if isinstance(beat, AttemptHeartbeat)]

        try:
            until(lambda: "data" in phases(), "a heartbeat says that the data comes")
            until(lambda: web.asked, "the data is asked for")
            began = time.monotonic()
            worker.popen.send_signal(signal.SIGTERM)
            assert worker.popen.wait(5) == 0
            in_time(3, time.monotonic() - began)
        finally:
            go_on.set()
    ends = (EventType.ATTEMPT_FAILED, EventType.ATTEMPT_CANCELLED)
    (fact,) = [event.fact for _, event in stage.events(run.run_id) if event.type in ends]
    assert getattr(fact, "reason", None) == Reason.HOST_SHUTDOWN
    cache = Path(stage.environment()["TRAINYARD_STATE_DIR"]) / "data"
    assert list((cache / "incoming").iterdir()) == []
    assert list((cache / "blobs").iterdir()) == []
