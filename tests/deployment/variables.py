"""The variables that docker-compose.yml reads and no settings class does, each with a sentence for `.env.example`."""

from __future__ import annotations

from collections.abc import Mapping

SENTENCES: Mapping[str, str] = {
    "BIND_ADDRESS": "Address of this host that every port is published on; 0.0.0.0 opens them to the network.",
    "KAFKA_ADVERTISED_HOST": "Host name or address under which clients outside the containers reach Kafka.",
    "KAFKA_PUBLISHED_PORT": "Port of Kafka on this host.",
    "CLEARML_API_PUBLISHED_PORT": "Port of ClearML's API on this host.",
    "CLEARML_WEB_PUBLISHED_PORT": "Port of ClearML's web page on this host.",
    "CLEARML_FILES_PUBLISHED_PORT": "Port of ClearML's file server on this host.",
    "MINIO_PUBLISHED_PORT": "Port of MinIO on this host.",
    "SERVING_PUBLISHED_PORT": "Port of clearml-serving on this host.",
    "STATS_PUBLISHED_PORT": "Port of the statistics' metrics on this host.",
    "GATEWAY_PUBLISHED_PORT": "Port of the run page on this host.",
    "PROMETHEUS_PUBLISHED_PORT": "Port of Prometheus on this host.",
    "GRAFANA_PUBLISHED_PORT": "Port of Grafana on this host.",
    "DATA_DIR": "Folder of this host with local data; containers see it read-only as /data.",
    "CLEARML_CONFIG_HOST_DIR": "Folder of this host with clearml.conf and storage_credentials.conf.",
    "CLEARML_AGENT_HOST_DIR": "Folder of this host for the agents' caches; it must belong to user 10001.",
    "DOCKER_GROUP_ID": "Number of the group that may use Docker's socket: stat -c %g /var/run/docker.sock.",
    "CLEARML_WEB_HOST": "Address of ClearML's web page, as a browser reaches it.",
    "CLEARML_S3_ENDPOINT": "host:port of the S3 store for ClearML's SDK.",
    "MINIO_ROOT_USER": "MinIO's administrator; the default is for development.",
    "MINIO_ROOT_PASSWORD": "MinIO's administrator's password; the default is for development.",
    "DATASETS_BUCKET": "Private bucket that is made in MinIO at the start.",
    "GRAFANA_ADMIN_USER": "Grafana's administrator; the default is for development.",
    "GRAFANA_ADMIN_PASSWORD": "Grafana's administrator's password; the default is for development.",
    "CLEARML_AGENT_DEFAULT_BASE_DOCKER": "Image of the tasks that name none.",
    "CLEARML_AGENT_EXTRA_DOCKER_ARGS": "Arguments of docker run for every task container, such as --env=NAME=VALUE.",
    "CLEARML_AGENT_GIT_USER": "User with whom agents clone repositories.",
    "CLEARML_AGENT_GIT_PASS": "Password or token with which agents clone repositories.",
    "CLEARML_INFERENCE_TASK_ID": "Id of an inference task to continue; a new one if not set.",
    "STATS_SERVING_TASKS": "Control-plane tasks for the statistics of several deployments, DEPLOYMENT=TASK, separated"
    " by ';'; CLEARML_SERVING_TASK_ID, which clearml-serving reads too, if not set.",
    "CLEARML_SERVING_POLL_FREQ": "MINUTES between two looks of clearml-serving at its endpoints, despite other claims.",
    "CLEARML_DEFAULT_BASE_SERVE_URL": "Address of clearml-serving, as its clients reach it.",
    "CLEARML_EXTRA_PYTHON_PACKAGES": "Further packages of the serving image, such as autogluon.tabular; not locked.",
    "SERVING_STATS_PARTITIONS": "Partitions of the topic of serving statistics, when it is made.",
    "TRAINER_CPUS": "Most cores of one trainer's container; set TRAINYARD_WORKER_N_JOBS alike.",
    "TRAINER_MEMORY": "Most memory of one trainer's container.",
    "TRAINER_STOP_GRACE": "How long Docker waits for a trainer to stop; longer than TRAINYARD_WORKER_DRAIN_S.",
    "TRAINER_SHM_SIZE": "Shared memory of one trainer's container.",
    "SERVICE_CPUS": "Most cores of each small service.",
    "SERVICE_MEMORY": "Most memory of each small service.",
    "STORE_CPUS": "Most cores of Kafka, MinIO and each part of ClearML's server.",
    "STORE_MEMORY": "Most memory of Kafka, MinIO and each part of ClearML's server; twice Elasticsearch's heap.",
    "KAFKA_HEAP_OPTS": "Kafka's heap.",
    "ELASTICSEARCH_JAVA_OPTS": "Elasticsearch's heap.",
    "KAFKA_CLUSTER_ID": "Id of the Kafka cluster; written into its data at the first start.",
    "LOG_MAX_SIZE": "Size at which a container's log is rotated; five are kept.",
    "PROMETHEUS_RETENTION": "How long Prometheus keeps its samples.",
    "TRAINYARD_VERSION": "Version written into our images' labels.",
    "TRAINYARD_REVISION": "Commit written into our images' labels: git rev-parse HEAD.",
    "PYTHON_IMAGE": "Base image of everything that we build.",
    "DOCKER_CLI_IMAGE": "Image that the agents' docker command is taken from.",
    "DISPATCHER_IMAGE": "Image of the dispatcher.",
    "STATS_IMAGE": "Image of the statistics service.",
    "SUBMITTER_IMAGE": "Image of the command line and the run page.",
    "CLEARML_AGENT_IMAGE": "Image of ClearML's agents.",
    "CLEARML_SERVING_IMAGE": "Image of clearml-serving.",
    "KAFKA_IMAGE": "Image of Kafka.",
    "CLEARML_SERVER_IMAGE": "Image of ClearML's server.",
    "ELASTICSEARCH_IMAGE": "Image of Elasticsearch.",
    "MONGO_IMAGE": "Image of MongoDB.",
    "REDIS_IMAGE": "Image of Redis.",
    "MINIO_IMAGE": "Image of MinIO.",
    "MINIO_MC_IMAGE": "Image of MinIO's client.",
    "PROMETHEUS_IMAGE": "Image of Prometheus.",
    "GRAFANA_IMAGE": "Image of Grafana.",
}

