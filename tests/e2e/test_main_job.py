"""The main job: one pool is applied, and the Tasks that wait on the server get done."""

from __future__ import annotations

import pytest

from e2e.recorder import (
    jobs_created,
    most_on_nodes,
    replacement_delays,
    termination_messages,
)
from e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TASKS = 12
GPUS = 4


def test_one_pool_works_off_all_tasks_and_leaves_nothing(scene: Scene) -> None:
    tasks = scene.admin.add_tasks(TASKS, scope="org-campaign-project", seconds=3.0)

    scene.apply_pool()
    scene.until("all Tasks are complete", scene.all_complete, 300)
    scene.until("all workers are gone", lambda: not scene.admin.services(), 90)
    scene.until("all Jobs have ended", lambda: scene.pool()["status"]["workers"]["active"] == 0, 90)
    changes = scene.recorder.changes

    assert most_on_nodes(changes) == GPUS, "never more than 4 pods hold a GPU"
    assert len(jobs_created(changes)) == TASKS, "no worker starts in vain"
    messages = termination_messages(changes)
    assert {message["outcome"] for message in messages.values()} == {"Done"}
    delays = replacement_delays(changes)
    print("replacement delays (s):", [round(delay, 2) for delay in delays])
    assert len(delays) == TASKS - GPUS
    assert sorted(delays)[int(0.95 * len(delays)) - 1] < 1.0

    for task in tasks:
        (result,) = scene.admin.results(task)
        assert result.ok
        assert result.document[-1][0].startswith("ProtocolDAGResult-")
        assert result.document[-1][1]["name"] == task, "the child's own result for this Task"

    (manager,) = scene.admin.managers()
    assert manager.status == "OK"
    scene.kubectl("delete", "computepool", "a100", "--timeout=90s")
    assert scene.admin.managers() == []
    scene.until("no Job is left", lambda: not scene.get("jobs")["items"], 90)


def test_pods_that_start_slowly_cause_no_more_jobs_than_tasks(scene: Scene) -> None:
    scene.admin.add_tasks(TASKS, scope="org-campaign-project", seconds=3.0)
    slow = {
        "name": "slow-start",
        "image": "localhost/computepool/busybox:test",
        "command": ["sleep", "20"],
    }

    scene.apply_pool(
        cycleInterval="2s", worker={"podTemplate": {"spec": {"initContainers": [slow]}}}
    )
    scene.until("all Tasks are complete", scene.all_complete, 300)
    scene.until("all Jobs have ended", lambda: scene.pool()["status"]["workers"]["active"] == 0, 90)

    assert len(jobs_created(scene.recorder.changes)) == TASKS
    assert most_on_nodes(scene.recorder.changes) == GPUS
