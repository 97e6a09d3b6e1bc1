"""ClearML datasets, as the SDK's `Dataset` stores them: a task with a `state` artifact and zip archives beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLRefused
from trainyard_trainer_worker.data.plan import ClearMLRef
from trainyard_trainer_worker.data.ports import TryAgain
from trainyard_trainer_worker.spec import AttemptError, Detail, clean, dataset_unreachable, invalid_dataset, listed

STATE: Final = "state"
_TAG: Final = "dataset"
_FINAL: Final = frozenset({"completed", "published", "closed"})
_FIELDS: Final = ("id", "name", "status", "system_tags", "runtime", "hyperparams.properties", "execution.artifacts")


@dataclass(frozen=True, slots=True)
class DatasetTask:
    """A dataset that is final: its id, and where its artifacts are, by name."""

    id: str
    artifacts: Mapping[str, str]

    def uri(self, artifact: str) -> str:
        """Where an artifact is. Raises AttemptError."""
        try:
            return self.artifacts[artifact]
        except KeyError:
            raise invalid_dataset(
                Detail.ARCHIVE_UNSAFE,
                f"the ClearML dataset {self.id} has no artifact {clean(artifact)}; finalize and upload it again",
            ) from None


class ClearMLDatasets:
    """Finds datasets by what a request says of them."""

    def __init__(self, client: ClearMLClient) -> None:
        self._client = client

    async def find(self, ref: ClearMLRef) -> DatasetTask:
        """The dataset that is meant. Raises AttemptError, TryAgain where ClearML does not answer."""
        try:
            return await (self.by_id(ref.id) if ref.id else self._by_name(ref))
        except ClearMLRefused as refused:
            raise dataset_unreachable(
                Detail.DATASET_MISSING, f"ClearML refuses to show the dataset ({refused.code}/{refused.subcode})"
            ) from refused
        except ClearMLError as problem:
            raise TryAgain(
                Detail.CONNECTION_FAILED, "ClearML's API does not answer; the dataset cannot be found"
            ) from (problem)

    async def by_id(self, dataset_id: str) -> DatasetTask:
        """The dataset with this id."""
        task = await self._client.get_task(dataset_id, _FIELDS)
        if task is None:
            raise dataset_unreachable(
                Detail.DATASET_MISSING, f"ClearML has no dataset {clean(dataset_id)}; check dataset.clearml.id"
            )
        return _checked(task)

    async def _by_name(self, ref: ClearMLRef) -> DatasetTask:
        named = f"{clean(ref.name)} in project {clean(ref.project)}"
        project = await self._client.find_project(f"{ref.project}/.datasets/{ref.name}")
        tags = ["__$all", _TAG, "__$not", "archived"]
        filters = {"project": [project] if project else [], "system_tags": tags, "search_hidden": True}
        tasks = await self._client.find_tasks(filters, _FIELDS)
        if not tasks:
            raise dataset_unreachable(
                Detail.DATASET_MISSING, f"ClearML has no dataset {named}; check dataset.clearml.name and project"
            )
        found = [task for task in tasks if _version(task) == ref.version]
        if not found:
            versions = sorted({version for task in tasks if (version := _version(task))})
            raise dataset_unreachable(
                Detail.DATASET_MISSING,
                f"the ClearML dataset {named} has no version {clean(ref.version)}; it has {listed(versions)}",
            )
        if len(found) > 1:
            raise invalid_dataset(
                Detail.DATASET_AMBIGUOUS,
                f"{len(found)} ClearML datasets are {named}, version {clean(ref.version)}; say with dataset.clearml.id "
                f"which one: {listed(sorted(str(task['id']) for task in found))}",
            )
        return _checked(found[0])


def _version(task: Mapping[str, Any]) -> str | None:
    said = (task.get("runtime") or {}).get("version")
    if said is None:  # before the SDK kept it in `runtime`
        properties = (task.get("hyperparams") or {}).get("properties") or {}
        said = (properties.get("version") or {}).get("value")
    return None if said is None else str(said)


def _checked(task: Mapping[str, Any]) -> DatasetTask:
    task_id = str(task["id"])
    if _TAG not in (task.get("system_tags") or []):
        raise invalid_dataset(Detail.DATASET_MISSING, f"the ClearML task {task_id} is no dataset")
    if task.get("status") not in _FINAL:
        raise invalid_dataset(
            Detail.DATASET_NOT_FINAL,
            f"the ClearML dataset {task_id} is {clean(task.get('status'))}, so its files may still change; finalize it",
        )
    artifacts = (task.get("execution") or {}).get("artifacts") or []
    return DatasetTask(
        task_id,
        {str(a["key"]): str(a["uri"]) for a in artifacts if isinstance(a, Mapping) and a.get("key") and a.get("uri")},
    )


def of_dataset(problem: AttemptError, what: str) -> AttemptError:
    """The same problem, saying which part of which dataset it befell."""
    return AttemptError(problem.reason, problem.detail, f"{what}: {problem.message}")
