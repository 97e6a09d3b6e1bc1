"""The consumer of commands under simulation: the production answer to each, acknowledged before it is committed."""

from __future__ import annotations

from functools import partial

from trainyard_dispatcher.command_intake import Obey, answer_command
from trainyard_runtime.kafka.records import LogUnavailable, Record
from trainyard_schemas.events import make_event
from trainyard_simulation.broker import Broker, ends_of
from trainyard_simulation.effects import IDLE_S, Signal, Sleep
from trainyard_simulation.kernel import Kernel
from trainyard_simulation.processes import Process

SOURCE = "trainyard/dispatcher"
LOOK_EVERY_S = 3.0


async def obey(kernel: Kernel, broker: Broker, process: Process) -> None:
    """One incarnation, the only one of its time: fold to the log's end, answer, append, commit; for ever."""
    wake = Signal(kernel)
    ordered = broker.command_signals[process.name] = Signal(kernel)
    view = broker.subscribe(process, wake)
    while True:
        position = broker.commands_committed
        if position >= len(broker.commands):
            await ordered.wait(IDLE_S)
            continue
        try:
            record: Record = await broker.read("fetch command", partial(broker.commands.__getitem__, position))
            ends = await broker.read("read ends", lambda: ends_of(broker.lifecycle))
        except LogUnavailable:
            await Sleep(0.3)
            continue
        while not view.has_reached(ends):
            await wake.wait(LOOK_EVERY_S)
        view.news.clear()
        reply = answer_command(record, view.states.get)
        if isinstance(reply, Obey):
            kernel.coverage[f"command: {reply.fact.type.short}"] += 1
            event = make_event(reply.fact, source=SOURCE, writer=process.writer, now=kernel.now)
            while True:
                try:
                    await broker.append_event(event)
                except LogUnavailable:
                    await Sleep(0.3)
                else:
                    break
        else:
            kernel.coverage[f"command refused: {reply.detail}"] += 1
        broker.commands_committed = max(broker.commands_committed, record.offset + 1)
