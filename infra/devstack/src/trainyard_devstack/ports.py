"""Loopback ports that stay the same between starts as long as they are free."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def kept_ports(path: Path, names: Sequence[str]) -> dict[str, int]:
    """A different free port per name: the one noted in `path` where it still is free. Notes the choice."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: int(noted.get(name, 0)) for name in names}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        kept = dict.fromkeys(names, 0)
    chosen: dict[str, int] = {}
    for name in names:
        port = kept[name]
        while not port or port in chosen.values() or not is_free(port):
            port = free_port()
        chosen[name] = port
    path.write_text(json.dumps(chosen), encoding="utf-8")
    return chosen
