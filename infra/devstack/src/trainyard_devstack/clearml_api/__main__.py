"""`python -m trainyard_devstack.clearml_api --data DIR ...`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import socket
import sqlite3
import sys

import structlog
import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from trainyard_devstack.clearml_api.app import build
from trainyard_devstack.clearml_api.settings import ClearMLApiSettings

EX_CONFIG = 78


def main(args: list[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log = structlog.get_logger()
    try:
        settings = CliApp.run(ClearMLApiSettings, cli_args=sys.argv[1:] if args is None else args)
        api, files = (_listen(settings.host, port) for port in (settings.api_port, settings.files_port))
        server = build(settings)
    except ValidationError as problem:
        for error in problem.errors(include_input=False, include_url=False):
            log.error("bad setting", setting=".".join(str(part) for part in error["loc"]), reason=error["msg"])
        return EX_CONFIG
    except (OSError, sqlite3.Error) as problem:
        log.error("cannot start", reason=str(problem))
        return EX_CONFIG
    server.files_ports.add(files.getsockname()[1])
    runner = uvicorn.Server(
        uvicorn.Config(
            server,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            backlog=512,
        )
    )

    def end(*_: object) -> None:
        runner.should_exit = True

    # for a signal before uvicorn listens to them, and for the one that ended it, which it raises once more
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    log.info(
        "listening",
        api=f"http://{settings.host}:{api.getsockname()[1]}",
        files=f"http://{settings.host}:{files.getsockname()[1]}",
    )
    try:
        runner.run(sockets=[api, files])
    finally:
        server.store.close()
    log.info("ended")
    return 0


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as problem:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {problem.strerror}") from problem
    listener.listen(512)
    listener.set_inheritable(True)
    return listener


if __name__ == "__main__":
    raise SystemExit(main())
