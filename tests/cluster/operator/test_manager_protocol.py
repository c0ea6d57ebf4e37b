"""The manager's registration: skipped, shut down, taken, stolen, lapsed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.operator.process import OperatorProcess
from cluster.operator.rival import Rival
from cluster.operator.world import World, manager_name

pytestmark = pytest.mark.cluster

HOUR = 3600.0


def managers(world: World) -> list[str]:
    return [manager.id for manager in world.admin.managers()]


def own(world: World) -> str:
    return str(world.status()["computeManagerID"])


@pytest.mark.usefixtures("operator")
class TestWhileItRuns:
    def test_nothing_is_created_while_the_server_skips(self, world: World) -> None:
        world.admin.add_tasks(1)
        world.admin.set(max_failures=-1)
        world.create_pool(maxComputeServices=2)
        (pod,) = world.new_pods(1)
        world.claim(pod)
        world.admin.add_tasks(3)
        ready = world.ready_for("SkippedByServer")
        assert ready["status"] == "False"
        assert world.status()["instruction"] == "SKIP"
        world.cycles(1)
        created = len(world.created())
        world.cycles(1)
        assert len(world.created()) == created
        reports = world.admin.audit(endpoint="manager_status")
        assert reports[-1].notes["reported"] == "OK", "a SKIP is answered as well"
        world.admin.set(max_failures=3)
        world.new_pods(2)

    @pytest.mark.parametrize("way", ["annotation", "spec"])
    def test_a_stolen_name_halts_the_pool_until_a_person_resumes_it(
        self, world: World, way: str
    ) -> None:
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

    def test_a_name_that_is_taken_is_waited_for(self, world: World) -> None:
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
    def test_a_person_may_have_a_taken_name_stolen(self, world: World, status: str) -> None:
        rival = Rival(world)
        rival.register()
        if status == "ERROR":
            rival.fail()
        world.create_pool()
        world.ready_for("ManagerNameTaken" if status == "OK" else "ManagerInError")
        world.annotate("steal")
        world.ready_for("NoTasks")
        assert managers(world) == [own(world)]

    def test_an_annotation_of_long_ago_steals_nothing(self, world: World) -> None:
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


class TestOverARestart:
    @pytest.fixture
    def process(self, world: World, account: Path, tmp_path: Path) -> OperatorProcess:
        """Give an operator of the test's own, not started."""
        return OperatorProcess(account, tmp_path / "log", namespaces=[world.namespace])

    def test_the_registration_is_adopted(self, world: World, process: OperatorProcess) -> None:
        world.admin.add_tasks(2)
        with process:
            world.create_pool()
            world.new_pods(2)
            before = own(world)
            world.until("it is Ready", lambda: world.condition("Ready").get("status") == "True")
            process.kill()
            process.start()
            world.cycles(1)
        assert managers(world) == [before]
        assert own(world) == before
        assert len(world.created()) == 2
        register = world.admin.audit(endpoint="manager_register")
        assert {entry.ids["manager"] for entry in register} == {before}

    def test_a_registration_that_lapsed_meanwhile_is_renewed(
        self, world: World, process: OperatorProcess
    ) -> None:
        with process:
            world.create_pool()
            world.ready_for("NoTasks")
            before = own(world)
        world.admin.advance(2 * HOUR)
        other = Rival(world, "somebody.else")
        other.register()
        other.fail()  # any report sweeps the managers that have been silent for too long
        assert before not in managers(world)
        with process:
            world.admin.add_tasks(1)
            world.new_pods(1)
        assert before in managers(world)

    def test_a_halt_outlives_the_operator(self, world: World, process: OperatorProcess) -> None:
        with process:
            world.create_pool()
            world.ready_for("NoTasks")
            Rival(world).register(steal=True)
            world.ready_for("ShutDownByServer")
            before = world.admin.audit()[-1].sequence
            written = world.pool()["metadata"]["resourceVersion"]
            process.kill()
            process.start()
            world.admin.add_tasks(1)
            world.until("it cycles", lambda: world.pool()["metadata"]["resourceVersion"] != written)
        assert world.created() == []
        assert world.reason() == "ShutDownByServer"
        assert world.admin.audit(before, endpoint="manager_register") == []
