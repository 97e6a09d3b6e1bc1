"""The worker's folders on this disk: durable state, and the files of running attempts."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard_runtime.settings import ConfigurationError
from trainyard_trainer_worker.settings import TrainerWorkerSettings


@dataclass(frozen=True, slots=True)
class Folders:
    """`work`: an existing folder that is cleared between attempts. `data_cache`: where fetched data is kept, perhaps
    together with other workers. `outbox`: a file, or None for no durable state."""

    work: Path
    outbox: Path | None
    data_cache: Path


def clear(folder: Path) -> None:
    """Remove all that lies in it, as far as that can be done."""
    if folder.is_dir():
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def own_folders(settings: TrainerWorkerSettings, data_cache: Path | None = None) -> Iterator[Folders]:
    """The worker's folders, made and locked: two workers in one would clear each other's work. The cache may be shared.

    Raises ConfigurationError.
    """
    with ExitStack() as stack:
        outbox: Path | None = None
        if settings.state_dir is not None:
            state = settings.state_dir.resolve()
            stack.enter_context(_sole_user(state, "TRAINYARD_STATE_DIR"))
            outbox = state / "outbox.sqlite"
        if settings.work_dir is not None:
            work = settings.work_dir.resolve()
            stack.enter_context(_sole_user(work.parent / f".{work.name}", "TRAINYARD_WORK_DIR"))
        elif settings.state_dir is not None:
            work = settings.state_dir.resolve() / "work"
        else:
            folder = tempfile.TemporaryDirectory(prefix="trainyard-work-", ignore_cleanup_errors=True)
            work = Path(stack.enter_context(folder)).resolve()
        try:
            work.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise ConfigurationError(f"TRAINYARD_WORK_DIR {work} cannot be made: {problem.strerror}.") from problem
        if data_cache is None:
            data_cache = (work.parent if settings.state_dir is None else settings.state_dir.resolve()) / "data"
        yield Folders(work, outbox, data_cache)


@contextmanager
def _sole_user(folder: Path, variable: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "worker.lock").open("w")
    except OSError as problem:
        raise ConfigurationError(f"{variable} {folder} cannot be used: {problem.strerror}.") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"{variable} {folder} is in use by another trainer worker; give each worker its own."
            ) from None
        yield
