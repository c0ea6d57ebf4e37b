"""A watch whose connection stays open and brings nothing: no error ever comes by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cluster.operator.process import OperatorProcess
from cluster.operator.proxy import Proxy
from cluster.operator.world import World

pytestmark = pytest.mark.cluster

SILENCE = 3.0
"""Seconds of silence that this operator stands; others stand 90, for a bookmark a minute."""


def test_a_watch_that_is_silently_dead_is_found_out(
    world: World, proxy: Proxy, config_file: Path, tmp_path: Path
) -> None:
    operator = OperatorProcess(
        config_file,
        tmp_path / "log",
        namespaces=[world.namespace],
        alterations={"values": {"reflector.SILENCE_SECONDS": SILENCE}},
    )
    with operator:
        world.admin.add_tasks(4)
        world.create_pool()
        for pod in world.new_pods(2):
            world.kubelet.claim(pod)
        world.workers(running=2)
        proxy.silence()
        silent_since = time.monotonic()
        world.kubelet.finish(world.pods()[0])
        world.until("the replacement", lambda: len(world.created()) == 3, SILENCE + 10)
        print(f"found out after {time.monotonic() - silent_since:.1f} s")
        assert world.most_active() == 2
