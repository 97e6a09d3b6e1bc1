"""What users do with the unchanged SDK; run as `python sdk_flows.py FLOW NAME`, prints one JSON object at the end.

In a process of its own, since the SDK patches the interpreter it lives in.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clearml import Dataset, Model, OutputModel, Task
from clearml.backend_api.session.client import APIClient


def create(name: str) -> dict[str, Any]:
    """Create a task, set parameters, enqueue it, find it, clone it."""
    client = APIClient()
    queue = client.queues.create(name=name).id
    task: Any = Task.create(
        project_name=f"{name}/nested",
        task_name=name,
        script="train.py",
        repo="https://example.org/train.git",
        branch="main",
        packages=["scikit-learn"],
        docker="python:3.11",
        add_task_init_call=False,
    )
    task.set_parameters({"Run/run_id": name, "General/lr": 0.1})
    task.add_tags(["automl"])
    Task.enqueue(task, queue_name=name)
    found: list[Any] = Task.get_tasks(project_name=f"{name}/nested", task_filter={"status": ["queued"]})
    clone: Any = Task.clone(task, name=f"{name} clone")
    clone_parameters = clone.get_parameters()
    answer = {
        "id": task.id,
        "status": task.get_status(),
        "found": [one.id for one in found],
        "parameters": task.get_parameters(),
        "image": task.get_base_docker(),
        "tags": list(task.get_tags()),
        "clone_parent": clone.parent,
        "clone_parameters": clone_parameters,
        "clone_deleted": bool(clone.delete()),
        "missing_deleted": Task.query_tasks(project_name=f"{name}/nested", task_name=f"^{name} clone$"),
    }
    answer["entries"] = [one.task for one in client.queues.get_by_id(queue=queue).entries]
    Task.dequeue(task)
    answer["status_after_dequeue"] = Task.get_task(task.id).get_status()
    return answer


def api(name: str) -> dict[str, Any]:
    """The raw calls of the SDK's APIClient, as an agent makes them."""
    client = APIClient()
    queue = client.queues.create(name=name).id
    task = client.tasks.create(name=name, type="training", tags=["automl"]).id
    client.tasks.enqueue(task=task, queue=queue)
    entries = client.queues.get_by_id(queue=queue).entries
    client.workers.register(worker=f"{name}:0", queues=[queue], timeout=60)
    entry = client.queues.get_next_task(queue=queue).entry
    client.tasks.started(task=entry.task, force=True)
    client.workers.status_report(
        worker=f"{name}:0", timestamp=int(time.time() * 1000), task=task, queue=queue, queues=[queue]
    )
    workers = [worker.id for worker in client.workers.get_all()]
    client.tasks.completed(task=task)
    client.workers.unregister(worker=f"{name}:0")
    status = client.tasks.get_by_id(task=task).status
    exported = client.tasks.get_all(id=[task], only_fields=["id", "status", "last_worker"])
    empty = client.queues.get_next_task(queue=queue)
    client.tasks.delete(task=task, force=True)
    client.queues.delete(queue=queue, force=True)
    return {
        "entries": [one.task for one in entries],
        "popped": entry.task,
        "task": task,
        "status": str(status),
        "listed": [(one.id, str(one.status)) for one in exported],
        "worker_shown": f"{name}:0" in workers,
        "empty": getattr(empty, "entry", None),
    }


