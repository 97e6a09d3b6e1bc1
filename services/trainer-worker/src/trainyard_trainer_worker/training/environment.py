"""What a training process sees of its surroundings. Pure but for its constants."""

from __future__ import annotations

from collections.abc import Mapping

# What a training process needs from our environment, and nothing else: no ClearML, Kafka or cloud credentials.
_ENV_NAMES = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH",
     "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "COVERAGE_PROCESS_START",
     "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
)  # fmt: skip
_ENV_PREFIXES = ("LC_",)

# Threads of OpenMP that wait for each other in a small fit: by default they spin for milliseconds, and where another
# program wants the processors a fit takes hundreds of times as long. Those that sleep at once (OMP_WAIT_POLICY=PASSIVE)
# take four to thirteen times as long on an idle machine. Either variable in the worker's environment overrides this.
_SPIN_COUNT = "1000"


def child_environment(environment: Mapping[str, str], work_dir: str, n_jobs: int) -> dict[str, str]:
    """The child's environment: a short list of harmless names from ours, a home of its own, thread limits."""
    kept = {k: v for k, v in environment.items() if k in _ENV_NAMES or k.startswith(_ENV_PREFIXES)}
    threads = str(n_jobs)
    return {
        **({} if "OMP_WAIT_POLICY" in kept else {"GOMP_SPINCOUNT": _SPIN_COUNT}),
        **kept,
        "HOME": work_dir,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }
