"""The guards of docker-compose.yml and .env.example: each gives a sentence per violation, none where all is well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic_settings import BaseSettings

from tests.architecture import env_example
from tests.deployment import variables
from tests.deployment.compose import Deployment, interpolate, started, uses_in
from trainyard_dispatcher.settings import MISSPELT, DispatcherSettings
from trainyard_runtime.clearml.settings import ClearMLSettings
from trainyard_runtime.kafka.settings import KafkaSettings
from trainyard_stats.settings import StatsSettings
from trainyard_submitter.gateway.settings import GatewaySettings
from trainyard_trainer_worker.data.settings import DataSettings
from trainyard_trainer_worker.settings import TrainerWorkerSettings

SETTINGS: Mapping[str, tuple[type[BaseSettings], ...]] = {
    "dispatcher": (DispatcherSettings, KafkaSettings, ClearMLSettings),
    "clearml-serving-stats": (StatsSettings, KafkaSettings, ClearMLSettings),
    "gateway": (GatewaySettings, KafkaSettings, ClearMLSettings),
    "topics": (KafkaSettings,),
    "submitter": (KafkaSettings,),
    **{
        f"{t}-trainer": (TrainerWorkerSettings, DataSettings, KafkaSettings, ClearMLSettings)
        for t in ("sklearn", "flaml", "autogluon")
    },
}
"""Our services, and the settings classes that each reads."""

AGENT_QUEUES: Mapping[str, str] = {
    "clearml-agent": "CLEARML_DEFAULT_QUEUE",
    "clearml-agent-cpu": "CLEARML_CPU_QUEUE",
    "clearml-agent-gpu": "CLEARML_GPU_QUEUE",
    "clearml-agent-services": "CLEARML_SERVICES_QUEUE",
}
"""The agents, and the variable that names the queue of each."""

BUILT = {*SETTINGS, "clearml-serving", *AGENT_QUEUES}
"""The services whose image is built here."""

SDK_SPEAKERS = BUILT - SETTINGS.keys()
ONE_SHOT = {"topics", "serving-topic", "minio-buckets", "submitter"}
NOT_WATCHED: Mapping[str, str] = {
    **dict.fromkeys(AGENT_QUEUES, "ClearML shows whether an agent lives"),
    "async_delete": "ClearML's own compose file has no page to ask either",
}
PUBLISHED = {"8000", "8080", "8008", "8081", "8082", "9000", "9092", "9999", "9090", "3000"}
"""The ports on the host: those of the systems that came before (8000: the gateway), Prometheus and Grafana."""

FOLDS_AGAIN = {"gateway"}
"""Services that keep nothing: at every start they fold the log from its beginning."""

WRITABLE_HOST_PATHS = {"/var/run/docker.sock", "/opt/clearml/agent"}
_SECRET = re.compile(r"(SECRET_KEY|(?<!NO_)ACCESS_KEY|ACCESS_KEY_ID|PASSWORD|_PASS|TOKEN)$")
_PINNED = re.compile(r"^[\w./-]+:(?!latest$)[\w.-]*\d[\w.-]*$")


def settings_variables(classes: Iterable[type[BaseSettings]]) -> set[str]:
    """Every variable that these settings classes read."""
    return {env_example.variable(c, name, field) for c in classes for name, field in c.model_fields.items()}


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """A service's environment as its process sees it."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def example_is_complete(deployment: Deployment) -> list[str]:
    """Every variable that the compose file uses has a line in .env.example, and the other way round."""
    used = {use.variable for use in deployment.uses()}
    listed = set(re.findall(r"^#?([A-Z0-9_]+)=", deployment.env_example, re.MULTILINE))
    services = settings_variables(c for classes in SETTINGS.values() for c in classes)
    own = {*env_example.OTHERS, *settings_variables(c for _, c in env_example.SECTIONS)} - services
    return [
        *(f"{name}: used, but not in .env.example" for name in sorted(used - listed)),
        *(
            f"{name}: in .env.example, but the compose file does not use it"
            for name in sorted(listed - used - own - variables.NOT_PASSED.keys() - variables.FIXED.keys())
        ),
    ]