def train(name: str) -> dict[str, Any]:
    """A whole run: parameters, scalars, console, plots, artifacts, an output model; then read all of it again."""
    task: Any = Task.init(project_name=name, task_name=name, output_uri=True, auto_connect_frameworks=False)
    task.connect({"lr": 0.1}, name="General")
    task.set_configuration_object("request", config_dict={"trainer": "flaml"})
    logger = task.get_logger()
    for index in range(3):
        logger.report_scalar("loss", "train", 1 / (index + 1), index)
    logger.report_single_value("accuracy", 0.9)
    logger.report_text("a line on the console")
    logger.report_histogram("importance", "features", [1, 2, 3], iteration=0)
    task.upload_artifact("split", {"train": [1, 2], "test": [3]}, wait_on_upload=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.bin"
        weights.write_bytes(b"weights" * 1000)
        model = OutputModel(task=task, name=f"{name} model", framework="ScikitLearn", tags=["automl"])
        model.update_weights(str(weights), auto_delete_file=False, async_enable=False)
    model.set_metadata("metric", "0.9", "float")
    model.publish()
    task_id = task.id
    task.close()
    done: Any = Task.get_task(task_id)
    deadline = time.monotonic() + 20
    while not (done.get_reported_scalars() and done.get_reported_plots() and done.get_reported_single_values()):
        if time.monotonic() > deadline:  # a real server shows events a second or so after it took them
            break
        time.sleep(0.2)
    found = Model.query_models(model_name=f"{name} model", tags=["automl"])
    answer = {
        "status": done.get_status(),
        "parameters": done.get_parameters(),
        "configuration": done.get_configuration_object_as_dict("request"),
        "scalars": done.get_reported_scalars()["loss"]["train"],
        "last": done.get_last_scalar_metrics()["loss"]["train"],
        "single": done.get_reported_single_values(),
        "console": "a line on the console" in "\n".join(done.get_reported_console_output(number_of_reports=20)),
        "plots": [(plot["metric"], plot["variant"]) for plot in done.get_reported_plots()],
        "artifact": done.artifacts["split"].get(),
        "model_bytes": Path(done.models["output"][0].get_local_copy()).stat().st_size,
        "models_found": [one.id for one in found] == [done.models["output"][0].id],
        "model_published": found[0].published,
        "metadata": found[0].get_metadata("metric"),
    }
    answer["deleted"] = bool(done.delete(delete_artifacts_and_models=True))
    return answer


def dataset(name: str) -> dict[str, Any]:
    """Three versions of a dataset: one file, another beside it, and the first one changed; then an unfinished one."""
    folder = Path(tempfile.mkdtemp())
    (folder / "a").mkdir()
    made: list[Any] = []
    for path, text in (("a/train.csv", "x,y\n1,2\n"), ("more.csv", "x,y\n3,4\n"), ("a/train.csv", "x,y\n5,6\n")):
        (folder / path).write_text(text)
        version: Any = Dataset.create(
            dataset_name=name,
            dataset_project=name,
            dataset_version="1.0.0" if not made else None,
            parent_datasets=[made[-1].id] if made else None,
        )
        version.add_files(str(folder))
        version.upload(show_progress=False)
        version.finalize()
        made.append(version)
    open_one: Any = Dataset.create(dataset_name=name, dataset_project=name, dataset_version="9.9.9")
    open_one.add_files(str(folder))
    open_one.upload(show_progress=False)
    copies = [Path(Dataset.get(dataset_id=one.id).get_local_copy()) for one in made]
    return {
        "ids": [one.id for one in made],
        "versions": [one.version for one in made],
        "files": [Dataset.get(dataset_id=one.id).list_files() for one in made],
        "copies": [
            {path.relative_to(copy).as_posix(): path.read_text() for path in sorted(copy.rglob("*.csv"))}
            for copy in copies
        ],
        "by_name": Dataset.get(dataset_project=name, dataset_name=name, dataset_version="1.0.1").id,
        "latest": Dataset.get(dataset_project=name, dataset_name=name, only_completed=True).version,
        "listed": [one["id"] for one in Dataset.list_datasets(dataset_project=name, only_completed=True)],
        "parents": made[1].get_dependency_graph(),
        "open": open_one.id,
    }


FLOWS: dict[str, Callable[[str], dict[str, Any]]] = {"create": create, "api": api, "train": train, "dataset": dataset}

if __name__ == "__main__":
    result = FLOWS[sys.argv[1]](sys.argv[2])
    print("\n" + json.dumps(result), flush=True)
