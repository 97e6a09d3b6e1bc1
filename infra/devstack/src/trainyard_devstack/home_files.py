"""The files below TRAINYARD_HOME that the supervisor writes and `status` reads."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TextIO

from trainyard_devstack.errors import ConfigurationError, DevstackError
from trainyard_devstack.stack import Credentials, Home

PROBES_END_S: Final = 1.0
"""How long a supervisor that starts waits for the lock: who asks whether one runs holds it for an instant."""


@dataclass(frozen=True, slots=True)
class StackRecord:
    """What the supervisor of this pid has started.

    `services` maps name to (pid or None, port), `drained` are those that ended because somebody asked for it; `ending`:
    it takes all of them down now; `failure` is why it gave up, with the exit status that tells its kind.
    """

    supervisor: int = 0
    bootstrap: str = ""
    topic_prefix: str = ""
    clearml_api: str = ""
    clearml_files: str = ""
    services: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    drained: tuple[str, ...] = ()
    ending: bool = False
    failure: str = ""
    failure_status: int = 0


def write_record(home: Home, record: StackRecord) -> None:
    """Replace the record in one step. Raises OSError."""
    _replace(home.record, json.dumps(asdict(record)))


def _replace(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all, also where the machine goes down."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def read_record(home: Home) -> StackRecord | None:
    """The record of the latest supervisor, None before the first one, and where the file is damaged."""
    try:
        content = json.loads(home.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    services = {name: (pid, port) for name, (pid, port) in content.pop("services").items()}
    return StackRecord(**{**content, "drained": tuple(content.get("drained", ()))}, services=services)


def ask_to_drain(home: Home, name: str, pid: int) -> None:
    """Note that the end of this process, with status 0, will be wanted; then tell the process (SIGUSR1).

    Raises ProcessLookupError where it has gone.
    """
    request = _drain_request(home, name)
    request.write_text(str(pid), encoding="ascii")
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        request.unlink(missing_ok=True)
        raise


def take_drain_request(home: Home, name: str, pid: int) -> bool:
    """Whether the end of this process was asked for by a drain; the note is gone afterwards."""
    request = _drain_request(home, name)
    try:
        wanted = request.read_text(encoding="ascii") == str(pid)
    except FileNotFoundError:
        return False
    request.unlink(missing_ok=True)
    return wanted


def _drain_request(home: Home, name: str) -> Path:
    return home.state / f"{name}.drain"


def read_or_make_credentials(home: Home) -> Credentials:
    """The keys of this home; drawn once, or again where they are damaged, and kept in a file that only the owner can
    read."""
    try:
        return read_credentials(home)
    except (FileNotFoundError, ConfigurationError):
        made = {"access_key": secrets.token_hex(10).upper(), "secret_key": secrets.token_urlsafe(32)}
        _replace(home.credentials, json.dumps(made))
        return read_credentials(home)


def read_credentials(home: Home) -> Credentials:
    """The keys of this home. Raises FileNotFoundError before the first start, ConfigurationError for a damaged file."""
    try:
        content = json.loads(home.credentials.read_text(encoding="utf-8"))
        return Credentials(content["access_key"], content["secret_key"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{home.credentials} is damaged: `./trainyard down`, then start again, which makes new keys."
        ) from error


@contextmanager
def supervisor_lock(home: Home) -> Iterator[Callable[[], bool]]:
    """Be the one supervisor of this home, or raise DevstackError. What is yielded tells whether the lock's file is
    still there: without it others take the home for free."""
    with home.lock.open("a+", encoding="ascii") as handle:
        give_up_at = time.monotonic() + PROBES_END_S
        while not _locked(handle, fcntl.LOCK_EX):
            if time.monotonic() >= give_up_at:
                raise DevstackError(f"A stack already runs in {home.path}: see `trainyard status`.")
            time.sleep(0.02)
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        held = os.fstat(handle.fileno())

        def is_ours() -> bool:
            try:
                return os.path.samestat(held, home.lock.stat())
            except OSError:
                return False

        yield is_ours


def running_supervisor(home: Home) -> int | None:
    """The pid of the supervisor that holds this home now, None where there is none.

    Raises ConfigurationError where the home may not be read.
    """
    try:
        with home.lock.open("r", encoding="ascii") as handle:
            if _locked(handle, fcntl.LOCK_SH):  # shared: others who ask at this instant are not in each other's way
                return None
            text = handle.read().strip()
            return int(text) if text else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _unusable(home, error.strerror) from error


def _locked(handle: TextIO, kind: int) -> bool:
    """Take a lock of this kind at once, or tell that another process holds one in the way."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_home(home: Home) -> None:
    """Create the folders. Raises ConfigurationError where they cannot be, or may not be written to."""
    try:
        for folder in (home.path, home.logs, home.state):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise _unusable(home, f"{folder} is not to be written to")
    except OSError as error:
        raise _unusable(home, error.strerror) from error


def _unusable(home: Home, why: str | None) -> ConfigurationError:
    return ConfigurationError(f"TRAINYARD_HOME {home.path} cannot be used ({why}): choose a folder you may write to.")


def wipe_data(home: Home) -> None:
    """Remove what the stack has stored; logs, keys and ports stay. The caller has made sure that nothing runs."""
    for folder in (home.kafka, home.clearml, home.state):
        shutil.rmtree(folder, ignore_errors=True)


def rotate_log(path: Path, *, max_bytes: int = 10 * 1024 * 1024) -> None:
    """Move a grown log's content to `<name>.log.1` and empty it in place, since its process holds it open to append.

    Lines written between the copy and the emptying are lost.
    """
    if path.exists() and path.stat().st_size > max_bytes:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)
