"""What a training process sees of its worker's environment."""

from __future__ import annotations

import pytest

from trainyard_trainer_worker.training.environment import child_environment


def test_no_credentials_reach_a_training_and_its_threads_are_bounded() -> None:
    worker = {"PATH": "/bin", "CLEARML_API_SECRET_KEY": "s", "AWS_SECRET_ACCESS_KEY": "s", "LC_ALL": "C", "HOME": "/h"}
    child = child_environment(worker, "/work", 3)
    assert {k: child[k] for k in ("PATH", "LC_ALL", "HOME", "OMP_NUM_THREADS")} == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "HOME": "/work",
        "OMP_NUM_THREADS": "3",
    }
    assert not {"CLEARML_API_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"} & child.keys()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": "5"}),
    ],
)
def test_threads_spin_shortly_unless_the_worker_s_environment_says_otherwise(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    child = child_environment(given, "/work", 2)
    assert {k: v for k, v in child.items() if k in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} == expected
