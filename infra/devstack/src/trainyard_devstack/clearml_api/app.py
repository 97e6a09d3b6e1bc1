"""The composition root of the ClearML-compatible server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainyard_devstack.clearml_api import events, models, projects, queues, task_parts, task_status, tasks, workers
from trainyard_devstack.clearml_api.api import LOGIN, PING, ApiApp, Receive, Scope, Send
from trainyard_devstack.clearml_api.auth import Authenticator
from trainyard_devstack.clearml_api.call import Handler
from trainyard_devstack.clearml_api.files import FilesApp
from trainyard_devstack.clearml_api.settings import ClearMLApiSettings
from trainyard_devstack.clearml_api.store import Store

CALLS: Final[Mapping[str, Handler]] = {
    **tasks.CALLS,
    **task_parts.CALLS,
    **task_status.CALLS,
    **queues.CALLS,
    **workers.CALLS,
    **projects.CALLS,
    **models.CALLS,
    **events.CALLS,
}
"""Every call with a handler."""

IMPLEMENTED: Final = frozenset({LOGIN, PING, *CALLS})
"""Every call that this server answers."""


@dataclass(frozen=True, slots=True)
class Server:
    """Both servers as one ASGI application, told apart by the port a connection came in on."""

    api: ApiApp
    files: FilesApp
    store: Store
    files_ports: set[int]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        to_files = scope["server"][1] in self.files_ports
        await (self.files if to_files else self.api)(scope, receive, send)


def build(settings: ClearMLApiSettings) -> Server:
    """Open the data folder and wire the server; nothing listens yet."""
    store = Store(settings.data / "clearml.sqlite")
    authenticator = Authenticator(
        settings.access_key, settings.secret_key.get_secret_value(), settings.token_lifetime_s
    )
    api = ApiApp(store, authenticator, CALLS, real_delays=settings.delay == "real")
    return Server(api, FilesApp(settings.data / "files", authenticator), store, {settings.files_port})
