"""How a service's process runs and ends: one event loop, SIGTERM and SIGINT end it cleanly within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from trainyard_runtime.logs import get_logger
from trainyard_runtime.settings import EXIT_CONFIGURATION, ConfigurationError, say_configuration

GRACE_S = 1.7
"""How long `main` may take to end after a signal before it is cancelled; with that, a process is gone in 2 s."""

_CANCELLED_GRACE_S = 0.2


def run_service(main: Callable[[asyncio.Event], Awaitable[None]], *, drain_s: float = 0.0) -> int:
    """Run `main(stop)` until it returns; a signal sets `stop`. Returns the process's exit status.

    `drain_s` is what `main` takes to finish its work after the signal, before the time that ending takes.

    0 after a clean end, also where `main` had to be cancelled after a signal; 78 when it raised ConfigurationError,
    whose sentences go to stderr; 1 when it raised anything else, which is logged.
    """
    return asyncio.run(_run(main, drain_s + GRACE_S))


async def _run(main: Callable[[asyncio.Event], Awaitable[None]], grace_s: float) -> int:
    log = get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    task = asyncio.ensure_future(main(stop))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            log.info("stopping", action="stop")
            await asyncio.wait({task}, timeout=grace_s)
        if not task.done():
            log.warning("not stopped in time, cancelled", action="stop", grace_s=grace_s)
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCELLED_GRACE_S)
            return 0
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if isinstance(error, ConfigurationError):
                say_configuration(error)
                return EXIT_CONFIGURATION
            if error is not None:
                log.error("the service failed", action="crash", exc_info=error)
                return 1
        return 0
    finally:
        stopping.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
