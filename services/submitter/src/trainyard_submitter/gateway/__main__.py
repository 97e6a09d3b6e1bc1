"""`python -m trainyard_submitter.gateway`: settings from the environment, then serve until SIGTERM."""

from __future__ import annotations

import sys

from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import configure_logs
from trainyard_runtime.process import run_service
from trainyard_runtime.settings import settings_or_exit
from trainyard_submitter.gateway.app import SERVICE, build
from trainyard_submitter.gateway.settings import GatewaySettings


def main() -> int:
    """Run the gateway; returns the exit status, 78 for wrong settings."""
    settings = settings_or_exit(GatewaySettings)
    kafka = settings_or_exit(KafkaSettings)
    clearml = settings_or_exit(ClearMLSettings)
    gateway = build(settings, kafka, clearml)
    configure_logs(SERVICE, level=settings.log_level, secrets=gateway.secrets)
    return run_service(gateway.run)


if __name__ == "__main__":
    sys.exit(main())
