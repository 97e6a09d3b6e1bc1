"""`python -m trainyard_trainer_worker.agent_body`: the body of one of our tasks under an ordinary clearml-agent.

The agent has popped the task, set it `in_progress` and started this process for it, as the task's `script` says. What
follows is the native worker's protocol, for this task only. The agent gives the task a status by how this process ends,
so that end is chosen (`exit_status`) to agree with the log.

The agent ends a task that a user stops with SIGKILL, children included: nothing is said in the log, and the planner,
which sees the stopped task, cancels the run. SIGTERM therefore is the end of this host, as in the native worker.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard_runtime.clearml import ClearMLClient, ClearMLError, ClearMLSettings
from trainyard_runtime.failpoints import FailpointSyntaxError, configure_failpoints_from_environment
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import bound, configure_logs, get_logger
from trainyard_runtime.process import run_service
from trainyard_runtime.settings import ConfigurationError, exit_for_configuration, settings_or_exit
from trainyard_trainer_worker.agent_config import CONFIG_FILE, TASK_ID, WORKER_ID, missing_variables
from trainyard_trainer_worker.attempts import Attempts
from trainyard_trainer_worker.clearml_queue import Popped
from trainyard_trainer_worker.clearml_tasks import ClearMLTasks
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.folders import own_folders
from trainyard_trainer_worker.metrics import WorkerMetrics
from trainyard_trainer_worker.ports import PoppedTask
from trainyard_trainer_worker.protocol import Handled
from trainyard_trainer_worker.settings import TrainerWorkerSettings
from trainyard_trainer_worker.wiring import wired

SERVICE = "agent-body"
EXIT_STOPPED = 254
"""clearml-agent sets `stopped` for this status (256 - SIGINT), `completed` for 0 and `failed` for any other. It gets
110 for `completed` on a task that we closed as failed, and leaves it."""


def exit_status(handled: Handled | None) -> int:
    """How this process ends, for the agent to set a status that does not contradict the log.

    Where another claim may hold the attempt, or none does, the task becomes `completed`, which is no user's act: a
    winner goes on, and the planner queues an unclaimed task again. `stopped` would cancel the run there.
    """
    return EXIT_STOPPED if handled in (Handled.CANCELLED, Handled.SUPERSEDED) else 0


class AgentTasks(ClearMLTasks):
    """ClearML's tasks as the protocol expects them: to it, what an agent has popped for us is `queued` still."""

    def __init__(self, client: ClearMLClient, task_id: str) -> None:
        super().__init__(client)
        self._task_id = task_id

    async def read(self, task_id: str) -> PoppedTask | None:
        """See ports.Tasks."""
        task = await super().read(task_id)
        if task is None or task_id != self._task_id or task.status != "in_progress":
            return task
        return replace(task, status="queued")

    async def started(self, task_id: str) -> None:
        """Say nothing of our own task: the agent has said it, and said again it would hide a user's stop since then."""
        if task_id != self._task_id:
            await super().started(task_id)


@dataclass(slots=True)
class AgentBody:
    """One task's process. `run` once, inside an event loop; `handled` is None until it has ended by itself."""

    task_id: str
    settings: TrainerWorkerSettings
    kafka: KafkaSettings
    clearml: ClearMLSettings
    data: DataSettings
    handled: Handled | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Take the task to its end. `stopping` set ends the attempt as a shutdown of this host."""
        log = get_logger(component="agent-body")
        with own_folders(self.settings, self.data.cache_dir) as folders:
            parts = (self.settings, self.kafka, self.clearml, self.data, folders)
            async with wired(*parts, asyncio.Event(), stopping) as (shared, news):
                metrics = WorkerMetrics(1, lambda: 0, lambda: 0.0)  # nobody asks a process of one task for its metrics
                tasks = AgentTasks(shared.client, self.task_id)
                attempts = Attempts(shared, self.settings.name(), "0", metrics, tasks)
                listening = asyncio.create_task(news.listen(), name="news")
                try:
                    with bound(task_id=self.task_id):
                        self.handled = await attempts.handle(await popped_task(shared.client, self.task_id))
                        log.info("handled", action="handle", result=self.handled.value)
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)


async def popped_task(client: ClearMLClient, task_id: str) -> Popped:
    """The task and the queue that it was popped from, empty where ClearML does not say: only a clone needs it."""
    queue_id = name = ""
    try:
        task = await client.get_task(task_id, ("id", "execution"))
        queue = ((task or {}).get("execution") or {}).get("queue")
        queue_id = str((queue.get("id") if isinstance(queue, dict) else queue) or "")
        name = next((queue.name for queue in await client.queues() if queue.id == queue_id), "")
    except ClearMLError:
        pass
    return Popped(task_id, name, queue_id)


def main() -> int:
    """Run the task that CLEARML_TASK_ID names. Returns the exit status; 78 for wrong settings."""
    try:
        configure_failpoints_from_environment()
    except FailpointSyntaxError as problem:
        exit_for_configuration(ConfigurationError(str(problem)))
    task_id = os.environ.get(TASK_ID, "").strip()
    if not task_id:
        exit_for_configuration(
            ConfigurationError(f"{TASK_ID} is not set: a clearml-agent sets it for the task that it runs.")
        )
    config = Path(os.environ.get(CONFIG_FILE) or os.devnull)
    if config.is_file():
        os.environ.update(missing_variables(config.read_text(errors="replace"), os.environ))
    settings = settings_or_exit(TrainerWorkerSettings)
    kafka, clearml = settings_or_exit(KafkaSettings), settings_or_exit(ClearMLSettings)
    data = settings_or_exit(DataSettings)
    secrets = (clearml.secret_key.get_secret_value(), kafka.password.get_secret_value(), *data.secrets)
    configure_logs(SERVICE, level=settings.log_level, secrets=secrets)
    with tempfile.TemporaryDirectory(prefix="trainyard-agent-", ignore_cleanup_errors=True) as folder:
        own = {  # a native worker's folders, which this host may name, are that worker's
            "state_dir": Path(folder),
            "work_dir": None,
            "worker_name": settings.worker_name or os.environ.get(WORKER_ID, ""),
        }
        body = AgentBody(task_id, settings.model_copy(update=own), kafka, clearml, data)
        failed = run_service(body.run)
    return failed or exit_status(body.handled)


if __name__ == "__main__":
    sys.exit(main())
