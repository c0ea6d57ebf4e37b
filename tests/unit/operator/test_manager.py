"""The compute manager against the stand-in compute API: its registration and its cycles."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.operator.builders import HOUR, MINUTE, make_service_id, make_spec, make_worker
from unit.operator.managed import MANAGER, RIVAL, Managed, client

from computepool_api.ids import ComputeManagerID
from computepool_api.outcomes import Outcome
from computepool_operator.memory import Backoff, Crashes, Memory, Quarantine
from computepool_operator.orders import Orders
from computepool_operator.reasons import Reason
from computepool_operator.workers import Departed, WorkerState
from simulator.process import SimulatorProcess


@pytest.fixture
async def managed(sim: SimulatorProcess) -> AsyncIterator[Managed]:
    async with client(sim) as api:
        yield Managed(sim, api)


class TestCycle:
    async def test_the_first_registers_and_answers(self, managed: Managed) -> None:
        result = await managed.cycle()
        assert managed.registered() == [(MANAGER, "OK")]
        assert (result.verdict.reason, result.instruction) == (Reason.NO_TASKS, "OK")
        assert (result.registered, result.completed, result.saturation) == (True, True, 0.0)
        assert result.memory.waiting_tasks == 0
        assert result.memory.reported_at == managed.now

    async def test_services_are_created_and_counted_as_used(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(4)
        result = await managed.cycle()
        assert managed.fleet.created == 4
        assert result.counts is not None
        assert (result.counts.pending, result.saturation) == (4, 0.25)
        (held,) = managed.sim.admin.managers()
        assert (held.status, held.saturation) == ("OK", 0.25)

    async def test_none_twice_for_the_same_tasks(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(4)
        for _ in range(3):
            await managed.cycle()
        assert managed.fleet.created == 4

    async def test_what_they_must_heed_goes_along(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        now = managed.now
        poison = Crashes("Task-1-a-b-c", 3, now, "killed")
        managed.memory = Memory(
            quarantined=(Quarantine("node-1", "unfit", now, now + HOUR),), crashes=(poison,)
        )
        await managed.cycle()
        assert managed.fleet.orders == [Orders(("node-1",), (poison,))]

    async def test_what_never_started_and_what_is_not_kept_is_removed(
        self, managed: Managed
    ) -> None:
        managed.spec = make_spec(job={"keep_failed": 0})
        managed.fleet.present = [make_worker("Pending", "a100-1"), make_worker("Failed", "a100-2")]
        await managed.cycle()
        await managed.cycle()
        assert managed.fleet.present == []

    async def test_only_tasks_of_the_pool_s_scopes_and_protocols_count(
        self, managed: Managed
    ) -> None:
        managed.sim.admin.add_tasks(1, scope="a-b-c", protocol="PA")
        managed.sim.admin.add_tasks(2, scope="a-b-d", protocol="PB")
        managed.sim.admin.add_tasks(4, scope="x-y-z", protocol="PA")
        managed.spec = make_spec(scopes=["a-*-*"], protocols=["PA"])
        assert (await managed.cycle()).memory.waiting_tasks == 1


class TestBackend:
    async def test_one_that_does_not_answer_ends_the_cycle_before_the_server_is_asked(
        self, managed: Managed
    ) -> None:
        managed.sim.admin.add_tasks(1)
        managed.fleet.away = True
        result = await managed.cycle()
        assert result.verdict.reason is Reason.KUBERNETES_UNAVAILABLE
        assert (result.counts, result.completed) == (None, False)
        assert managed.asked() == []

    async def test_one_that_refuses_is_quoted_and_the_server_still_answered(
        self, managed: Managed
    ) -> None:
        managed.sim.admin.add_tasks(1)
        managed.fleet.refusal = "exceeded quota: gpus"
        result = await managed.cycle()
        assert result.verdict.reason is Reason.JOBS_REFUSED
        assert "exceeded quota" in result.verdict.message
        assert (result.completed, result.saturation) == (True, 0.0)

    async def test_what_a_limit_left_room_for_counts(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(5)
        managed.spec = make_spec(max_compute_services=4)
        managed.fleet.most_jobs = 3
        result = await managed.cycle()
        assert result.verdict.reason is Reason.JOBS_REFUSED
        assert result.counts is not None
        assert (result.counts.active, result.saturation) == (3, 0.75)

    async def test_finished_jobs_go_before_new_ones_come_or_a_limit_would_keep_both(
        self, managed: Managed
    ) -> None:
        managed.sim.admin.add_tasks(5)
        managed.spec = make_spec(max_compute_services=4, job={"keep_succeeded": 1})
        managed.fleet.most_jobs = 4
        managed.fleet.present = [make_worker("Succeeded", f"done-{n}") for n in range(4)]
        await managed.cycle()
        result = await managed.cycle()
        assert result.counts is not None
        assert result.counts.active == 3

    async def test_one_that_cannot_be_removed_keeps_nothing_else(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        managed.spec = make_spec(job={"keep_succeeded": 0})
        managed.fleet.present = [make_worker("Succeeded", f"done-{n}") for n in range(3)]
        managed.fleet.stuck = {"done-0"}
        await managed.cycle()
        result = await managed.cycle()
        assert result.verdict.reason is Reason.KUBERNETES_UNAVAILABLE
        assert [worker.name for worker in managed.fleet.present] == ["done-0", "a100-1"]

    async def test_a_server_that_is_away_is_asked_to_deregister_once_a_cycle(
        self, managed: Managed
    ) -> None:
        await managed.cycle()
        for name in ("a100-a", "a100-b", "a100-c"):
            managed.sim.admin.add_tasks(1)
            managed.work_on(name)
            await managed.claim(name)
            managed.fleet.change(name, WorkerState.FAILED)
        managed.sim.admin.fault("service_deregister", "status", status=503, count=1000)
        result = await managed.cycle()
        assert (result.completed, result.again) == (True, False)
        asked = [r.ids["service"] for r in managed.sim.admin.audit(endpoint="service_deregister")]
        assert len(set(asked)) == 1
        managed.sim.admin.clear_faults()
        assert (await managed.cycle()).again
        assert managed.sim.admin.services() == []

    async def test_what_was_decided_is_kept_where_only_the_report_fails(
        self, managed: Managed
    ) -> None:
        managed.sim.admin.add_tasks(1)
        managed.sim.admin.fault("manager_status", "status", status=503, count=1000)
        result = await managed.cycle()
        assert (result.verdict.reason, result.completed) == (Reason.COMPUTE_API_UNAVAILABLE, False)
        assert "The pool does so by itself" in result.verdict.message
        assert result.counts is not None
        assert (result.counts.active, result.memory.waiting_tasks) == (1, 1)


class TestRegistration:
    @pytest.mark.parametrize("status", ["OK", "ERROR"])
    async def test_after_a_restart_our_own_is_adopted(self, managed: Managed, status: str) -> None:
        await managed.cycle()
        if status == "ERROR":
            await managed.managers.report_error(MANAGER, "workers fail")
        managed.restart()
        result = await managed.cycle()
        assert managed.registered() == [(MANAGER, "OK")]
        assert (result.registered, result.verdict.reason) == (True, Reason.NO_TASKS)

    async def test_a_name_that_somebody_has_is_left_to_them(self, managed: Managed) -> None:
        await managed.managers.register(RIVAL)
        managed.sim.admin.add_tasks(1)
        for _ in range(2):
            result = await managed.cycle()
            assert result.verdict.reason is Reason.MANAGER_NAME_TAKEN
            assert (result.registered, result.completed) == (False, False)
        assert managed.registered() == [(RIVAL, "OK")]
        assert managed.fleet.created == 0

    async def test_so_is_one_in_error(self, managed: Managed) -> None:
        await managed.managers.register(RIVAL)
        await managed.managers.report_error(RIVAL, "no GPU")
        result = await managed.cycle()
        assert result.verdict.reason is Reason.MANAGER_IN_ERROR
        assert managed.registered() == [(RIVAL, "ERROR")]

    async def test_when_they_go_it_is_ours_without_a_person(self, managed: Managed) -> None:
        await managed.managers.register(RIVAL)
        await managed.cycle()
        await managed.managers.deregister(RIVAL)
        assert (await managed.cycle()).registered
        assert managed.registered() == [(MANAGER, "OK")]

    @pytest.mark.parametrize("status", ["OK", "ERROR"])
    @pytest.mark.parametrize("word", ["steal", "steal-again"])
    async def test_a_person_may_have_it_taken_over(
        self, managed: Managed, status: str, word: str
    ) -> None:
        await managed.managers.register(RIVAL)
        if status == "ERROR":
            await managed.managers.report_error(RIVAL, "no GPU")
        await managed.cycle()
        managed.resume = word
        result = await managed.cycle()
        assert (result.registered, result.memory.resume) == (True, word)
        assert managed.registered() == [(MANAGER, "OK")]
        assert "manager name taken over" in managed.events

    async def test_another_word_does_not(self, managed: Managed) -> None:
        await managed.managers.register(RIVAL)
        await managed.cycle()
        managed.resume = "now"
        assert (await managed.cycle()).verdict.reason is Reason.MANAGER_NAME_TAKEN
        assert managed.registered() == [(RIVAL, "OK")]

    async def test_a_word_that_a_new_pool_brings_along_takes_nothing(
        self, managed: Managed
    ) -> None:
        # One manifest, applied in two clusters: the second must not take the first one's name.
        await managed.managers.register(RIVAL)
        managed.resume = "steal"
        for _ in range(3):
            result = await managed.cycle()
            assert result.verdict.reason is Reason.MANAGER_NAME_TAKEN
        assert managed.registered() == [(RIVAL, "OK")]
        managed.resume = "steal-now"
        assert (await managed.cycle()).registered
        assert managed.registered() == [(MANAGER, "OK")]

    async def test_the_word_counts_once(self, managed: Managed) -> None:
        await managed.managers.register(RIVAL)
        await managed.cycle()
        managed.resume = "steal"
        await managed.cycle()
        await managed.managers.register(RIVAL, steal=True)
        for _ in range(3):
            result = await managed.cycle()
            assert result.verdict.reason is Reason.SHUT_DOWN_BY_SERVER
        assert managed.registered() == [(RIVAL, "OK")]

    async def test_one_that_lapsed_while_we_were_away_is_renewed(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(2)
        await managed.cycle()
        managed.pass_time(2 * HOUR)
        # The server sweeps when some manager reports.
        other = ComputeManagerID.new("lab.other", uuid.UUID(int=3))
        await managed.managers.register(other)
        await managed.managers.report_ok(other, 0.0)
        assert managed.registered() == [(other, "OK")]
        result = await managed.cycle()
        assert (result.registered, result.instruction, result.completed) == (True, "OK", True)
        assert (MANAGER, "OK") in managed.registered()

    async def test_one_that_lapsed_and_went_to_another_is_theirs(self, managed: Managed) -> None:
        await managed.cycle()
        managed.pass_time(2 * HOUR)
        await managed.managers.register(RIVAL, steal=True)
        result = await managed.cycle()
        assert result.verdict.reason is Reason.MANAGER_NAME_TAKEN
        assert managed.registered() == [(RIVAL, "OK")]


class TestInstructions:
    async def test_skip_creates_nothing_and_is_answered(
        self, managed: Managed, tmp_path: Path
    ) -> None:
        managed.sim.admin.set(max_failures=0)
        managed.sim.admin.add_tasks(3)
        await managed.cycle()
        task = await managed.claim("a100-1")
        await managed.push_failure("a100-1", task, tmp_path)
        managed.fleet.present.clear()
        created = managed.fleet.created
        result = await managed.cycle()
        assert (result.instruction, result.verdict.reason) == ("SKIP", Reason.SKIPPED_BY_SERVER)
        assert (result.saturation, result.registered) == (0.0, True)
        assert managed.fleet.created == created

    async def test_shutdown_by_theft_stops_the_pool_until_a_person_speaks(
        self, managed: Managed
    ) -> None:
        await managed.cycle()
        await managed.managers.register(RIVAL, steal=True)
        managed.sim.admin.add_tasks(3)
        result = await managed.cycle()
        assert result.verdict.reason is Reason.SHUT_DOWN_BY_SERVER
        assert (result.instruction, result.registered) == ("SHUTDOWN", False)
        managed.sim.admin.clear_audit()
        for _ in range(3):
            assert (await managed.cycle(HOUR)).verdict.reason is Reason.SHUT_DOWN_BY_SERVER
        assert managed.asked() == []
        managed.resume = "now"
        assert (await managed.cycle()).verdict.reason is Reason.MANAGER_NAME_TAKEN
        managed.resume = "steal"
        assert (await managed.cycle()).completed
        assert managed.registered() == [(MANAGER, "OK")]
        assert managed.fleet.created == 3

    @pytest.mark.parametrize("how", ["annotation", "spec"])
    async def test_shutdown_by_an_administrator_who_cleared_it_too(
        self, managed: Managed, how: str
    ) -> None:
        await managed.cycle()
        await managed.managers.report_error(MANAGER, "workers fail")
        await managed.managers.clear_error(MANAGER.name)
        assert (await managed.cycle()).verdict.reason is Reason.SHUT_DOWN_BY_SERVER
        assert managed.registered() == []
        if how == "spec":
            managed.generation = 2
        else:
            managed.resume = "now"
        assert (await managed.cycle()).completed
        assert managed.registered() == [(MANAGER, "OK")]

    async def test_a_person_s_word_is_not_lost_on_a_server_that_is_away(
        self, managed: Managed
    ) -> None:
        await managed.cycle()
        await managed.managers.register(RIVAL, steal=True)
        await managed.cycle()
        managed.resume = "steal"
        managed.sim.admin.fault("manager_*", "reset", count=None)
        result = await managed.cycle()
        assert result.verdict.reason is Reason.COMPUTE_API_UNAVAILABLE
        managed.sim.admin.clear_faults()
        assert (await managed.cycle()).completed
        assert managed.registered() == [(MANAGER, "OK")]


class TestError:
    async def test_it_is_reported_and_taken_back(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        await managed.cycle()
        managed.fleet.present.clear()
        managed.memory = replace(
            managed.memory,
            consecutive_failures=3,
            last_failure="out of memory",
            failing=Backoff(1, managed.now + 10 * MINUTE),
        )
        result = await managed.cycle()
        (held,) = managed.sim.admin.managers()
        assert held.status == "ERROR"
        assert held.detail is not None
        assert "out of memory" in held.detail
        assert (result.saturation, result.completed) == (None, True)
        assert result.memory.reported_at == managed.now
        result = await managed.cycle(10 * MINUTE)
        assert managed.registered() == [(MANAGER, "OK")]
        assert managed.fleet.created == 2
        assert result.saturation == 1 / 16


class TestExclusions:
    @pytest.fixture
    def managed(self, managed: Managed) -> Managed:
        for tasks, scope in ((1, "a-b-c"), (2, "a-b-d"), (4, "a-e-f"), (8, "x-y-z")):
            managed.sim.admin.add_tasks(tasks, scope=scope)
        return managed

    @pytest.mark.parametrize(
        ("scopes", "excluded", "count"),
        [
            (["*-*-*"], ["a-b-d"], 13),
            (["*-*-*"], ["a-b-*"], 12),
            (["*-*-*"], ["a-*-*"], 8),
            (["a-*-*"], ["a-b-*", "x-*-*"], 4),
            (["a-b-c", "a-e-*"], ["a-e-f"], 1),
            (["*-*-*"], ["q-*-*"], 15),
            (["a-b-*"], ["a-b-c", "a-b-d"], 0),
            (["q-*-*"], ["q-r-*"], 0),
        ],
    )
    async def test_only_what_can_be_claimed_is_counted(
        self, managed: Managed, scopes: list[str], excluded: list[str], count: int
    ) -> None:
        managed.spec = make_spec(scopes=scopes, scopes_exclude=excluded)
        result = await managed.cycle()
        assert (result.memory.waiting_tasks, result.completed) == (count, True)
        assert managed.fleet.created == min(8, count)

    async def test_with_no_hub_at_all_there_is_nothing(self, managed: Managed) -> None:
        managed.sim.admin.reset()
        managed.spec = make_spec(scopes_exclude=["a-*-*"])
        assert (await managed.cycle()).memory.waiting_tasks == 0

    async def test_skip_is_skip_all_the_same(self, managed: Managed, tmp_path: Path) -> None:
        managed.sim.admin.set(max_failures=0)
        await managed.cycle()
        await managed.push_failure("a100-1", await managed.claim("a100-1"), tmp_path)
        managed.spec = make_spec(scopes=["a-*-*"], scopes_exclude=["a-b-*", "a-e-*"])
        assert (await managed.cycle()).instruction == "SKIP"


class TestReaping:
    async def test_the_task_of_a_worker_that_died_waits_again(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        await managed.cycle()
        task = await managed.claim("a100-1")
        managed.fleet.change("a100-1", WorkerState.RUNNING)
        assert managed.sim.admin.task(task).status == "running"
        await managed.cycle()
        assert managed.sim.admin.task(task).status == "running"
        managed.fleet.change(
            "a100-1",
            WorkerState.FAILED,
            outcome=Outcome.HOLDING,
            task=task,
            finished_at=managed.now,
        )
        await managed.cycle()
        assert managed.sim.admin.task(task).status == "waiting"
        assert managed.sim.admin.services() == []
        await managed.cycle()
        assert managed.fleet.created == 2

    async def test_so_does_that_of_one_whose_pod_is_gone(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        await managed.cycle()
        task = await managed.claim("a100-1")
        managed.fleet.present.clear()
        managed.fleet.gone = [Departed(make_service_id("a100-1"), managed.now, ended=True)]
        await managed.cycle()
        assert managed.sim.admin.task(task).status == "waiting"

    async def test_an_unknown_service_goes_after_five_minutes(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        await managed.cycle()
        task = await managed.claim("a100-unheard-of")
        for _ in range(5):
            await managed.cycle(MINUTE)
            assert managed.sim.admin.task(task).status == "running"
        await managed.cycle(MINUTE)
        assert managed.sim.admin.task(task).status == "waiting"

    async def test_one_that_is_gone_already_costs_nothing(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(1)
        await managed.cycle()
        await managed.claim("a100-1")
        managed.fleet.change("a100-1", WorkerState.FAILED)
        # It deregisters between the instruction and our call.
        managed.sim.admin.fault("service_deregister", "reset", when="after")
        assert (await managed.cycle()).completed
        assert managed.sim.admin.services() == []


class TestTrouble:
    """Whatever the server does at any step: a verdict, and no exception."""

    STEPS = (
        "token",
        "manager_register",
        "manager_instruction",
        "taskhubs",
        "service_deregister",
        "manager_status",
    )
    TROUBLE = (
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 404},
        {"kind": "status", "status": 422, "body": '{"detail": [{"loc": ["body"]}]}'},
        {"kind": "reset"},
        {"kind": "reset", "when": "after"},
        {"kind": "truncate"},
        {"kind": "garbage"},
        {"kind": "garbage", "body": "null"},
        {"kind": "garbage", "body": "[]"},
        {"kind": "garbage", "body": '["TaskHub", "x-y", "Task-1-a-b-c"]'},
        {"kind": "garbage", "body": '{"instruction": "DANCE"}'},
        {"kind": "garbage", "body": '{"instruction": "OK", "num_tasks": -1}'},
        {"kind": "garbage", "body": '"a text"'},
    )

    @pytest.mark.parametrize("trouble", TROUBLE, ids=lambda t: "-".join(map(str, t.values())))
    @pytest.mark.parametrize("step", STEPS)
    async def test_is_survived(
        self, managed: Managed, step: str, trouble: dict[str, object]
    ) -> None:
        managed.spec = make_spec(scopes_exclude=["x-*-*"], max_compute_services=3)
        managed.sim.admin.add_tasks(5)
        if step == "service_deregister":
            await managed.cycle()
            await managed.claim("a100-1")
            managed.fleet.change("a100-1", WorkerState.FAILED)
        managed.sim.admin.fault(step, count=None, **trouble)  # type: ignore[arg-type]
        for _ in range(2):
            result = await managed.cycle()
            assert result.verdict.message
            assert result.verdict.reason is not Reason.INTERNAL_ERROR
        managed.sim.admin.clear_faults()
        for _ in range(2):
            result = await managed.cycle()
        assert result.completed
        assert managed.registered() == [(MANAGER, "OK")]
        active = [worker for worker in managed.fleet.present if not worker.finished]
        assert len(active) == 3

    @pytest.mark.parametrize("step", STEPS[:-2])
    async def test_a_server_that_does_not_answer_is_not_waited_for(
        self, sim: SimulatorProcess, step: str
    ) -> None:
        sim.admin.fault(step, "hang", count=None)
        async with client(sim, patience=0.004) as api:
            managed = Managed(sim, api, spec=make_spec(scopes_exclude=["x-*-*"]))
            result = await managed.cycle()
        assert result.verdict.reason is Reason.COMPUTE_API_UNAVAILABLE

    async def test_a_report_that_fails_creates_nothing_twice(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(2)
        managed.sim.admin.fault("manager_status", "status", status=503, count=None)
        for _ in range(3):
            result = await managed.cycle()
            assert result.verdict.reason is Reason.COMPUTE_API_UNAVAILABLE
            assert not result.completed
        assert managed.fleet.created == 2

    async def test_a_wrong_key_is_told_as_such(self, sim: SimulatorProcess) -> None:
        async with client(sim, key="wrong") as api:
            result = await Managed(sim, api).cycle()
        assert result.verdict.reason is Reason.CREDENTIALS_REFUSED
        assert "wrong" not in result.verdict.message


class TestLeaving:
    async def test_all_services_and_the_manager_go(self, managed: Managed) -> None:
        managed.sim.admin.add_tasks(2)
        await managed.cycle()
        task = await managed.claim("a100-1")
        await managed.services.register(make_service_id("a100-2"), MANAGER)
        await managed.manager.leave()
        assert managed.registered() == []
        assert managed.sim.admin.services() == []
        assert managed.sim.admin.task(task).status == "waiting"

    async def test_also_in_error(self, managed: Managed) -> None:
        await managed.cycle()
        await managed.managers.report_error(MANAGER, "workers fail")
        await managed.manager.leave()
        assert managed.registered() == []

    async def test_twice(self, managed: Managed) -> None:
        await managed.cycle()
        for _ in range(2):
            await managed.manager.leave()
        assert managed.registered() == []

    async def test_what_somebody_has_taken_is_left_to_them(self, managed: Managed) -> None:
        await managed.cycle()
        await managed.managers.register(RIVAL, steal=True)
        theirs = make_service_id("b200-1")
        await managed.services.register(theirs, RIVAL)
        await managed.manager.leave()
        assert managed.registered() == [(RIVAL, "OK")]
        assert [service.id for service in managed.sim.admin.services()] == [theirs]

    async def test_services_that_nobody_of_ours_made_are_left(self, managed: Managed) -> None:
        await managed.cycle()
        managed.sim.admin.fault(
            "manager_instruction",
            "garbage",
            body='{"instruction": "OK", "num_tasks": 0, "compute_service_ids": ["a-b-c"]}',
        )
        await managed.manager.leave()
        assert managed.registered() == []
