"""What only our own server promises: what it lacks, what it keeps, how fast it is and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer, embedded_server
from tests.timing import in_time
from trainyard_devstack.clearml_api.app import IMPLEMENTED
from trainyard_devstack.clearml_api.auth import Authenticator
from trainyard_devstack.clearml_api.catalogue import KNOWN_CALLS
from trainyard_devstack.clearml_api.delay import call_ms
from trainyard_devstack.clearml_api.errors import ApiError
from trainyard_devstack.clearml_api.query import tags_match
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused, hyperparams
from trainyard_runtime.clearml.transport import token_lifetime_s

IMPLEMENTED_CALLS = {
    "auth": "login",
    "debug": "ping",
    "events": "add_batch get_task_events get_task_log get_task_plots get_task_single_value_metrics "
    "scalar_metrics_iter_histogram",
    "models": "add_or_update_metadata archive_many create delete edit get_all get_all_ex get_by_id publish_many "
    "set_ready update",
    "projects": "create delete get_all get_all_ex get_by_id update",
    "queues": "create delete get_all get_all_ex get_by_id get_default get_next_task get_num_entries remove_task update",
    "tasks": "add_or_update_artifacts add_or_update_model archive_many clone completed create delete delete_artifacts "
    "delete_configuration delete_hyper_params delete_models dequeue edit edit_configuration edit_hyper_params enqueue "
    "enqueue_many failed get_all get_all_ex get_by_id get_configurations get_hyper_params ping publish reset "
    "set_requirements started stop stop_many stopped unarchive_many update",
    "workers": "get_all register status_report unregister",
}


def test_the_calls_that_are_implemented_are_these() -> None:
    expected = {f"{service}.{action}" for service, names in IMPLEMENTED_CALLS.items() for action in names.split()}
    assert expected == IMPLEMENTED


def test_every_implemented_call_is_one_that_clearml_has() -> None:
    assert set(IMPLEMENTED) <= KNOWN_CALLS


def test_every_other_call_that_clearml_has_is_501_and_named(raw: Raw) -> None:
    missing = sorted(KNOWN_CALLS - IMPLEMENTED)
    assert "tasks.move" in missing
    for action in missing:
        answer = raw(action)
        assert answer.code == (501, 0), action
        assert action in answer.meta["result_msg"]


def test_the_client_takes_a_501_as_a_refusal(clearml_server: ClearMLServer) -> None:
    async def act(client: ClearMLClient) -> ClearMLRefused | None:
        try:
            await client._transport.effect("tasks.move", {"ids": ["x"]})
        except ClearMLRefused as refusal:
            return refusal
        return None

    refusal = with_client(clearml_server, act)
    assert refusal is not None
    assert refusal.code == 501
    assert "tasks.move" in refusal.msg


def test_the_server_closes_each_connection(raw: Raw) -> None:
    assert raw("queues.get_default").headers["connection"] == "close"
    assert raw("tasks.get_by_id", task="nobody").headers["connection"] == "close"
    assert raw.http.get(f"{raw.server.files}/").headers["connection"] == "close"


def test_get_all_ex_names_the_tasks_of_a_queue_s_entries(raw: Raw, made: Made) -> None:
    queue = made.queue()
    task = made.task("queued", queue)
    waiting = raw.ok("queues.get_all_ex", id=[queue])["queues"][0]["entries"]
    assert [entry["task"]["id"] for entry in waiting] == [task]
    assert waiting[0]["task"]["name"] == raw.task(task)["name"]


def test_a_refused_call_changes_nothing(raw: Raw, made: Made) -> None:
    name = made.name("never")
    assert raw("tasks.enqueue", task="0" * 32, queue_name=name).code == (400, 101)
    assert raw.ok("queues.get_all", name=f"^{name}$")["queues"] == []


def test_an_expired_token_is_refused() -> None:
    authenticator = Authenticator("key", "secret", 60)
    headers = {"authorization": f"Bearer {authenticator.token(now_s=1000, lifetime_s=60)}"}
    authenticator.check(headers, 1059)
    with pytest.raises(ApiError) as refusal:
        authenticator.check(headers, 1060)
    assert (refusal.value.code, refusal.value.subcode) == (401, 30)


def test_a_login_may_ask_for_a_shorter_life_of_its_token(raw: Raw, clearml_server: ClearMLServer) -> None:
    pair = (clearml_server.access_key, clearml_server.secret_key)
    assert token_lifetime_s(raw.call("auth.login", {"expiration_sec": 7}, auth=pair).data["token"]) == 7


def test_a_clone_has_none_of_its_source_s_outputs(raw: Raw, made: Made) -> None:
    task, model = made.task("in_progress"), made.model()
    artifact = {"key": "report", "type": "custom", "mode": "output", "uri": "https://example.org/report"}
    raw.ok("tasks.add_or_update_artifacts", task=task, artifacts=[artifact])
    raw.ok("tasks.add_or_update_model", task=task, model=model, name="model", type="output")
    clone = raw.ok("tasks.clone", task=task, new_task_name=made.name("clone"))["id"]
    made.tasks.append(clone)
    found = raw.task(clone)
    assert found["execution"]["artifacts"] == []
    assert found["models"]["output"] == []
    assert len(raw.task(task)["models"]["output"]) == 1


def test_everything_is_still_there_after_a_restart(tmp_path: Path) -> None:
    with embedded_server(tmp_path) as server:
        raw = Raw(server)
        made = Made(raw)
        queue = made.queue()
        task = made.task("queued", queue, hyperparams=hyperparams({"Run": {"run_id": "kept"}}))
        token = raw.token
        raw.http.close()
    with embedded_server(tmp_path) as server:
        raw = Raw(server)
        assert raw.entries(queue) == [task]
        found = raw.ok("tasks.get_all", **{"hyperparams.Run.run_id.value": ["kept"]})["tasks"]
        assert [one["id"] for one in found] == [task]
        answer = raw.call("tasks.get_by_id", {"task": task}, headers={"Authorization": f"Bearer {token}"})
        assert answer.code == (200, 0)
        raw.http.close()


def test_a_killed_server_loses_nothing_it_answered(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainyard_devstack.clearml_api", "--data", str(tmp_path)]
    env = {**os.environ, "CLEARML_API_ACCESS_KEY": "test-access-key", "CLEARML_API_SECRET_KEY": "test-secret-key"}
    ports = ["--api-port", "0", "--files-port", "0"]
    with subprocess.Popen([*command, *ports], env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        listening = json.loads(process.stderr.readline())
        raw = Raw(ClearMLServer(listening["api"], listening["files"], "test-access-key", "test-secret-key"))
        task = Made(raw).task()
        raw.http.close()
        process.kill()
    with embedded_server(tmp_path) as server:
        raw = Raw(server)
        assert raw.task(task)["status"] == "created"
        raw.http.close()


@pytest.mark.timed
def test_the_server_ends_in_two_seconds_though_a_client_holds_a_connection(tmp_path: Path) -> None:
    before = time.monotonic()
    with contextlib.ExitStack() as open_connections:
        with embedded_server(tmp_path) as server:
            start_s = time.monotonic() - before
            for address in (server.api, server.files):
                parts = urlsplit(address)
                connection = socket.create_connection((parts.hostname, parts.port))
                open_connections.enter_context(contextlib.closing(connection))
                connection.sendall(b"POST /tasks.create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            started = time.monotonic()
        in_time(2.0 + start_s, time.monotonic() - started)  # how long a start takes says how busy this machine is


@pytest.mark.parametrize("problem", ["taken port", "no database"])
def test_a_server_that_cannot_start_says_why_and_exits_78(tmp_path: Path, problem: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1] if problem == "taken port" else 0
        if problem == "no database":
            (tmp_path / "clearml.sqlite").write_text("this is not a database, whatever its name says" * 100)
        arguments = ["--data", str(tmp_path), "--api-port", str(port), "--files-port", "0"]
        env = {**os.environ, "CLEARML_API_ACCESS_KEY": "test-access-key", "CLEARML_API_SECRET_KEY": "test-secret-key"}
        done = subprocess.run(
            [sys.executable, "-m", "trainyard_devstack.clearml_api", *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 78, done.stderr
    line = json.loads(done.stderr.splitlines()[-1])
    assert line["event"] == "cannot start"
    assert (str(port) if port else "not a database") in line["reason"]


def test_credentials_must_be_given(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("CLEARML_")}
    command = [sys.executable, "-m", "trainyard_devstack.clearml_api", "--data", str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    settings = {json.loads(line)["setting"] for line in done.stderr.splitlines()}
    assert settings == {"access_key", "secret_key"}


def test_a_path_that_leaves_the_folder_is_refused(raw: Raw, clearml_server: ClearMLServer) -> None:
    headers = {"Authorization": f"Bearer {raw.token}"}
    for path in ("../escaped", "a/../../escaped", "", "a" * 300):
        files = {path: ("x", b"x", "application/octet-stream")}
        answer = raw.http.post(f"{clearml_server.files}/", files=files, headers=headers)
        assert answer.status_code == 400, path
    answer = raw.http.get(
        httpx2.URL(clearml_server.files).copy_with(raw_path=b"/%2e%2e/clearml.sqlite"), headers=headers
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("length", "expected_ms"), [(0, 10.0), (100, 13.0), (200, 16.0), (1000, 47.0), (1600, 69.0), (2200, 91.0)]
)
def test_a_delayed_enqueue_takes_as_long_as_on_the_real_server(length: int, expected_ms: float) -> None:
    assert call_ms("tasks.enqueue", length) == pytest.approx(expected_ms)


def test_delayed_calls_are_serialised_whatever_the_number_of_connections(tmp_path: Path) -> None:
    with embedded_server(tmp_path, "--delay", "real") as server:

        async def act(client: ClearMLClient) -> float:
            queue = await client.ensure_queue("delayed")

            async def dispatch() -> None:
                task = await client.create_task({"name": "delayed", "type": "training"})
                await client.enqueue_task(task, queue)

            started = time.perf_counter()
            await asyncio.gather(*(dispatch() for _ in range(20)))
            return time.perf_counter() - started

        elapsed_s = with_client(server, act)
    assert elapsed_s >= 20 * 0.015


@pytest.mark.parametrize(
    ("wanted", "tags", "expected"),
    [
        ([], ["a"], True),
        (["a", "b"], ["b"], True),
        (["a", "b"], ["c"], False),
        (["a", "-b"], ["a", "b"], False),
        (["-b"], ["a"], True),
        (["__$all", "a", "b"], ["a"], False),
        (["__$all", "a", "b"], ["a", "b", "c"], True),
        (["__$all", "a", "__$or", "b", "__$not", "c"], ["a", "c"], False),
        (["__$all", "a", "__$or", "b", "__$not", "c"], ["a"], True),
        (["__$all", "__$not", "archived"], [], True),
        (["__$all", "__$not", "archived"], ["archived"], False),
    ],
)
def test_a_tag_expression_means_what_the_sdk_documents(wanted: list[str], tags: list[str], expected: bool) -> None:
    assert tags_match(tags, wanted) is expected


def test_a_body_that_is_no_object_is_refused(raw: Raw) -> None:
    headers = {"Authorization": f"Bearer {raw.token}"}
    bodies: list[Any] = [b"{", b"[1]", b"\xff\xfe", b'"text"']
    for content in bodies:
        assert raw.call("tasks.get_all", headers=headers, content=content).code == (400, 12)
