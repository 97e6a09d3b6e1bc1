"""Mistakes in docker-compose.yml, one for each thing that a guard is there for."""

from __future__ import annotations

from collections.abc import Callable

from tests.deployment import compose_guards as guards
from tests.deployment.compose import Deployment

Guard = Callable[[Deployment], list[str]]

MISTAKES: tuple[tuple[Guard, str, str, str], ...] = (
    (
        guards.example_is_complete,
        "${TRAINYARD_TENANT:-default}",
        "${TRAINYARD_TENNANT:-default}",
        "TRAINYARD_TENNANT: used",
    ),
    (guards.example_is_complete, "${TRAINYARD_TENANT:-default}", "default", "TRAINYARD_TENANT: in .env.example"),
    (guards.defaults_agree, "${REDIS_IMAGE:-redis:8.2.3}", "${REDIS_IMAGE}", "REDIS_IMAGE: used without a default"),
    (
        guards.defaults_agree,
        "TRAINYARD_WORKER_QUEUES: ${CLEARML_QUEUE_FLAML:-flaml}",
        "TRAINYARD_WORKER_QUEUES: ${CLEARML_QUEUE_FLAML:-cpu}",
        "CLEARML_QUEUE_FLAML: has several",
    ),
    (
        guards.environment_is_read,
        "TRAINYARD_TENANT: $",
        "TRAINYARD_TENNANT: $",
        "dispatcher: TRAINYARD_TENNANT is read by no",
    ),
    (
        guards.environment_is_read,
        "TRAINYARD_TENANT: $",
        "TRAINYARD_TENNANT: $",
        "dispatcher: TRAINYARD_TENANT is not passed",
    ),
    (
        guards.trainers_serve_what_is_routed,
        "AUTOGLUON_IMAGE: ${AUTOGLUON_IMAGE:-${AUTOGLOUON_IMAGE:-",
        "AUTOGLUON_IMAGE: ${AUTOGLUON_IMAGE:-${X:-",
        "autogluon-trainer: has another image than the dispatcher names, with {'AUTOGLOUON_IMAGE'",
    ),
    (
        guards.trainers_serve_what_is_routed,
        "TRAINYARD_WORKER_QUEUES: ${CLEARML_QUEUE_SKLEARN:-sklearn}",
        "TRAINYARD_WORKER_QUEUES: cpu",
        "sklearn-trainer: serves another queue",
    ),
    (guards.images_are_pinned, "redis:8.2.3}", "redis:latest}", "redis: its image names no version: redis:latest"),
    (guards.images_are_pinned, "redis:8.2.3}", "redis}", "redis: its image names no version: redis"),
    (guards.images_are_pinned, "${REDIS_IMAGE:-redis:8.2.3}", "redis:8.2.3", "redis: its image is no variable"),
    (
        guards.ours_are_confined,
        '  user: "10001:10001"\n  cap_drop: [ALL]\n  security_opt: ["no-new-privileges:true"]\n\nx-build',
        "\nx-build",
        "dispatcher: runs as root",
    ),
    (guards.ours_are_confined, "cap_drop: [ALL]", "cap_drop: []", "dispatcher: keeps capabilities"),
    (
        guards.ours_are_confined,
        "image: ${REDIS_IMAGE",
        "privileged: true\n    image: ${REDIS_IMAGE",
        "redis: is privileged",
    ),
    (
        guards.ours_are_confined,
        "    build:\n      <<: *build\n      dockerfile: infra/docker/stats.Dockerfile\n",
        "",
        "clearml-serving-stats: cannot be built",
    ),
    (
        guards.services_are_watched,
        "healthcheck:\n      test: [CMD, mc",
        "x-healthcheck:\n      test: [CMD, mc",
        "minio: has no health check",
    ),
    (guards.services_are_watched, "restart: unless-stopped", "restart: always", "redis: its restart policy is always"),
    (
        guards.services_are_watched,
        "    restart: on-failure:10\n    depends_on",
        "    depends_on",
        "topics: its restart policy is not set",
    ),
    (
        guards.services_are_watched,
        "memory: ${STORE_MEMORY:-4g}",
        "memory: 4g",
        "redis: its limits of cores and memory are no settings",
    ),
    (
        guards.services_are_watched,
        "  logging: &logging\n    driver",
        "  x-logging: &logging\n    driver",
        "redis: its logs are not rotated",
    ),
    (
        guards.order_is_possible,
        "profiles: [serving, monitoring]\n    command:",
        "profiles: [serving]\n    command:",
        "clearml-serving-stats: waits for serving-topic, which profile 'monitoring' does not start",
    ),
    (
        guards.order_is_possible,
        "redis: { condition",
        "rediss: { condition",
        "apiserver: waits for rediss, which is not declared",
    ),
    (
        guards.order_is_possible,
        '    healthcheck:\n      test: [CMD-SHELL, "redis-cli',
        '    x-healthcheck:\n      test: [CMD-SHELL, "redis-cli',
        "apiserver: waits for the health of redis",
    ),
    (
        guards.order_is_possible,
        "topics: { condition: service_completed_successfully }",
        "topics: { condition: service_started }",
        "dispatcher: waits for topics to end, or not to",
    ),
    (
        guards.ports_are_known,
        "${STATS_PUBLISHED_PORT:-9999}",
        "${STATS_PUBLISHED_PORT:-9000}",
        "minio: port 9000 is taken by clearml-serving-stats",
    ),
    (
        guards.ports_are_known,
        "${BIND_ADDRESS:-127.0.0.1}:${STATS",
        "0.0.0.0:${STATS",
        "clearml-serving-stats: 0.0.0.0:9999:9999 is published wherever",
    ),
    (
        guards.ports_are_known,
        "${STATS_PUBLISHED_PORT:-9999}",
        "${STATS_PUBLISHED_PORT:-9998}",
        "port 9998: is published, but not documented",
    ),
    (
        guards.networks_and_volumes_are_declared,
        "- redis-data:/data",
        "- rediss-data:/data",
        "volumes: rediss-data is used, but not declared",
    ),
    (
        guards.networks_and_volumes_are_declared,
        "  redis-data:\n",
        "  redis-data:\n  more-data:\n",
        "volumes: more-data is declared, but not used",
    ),
    (guards.networks_and_volumes_are_declared, "/data:ro", "/data", "sklearn-trainer: ./examples is mounted writable"),
    (
        guards.networks_and_volumes_are_declared,
        "${DATA_DIR:-./examples}",
        "${DATA_DIR:-./exmaples}",
        "submitter: ./exmaples is not there",
    ),
    (guards.stores_are_kept, "- redis-data:/data", "- redis-data:/var", "redis: keeps nothing of /data"),
    (
        guards.secrets_have_no_default,
        "${AWS_SECRET_ACCESS_KEY:-}",
        "${AWS_SECRET_ACCESS_KEY:-hunter2}",
        "AWS_SECRET_ACCESS_KEY: is a secret with a default",
    ),
    (
        guards.secrets_have_no_default,
        "${TRAINYARD_KAFKA_PASSWORD:-}",
        "hunter2",
        "dispatcher: TRAINYARD_KAFKA_PASSWORD is written down",
    ),
    (
        guards.sdk_has_its_configuration,
        "  TRAINS_CONFIG_FILE: /etc/clearml/clearml.conf\n",
        "",
        "clearml-serving: TRAINS_CONFIG_FILE is not",
    ),
    (
        guards.sdk_has_its_configuration,
        "  CLEARML_S3_ENDPOINT: ${CLEARML_S3_ENDPOINT:-minio:9000}\n",
        "",
        "clearml-agent: CLEARML_S3_ENDPOINT, which clearml.conf asks for",
    ),
    (
        guards.gpus_are_reserved_once,
        "reservations:",
        "x-reservations:",
        "clearml-agent-gpu: reserves GPUs, or does not",
    ),
    (
        guards.builds_are_there,
        "infra/docker/stats.Dockerfile",
        "infra/docker/statistics.Dockerfile",
        "clearml-serving-stats: infra/docker/statistics.Dockerfile is not there",
    ),
    (
        guards.builds_are_there,
        "        TRAINER: flaml",
        "        TRANER: flaml",
        "flaml-trainer: TRANER is no argument",
    ),
    (guards.keys_are_unique, "  redis-data:\n", "  redis-data:\n  redis-data:\n", "redis-data stands twice"),
)
"""Guard, what stands in the file, what is put there instead, and what the guard's sentence holds."""