NOT_PASSED: Mapping[str, str] = {
    "TRAINYARD_WORKER_NAME": "each container's host name is its worker's name",
    "TRAINYARD_STATS_METRIC_LOGGING_FILE": "the control-plane task's metric_logging is read",
    "TRAINYARD_TRAINER_PYTHONS": "each trainer has an image of its own",
    "TRAINYARD_WORK_DIR": "`work` in the state volume",
    "TRAINYARD_DATA_CACHE_DIR": "`data` in the state volume",
    "TRAINYARD_FAILPOINT": "tests only",
}
"""Settings of the services that the compose file leaves alone, each with the reason."""

FIXED: Mapping[str, str] = {
    "TRAINYARD_HTTP_HOST": "a container's pages must be reachable from the others",
    "TRAINYARD_HTTP_PORT": "health checks and Prometheus name it",
    "TRAINYARD_STATE_DIR": "the volume's place",
    "TRAINYARD_DATA_ROOTS": "DATA_DIR is mounted there",
    "TRAINYARD_WORKER_PRELOAD": "each image has one trainer",
    "TRAINYARD_WORKER_QUEUES": "each trainer serves the queue that its runs are routed to",
}
"""Settings that the compose file gives a value of its own, each with the reason."""

DEVELOPMENT_SECRETS = {"MINIO_ROOT_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}
"""Secrets with a default, which docs/deployment.md says to change."""
