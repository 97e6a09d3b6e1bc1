"""What a start of the broker has learnt, kept beside the jars: its classes, loaded and linked (an AOT cache, JEP 514).

A start with it takes half the time and half the processor time, and 50 MB less memory; making it costs one start and
about 8 s, once for each version of Kafka and Java. Older Javas than 25 start as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from trainyard_devstack.java import Java

MIN_JAVA = 25
MIN_FREE_BYTES = 1 << 30
"""Below this much free space none is made: it takes 65 MB, and as much again on the way."""


def cache_of(java: Java, jars: Sequence[Path], folder: Path) -> Path | None:
    """Where the cache of just this Java and these jars lies in `folder`, made or not; None where Java can use none."""
    if java.major < MIN_JAVA:
        return None
    digest = hashlib.sha256()
    for part in (java.program, java.release.read_bytes(), *jars):
        digest.update(f"{part!r}\n".encode())
    return folder / f"kafka-{digest.hexdigest()[:16]}.aot"


def ensure_cache(
    java: Java,
    jars: Sequence[Path],
    folder: Path,
    learn: Callable[[Path], None],
    notify: Callable[[str], None],
) -> Path | None:
    """The cache, made now if it is not there; None where there is none: a broker starts without it as well.

    `learn` starts and ends a broker that leaves what it learnt at the given path. `notify` gets a sentence before that.
    Safe to call from several processes at once. What fails is not tried again: an empty file stands for it.
    """
    cache = cache_of(java, jars, folder)
    if cache is None:
        return None
    if not cache.exists() and shutil.disk_usage(folder).free >= MIN_FREE_BYTES:
        with (folder / "aot.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not cache.exists():
                notify("Preparing Kafka for quick starts, once (about 10 s) ...")
                _make(cache, learn)
    return cache if cache.exists() and cache.stat().st_size > 0 else None


def _make(cache: Path, learn: Callable[[Path], None]) -> None:
    partial = cache.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        learn(partial)
    except Exception:  # noqa: BLE001 - whatever goes wrong here, a broker starts without
        partial.unlink(missing_ok=True)
    if not partial.exists():
        partial.touch()
    partial.replace(cache)
