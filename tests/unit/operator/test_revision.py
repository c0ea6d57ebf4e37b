"""What of a spec a worker is made from: which changes make new workers differ from those there."""

from typing import Any

import pytest
from unit.operator.builders import make_spec

from computepool_operator.revision import Revision, revision_of

BEFORE = revision_of(make_spec())


@pytest.mark.parametrize(
    "change",
    [
        {"worker": {"image": "registry.example.org/worker:v2"}},
        {"worker": {"resources": {"limits": {"memory": "64Gi"}}}},
        {"worker": {"pod_template": {"spec": {"nodeSelector": {"gpu": "a100"}}}}},
        {"worker": {"openmm_platform": "OpenCL"}},
        {"compute_api": {"url": "https://other.example.org"}},
        {"compute_api": {"credentials_secret_ref": {"name": "other"}}},
        {"job": {"active_deadline": "12h"}},
        {"job": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}},
    ],
)
def test_what_a_worker_is_made_from(change: dict[str, Any]) -> None:
    after = revision_of(make_spec(**change))
    assert after.form != BEFORE.form
    assert after.reach == BEFORE.reach


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": ["org-*-*"]},
        {"scopes_exclude": ["org-*-*"]},
        {"protocols": ["NonEquilibriumCyclingProtocol"]},
    ],
)
def test_what_a_worker_may_claim(change: dict[str, Any]) -> None:
    after = revision_of(make_spec(**change))
    assert after.form == BEFORE.form
    assert after.reach != BEFORE.reach


@pytest.mark.parametrize(
    "change",
    [
        {"max_compute_services": 3},
        {"max_submit_per_cycle": 3},
        {"cycle_interval": "5s"},
        {"suspend": True},
        {"deletion_policy": "Stop"},
        {"job": {"startup_deadline": "5m", "keep_failed": 9}},
        {"failure_policy": {"task_crash_limit": 9}},
    ],
)
def test_what_concerns_no_worker(change: dict[str, Any]) -> None:
    assert revision_of(make_spec(**change)) == BEFORE


def test_a_default_that_is_written_out_changes_nothing() -> None:
    spec = make_spec(worker={"max_tasks": make_spec().worker.max_tasks}, scopes=["*-*-*"])
    assert revision_of(spec) == BEFORE


def test_it_is_written_as_a_label_and_read_back() -> None:
    assert Revision.parse(str(BEFORE)) == BEFORE
    assert len(str(BEFORE)) <= 63
    assert Revision.parse("") is None
    assert Revision.parse("somebodyelse") is None
