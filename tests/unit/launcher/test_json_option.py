"""Every command answers a program that asks with `--json`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from trainyard_submitter import cli

SERVICES = {"dispatcher", "gateway", "stats", "worker"}
"""They run until they are ended, and answer nobody; their logs are JSON lines."""


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands below `command`, or itself where there are none."""
    below = getattr(command, "commands", {})
    for part, one in below.items():
        yield from leaves(f"{name} {part}", one)
    if not below:
        yield name, command


def test_every_command_but_the_services_takes_json() -> None:
    commands = {
        name: {option for parameter in leaf.params for option in parameter.opts}
        for point in entry_points(group=cli.GROUP)
        for name, leaf in leaves(point.name.replace(".", " "), cli.as_command(point.load()))
    }
    assert {name for name, options in commands.items() if "--json" not in options} == SERVICES
    assert {"runs cancel", "topics apply", "worker drain", "stats top"} <= set(commands)
