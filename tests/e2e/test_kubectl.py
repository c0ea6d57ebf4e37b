"""What people type: scale, explain, wait, get."""

from __future__ import annotations

import pytest

from e2e.recorder import jobs_created
from e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_scale_wait_explain_and_get(scene: Scene) -> None:
    scene.admin.add_tasks(6, scope="org-campaign-project", seconds=1.0)
    scene.apply_pool(maxComputeServices=0)
    scene.kubectl("wait", "--for=condition=Ready", "computepool/a100", "--timeout=90s")
    assert not jobs_created(scene.recorder.changes)

    scene.kubectl("scale", "computepool", "a100", "--replicas=2")
    scene.until("two workers", lambda: len(jobs_created(scene.recorder.changes)) >= 2, 90)
    assert scene.pool()["status"]["workers"]["active"] <= 2

    scene.until("all Tasks are complete", scene.all_complete, 300)
    explained = scene.kubectl("explain", "computepool.spec.worker")
    assert "claimLimit" in explained
    assert "podTemplate" in explained
    header, row = scene.kubectl("get", "computepools").splitlines()
    assert header.split() == [
        "NAME", "READY", "REASON", "TASKS", "ACTIVE", "MAX", "SATURATION", "AGE",
    ]  # fmt: skip
    assert row.split()[:2] == ["a100", "True"]
