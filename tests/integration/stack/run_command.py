"""The `trainyard` command whose stack has stand-ins for services: `python run_command.py up --json`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from trainyard_devstack.stack import Service
from trainyard_submitter.cli import main


def stand_ins(_environment: Mapping[str, str]) -> tuple[Service, ...]:
    """As `stack.services_of`."""
    script = str(Path(__file__).with_name("fake_service.py"))
    return tuple(Service(name, (sys.executable, script)) for name in ("dispatcher", "trainer-worker", "stats"))


if __name__ == "__main__":
    with patch("trainyard_devstack.supervisor.services_of", stand_ins):
        sys.exit(main())
