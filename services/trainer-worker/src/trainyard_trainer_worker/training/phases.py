"""One attempt from request to verified model, in the child process. Light to import: the libraries come with the first
phase, so that their cost is seen and a wrong request costs nothing."""

from __future__ import annotations

import importlib
import resource
import sys
from pathlib import Path
from typing import Any

from trainyard_trainer_worker.child_events import Phase
from trainyard_trainer_worker.spec import AttemptSpec, Succeeded, parse_request
from trainyard_trainer_worker.training.clean_process import CleanProcess
from trainyard_trainer_worker.training.emitter import Emitter
from trainyard_trainer_worker.training.jsonsafe import json_safe
from trainyard_trainer_worker.training.model_check import ModelCheck


def run(spec: AttemptSpec, emitter: Emitter, clean_process: CleanProcess | None = None) -> Succeeded:
    """Train, evaluate, pack and verify, by the clean process if there is one. Raises AttemptError; anything else comes
    from a library."""
    request = parse_request(spec.request)
    work_dir = Path(spec.work_dir)
    with ModelCheck(request.trainer, clean_process) as model_check:
        with emitter.in_phase(Phase.IMPORT):
            steps = importlib.import_module("trainyard_trainer_worker.training.steps")
            trainer = steps.trainers.load(request.trainer, request.extras)
        trained = steps.train(spec, request, trainer, emitter, on_fit=model_check.start)
        with emitter.in_phase(Phase.VERIFY):
            verified = model_check.check(work_dir, trained.model)
    results = {**trained.results, "verified": verified, **usage(emitter)}
    artifacts = steps.write_artifacts(work_dir, request, trained, results)
    return Succeeded(json_safe(results), trained.model, artifacts)


def usage(emitter: Emitter) -> dict[str, Any]:
    """Seconds by phase, warnings, and what the process has used so far; the processor's time includes that of the
    check's process once it has ended."""
    used, checker = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_bytes = used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024
    cpu_seconds = used.ru_utime + used.ru_stime + checker.ru_utime + checker.ru_stime
    return {
        "seconds": dict(emitter.seconds),
        "warnings": list(emitter.warnings),
        "peak_memory_bytes": peak_bytes,
        "cpu_seconds": round(cpu_seconds, 2),
    }
