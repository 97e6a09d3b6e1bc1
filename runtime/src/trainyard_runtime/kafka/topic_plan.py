"""What to do about the topics that exist, compared with the ones that are declared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainyard_schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """A topic as the broker describes it: every configuration value, defaults included."""

    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """A harmless difference: it is reported, and left as the operator set it."""

    topic: str
    key: str
    declared: str
    actual: str


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create."""

    name: str
    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What to create, what to report, and why to refuse; names are full names."""

    create: tuple[NewTopic, ...]
    unchanged: tuple[str, ...]
    differences: tuple[Difference, ...]
    refusals: tuple[str, ...]


def declared_configs(declaration: Topic) -> dict[str, str]:
    """The configuration a new topic is created with."""
    return {**declaration.config, "retention.ms": str(declaration.retention_ms)}


def plan_topics(declarations: Iterable[Topic], prefix: str, existing: Mapping[str, ExistingTopic]) -> TopicPlan:
    """Compare. A topic that could lose or misplace a record is a refusal, any other difference is only reported."""
    create: list[NewTopic] = []
    unchanged: list[str] = []
    differences: list[Difference] = []
    refusals: list[str] = []
    for declaration in declarations:
        name = declaration.full_name(prefix)
        found = existing.get(name)
        if found is None:
            create.append(NewTopic(name, declaration.partitions, declared_configs(declaration)))
            continue
        if declaration.foreign:
            unchanged.append(name)  # another system's: it is as its owner wants it
            continue
        lossy = _lossy(name, declaration, found)
        refusals.extend(lossy)
        differing = [
            Difference(name, key, value, found.configs[key])
            for key, value in declared_configs(declaration).items()
            if key in found.configs and found.configs[key] != value
        ]
        differences.extend(differing)
        if not lossy and not differing:
            unchanged.append(name)
    return TopicPlan(tuple(create), tuple(unchanged), tuple(differences), tuple(refusals))


def _lossy(name: str, declaration: Topic, found: ExistingTopic) -> list[str]:
    reasons: list[str] = []
    if found.partitions != declaration.partitions:
        reasons.append(
            f"{name} has {found.partitions} partitions and {declaration.partitions} are declared: a run's records would"
            " go to another partition than before; move to a new topic prefix instead of changing the count"
        )
    declared_cleanup = declaration.config.get("cleanup.policy", "delete")
    cleanup = found.configs.get("cleanup.policy", "delete")
    if set(cleanup.split(",")) != set(declared_cleanup.split(",")):
        reasons.append(
            f"{name} has cleanup.policy={cleanup} and {declared_cleanup} is declared: records would be lost; set it"
            " back"
        )
    actual_ms = int(found.configs.get("retention.ms", "-1"))
    least_ms = declaration.retention_ms
    if "delete" in cleanup and _shorter(actual_ms, least_ms):
        least = "-1 (for ever)" if least_ms == -1 else f"{least_ms}"
        reasons.append(
            f"{name} has retention.ms={actual_ms} and at least {least} is needed: records would be deleted too early;"
            " raise it"
        )
    if found.configs.get("retention.bytes", "-1") != declaration.config.get("retention.bytes", "-1"):
        reasons.append(
            f"{name} has retention.bytes={found.configs['retention.bytes']}: records would be deleted by size; set it"
            f" to {declaration.config.get('retention.bytes', '-1')}"
        )
    if found.configs.get("unclean.leader.election.enable", "false") == "true":
        reasons.append(
            f"{name} has unclean.leader.election.enable=true: acknowledged records could vanish; set it to false"
        )
    return reasons


def _shorter(actual_ms: int, least_ms: int) -> bool:
    if actual_ms == -1:
        return False
    return least_ms == -1 or actual_ms < least_ms
