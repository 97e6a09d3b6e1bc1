"""An image without a container engine: what its Dockerfile installs, in a plain environment, and what it starts."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tests.architecture.sources import ROOT
from tests.deployment.compose import Deployment
from tests.deployment.compose_guards import environment
from tests.deployment.docker_guards import builds
from tests.deployment.dockerfiles import Stage

PROGRAMS = PurePosixPath("/usr/local/bin")
INSTALL_S = 600
START_S = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def uv() -> str:
    """The installer, from the test requirements."""
    found = Path(sys.executable).with_name("uv")
    assert found.exists(), "uv is missing: ./trainyard test installs it"
    return str(found)


@dataclass(frozen=True, slots=True)
class Image:
    """An installed image. `stages` are its Dockerfile's, with the build's arguments filled in."""

    service: str
    venv: Path
    stages: list[Stage]

    @property
    def python(self) -> Path:
        """What `python` is in the container."""
        return self.venv / "bin" / "python"

    def environment(self) -> dict[str, str]:
        """The last stage's ENV; its PATH finds this environment."""
        words = " ".join(instruction.rest for instruction in self.stages[-1].all("ENV"))
        found = dict(re.findall(r"(\w+)=(\S+)", words))
        return {**found, "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def entry_point(self) -> list[str]:
        """The ENTRYPOINT, to be run with `environment`."""
        return self._found(self.stages[-1].all("ENTRYPOINT")[-1].exec_form())

    def command(self, variables: Mapping[str, str] | None = None) -> list[str]:
        """What the container runs: the ENTRYPOINT, and what the compose file says with these variables set."""
        return [*self.entry_point(), *composed(self.service, variables).get("command", [])]

    def health_check(self) -> list[str]:
        """The command that asks for the container's health: the compose file's, or else the image's."""
        check = composed(self.service).get("healthcheck")
        if check is None:
            return self._found(self.stages[-1].all("HEALTHCHECK")[-1].exec_form())
        form, *command = check["test"]
        assert form == "CMD", check
        return self._found(command)

    def _found(self, command: list[str] | None) -> list[str]:
        assert command is not None
        return [str(self.venv / "bin" / command[0]), *command[1:]]


def composed(service: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The service as the compose file has it with these variables set."""
    return Deployment.of().services(variables)[service]


class Yard:
    """Installs images below one folder, with one cache: a package is downloaded once for all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "UV_CACHE_DIR": str(folder / "cache"), "UV_LINK_MODE": "hardlink"}
        self._images = {name: stages for name, _, stages in builds(Deployment.of())}

    def install(self, service: str) -> Image:
        """Do what the Dockerfile does: locked requirements, our wheels, `pip check`, programs of the checkout."""
        stages = self._images[service]
        venv = self._folder / service
        self._uv("venv", "--python", sys.executable, str(venv))
        to = ("--python", str(venv / "bin" / "python"))
        copied = [source for stage in stages for i in stage.all("COPY") for source in i.copied()[1]]
        for source in copied:
            if source.startswith("requirements/images/"):
                locked = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(ROOT / source))
                self._uv("pip", "install", *to, *locked)
        packages = [source for source in copied if (ROOT / source / "pyproject.toml").is_file()]
        if packages:
            wheels = [str(self._wheel(package)) for package in packages]
            self._uv("pip", "install", *to, "--no-deps", "--no-index", *wheels)
        self._uv("pip", "check", *to)
        for origin, sources, target in (i.copied() for i in stages[-1].all("COPY")):
            if origin is None and PurePosixPath(target).parent == PROGRAMS:
                program = venv / "bin" / PurePosixPath(target).name
                shutil.copyfile(ROOT / sources[0], program)
                program.chmod(0o755)
        return Image(service, venv, stages)

    def _wheel(self, package: str) -> Path:
        folder = self._folder / "wheels" / package
        if not folder.exists():
            source = self._folder / "source" / package
            shutil.copytree(ROOT / package, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
            _run([*build, "--wheel-dir", str(folder), str(source)], dict(os.environ))
        (wheel,) = folder.glob("*.whl")
        return wheel

    def _uv(self, *arguments: str) -> None:
        _run([uv(), *arguments], self._environment)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


@contextmanager
def running(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[Callable[[], str]]:
    """The process while the block runs; gives what it has written so far. It must be alive at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield lambda: log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"ended with {process.returncode}\n{log.read_text()[-4000:]}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], explain: Callable[[], str], deadline_s: float = START_S) -> None:
    """Wait for a condition; the explanation is asked for when it does not come."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up_at, explain()[-4000:]
        time.sleep(0.2)


def told(image: Image, more: dict[str, str]) -> dict[str, str]:
    """The container's environment: the image's, the compose file's above it, the test's addresses above both."""
    return {**image.environment(), **environment(composed(image.service)), **more}


def configuration() -> dict[str, str]:
    """The one configuration of infra/clearml, where the container finds it in /etc/clearml."""
    path = str(ROOT / "infra" / "clearml" / "clearml.conf")
    return {"CLEARML_CONFIG_FILE": path, "TRAINS_CONFIG_FILE": path}