def defaults_agree(deployment: Deployment) -> list[str]:
    """Every use has a default, and a variable has the same one wherever it is not part of another's default."""
    defaults: dict[str, set[str]] = {}
    broken = []
    for use in deployment.uses():
        if use.default is None:
            broken.append(f"{use.variable}: used without a default")
        elif not use.nested:
            defaults.setdefault(use.variable, set()).add(use.default)
    broken += [f"{n}: has several defaults: {sorted(d)}" for n, d in sorted(defaults.items()) if len(d) > 1]
    return broken


def environment_is_read(deployment: Deployment) -> list[str]:
    """What our services are given, their settings classes read; and what these read, they are given."""
    broken = []
    for name, classes in SETTINGS.items():
        given = set(environment(deployment.services()[name]))
        read = settings_variables(classes)
        broken += [f"{name}: {variable} is read by no settings class of it" for variable in sorted(given - read)]
        missing = read - given - variables.NOT_PASSED.keys()
        broken += [f"{name}: {variable} is not passed" for variable in sorted(missing)]
    return broken


def trainers_serve_what_is_routed(deployment: Deployment) -> list[str]:
    """Dispatcher and worker agree on each trainer's queue and image, by either spelling."""
    broken = []
    for overrides in (
        {},
        *({wrong: "somewhere:1"} for wrong in MISSPELT),
        *({right: "there:1"} for right in MISSPELT.values()),
    ):
        services = deployment.services(overrides)
        told = environment(services["dispatcher"])
        for trainer in ("sklearn", "flaml", "autogluon"):
            worker = services[f"{trainer}-trainer"]
            if environment(worker)["TRAINYARD_WORKER_QUEUES"] != told[f"CLEARML_QUEUE_{trainer.upper()}"]:
                broken.append(
                    f"{trainer}-trainer: serves another queue than the dispatcher routes to, with {overrides}"
                )
            if worker["image"] != told[f"{trainer.upper()}_IMAGE"]:
                broken.append(f"{trainer}-trainer: has another image than the dispatcher names, with {overrides}")
    return broken


def images_are_pinned(deployment: Deployment) -> list[str]:
    """Every image is a variable whose default names a version."""
    broken = []
    for name, service in deployment.raw_services().items():
        image = str(service.get("image", ""))
        if not re.fullmatch(r"\$\{[A-Z_]*IMAGE:-.*\}", image):
            broken.append(f"{name}: its image is no variable: {image}")
        elif not _PINNED.match(interpolate(image, {})):
            broken.append(f"{name}: its image names no version: {interpolate(image, {})}")
    return broken


def ours_are_confined(deployment: Deployment) -> list[str]:
    """What we build runs as an ordinary user without capabilities; nothing at all is privileged."""
    broken = []
    for name, service in deployment.services().items():
        if service.get("privileged"):
            broken.append(f"{name}: is privileged")
        if name not in BUILT:
            continue
        if str(service.get("user", "0")).partition(":")[0] in ("0", "root"):
            broken.append(f"{name}: runs as root")
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            broken.append(f"{name}: keeps capabilities or may gain privileges")
        if "build" not in service:
            broken.append(f"{name}: cannot be built")
    return broken


def services_are_watched(deployment: Deployment) -> list[str]:
    """Every service has a restart policy, limits that are settings, and a health check of its own or of its image."""
    broken = []
    for name, service in deployment.services().items():
        policy = str(service.get("restart", ""))
        wanted = r"no|on-failure(:\d+)?" if name in ONE_SHOT else r"unless-stopped|on-failure"
        if not re.fullmatch(wanted, policy):
            broken.append(f"{name}: its restart policy is {policy or 'not set'}")
        file = service.get("build", {}).get("dockerfile")
        in_image = file is not None and re.search(
            r"^HEALTHCHECK --", deployment.dockerfiles.get(file, ""), re.MULTILINE
        )
        if "healthcheck" not in service and not in_image and name not in NOT_WATCHED and name not in ONE_SHOT:
            broken.append(f"{name}: has no health check")
        limits = deployment.raw_services()[name].get("deploy", {}).get("resources", {}).get("limits", {})
        if not all(uses_in(str(limits.get(kind, ""))) for kind in ("cpus", "memory")):
            broken.append(f"{name}: its limits of cores and memory are no settings")
        if "logging" not in service:
            broken.append(f"{name}: its logs are not rotated")
    return broken


