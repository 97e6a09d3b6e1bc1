"""Those who meddle: users in ClearML's UI, agents that die, and people who cancel and change priorities.

Each act is kept in the server's ledger or in the broker's topic, so that the checker knows who asked for what.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from trainyard_dispatcher.ports import Refused, TaskStatus
from trainyard_runtime.kafka.records import LogUnavailable
from trainyard_simulation.broker import Broker
from trainyard_simulation.clearml import ClearML
from trainyard_simulation.effects import Sleep
from trainyard_simulation.kernel import Kernel

ENQUEUEABLE = (TaskStatus.CREATED, TaskStatus.STOPPED, TaskStatus.FAILED)
ACTS = ("stop", "reset", "delete", "enqueue", "clone", "pop and die", "begin and die", "foreign")


async def meddle(kernel: Kernel, server: ClearML, queue_id: str) -> None:
    """One act on some task, at some time."""
    rng = kernel.rng
    await Sleep(2.0 + rng.random() ** 2 * 60.0)
    act = ACTS[int(rng.random() * len(ACTS))]
    tasks = list(server.tasks)
    if act == "foreign":
        task_id = server.create({"name": "somebody's", "hyperparams": {"Args": {}}})
        server.enqueue(task_id, queue_id, "a user", blind=False)
        kernel.coverage["user: foreign"] += 1
        return
    if not tasks:
        return
    if act == "enqueue":  # ClearML's UI offers it only for these
        tasks = [t for t in tasks if server.tasks[t].status in ENQUEUEABLE] or tasks
    task_id = tasks[int(rng.random() * len(tasks))]
    run_id = server.run_of(server.tasks[task_id])[0]
    doing: dict[str, Callable[[], object]] = {
        "stop": lambda: server.end(task_id, TaskStatus.STOPPED),
        "reset": lambda: server.reset(task_id, by_us=False),
        "delete": lambda: server.delete(task_id, force=True),
        "enqueue": lambda: server.enqueue(task_id, queue_id, "a user", blind=False),
        "clone": lambda: server.enqueue(server.clone(task_id), queue_id, "a user", blind=False),
        "pop and die": lambda: server.pop([queue_id], "an agent"),
        "begin and die": lambda: _begin(server, queue_id),
    }
    try:
        doing[act]()
    except Refused as refused:
        kernel.note("a user", f"{act} {task_id} -> refused, {refused.message}")
        return
    kernel.coverage[f"user: {act}"] += 1
    kernel.note("a user", f"{act} {task_id}")
    server.ledger.user_acts.append((act, run_id))


def _begin(server: ClearML, queue_id: str) -> None:
    """An agent pops a task, says that it has begun, and is gone."""
    popped = server.pop([queue_id], "an agent")
    if popped is not None and popped in server.tasks:
        server.started(popped)


async def command(kernel: Kernel, broker: Broker, ordered: set[str]) -> None:
    """Cancel some run, or change its priority, or order nonsense; again until it is acknowledged."""
    rng = kernel.rng
    await Sleep(1.0 + rng.random() ** 2 * 60.0)
    runs = [run_id for run_id, state in broker.states.items() if not state.is_ended]
    body: dict[str, object] = {"actor": "alice", "command_id": f"c{rng.getrandbits(32):08x}"}
    luck = rng.random()
    if not runs or luck < 0.1:
        value = b'{"command": "dance"}'
    elif luck < 0.3:
        run_id = runs[int(rng.random() * len(runs))]
        value = json.dumps({**body, "run_id": run_id, "command": "reprioritise", "priority": 9}).encode()
    else:
        run_id = runs[int(rng.random() * len(runs))]
        ordered.add(run_id)
        value = json.dumps({**body, "run_id": run_id, "command": "cancel"}).encode()
    while True:
        try:
            await broker.append_command(value)
        except LogUnavailable:
            await Sleep(0.2)
        else:
            return
