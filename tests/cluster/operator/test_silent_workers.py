"""Workers that do not start although no Job and no pod says why: events do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.operator.process import OperatorProcess, assert_log_is_clean
from cluster.operator.world import World

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("impatient")]


@pytest.fixture(scope="module")
def impatient(account: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """Give an operator that finds at once that a worker should have started."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    values = {"plan.PATIENCE": 1, "complaints.PATIENCE": 1, "inquiry.KEPT": 1}
    with OperatorProcess(account, log, alterations={"values": values}) as operator:
        yield operator
        assert operator.runs, operator.log
    assert_log_is_clean(operator)


@pytest.mark.parametrize("what", ["pods", "requests.nvidia.com/gpu"])
def test_a_pod_that_a_quota_refuses(world: World, what: str) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {what: "0"}}}
    world.kube.create("resourcequotas", quota)
    world.until("it counts", lambda: (world.kube.get("resourcequotas", "few") or {})["status"])
    world.admin.add_tasks(2)
    world.create_pool()
    ready = world.ready_for("WorkersNotStarting")
    assert ready["status"] == "False"
    world.until("both say it", lambda: "2 workers can't start" in world.status()["message"])
    message = world.status()["message"]
    assert (
        'FailedCreate: Error creating: pods "a100-*" is forbidden: exceeded quota: few' in message
    )
    assert f"{what}=" in message
    assert len(world.created()) == 2
    assert world.created("pods") == []


def test_a_volume_that_cannot_be_mounted(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    (pod,) = world.new_pods(1)
    world.kubelet.fail_to_mount(pod)
    ready = world.ready_for("WorkersNotStarting")
    assert 'FailedMount: MountVolume.SetUp failed for volume "credentials"' in ready["message"]


def test_the_words_go_when_it_starts_after_all(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    (pod,) = world.new_pods(1)
    world.kubelet.fail_to_mount(pod)
    world.ready_for("WorkersNotStarting")
    world.claim(pod)
    assert world.ready_for("WorkersRunning")["status"] == "True"
