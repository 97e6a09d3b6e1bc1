"""`python -m trainyard_dispatcher`: settings from the environment, then the dispatcher until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from trainyard_dispatcher.settings import DispatcherSettings, deprecations
from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.failpoints import FailpointSyntaxError, configure_failpoints_from_environment
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import configure_logs, get_logger
from trainyard_runtime.process import run_service
from trainyard_runtime.settings import ConfigurationError, exit_for_configuration, settings_or_exit


def main() -> int:
    """Run the dispatcher; returns the exit status."""
    settings = settings_or_exit(DispatcherSettings)
    kafka = settings_or_exit(KafkaSettings)
    clearml = settings_or_exit(ClearMLSettings)
    try:
        configure_failpoints_from_environment()
    except FailpointSyntaxError as error:
        exit_for_configuration(ConfigurationError(str(error)))
    secrets = [clearml.secret_key.get_secret_value(), clearml.access_key, kafka.password.get_secret_value()]
    configure_logs("dispatcher", level=settings.log_level, secrets=secrets)
    for sentence in deprecations():
        get_logger().warning("deprecated setting", action="deprecation", message=sentence)

    async def work(stop: asyncio.Event) -> None:
        from trainyard_dispatcher.app import build

        await build(settings, kafka, clearml).run(stop)

    return run_service(work)


if __name__ == "__main__":
    sys.exit(main())
