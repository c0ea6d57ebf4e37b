"""Pods in which something runs beside the worker, as service meshes and log shippers do."""

from __future__ import annotations

import pytest

from e2e.recorder import jobs_created, most_on_nodes
from e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TASKS = 4
MOST = 2
PROXY = {
    "name": "proxy",
    "image": "localhost/computepool/busybox:test",
    "command": ["sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.2; done"],
}


def work_off(scene: Scene, **pod_spec: object) -> None:
    """Let a pool whose pods look so work off all Tasks, and every pod come to its end."""
    scene.admin.add_tasks(TASKS, scope="org-campaign-project", seconds=2.0)
    scene.apply_pool(maxComputeServices=MOST, worker={"podTemplate": {"spec": pod_spec}})
    scene.until("all Tasks are complete", scene.all_complete, 120)
    scene.until("all workers are gone", lambda: not scene.admin.services(), 15)
    scene.until("all pods have ended", lambda: scene.pool()["status"]["workers"]["active"] == 0, 30)
    workers = scene.pool()["status"]["workers"]
    assert (workers["succeeded"], workers["failed"]) == (TASKS, 0)
    assert len(jobs_created(scene.recorder.changes)) == TASKS, "no worker in vain"
    assert most_on_nodes(scene.recorder.changes) == MOST, "never more than may hold a GPU"


def test_a_native_sidecar_ends_with_its_worker(scene: Scene) -> None:
    work_off(scene, initContainers=[{**PROXY, "restartPolicy": "Always"}])
    assert len(scene.get("jobs")["items"]) == TASKS, "kept for their logs"


def test_a_classic_sidecar_is_ended_by_the_operator(scene: Scene) -> None:
    work_off(scene, containers=[PROXY])
    scene.until("their Jobs are gone", lambda: not scene.get("jobs")["items"], 30)