def order_is_possible(deployment: Deployment) -> list[str]:
    """What a service waits for is started by the same profiles, can become healthy, or can end."""
    services = deployment.services()
    broken = []
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                broken.append(f"{name}: waits for {other}, which is not declared")
                continue
            for profile in service.get("profiles", [""]):
                if other not in started(services, {profile}):
                    broken.append(f"{name}: waits for {other}, which profile {profile!r} does not start")
            watched = "healthcheck" in services[other] or other in BUILT - NOT_WATCHED.keys() - ONE_SHOT
            if how["condition"] == "service_healthy" and not watched:
                broken.append(f"{name}: waits for the health of {other}, which is not watched")
            if (how["condition"] == "service_completed_successfully") != (other in ONE_SHOT):
                broken.append(f"{name}: waits for {other} to end, or not to: {how['condition']}")
    return broken


def ports_are_known(deployment: Deployment) -> list[str]:
    """Published ports are the documented ones, each once, on an address that is a setting and local by default."""
    seen: dict[str, str] = {}
    broken = []
    for name, service in deployment.services().items():
        for mapping in service.get("ports", []):
            address, _, rest = mapping.partition(":")
            port = rest.partition(":")[0]
            if (
                address != "127.0.0.1"
                or deployment.services({"BIND_ADDRESS": "0.0.0.0"})[name]["ports"] == service["ports"]
            ):
                broken.append(f"{name}: {mapping} is published wherever BIND_ADDRESS says otherwise")
            if port in seen:
                broken.append(f"{name}: port {port} is taken by {seen[port]}")
            seen[port] = name
    broken += [f"port {port}: is published, but not documented" for port in sorted(seen.keys() - PUBLISHED)]
    broken += [f"port {port}: is documented, but not published" for port in sorted(PUBLISHED - seen.keys())]
    return broken


def networks_and_volumes_are_declared(deployment: Deployment) -> list[str]:
    """Networks and named volumes are declared and used; host folders are there and read-only."""
    document = deployment.resolved()
    used: dict[str, set[str]] = {"networks": set(), "volumes": set()}
    broken = []
    for name, service in document["services"].items():
        used["networks"] |= set(service.get("networks", ["default"]))
        for mount in service.get("volumes", []):
            source, target, *mode = mount.split(":")
            if not source.startswith((".", "/")):
                used["volumes"].add(source)
                continue
            if source.startswith(".") and not (deployment.root / source).exists():
                broken.append(f"{name}: {source} is not there")
            if mode != ["ro"] and source not in WRITABLE_HOST_PATHS:
                broken.append(f"{name}: {source} is mounted writable to {target}")
    for kind, names in used.items():
        declared = set(document[kind])
        broken += [f"{kind}: {name} is used, but not declared" for name in sorted(names - declared)]
        broken += [f"{kind}: {name} is declared, but not used" for name in sorted(declared - names)]
    return broken


def stores_are_kept(deployment: Deployment) -> list[str]:
    """Whatever holds data has a named volume where it keeps them."""
    places = {
        "kafka": "/var/lib/kafka/data",
        "mongo": "/data/db",
        "redis": "/data",
        "elasticsearch": "/usr/share/elasticsearch/data",
        "fileserver": "/mnt/fileserver",
        "minio": "/data",
        "prometheus": "/prometheus",
        "grafana": "/var/lib/grafana",
        **dict.fromkeys(SETTINGS.keys() - ONE_SHOT - FOLDS_AGAIN, "/var/lib/trainyard"),
    }
    services = deployment.services()
    return [
        f"{name}: keeps nothing of {place}"
        for name, place in places.items()
        if not any(re.fullmatch(rf"[\w-]+:{place}", mount) for mount in services[name].get("volumes", []))
    ]


