"""The guards of infra/docker: each gives a sentence per violation, none where all is well."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping

from tests.architecture.sources import DISTRIBUTIONS
from tests.deployment.compose import Deployment
from tests.deployment.dockerfiles import Stage, ignored, parse

ENTRY_POINTS: Mapping[str, str] = {
    "infra/docker/dispatcher.Dockerfile": "trainyard_dispatcher",
    "infra/docker/stats.Dockerfile": "trainyard_stats",
    "infra/docker/submitter.Dockerfile": "trainyard_submitter",
    "infra/docker/trainer-worker.Dockerfile": "trainyard_trainer_worker",
}
"""Our services' images and the module that each starts, the one that the tests and `trainyard up` start."""

WITHOUT_PAGES = {"infra/docker/submitter.Dockerfile", "infra/docker/clearml-agent.Dockerfile"}
LABELS = ("title", "description", "version", "revision", "licenses")
_PINNED = re.compile(r"^[\w./-]+:(?!latest)[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?$")


def builds(deployment: Deployment) -> Iterator[tuple[str, str, list[Stage]]]:
    """Every image that the compose file builds: its service, its Dockerfile, its stages with the build's arguments."""
    for name, service in deployment.services().items():
        file = service.get("build", {}).get("dockerfile")
        if file in deployment.dockerfiles:
            arguments = {arg: str(value) for arg, value in service["build"]["args"].items()}
            yield name, file, parse(deployment.dockerfiles[file], arguments)


def bases_are_pinned(deployment: Deployment) -> list[str]:
    """Every stage begins with an image of a named version; the last one is not the one that builds."""
    broken = []
    for file, text in deployment.dockerfiles.items():
        stages = parse(text)
        broken += [f"{file}: {stage.base} names no version" for stage in stages if not _PINNED.match(stage.base)]
        if len(stages) < 2 or stages[-1].name:
            broken.append(f"{file}: builds in the image that runs")
    return broken


def nobody_is_root(deployment: Deployment) -> list[str]:
    """The last USER is a number other than 0, set after everything that needs more."""
    broken = []
    for file, text in deployment.dockerfiles.items():
        users = parse(text)[-1].all("USER")
        if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1].rest):
            broken.append(f"{file}: runs as {users[-1].rest if users else 'root'}")
    return broken


def entry_points_are_the_tested_ones(deployment: Deployment) -> list[str]:
    """ENTRYPOINT is a list, and starts the module that the tests start."""
    broken = []
    for file, text in deployment.dockerfiles.items():
        found = parse(text)[-1].all("ENTRYPOINT")
        command = found[-1].exec_form() if found else None
        if command is None:
            broken.append(f"{file}: its entry point is no list")
        elif (module := ENTRY_POINTS.get(file)) is not None:
            if command != ["python", "-m", module]:
                broken.append(f"{file}: starts {' '.join(command)}, not python -m {module}")
            elif importlib.util.find_spec(f"{module}.__main__") is None:
                broken.append(f"{file}: {module} cannot be started")
    return broken


def health_is_asked(deployment: Deployment) -> list[str]:
    """Services ask their own /healthz, at the port that they are told; what has no page says NONE."""
    broken = []
    for file, text in deployment.dockerfiles.items():
        last = parse(text)[-1]
        checks = last.all("HEALTHCHECK")
        if file in WITHOUT_PAGES:
            if [check.rest for check in checks] != ["NONE"]:
                broken.append(f"{file}: has no page, and does not say HEALTHCHECK NONE")
            continue
        asked = " ".join(checks[-1].exec_form() or []) if checks else ""
        if file in ENTRY_POINTS and not ("/healthz" in asked and "TRAINYARD_HTTP_PORT" in asked):
            broken.append(f"{file}: does not ask /healthz at TRAINYARD_HTTP_PORT")
        elif not asked:
            broken.append(f"{file}: has no health check")
    return broken


