"""The protocol's `Publisher` over ClearML: file server, model registry, and what the task shows of its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused, plot_event
from trainyard_runtime.logs import get_logger
from trainyard_schemas.vocabulary import UNSEEN_TAG, Reason
from trainyard_trainer_worker.clearml_best_model import name_best
from trainyard_trainer_worker.clearml_tasks import translated
from trainyard_trainer_worker.lease import Lease
from trainyard_trainer_worker.model_facts import (
    MAX_PLOT_BYTES,
    PLOTLY,
    artifact_entry,
    artifact_record,
    model_metadata,
)
from trainyard_trainer_worker.model_naming import (
    attempt_path,
    metadata_items,
    model_name,
    model_project,
    next_version,
    version_of,
)
from trainyard_trainer_worker.ports import ClaimVoid, Job, Patience, PublishFailed
from trainyard_trainer_worker.spec import Artifact, Succeeded

T = TypeVar("T")

MODEL_FIELDS: Final = ("id", "name", "uri", "metadata")
FRAMEWORKS: Final = {"autogluon": "AutoGluon", "flaml": "FLAML", "sklearn": "ScikitLearn"}
"""What ClearML calls the framework; other trainers go by their own name."""

NOT_REGISTERED: Final = "model_not_registered"
NOT_UPLOADED: Final = "upload_failed"
DEADLINE_PASSED: Final = "publish_deadline"


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt, and the lease under which it may be published."""

    job: Job
    lease: Lease