def secrets_have_no_default(deployment: Deployment) -> list[str]:
    """A secret has no default, but for the documented ones of development; none is written into a service."""
    broken = []
    for use in deployment.uses():
        if _SECRET.search(use.variable) and use.default and use.variable not in variables.DEVELOPMENT_SECRETS:
            broken.append(f"{use.variable}: is a secret with a default")
    for name, service in deployment.raw_services().items():
        for variable, value in service.get("environment", {}).items():
            if _SECRET.search(variable) and not uses_in(str(value)):
                broken.append(f"{name}: {variable} is written down")
    return sorted(set(broken))


def sdk_has_its_configuration(deployment: Deployment) -> list[str]:
    """What runs ClearML's SDK or agent finds the one configuration, by both of its variables."""
    broken = []
    for name in sorted(SDK_SPEAKERS):
        service = deployment.services()[name]
        given = environment(service)
        wanted = "/etc/clearml/clearml.conf"
        broken += [
            f"{name}: {variable} is not {wanted}"
            for variable in ("CLEARML_CONFIG_FILE", "TRAINS_CONFIG_FILE")
            if given.get(variable) != wanted
        ]
        if "./infra/clearml:/etc/clearml:ro" not in service["volumes"]:
            broken.append(f"{name}: does not mount the configuration")
        text = (deployment.root / "infra" / "clearml").glob("*.conf")
        asked = {
            variable for path in text for variable in re.findall(r"\$\{\??(\w+)\}", path.read_text(encoding="utf-8"))
        }
        broken += [
            f"{name}: {variable}, which clearml.conf asks for, is not passed"
            for variable in sorted(asked - given.keys())
        ]
    return broken


def gpus_are_reserved_once(deployment: Deployment) -> list[str]:
    """Only the GPU agent reserves GPUs."""
    has = {
        name for name, s in deployment.services().items() if "reservations" in s.get("deploy", {}).get("resources", {})
    }
    return [f"{name}: reserves GPUs, or does not" for name in sorted(has ^ {"clearml-agent-gpu"})]


def builds_are_there(deployment: Deployment) -> list[str]:
    """Every build names a Dockerfile that is there, and passes only arguments that it declares."""
    broken = []
    for name, service in deployment.services().items():
        build = service.get("build")
        if build is None:
            continue
        text = deployment.dockerfiles.get(build["dockerfile"])
        if text is None:
            broken.append(f"{name}: {build['dockerfile']} is not there")
            continue
        declared = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
        broken += [
            f"{name}: {arg} is no argument of {build['dockerfile']}" for arg in sorted(build["args"].keys() - declared)
        ]
    built = {service["build"]["dockerfile"] for service in deployment.services().values() if "build" in service}
    broken += [f"{file}: no service builds it" for file in sorted(deployment.dockerfiles.keys() - built)]
    return broken


def keys_are_unique(deployment: Deployment) -> list[str]:
    """No key stands twice in a mapping: YAML would silently take the last one."""
    broken: list[str] = []

    def walk(node: yaml.Node | None) -> None:
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value]
            broken.extend(
                f"line {node.start_mark.line + 1}: {n} stands twice" for n in {n for n in names if names.count(n) > 1}
            )
            for _, value in node.value:
                walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                walk(value)

    walk(yaml.compose(deployment.compose))
    return broken


GUARDS = (
    example_is_complete,
    defaults_agree,
    environment_is_read,
    trainers_serve_what_is_routed,
    images_are_pinned,
    ours_are_confined,
    services_are_watched,
    order_is_possible,
    ports_are_known,
    networks_and_volumes_are_declared,
    stores_are_kept,
    secrets_have_no_default,
    sdk_has_its_configuration,
    gpus_are_reserved_once,
    builds_are_there,
    keys_are_unique,
)
