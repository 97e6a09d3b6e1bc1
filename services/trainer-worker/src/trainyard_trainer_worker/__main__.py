"""`python -m trainyard_trainer_worker [--queues cpu services] [--slots 2]`: parse settings, build, run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from trainyard_runtime.clearml import ClearMLSettings
from trainyard_runtime.failpoints import FailpointSyntaxError, configure_failpoints_from_environment
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_runtime.logs import configure_logs
from trainyard_runtime.process import run_service
from trainyard_runtime.settings import ConfigurationError, exit_for_configuration, settings_or_exit
from trainyard_trainer_worker.app import SERVICE, build
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.folders import own_folders
from trainyard_trainer_worker.settings import TrainerWorkerSettings


def parser_for(program: str) -> argparse.ArgumentParser:
    """What the command line may say; `trainyard worker` takes the same."""
    parser = argparse.ArgumentParser(prog=program, description="A trainer worker.")
    parser.add_argument("--queues", nargs="+", metavar="QUEUE", help="ClearML queues to serve, the first first")
    parser.add_argument("--slots", metavar="N", help="attempts that may run side by side")
    return parser


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m trainyard_trainer_worker") -> int:
    """Run the worker until it is told to stop. Returns the exit status; 78 for wrong settings, 2 for wrong usage."""
    parser = parser_for(program)
    asked = parser.parse_args(arguments)
    try:
        configure_failpoints_from_environment()
    except FailpointSyntaxError as problem:
        exit_for_configuration(ConfigurationError(str(problem)))
    settings = settings_or_exit(TrainerWorkerSettings)
    for option, value in (("queues", asked.queues and ",".join(asked.queues)), ("slots", asked.slots)):
        if value is not None:
            try:
                checked = TrainerWorkerSettings.model_validate({option: value})
            except ValidationError as problem:
                parser.error(f"--{option}: {problem.errors()[0]['msg']}")
            settings = settings.model_copy(update={option: getattr(checked, option)})
    kafka = settings_or_exit(KafkaSettings)
    clearml = settings_or_exit(ClearMLSettings)
    data = settings_or_exit(DataSettings)
    secrets = (clearml.secret_key.get_secret_value(), kafka.password.get_secret_value(), *data.secrets)
    configure_logs(SERVICE, level=settings.log_level, secrets=secrets)
    try:
        with own_folders(settings, data.cache_dir) as folders:
            return run_service(build(settings, kafka, clearml, data, folders).run, drain_s=settings.drain_s)
    except ConfigurationError as error:
        exit_for_configuration(error)


if __name__ == "__main__":
    sys.exit(main())
