"""The manager's registration: skipped, shut down, taken, stolen, lapsed."""

from __future__ import annotations

import pytest
from cluster.operator.rival import Rival
from cluster.operator.world import World, manager_name

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def managers(world: World) -> list[str]:
    return [manager.id for manager in world.admin.managers()]


def own(world: World) -> str:
    return str(world.status()["computeManagerID"])


def test_nothing_is_created_while_the_server_skips(world: World) -> None:
    world.admin.add_tasks(1)
    world.create_pool(maxComputeServices=2)
    (pod,) = world.new_pods(1)
    world.claim(pod)
    world.admin.set(max_failures=-1)
    world.admin.add_tasks(3)
    ready = world.ready_for("SkippedByServer")
    assert ready["status"] == "False"
    assert world.status()["instruction"] == "SKIP"
    world.cycles(1)
    created = len(world.created())
    world.cycles(1)
    assert len(world.created()) == created
    audited = world.admin.audit(endpoint="manager_status")
    reports = [report for report in audited if report.status == 200]  # none under way
    assert reports[-1].notes["reported"] == "OK", "a SKIP is answered as well"
    world.admin.set(max_failures=3)
    world.new_pods(2)


@pytest.mark.parametrize("way", ["annotation", "spec"])
def test_a_stolen_name_halts_the_pool_until_a_person_resumes_it(world: World, way: str) -> None:
    world.admin.add_tasks(1)
    world.create_pool()
    world.new_pods(1)
    rival = Rival(world)
    rival.register(steal=True)
    world.admin.add_tasks(3)
    ready = world.ready_for("ShutDownByServer")
    assert ready["status"] == "False"
    assert world.condition("Stalled")["status"] == "True"
    assert "compute.alchemiscale.org/resume" in ready["message"]
    assert len(world.created()) == 1, "a cycle may have come first, but none creates any more"
    assert managers(world) == [str(rival.id)], "the name was not taken back"
    rival.leave()
    world.until("nothing is asked", lambda: world.reason() == "ShutDownByServer")
    if way == "annotation":
        world.annotate("now")
    else:
        world.change_pool(maxComputeServices=4)
    world.until("it goes on", lambda: len(world.pods()) >= 2)
    assert managers(world) == [own(world)], "under the id that it had"


def test_a_name_that_is_taken_is_waited_for(world: World) -> None:
    rival = Rival(world)
    rival.register()
    world.create_pool()
    ready = world.ready_for("ManagerNameTaken")
    assert world.condition("Registered")["status"] == "False"
    assert manager_name(world.namespace) in ready["message"] or "registered" in ready["message"]
    assert managers(world) == [str(rival.id)]
    rival.leave()
    world.ready_for("NoTasks")
    assert managers(world) == [own(world)]


@pytest.mark.parametrize("status", ["OK", "ERROR"])
def test_a_person_may_have_a_taken_name_stolen(world: World, status: str) -> None:
    rival = Rival(world)
    rival.register()
    if status == "ERROR":
        rival.fail()
    world.create_pool()
    world.ready_for("ManagerNameTaken" if status == "OK" else "ManagerInError")
    world.annotate("steal")
    world.ready_for("NoTasks")
    assert managers(world) == [own(world)]


def test_an_annotation_of_long_ago_steals_nothing(world: World) -> None:
    world.create_pool()
    world.ready_for("NoTasks")
    world.annotate("steal")
    world.until("it is heeded", lambda: world.status().get("resume") == "steal")
    Rival(world).register(steal=True)
    world.ready_for("ShutDownByServer")
    before = managers(world)
    world.change_pool(maxComputeServices=3)
    world.ready_for("ManagerNameTaken")
    assert managers(world) == before
