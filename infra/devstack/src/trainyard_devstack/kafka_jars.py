"""The broker's jars: Apache Kafka from its Maven coordinates (jgo.toml), locked with SHA-256 (jgo.lock.toml), by jgo.

Run this module to renew the lock after a change of jgo.toml: `python -m trainyard_devstack.kafka_jars`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard_devstack.errors import ConfigurationError, DevstackError

SPEC = Path(__file__).with_name("jgo.toml")
LOCK = Path(__file__).with_name("jgo.lock.toml")
DOWNLOAD_MB = 43
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def relative_path(self) -> Path:
        """Where jgo keeps it, below its repository cache."""
        folder = Path(*self.group.split("."), self.artifact, self.version)
        return folder / f"{self.artifact}-{self.version}.jar"


def locked_jars(lock: Path = LOCK) -> tuple[Jar, ...]:
    """The jars of the lock file, in class path order."""
    entries = tomllib.loads(lock.read_text(encoding="utf-8"))["dependencies"]
    return tuple(Jar(e["groupId"], e["artifactId"], e["version"], e["sha256"]) for e in entries)


def kafka_version(jars: tuple[Jar, ...]) -> str:
    """The version of Apache Kafka that is locked."""
    return next(jar.version for jar in jars if jar.artifact == "kafka-clients")


def default_cache_dir(env: Mapping[str, str]) -> Path:
    """Where jars are kept for every checkout of this user: below XDG_CACHE_HOME, or ~/.cache."""
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trainyard" / "jars"


def ensure_jars(cache_dir: Path, notify: Callable[[str], None], jars: tuple[Jar, ...] | None = None) -> list[Path]:
    """The verified jars' paths; missing ones are downloaded, and `notify` gets a sentence before that and on the way.

    A jar whose bytes are not the locked ones (a download that was cut off) is fetched again. Safe to call from several
    processes at once. Raises DevstackError when the network or the disk fails; what is there already is kept.
    """
    jars = locked_jars() if jars is None else jars
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _exclusive(cache_dir / "lock"):
            missing = [jar for jar in jars if not _is_intact(cache_dir, jar)]
            if missing:
                _download(cache_dir, missing, notify, kafka_version(jars))
    except OSError as error:
        raise DevstackError(
            f"Apache Kafka could not be stored or downloaded ({error}): check the network and the free space of"
            f" {cache_dir}, then run this again; what has arrived is kept."
        ) from error
    return [cache_dir / jar.relative_path for jar in jars]


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_intact(cache_dir: Path, jar: Jar) -> bool:
    path = cache_dir / jar.relative_path
    if not path.is_file():
        return False
    if hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
        return True
    path.unlink()
    return False


def _download(cache_dir: Path, jars: list[Jar], notify: Callable[[str], None], version: str) -> None:
    from jgo.maven import MavenContext

    size = f"{len(jars)} files, at most {DOWNLOAD_MB} MB"
    notify(f"Downloading Apache Kafka {version}, once: {size}, to {cache_dir} ...")
    context = MavenContext(repo_cache=cache_dir, timeout=30)
    done, progress = 0, threading.Lock()

    def fetch(jar: Jar) -> None:
        nonlocal done
        for attempt in range(1, _TRIES + 1):
            try:
                context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
            except (OSError, RuntimeError) as error:
                (cache_dir / jar.relative_path).unlink(missing_ok=True)
                if attempt == _TRIES:
                    raise DevstackError(
                        f"{jar.artifact} {jar.version} could not be downloaded ({error}): check the network, then run"
                        " this again; what has arrived is kept."
                    ) from error
                time.sleep(attempt)
            else:
                break
        if not _is_intact(cache_dir, jar):
            raise DevstackError(
                f"{jar.artifact} {jar.version} arrived with another SHA-256 than jgo.lock.toml states, and was removed:"
                " it was altered on the way, or by a mirror."
            )
        with progress:
            done += 1
            if done * 4 // len(jars) != (done - 1) * 4 // len(jars):
                notify(f"  {done} of {len(jars)} files")

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(fetch, jars))


def renew_lock(spec_path: Path = SPEC, lock_path: Path = LOCK) -> tuple[Jar, ...]:
    """Resolve jgo.toml anew and write the lock: coordinates and SHA-256, no addresses and no date."""
    import tomli_w
    from jgo.env import EnvironmentSpec, compute_spec_hash
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=default_cache_dir(os.environ), timeout=30)
    wanted = [context.create_dependency(c) for c in EnvironmentSpec.load(spec_path).coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    artifacts = [d.artifact for d in (*inputs, *(t for t in transitive if t.scope in ("compile", "runtime")))]
    if not artifacts:
        raise ConfigurationError(f"{spec_path} names no coordinates.")
    entries = [
        {
            "groupId": a.groupId,
            "artifactId": a.artifactId,
            "version": a.version,
            "packaging": "jar",
            "sha256": hashlib.sha256(a.resolve().read_bytes()).hexdigest(),
        }
        for a in artifacts
    ]
    content = {"metadata": {"spec_hash": compute_spec_hash(spec_path)}, "dependencies": entries}
    lock_path.write_text(tomli_w.dumps(content), encoding="utf-8")
    return locked_jars(lock_path)


if __name__ == "__main__":
    renew_lock()