def what_is_copied_is_there(deployment: Deployment) -> list[str]:
    """What is copied from the checkout is there and not ignored; what from a stage, from one that is there."""
    broken = set()
    for name, file, stages in builds(deployment):
        for stage in stages:
            for instruction in stage.all("COPY"):
                origin, sources, _ = instruction.copied()
                if origin is not None:
                    if origin not in {other.name for other in stages}:
                        broken.add(f"{file}: copies from a stage {origin}, which is not there")
                    continue
                for source in sources:
                    if not (deployment.root / source).exists():
                        broken.add(f"{file}: {source} (for {name}) is not there")
                    elif ignored(deployment.dockerignore, source):
                        broken.add(f"{file}: {source} is ignored by .dockerignore")
    return sorted(broken)


def installs_are_locked(deployment: Deployment) -> list[str]:
    """pip installs by hash, without looking for dependencies or compiling, and is checked; apt leaves nothing."""
    broken = []
    for file, text in deployment.dockerfiles.items():
        for stage in parse(text):
            for run in stage.all("RUN"):
                for command in run.rest.split("&&"):
                    locked = {"--require-hashes", "--no-deps", "--only-binary", ":all:"} <= set(command.split())
                    if " -r " in command and not locked:
                        broken.append(f"{file}:{run.line}: installs what is not locked: {command.strip()[:60]}")
                if "apt-get install" in run.rest and not (
                    "--no-install-recommends" in run.rest and "rm -rf /var/lib/apt/lists" in run.rest
                ):
                    broken.append(f"{file}:{run.line}: apt installs more than is named, or leaves its lists")
        if "pip check" not in text:
            broken.append(f"{file}: does not check that the installed packages fit together")
    return broken


def own_packages_are_installed(deployment: Deployment) -> list[str]:
    """Every distribution of ours that is copied is installed, and the entry point's is among them."""
    broken = []
    for file, module in ENTRY_POINTS.items():
        text = deployment.dockerfiles.get(file, "")
        stages = parse(text, {"TRAINER": "sklearn"})
        copied = {
            source for stage in stages for i in stage.all("COPY") for source in i.copied()[1] if source in DISTRIBUTIONS
        }
        wheels = set(re.findall(r"\./([\w/-]+)", text))
        if copied != wheels:
            broken.append(f"{file}: copies {sorted(copied)} and installs {sorted(wheels)}")
        if module not in {DISTRIBUTIONS[folder] for folder in wheels & DISTRIBUTIONS.keys()}:
            broken.append(f"{file}: does not install {module}")
    return broken


def labels_are_set(deployment: Deployment) -> list[str]:
    """The labels of the Open Container Initiative."""
    return [
        f"{file}: has no label {label}"
        for file, text in deployment.dockerfiles.items()
        for label in LABELS
        if not any(f"org.opencontainers.image.{label}=" in i.rest for i in parse(text)[-1].all("LABEL"))
    ]


def secrets_stay_out(deployment: Deployment) -> list[str]:
    """No secret is an argument or a variable of an image: whoever has the image could read it."""
    return [
        f"{file}:{i.line}: {i.word} holds a secret"
        for file, text in deployment.dockerfiles.items()
        for stage in parse(text)
        for i in (*stage.all("ARG"), *stage.all("ENV"))
        if re.search(r"(?i)secret|password|token|access_key", i.rest)
    ]


def build_context_is_small(deployment: Deployment) -> list[str]:
    """Nothing is sent to the builder that no image needs; keys, data and the environment least of all."""
    kept_out = [
        ".env",
        ".git/config",
        ".venv/bin/python",
        ".trainyard/credentials.json",
        "examples/wine.csv",
        "tests/x.py",
    ]
    kept_out += ["services/stats/src/__pycache__/x.pyc", "infra/clearml/clearml.conf", "docs/a.md"]
    return [
        f".dockerignore: {path} is sent to the builder"
        for path in kept_out
        if not ignored(deployment.dockerignore, path)
    ]


GUARDS = (
    bases_are_pinned,
    nobody_is_root,
    entry_points_are_the_tested_ones,
    health_is_asked,
    what_is_copied_is_there,
    installs_are_locked,
    own_packages_are_installed,
    labels_are_set,
    secrets_stay_out,
    build_context_is_small,
)
