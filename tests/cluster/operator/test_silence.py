"""Connections that stay open and bring nothing: no error ever comes by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.operator.process import OperatorProcess
from cluster.operator.proxy import Proxy
from cluster.operator.world import PATIENCE, World

pytestmark = pytest.mark.cluster

SILENCE = 3.0
"""Seconds without a word on a watch that this operator stands: others stand 90, for a bookmark a
minute, and so never have to try again while all is well. This one does so all the while."""

HURRY = 0.02
"""Of the time that others wait for an answer of the compute API, 30 or 60 s."""


@pytest.fixture
def operator(world: World, config_file: Path, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Give an operator that is impatient, behind a proxy."""
    values = {
        "reflector.SILENCE_SECONDS": SILENCE,
        "reflector.LONGEST_RETRY": 0.5,
        "handlers.POOLS_SILENCE": SILENCE,
    }
    process = OperatorProcess(
        config_file,
        tmp_path / "log",
        namespaces=[world.namespace],
        alterations={"values": values, "patience": HURRY},
    )
    with process:
        yield process


def test_a_watch_that_is_silently_dead_is_found_out(
    world: World, proxy: Proxy, operator: OperatorProcess
) -> None:
    world.admin.add_tasks(4)
    world.create_pool()
    for pod in world.new_pods(2):
        world.kubelet.claim(pod)
    world.workers(running=2)
    proxy.silence()
    silent_since = time.monotonic()
    world.kubelet.finish(world.pods()[0])
    world.new_jobs(3, SILENCE + PATIENCE)
    print(f"found out after {time.monotonic() - silent_since:.1f} s")
    assert world.most_active() == 2
    assert operator.runs


def test_a_watch_of_pools_that_is_silently_dead_is_found_out(
    world: World, proxy: Proxy, operator: OperatorProcess
) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    proxy.silence()
    world.change_pool(suspend=True)
    world.ready_for("Suspended", seconds=SILENCE + PATIENCE)
    assert operator.runs


def test_a_server_that_hangs_is_away(world: World, operator: OperatorProcess) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    world.admin.fault("manager_instruction", "hang", count=None)
    world.admin.add_tasks(1)
    ready = world.ready_for("ComputeAPIUnavailable")
    assert ready["status"] == "Unknown"
    assert "/instruction" in ready["message"]
    assert world.created() == []
    world.admin.clear_faults()
    world.new_pods(1)
    assert operator.runs
