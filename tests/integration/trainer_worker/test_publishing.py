"""Uploading and registering against a real server whose answers get lost: each step may be repeated."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.behaviour.clearml.server import ClearMLServer
from trainyard_runtime.clearml import ClearMLClient, ClearMLRefused, ClearMLUnavailable, ClearMLUnknownOutcome
from trainyard_schemas.vocabulary import UNSEEN_TAG, Reason
from trainyard_trainer_worker.clearml_publishing import ClearMLPublisher
from trainyard_trainer_worker.lease import Lease, Void
from trainyard_trainer_worker.ports import ClaimVoid, Job, PoppedTask, PublishFailed
from trainyard_trainer_worker.spec import Artifact, ModelFile, Succeeded

T = TypeVar("T")


class LosesAnswers(ClearMLClient):
    """Every effect of publishing is executed, and its first answer is lost."""

    def __init__(self, server: ClearMLServer) -> None:
        super().__init__(server.settings())
        self.lost: set[str] = set()

    def _lose(self, name: str) -> None:
        if name not in self.lost:
            self.lost.add(name)
            raise ClearMLUnknownOutcome(name, "the answer was lost")

    async def upload_file(self, path: str, content: Any) -> str:
        url = await super().upload_file(path, content)
        self._lose("upload")
        return url

    async def create_model(self, body: Mapping[str, Any]) -> str:
        model_id = await super().create_model(body)
        self._lose("create")
        return model_id

    async def edit_hyper_params(
        self, task_id: str, sections: Mapping[str, Mapping[str, str]], *, force: bool = False
    ) -> None:
        await super().edit_hyper_params(task_id, sections, force=force)
        self._lose("parameters")

    async def add_artifacts(self, task_id: str, artifacts: Any, *, force: bool = False) -> None:
        await super().add_artifacts(task_id, artifacts, force=force)
        self._lose("artifacts")


class Fails(ClearMLClient):
    """Registering fails in one way, for ever."""

    def __init__(self, server: ClearMLServer, error: Exception) -> None:
        super().__init__(server.settings())
        self.error = error

    async def create_model(self, body: Mapping[str, Any]) -> str:
        raise self.error


class Clock:
    """A minute passes at every pause."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return self.at

    def steady(self) -> float:
        return 0.0

    async def news(self, run_id: str, at_most_s: float) -> None:
        raise AssertionError("publishing waits for no news")

    async def unless_ending(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    async def wait(self, tries: int) -> None:
        self.at += 60.0


def publish(
    client: ClearMLClient, folder: Path, run_name: str, lease: Lease | None = None, *, reveal: bool = True
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Publish one attempt, and show its model where `reveal`; returns its results and its ClearML task."""
    (folder / "model.tar.gz").write_bytes(b"model")
    (folder / "notes.txt").write_bytes(b"notes")

    async def run() -> tuple[Mapping[str, Any], dict[str, Any]]:
        async with client:
            project = await client.ensure_project("Publishing")
            task_id = await client.create_task({"name": run_name, "type": "training", "project": project})
            job = Job(
                run_id=str(uuid.uuid4()),
                attempt=1,
                claim=uuid.uuid4().hex,
                task=PoppedTask(task_id, run_name, "in_progress", None, project),
                queue="cpu",
                request={"trainer": "sklearn", "project": "Publishing"},
                accepted_at=990.0,
                claimed_at=1_000.0,
                deadline_s=600.0,
                lease_s=60.0,
            )
            publisher = ClearMLPublisher(
                client,
                Clock(),
                worker="w",
                work_dir_of=lambda _: folder,
                model_tags=("candidate",),
                publish_models=True,
            )
            outcome = Succeeded(
                {"metric": "accuracy", "value": 0.5, "trainer": "sklearn", "seconds": {"fit": 1.0}},
                ModelFile("model.tar.gz", "abc", 5),
                (Artifact("notes", "notes.txt", "text/plain"),),
            )
            results = await publisher.publish(job, outcome, lease or Lease(60.0, 0.0))
            if reveal:
                await publisher.reveal(results)
            task = await client.get_task(task_id)
            assert task is not None
            return results, task

    return asyncio.run(run())


def test_lost_answers_make_no_second_model(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    client = LosesAnswers(clearml_server)
    name = f"run {uuid.uuid4().hex}"
    results, task = publish(client, tmp_path, name)
    assert client.lost == {"upload", "create", "parameters", "artifacts"}

    async def registered() -> list[dict[str, Any]]:
        async with ClearMLClient(clearml_server.settings()) as plain:
            assert await plain.read_file(results["model"]["uri"]) == b"model"
            project = await plain.ensure_project("Publishing-Models")
            return [m for m in await plain.find_models({"project": [project]}) if m["name"] == f"{name}-sklearn"]

    (model,) = asyncio.run(registered())
    assert model["id"] == results["model"]["id"]
    assert results["model"]["version"] == 1
    assert task["hyperparams"]["Model"]["id"]["value"] == model["id"]
    assert [artifact["key"] for artifact in task["execution"]["artifacts"]] == ["notes"]
    assert results["waited_s"] == 10.0
    assert {"fit", "publish"} == set(results["seconds"])


@pytest.mark.parametrize("reveal", [False, True])
def test_nobody_sees_a_model_before_its_attempt_has_won(
    clearml_server: ClearMLServer, tmp_path: Path, reveal: bool
) -> None:
    name = f"run {uuid.uuid4().hex}"
    results, _ = publish(ClearMLClient(clearml_server.settings()), tmp_path, name, reveal=reveal)

    async def registered() -> dict[str, Any]:
        async with ClearMLClient(clearml_server.settings()) as client:
            model = await client.get_model(results["model"]["id"])
            assert model is not None
            return model

    model = asyncio.run(registered())
    assert model["ready"] is reveal
    assert (model["system_tags"], UNSEEN_TAG in model["tags"]) == (([], False) if reveal else (["archived"], True))
    assert {"candidate", "sklearn"} <= set(model["tags"])
    assert model["metadata"]["claim"]["value"]


def test_nothing_is_published_under_a_lease_that_bears_an_order(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    lease = Lease(60.0, 0.0)
    lease.give(Void("over"))
    name = f"run {uuid.uuid4().hex}"
    with pytest.raises(ClaimVoid):
        publish(ClearMLClient(clearml_server.settings()), tmp_path, name, lease)

    async def registered() -> list[str]:
        async with ClearMLClient(clearml_server.settings()) as client:
            return [m["name"] for m in await client.find_models({"name": name}, ("id", "name"))]

    assert asyncio.run(registered()) == []


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (ClearMLRefused("models.create", 400, 800, "no"), Reason.CLEARML_REJECTED, "model_not_registered"),
        (ClearMLUnavailable("models.create", "away"), Reason.INTERNAL, "publish_deadline"),
    ],
    ids=["refused", "away until the deadline"],
)
def test_a_model_that_cannot_be_registered_ends_the_attempt_with_a_reason(
    clearml_server: ClearMLServer, tmp_path: Path, error: Exception, reason: Reason, detail: str
) -> None:
    with pytest.raises(PublishFailed) as failed:
        publish(Fails(clearml_server, error), tmp_path, f"run {uuid.uuid4().hex}")
    assert (failed.value.reason, failed.value.detail) == (reason, detail)
    assert "models.create" in failed.value.message


def test_a_model_file_that_is_gone_is_said_to_be_gone(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    class Gone(ClearMLClient):
        async def create_task(self, body: Mapping[str, Any]) -> str:
            (tmp_path / "notes.txt").unlink()
            return await super().create_task(body)

    with pytest.raises(PublishFailed, match=r"notes\.txt cannot be read"):
        publish(Gone(clearml_server.settings()), tmp_path, f"run {uuid.uuid4().hex}")
