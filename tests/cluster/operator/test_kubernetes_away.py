"""The Kubernetes API is away, slow, silent, busy, or in conflict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.operator.process import OperatorProcess
from cluster.operator.proxy import Proxy
from cluster.operator.world import World

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def proxied(
    config_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Give an operator that reaches the API server through the proxy."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    values = {
        "cluster.CREATION_SETTLES": 2.0,
        "handlers.FIRST_RETRY": 0.02,
        "handlers.LONGEST_RETRY": 0.2,
    }
    alterations = {"values": values}
    with OperatorProcess(config_file, log, alterations=alterations) as operator:
        yield operator
        assert operator.runs, operator.log
    assert '"traceback"' not in operator.log, operator.log


@pytest.fixture
def operator(proxied: OperatorProcess, proxy: Proxy) -> Iterator[OperatorProcess]:
    """Give that operator, and let everything through in the end."""
    yield proxied
    proxy.mend()


def test_a_short_cut_costs_nothing(world: World, operator: OperatorProcess, proxy: Proxy) -> None:
    world.admin.add_tasks(3)
    world.create_pool()
    for pod in world.new_pods(2):
        world.kubelet.claim(pod)
    world.workers(running=2)
    proxy.cut()
    world.kubelet.finish(world.pods()[0])
    world.until("the operator has noticed", lambda: operator.events("watch broken, trying again"))
    assert len(world.created()) == 2
    proxy.mend()
    world.until("the replacement", lambda: len(world.created()) == 3)
    world.workers(succeeded=1, active=2)
    assert world.most_active() == 2
    assert len(world.admin.managers()) == 1


GIVEN_UP_BY_KOPF = 9
"""Tries of a request after which kopf would end itself, and the operator with it."""


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (500, "InternalError")])
def test_pools_that_cannot_be_watched_for_long_are_watched_again(
    world: World, operator: OperatorProcess, proxy: Proxy, status: int, reason: str
) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    fault = proxy.answer(r"GET .*/computepools$", status, reason, count=2 * GIVEN_UP_BY_KOPF)
    proxy.drop()
    world.until("many tries", lambda: fault.struck == fault.count)
    world.change_pool(suspend=True)
    world.ready_for("Suspended")
    assert operator.runs


def test_a_long_outage_ends_nothing(world: World, operator: OperatorProcess, proxy: Proxy) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    proxy.cut()
    tries = f"Request attempt #{2 * GIVEN_UP_BY_KOPF} failed"
    world.until("many tries", lambda: tries in operator.log)
    world.change_pool(suspend=True)
    proxy.mend()
    world.ready_for("Suspended")
    assert operator.runs


def test_a_slow_api_server_costs_time_alone(
    world: World, operator: OperatorProcess, proxy: Proxy
) -> None:
    proxy.delay = 0.5
    world.admin.add_tasks(2)
    world.create_pool()
    world.new_pods(2)
    world.until("all is well", lambda: world.condition("Ready").get("status") == "True")
    assert len(world.created()) == 2
    assert operator.runs


BUSY = [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")]


@pytest.mark.parametrize(("status", "reason"), BUSY, ids=[str(status) for status, _ in BUSY])
def test_a_job_whose_creation_is_put_off_is_created_later(
    world: World, operator: OperatorProcess, proxy: Proxy, status: int, reason: str
) -> None:
    fault = proxy.answer(r"POST .*/jobs$", status, reason)
    world.admin.add_tasks(2)
    world.create_pool()
    world.new_pods(2)
    assert fault.struck == 1
    world.cycles(1)
    assert len(world.created()) == 2
    assert world.most_active() == 2


def test_a_job_whose_creation_is_done_but_not_answered_is_not_created_twice(
    world: World, operator: OperatorProcess, proxy: Proxy
) -> None:
    fault = proxy.lose(r"POST .*/jobs$", count=2)
    world.admin.add_tasks(3)
    world.create_pool(maxComputeServices=3)
    world.new_pods(3)
    assert fault.struck == 2
    world.workers(active=3)
    world.cycles(2)
    assert len(world.created()) == 3
    assert operator.runs


def test_conflicts_are_settled_by_looking_again(
    world: World, operator: OperatorProcess, proxy: Proxy
) -> None:
    faults = [
        proxy.answer(r"PATCH .*/computepools/a100$", 409, "Conflict", count=2),
        proxy.answer(r"DELETE .*/jobs/", 409, "Conflict"),
    ]
    world.admin.add_tasks(1)
    world.create_pool()
    (pod,) = world.new_pods(1)
    world.kubelet.claim(pod)
    world.delete_pool()
    world.until("the pool is gone", lambda: not world.pool())
    assert [fault.struck for fault in faults] == [2, 1]
    assert world.admin.managers() == []


def test_a_status_that_cannot_be_written_does_not_end_the_loop(
    world: World, operator: OperatorProcess, proxy: Proxy
) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    fault = proxy.answer(r"PATCH .*/a100/status$", 503, "ServiceUnavailable", count=2)
    world.admin.add_tasks(1)
    world.new_pods(1)
    world.until("its status is written", lambda: world.status()["workers"]["active"] == 1)
    assert fault.struck == 2
    assert len(world.created()) == 1


def test_a_watch_that_is_too_old_is_begun_anew(
    world: World, operator: OperatorProcess, proxy: Proxy
) -> None:
    proxy.answer(r"GET .*/pods$", 410, "Expired", count=1)
    proxy.answer(r"GET .*/jobs$", 410, "Expired", count=1)
    world.admin.add_tasks(1)
    world.create_pool()
    world.new_pods(1)
    proxy.cut()
    proxy.mend()
    world.until("watches are back", lambda: len(operator.events("watch broken, trying again")) > 1)
    (pod,) = world.pods()
    world.kubelet.claim(pod)
    world.workers(running=1)