class EndingPatience(Patience, Protocol):
    """Time, and the end of this process in the middle of a transfer."""

    async def unless_ending(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`. Where this process is to end, `work` has a moment left; then it is given up. Raises Ending."""
        ...


class ClearMLPublisher:
    """Every step may be repeated: files keep their path, a model is found again by its address."""

    def __init__(
        self,
        client: ClearMLClient,
        patience: EndingPatience,
        *,
        worker: str,
        model_tags: tuple[str, ...] = (),
        publish_models: bool = False,
        work_dir_of: Callable[[Job], Path],
    ) -> None:
        self._client = client
        self._patience = patience
        self._worker = worker
        self._model_tags = model_tags
        self._publish_models = publish_models
        self._work_dir_of = work_dir_of
        self._log = get_logger(component="publishing")

    async def reveal(self, results: Mapping[str, Any]) -> None:
        """See ports.Publisher. A model that is to be ready at once becomes so here: nothing unseen ever is."""
        model = results["model"]
        await translated(self._client.edit_model(model["id"], {"tags": list(model["tags"]), "system_tags": []}))
        if model["published"]:
            await translated(self._client.publish_model(model["id"]))
        await translated(name_best(self._client, results, publish=bool(model["published"])))

    async def publish(self, job: Job, outcome: Succeeded, lease: Lease) -> Mapping[str, Any]:
        """See ports.Publisher."""
        held = Held(job, lease)
        started = time.monotonic()
        folder = self._work_dir_of(job)
        uri = await self._upload(held, folder / outcome.model.path, "model.tar.gz")
        artifacts = [
            artifact_entry(artifact, await self._upload(held, folder / artifact.path, artifact.path))
            for artifact in outcome.artifacts
        ]
        model = await self._register(held, outcome, uri, artifacts)
        task_id = job.task.id
        shown = {"id": model["id"], "name": model["name"], "project": model["project"], "version": model["version"]}
        sections = {"Model": {key: str(value) for key, value in shown.items()}}
        await self._persist(
            held, NOT_REGISTERED, lambda: self._client.add_task_model(task_id, model["id"], str(model["name"]))
        )
        await self._persist(held, NOT_REGISTERED, lambda: self._client.edit_hyper_params(task_id, sections, force=True))
        now = int(self._patience.now())
        listed = [
            artifact_record(artifact, entry["uri"], now)
            for artifact, entry in zip(outcome.artifacts, artifacts, strict=True)
        ]
        if listed:
            await self._persist(held, NOT_REGISTERED, lambda: self._client.add_artifacts(task_id, listed, force=True))
        await self._show_plots(job, folder, outcome.artifacts)
        seconds = {**(outcome.results.get("seconds") or {}), "publish": round(time.monotonic() - started, 3)}
        return {
            **outcome.results,
            "seconds": seconds,
            "waited_s": round(max(0.0, job.claimed_at - job.accepted_at), 3),
            "model": {**model, "sha256": outcome.model.sha256, "bytes": outcome.model.size_bytes},
            "artifacts": artifacts,
            "worker": self._worker,
            "clearml": {"task_id": task_id, "project_id": job.task.project_id},
        }

    async def _upload(self, held: Held, path: Path, name: str) -> str:
        job = held.job

        async def send() -> str:
            with path.open("rb") as stream:
                return await self._client.upload_file(attempt_path(job.run_id, job.attempt, job.claim, name), stream)

        try:
            return await self._persist(held, NOT_UPLOADED, send)
        except OSError as problem:
            raise PublishFailed(
                Reason.INTERNAL, NOT_UPLOADED, f"{name} cannot be read from the work folder: {problem.strerror}"
            ) from problem

    async def _register(
        self, held: Held, outcome: Succeeded, uri: str, artifacts: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        job = held.job
        trainer = str(job.request.get("trainer") or "")
        name = model_name(trainer, job.task.name)
        project = model_project(str(job.request.get("project") or "AutoML"))
        project_id = await self._persist(held, NOT_REGISTERED, lambda: self._client.ensure_project(project))
        tags = sorted({trainer, *self._model_tags} - {""})

        async def register() -> tuple[str, int]:
            same_name = [
                model
                for model in await self._client.find_models({"project": [project_id]}, MODEL_FIELDS)
                if model.get("name") == name
            ]
            for model in same_name:
                if model.get("uri") == uri:
                    return str(model["id"]), version_of(model) or next_version(same_name)
            version = next_version(same_name)
            return await self._client.create_model(
                {
                    "name": name,
                    "uri": uri,
                    "framework": FRAMEWORKS.get(trainer, trainer),
                    "tags": [*tags, UNSEEN_TAG],
                    "system_tags": ["archived"],
                    "project": project_id,
                    "task": job.task.id,
                    "ready": False,
                    "comment": f"Trainyard run {job.run_id}, attempt {job.attempt}",
                    "metadata": metadata_items(
                        model_metadata(
                            job.run_id,
                            job.attempt,
                            job.claim,
                            outcome.results,
                            outcome.model.sha256,
                            version,
                            artifacts,
                        )
                    ),
                }
            ), version

        model_id, version = await self._persist(held, NOT_REGISTERED, register)
        return {
            "id": model_id,
            "uri": uri,
            "name": name,
            "framework": FRAMEWORKS.get(trainer, trainer),
            "project": project,
            "version": version,
            "tags": tags,
            "published": self._publish_models,
        }

    async def _persist(self, held: Held, detail: str, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat `step` until it works, ClearML refuses it, the deadline is reached, the claim is void, or the process
        ends. Nothing is begun while the lease is not valid."""
        job, tries = held.job, 0
        while True:
            while not held.lease.is_valid(self._patience.steady()) and held.lease.order is None:
                await self._patience.wait(1)
            if held.lease.order is not None:
                raise ClaimVoid
            try:
                return await self._patience.unless_ending(step())
            except ClearMLRefused as refusal:
                if refusal.code != 401:
                    raise PublishFailed(Reason.CLEARML_REJECTED, detail, str(refusal)) from refusal
                problem: ClearMLError = refusal
            except ClearMLError as unavailable:
                problem = unavailable
            tries += 1
            self._log.warning("publishing delayed", action="publish", tries=tries, error=str(problem))
            if self._patience.now() >= job.deadline_at:
                raise PublishFailed(
                    Reason.INTERNAL,
                    DEADLINE_PASSED,
                    f"the model is trained, but was not stored before the deadline of {job.deadline_s:g} s: {problem}",
                )
            await self._patience.wait(tries)

    async def _show_plots(self, job: Job, folder: Path, artifacts: Sequence[Artifact]) -> None:
        """Figures as plots of the task, once and best effort: the files themselves are uploaded already."""
        now_ms = int(self._patience.now() * 1000)
        events = [
            plot_event(
                job.task.id, artifact.name.removesuffix("_data"), "held-out", text, iteration=0, timestamp_ms=now_ms
            )
            for artifact in artifacts
            if artifact.content_type == PLOTLY and (text := _small_text(folder / artifact.path))
        ]
        try:
            if events:
                await self._client.add_events(events)
        except ClearMLError as problem:
            self._log.warning("plots not shown", action="publish", error=str(problem))


def _small_text(path: Path) -> str:
    """A small file's text; empty where it is large or gone."""
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= MAX_PLOT_BYTES else ""
    except OSError:
        return ""
