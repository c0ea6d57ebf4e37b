"""Pools whose workers can't work until somebody corrects the spec, as a GitOps commit does."""

from __future__ import annotations

import json

import pytest

from e2e.recorder import jobs_created
from e2e.scene import Scene
from stage.images import STANDIN_TAG

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TASKS = 3
MOST = 2


def correct(scene: Scene, **worker: object) -> None:
    """Change the pool's worker, and wait until all Tasks are complete."""
    patch = json.dumps({"spec": {"worker": worker}})
    scene.kubectl("patch", "computepool", "a100", "--type=merge", f"--patch={patch}")
    scene.until("all Tasks are complete", scene.all_complete, 120)
    status = scene.pool()["status"]
    assert status["circuit"]["open"] is False
    assert status["consecutiveFailures"] == 0


def test_an_image_that_is_not_there(scene: Scene) -> None:
    scene.admin.add_tasks(TASKS, scope="org-campaign-project", seconds=1.0)
    scene.apply_pool(maxComputeServices=MOST, image="localhost/computepool/absent:dev")
    held_up = f"{MOST} workers can't start: "
    scene.until("both are held up", lambda: held_up in scene.pool()["status"]["message"], 60)
    assert "ImagePull" in scene.pool()["status"]["message"]
    correct(scene, image=STANDIN_TAG)
    assert len(jobs_created(scene.recorder.changes)) == MOST + TASKS, "no worker in vain"


def test_workers_that_fail_one_after_the_other(scene: Scene) -> None:
    scene.admin.add_tasks(TASKS, scope="org-campaign-project", seconds=1.0)
    broken = {"containers": [{"name": "worker", "command": ["false"]}]}
    policy = {"maxConsecutiveFailures": 2, "retryAfter": "1h"}
    scene.apply_pool(
        maxComputeServices=1, failurePolicy=policy, worker={"podTemplate": {"spec": broken}}
    )
    scene.until("the circuit opens", lambda: scene.pool()["status"]["circuit"]["open"], 60)
    assert scene.pool()["status"]["reason"] == "WorkersFailing"
    scene.until("the server is told", lambda: scene.admin.managers()[0].status == "ERROR", 15)
    correct(scene, podTemplate=None)
    assert scene.admin.managers()[0].status == "OK"
    assert len(jobs_created(scene.recorder.changes)) == 2 + TASKS, "no worker in vain"
