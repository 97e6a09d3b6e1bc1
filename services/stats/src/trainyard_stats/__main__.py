"""`python -m trainyard_stats`: settings from the environment, then count until SIGTERM."""

from __future__ import annotations

import sys

from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.failpoints import FailpointSyntaxError, configure_failpoints_from_environment
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import configure_logs
from trainyard_runtime.process import run_service
from trainyard_runtime.settings import ConfigurationError, exit_for_configuration, settings_or_exit
from trainyard_stats.app import SERVICE, build
from trainyard_stats.settings import StatsSettings


def main() -> int:
    """Run the service; returns the exit status, 78 for wrong settings."""
    settings = settings_or_exit(StatsSettings)
    kafka = settings_or_exit(KafkaSettings)
    clearml = settings_or_exit(ClearMLSettings)
    try:
        configure_failpoints_from_environment()
    except FailpointSyntaxError as error:
        exit_for_configuration(ConfigurationError(str(error)))
    secrets = [kafka.password.get_secret_value(), clearml.secret_key.get_secret_value()]
    configure_logs(SERVICE, level=settings.log_level, secrets=secrets)
    return run_service(build(settings, kafka, clearml).run)


if __name__ == "__main__":
    sys.exit(main())
