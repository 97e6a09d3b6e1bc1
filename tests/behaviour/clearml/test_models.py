"""Models, artifacts and workers, through the REST client."""

from __future__ import annotations

import time
from typing import Any

from tests.behaviour.clearml.raw import Made, Raw, with_client
from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient


def test_a_model_is_registered_with_its_tags_and_named_by_its_task(
    clearml_server: ClearMLServer, raw: Raw, made: Made
) -> None:
    task, project = made.task("in_progress"), made.project()

    async def act(client: ClearMLClient) -> str:
        body: dict[str, Any] = {
            "name": made.name("model"),
            "uri": "https://example.org/wine.zip",
            "framework": "scikit-learn",
            "tags": ["automl", "trainer:flaml"],
            "task": task,
            "project": project,
        }
        model = await client.create_model(body)
        made.models.append(model)
        await client.add_task_model(task, model, "wine")
        await client.edit_model(model, {"comment": "checked", "ready": False})
        found = await client.get_model(model, ["uri", "tags", "comment", "ready", "task"])
        assert found is not None
        assert found["uri"] == body["uri"]
        assert found["tags"] == body["tags"]
        assert found["comment"] == "checked"
        assert not found["ready"]
        assert [one["id"] for one in await client.find_models({"task": [task]}, ["id"])] == [model]
        return model

    model = with_client(clearml_server, act)
    assert ("wine", model) in {(one["name"], one["model"]) for one in raw.task(task)["models"]["output"]}


def test_a_published_model_is_ready(clearml_server: ClearMLServer, made: Made) -> None:
    model = made.model(ready=False)

    async def act(client: ClearMLClient) -> tuple[bool, bool]:
        before = await client.get_model(model, ["ready"]) or {}
        await client.publish_model(model)
        after = await client.get_model(model, ["ready"]) or {}
        return before["ready"], after["ready"]

    assert with_client(clearml_server, act) == (False, True)


def test_a_deleted_model_is_gone(clearml_server: ClearMLServer, made: Made) -> None:
    model = made.model()

    async def act(client: ClearMLClient) -> object:
        await client.delete_model(model, force=True)
        return await client.get_model(model)

    assert with_client(clearml_server, act) is None


def test_artifacts_are_kept_by_their_key(clearml_server: ClearMLServer, raw: Raw, made: Made) -> None:
    task = made.task("in_progress")

    def artifact(key: str, uri: str) -> dict[str, Any]:
        return {"key": key, "type": "custom", "mode": "output", "uri": uri, "content_size": 3, "hash": "abc"}

    async def act(client: ClearMLClient) -> None:
        await client.add_artifacts(task, [artifact("manifest", "https://a/1"), artifact("report", "https://a/2")])
        await client.add_artifacts(task, [artifact("manifest", "https://a/3")])

    with_client(clearml_server, act)
    found = {one["key"]: one["uri"] for one in raw.task(task)["execution"]["artifacts"]}
    assert found == {"manifest": "https://a/3", "report": "https://a/2"}


def test_a_worker_shows_while_it_reports_and_not_after_it_left(clearml_server: ClearMLServer, made: Made) -> None:
    worker, queue, task = made.name("host").replace(" ", ":"), made.queue(), made.task("in_progress")

    async def act(client: ClearMLClient) -> None:
        await client.worker_register(worker, [queue], timeout_s=60)
        await client.worker_status_report(
            worker, [queue], timestamp_ms=int(time.time() * 1000), task_id=task, queue_id=queue
        )
        shown = {one["id"]: one for one in await client.workers()}
        assert shown[worker]["task"]["id"] == task
        assert [one["id"] for one in shown[worker]["queues"]] == [queue]
        await client.worker_unregister(worker)
        assert worker not in {one["id"] for one in await client.workers()}

    with_client(clearml_server, act)


def test_metadata_are_items_by_key_and_a_list_is_refused(raw: Raw, made: Made) -> None:
    item = {"key": "metrics.accuracy", "type": "str", "value": "0.9"}
    model = made.model(metadata={"metrics.accuracy": item})
    assert raw.ok("models.get_by_id", model=model)["model"]["metadata"] == {"metrics.accuracy": item}
    body = {"name": made.name("model"), "uri": "https://example.org/model.bin", "metadata": [item]}
    assert raw("models.create", body).code == (400, 12)
