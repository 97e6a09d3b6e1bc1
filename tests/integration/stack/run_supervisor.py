"""A supervisor whose services are stand-ins: `python run_supervisor.py [flags of the stand-ins]`."""

import sys
from pathlib import Path

from trainyard_devstack.settings import StackSettings
from trainyard_devstack.stack import Service
from trainyard_devstack.supervisor import Supervisor

if __name__ == "__main__":
    script = str(Path(__file__).with_name("fake_service.py"))
    services = tuple(
        Service(name, (sys.executable, script, *sys.argv[1:])) for name in ("dispatcher", "trainer-worker", "stats")
    )
    Supervisor(StackSettings(), services=services, notify=lambda s: print(s, file=sys.stderr, flush=True)).run()
