"""What a training process sees of its surroundings. Pure but for its constants."""

from __future__ import annotations

from collections.abc import Mapping

# What a training process needs from our environment, and nothing else: no ClearML, Kafka or cloud credentials.
_ENV_NAMES = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH",
     "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "COVERAGE_PROCESS_START"}
)  # fmt: skip
_ENV_PREFIXES = ("LC_",)


def child_environment(environment: Mapping[str, str], work_dir: str, n_jobs: int) -> dict[str, str]:
    """The child's environment: a short list of harmless names from ours, a home of its own, thread limits."""
    kept = {k: v for k, v in environment.items() if k in _ENV_NAMES or k.startswith(_ENV_PREFIXES)}
    threads = str(n_jobs)
    return {
        **kept,
        "HOME": work_dir,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads doubled the time of small fits on a busy host
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }
