"""What must not cost a Task: a worker's pod deleted, the operator killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.recorder import jobs_created
from e2e.scene import Scene
from stage import operator, processes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def ready_pod(scene: Scene) -> dict[str, Any] | None:
    """A pod whose worker holds a Task."""
    for pod in scene.get("pods")["items"]:
        for condition in pod["status"].get("conditions") or ():
            if condition["type"] == "Ready" and condition["status"] == "True":
                return dict(pod)
    return None


def test_the_task_of_a_deleted_pod_waits_again_at_once_and_is_done_in_the_end(
    scene: Scene,
) -> None:
    (task,) = scene.admin.add_tasks(1, scope="org-campaign-project", seconds=8.0)
    scene.apply_pool()
    scene.until("the worker is in mid-Task", lambda: ready_pod(scene) is not None, 90)
    pod = ready_pod(scene)
    assert pod is not None

    began = time.monotonic()
    scene.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    scene.until("the Task waits", lambda: scene.admin.task(task).status == "waiting", 90)
    waited = time.monotonic() - began
    print(f"from kubectl delete pod to the Task waiting: {waited:.2f} s")

    assert waited < 5
    scene.until("the Task is complete", scene.all_complete, 90)
    assert len(scene.admin.results(task)) == 1
    assert len(jobs_created(scene.recorder.changes)) == 2


def kill(scene: Scene) -> None:
    restarts = _restarts(scene)
    operator.kill(scene.cluster)
    scene.until("the operator is back", lambda: _restarts(scene) > restarts, 90)


def roll_out(scene: Scene) -> None:
    where = (f"deployment/{operator.DEPLOYMENT}", f"-n{operator.NAMESPACE}")
    scene.cluster.kubectl("rollout", "restart", *where)
    scene.cluster.kubectl("rollout", "status", *where, "--timeout=120s")


@pytest.mark.parametrize("end", [kill, roll_out], ids=["killed", "rollout restart"])
def test_an_operator_that_ends_in_the_middle_goes_on_where_it_was(
    scene: Scene, end: Callable[[Scene], None]
) -> None:
    scene.admin.add_tasks(8, scope="org-campaign-project", seconds=4.0)
    scene.apply_pool()
    scene.until("workers are in mid-Task", lambda: "running" in scene.admin.counts(), 90)
    before = scene.pool()["status"]["computeManagerID"]

    end(scene)
    scene.until("all Tasks are complete", scene.all_complete, 300)
    scene.until("all Jobs have ended", lambda: scene.pool()["status"]["workers"]["active"] == 0, 90)

    assert scene.pool()["status"]["computeManagerID"] == before
    registrations = [r for r in scene.admin.audit() if r.endpoint == "manager_register"]
    assert len({tuple(r.ids) for r in registrations}) == 1, "one manager id in all"
    assert len(jobs_created(scene.recorder.changes)) == 8, "no Job too many"


def test_a_worker_killed_without_a_word_costs_neither_its_task_nor_a_person(scene: Scene) -> None:
    """The scene in which the direct peer stops for good: 12 Tasks, and 1 worker of 4 is killed."""
    scene.admin.add_tasks(12, scope="org-campaign-project", seconds=10.0)
    scene.apply_pool()
    scene.until("a worker is in mid-Task", lambda: ready_pod(scene) is not None, 90)
    pod = ready_pod(scene)
    assert pod is not None
    task = _held_by(scene, pod["metadata"]["uid"])

    killed_at = time.monotonic()
    if not processes.kill(pod["metadata"]["uid"], "computepool-worker"):
        pytest.skip("the node is another machine, whose processes are out of reach")
    scene.until("its Task waits", lambda: scene.admin.task(task).status != "running", 90)
    print(f"from SIGKILL to the Task waiting again: {time.monotonic() - killed_at:.2f} s")

    scene.until("all Tasks are complete", scene.all_complete, 300)
    scene.until("all workers are gone", lambda: not scene.admin.services(), 90)
    assert all(len(view.results) == 1 for view in scene.admin.tasks())
    assert len(jobs_created(scene.recorder.changes)) == 13, "one for each Task, and one again"
    assert scene.pool()["status"]["workers"]["failed"] == 1


def _held_by(scene: Scene, pod_uid: str) -> str:
    """The Task that the service of a pod has claimed."""
    suffix = pod_uid.replace("-", "")
    (service,) = [s for s in scene.admin.services() if s.id.endswith(suffix)]
    (task,) = service.claims
    return task


def _restarts(scene: Scene) -> int:
    (status,) = operator.pod(scene.cluster)["status"]["containerStatuses"]
    return int(status["restartCount"]) if status["state"].get("running") else -1
