"""Cycle after cycle in a world that moves by itself: it converges, whatever the order of events."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from unit.operator.builders import MINUTE, make_spec
from unit.operator.world import NODES, World

from computepool_operator.workers import Worker

picks = st.integers(0, 30)


class Moves(RuleBasedStateMachine):
    """What happens in any world."""

    world: World
    seen: tuple[Worker, ...] | None = None

    def pick(self, number: int) -> str | None:
        names = self.world.those()
        return names[number % len(names)] if names else None

    @rule(number=picks)
    def a_worker_starts(self, number: int) -> None:
        if name := self.pick(number):
            self.world.start(name)

    @rule(number=picks)
    def a_start_becomes_visible(self, number: int) -> None:
        if name := self.pick(number):
            self.world.show_start(name)

    @rule(number=picks)
    def a_worker_claims(self, number: int) -> None:
        if name := self.pick(number):
            self.world.claim(name)

    @rule(number=picks)
    def a_claim_becomes_visible(self, number: int) -> None:
        if name := self.pick(number):
            self.world.show_claim(name)

    @rule(number=picks)
    def a_worker_finishes(self, number: int) -> None:
        if name := self.pick(number):
            self.world.finish(name)

    @rule()
    def the_operator_runs_a_cycle(self) -> None:
        self.seen = None
        self.world.cycle()

    @rule()
    def the_operator_looks(self) -> None:
        self.seen = self.world.look()

    @precondition(lambda self: self.seen is not None)
    @rule()
    def the_operator_acts_on_what_it_saw(self) -> None:
        seen, self.seen = self.seen, None
        self.world.cycle(seen)

    @rule()
    def the_operator_is_restarted(self) -> None:
        self.seen = None
        self.world.restart_operator()

    @rule()
    def the_operator_dies_before_it_has_written_down_what_it_knows(self) -> None:
        self.seen = None
        self.world.cycle(dies=True)

    @invariant()
    def no_end_is_counted_twice(self) -> None:
        if hasattr(self, "world"):
            assert self.world.counted <= len(self.world.ends)

    @invariant()
    def it_is_never_over(self) -> None:
        if hasattr(self, "world"):
            assert self.world.active <= self.world.spec.max_compute_services


class FaultlessWorld(Moves):
    """Nothing fails: exactly as many workers as the Tasks fill, and none in vain."""

    @initialize(
        most=st.integers(1, 6), submit=st.integers(1, 4), per=st.integers(1, 3), n=st.integers(0, 9)
    )
    def begin(self, most: int, submit: int, per: int, n: int) -> None:
        worker = {"max_tasks": per, "claim_limit": per}
        spec = make_spec(max_compute_services=most, max_submit_per_cycle=submit, worker=worker)
        self.world = World(spec)
        self.world.submit(n)

    # With several Tasks per worker the number of workers depends on which Tasks come together.
    @precondition(lambda self: self.world.spec.worker.max_tasks == 1)
    @rule(n=st.integers(1, 4))
    def users_submit(self, n: int) -> None:
        self.world.submit(n)

    @invariant()
    def no_worker_is_in_vain(self) -> None:
        if hasattr(self, "world"):
            assert self.world.in_vain == 0

    @invariant()
    def no_worker_is_stopped_at_work(self) -> None:
        if hasattr(self, "world"):
            assert self.world.interrupted == 0

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.stand_still()
        self.world.cycle()
        assert self.world.counted == len(self.world.ends)
        assert len(self.world.done) == self.world.submitted
        assert self.world.created == math.ceil(
            self.world.submitted / self.world.spec.worker.max_tasks
        )
        assert self.world.in_vain == 0
        for _ in range(3):
            assert self.world.cycle().create_workers == 0


class FaultyWorld(Moves):
    """Workers, Tasks, nodes and the server fail in every way: all Tasks get done."""

    @initialize(most=st.integers(1, 6), n=st.integers(0, 9), keep=st.sampled_from([0, 3]))
    def begin(self, most: int, n: int, keep: int) -> None:
        job = {"keep_succeeded": keep, "keep_failed": keep}
        self.world = World(make_spec(max_compute_services=most, job=job))
        self.world.submit(n)

    @rule(n=st.integers(1, 4))
    def users_submit(self, n: int) -> None:
        self.world.submit(n)

    @rule()
    def another_manager_takes_a_task(self) -> None:
        if self.world.waiting:
            self.world.done.add(self.world.waiting.pop())

    @rule(number=picks)
    def a_worker_crashes(self, number: int) -> None:
        if name := self.pick(number):
            self.world.crash(name)

    @rule(number=picks)
    def a_worker_is_killed(self, number: int) -> None:
        if name := self.pick(number):
            self.world.kill(name)

    @rule(number=picks)
    def a_task_turns_out_to_be_deadly(self, number: int) -> None:
        if self.world.waiting:
            self.world.deadly.add(self.world.waiting[number % len(self.world.waiting)])

    @rule(node=st.sampled_from(NODES))
    def the_devices_of_a_node_fail(self, node: str) -> None:
        self.world.bad.add(node)

    @rule()
    def all_nodes_are_mended(self) -> None:
        self.world.bad.clear()

    @rule(reachable=st.booleans(), skips=st.booleans())
    def the_server_changes(self, reachable: bool, skips: bool) -> None:
        self.world.reachable, self.world.skips = reachable, skips

    @rule(minutes=st.integers(1, 50))
    def time_passes(self, minutes: int) -> None:
        self.world.now += minutes * MINUTE

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.reachable, self.world.skips = True, False
        self.world.bad.clear()
        self.world.stand_still()
        self.world.cycle()
        assert self.world.counted == len(self.world.ends)
        assert len(self.world.done) == self.world.submitted
        assert not any(service.registered for service in self.world.services.values())
        assert self.world.cycle().create_workers == 0


@pytest.mark.parametrize("world", [FaultlessWorld, FaultyWorld])
def test_it_converges(world: type[Moves]) -> None:
    # Each example is 40 steps, and several cycles.
    examples = settings.default.max_examples if settings.default else 200
    world.TestCase.settings = settings(max_examples=examples // 10, stateful_step_count=40)
    world.TestCase().runTest()


@pytest.mark.parametrize("start", [3, 20], ids=["starts of 3 cycles", "starts of 20 cycles"])
def test_workers_that_are_slow_to_start_cause_no_others(start: int) -> None:
    world = World(make_spec(max_compute_services=16))
    world.submit(12)
    for _ in range(start):
        world.cycle()
    for name in world.those():
        world.start(name)
    for _ in range(start):
        world.cycle()
    assert world.created == 12
    world.stand_still()
    assert (world.created, len(world.done), world.in_vain) == (12, 12, 0)


def test_four_places_and_twelve_tasks_make_twelve_workers() -> None:
    world = World(make_spec(max_compute_services=4))
    world.submit(12)
    world.stand_still()
    assert (world.created, len(world.done)) == (12, 12)


def test_a_long_running_worker_does_not_hold_back_new_tasks() -> None:
    world = World(make_spec(max_compute_services=4))
    world.submit(1)
    world.cycle()
    world.start("w0")
    world.claim("w0")
    world.show_claim("w0")
    world.submit(2)
    assert world.cycle().create_workers == 2


def test_a_deadly_task_takes_down_as_many_workers_as_it_may_and_is_failed() -> None:
    world = World(make_spec(max_compute_services=4))
    world.submit(12)
    world.deadly = {3}
    world.stand_still()
    assert (world.created, len(world.done)) == (12 + 3, 12)


def test_a_bad_node_gets_one_worker_an_hour_and_the_others_do_the_work() -> None:
    world = World(make_spec(max_compute_services=1))
    world.bad = {"node-1"}
    world.submit(9)
    world.stand_still()
    failed = [s.seen for s in world.services.values() if s.seen.state == "Failed"]
    assert [worker.node for worker in failed] == ["node-1"]
    assert len(world.done) == 9


def test_an_operator_that_dies_before_it_writes_forgets_no_end() -> None:
    job = {"keep_succeeded": 0, "keep_failed": 0}
    policy = {"task_crash_limit": 9, "max_consecutive_failures": 9}
    world = World(make_spec(max_compute_services=4, job=job, failure_policy=policy))
    world.submit(4)
    world.cycle()
    for name in world.those():
        world.start(name)
        world.claim(name)
        world.show_claim(name)
    world.finish("w0")
    world.kill("w1")
    for _ in range(3):
        world.cycle(dies=True)
    assert set(world.services) >= {"w0", "w1"}
    world.cycle()
    world.cycle()
    assert set(world.services).isdisjoint({"w0", "w1"})
    assert (world.counted, len(world.memory.crashes)) == (2, 1)
