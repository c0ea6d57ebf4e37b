"""Whatever clients do in whatever order, some things hold."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from simulator.documents import encode_document, failed_document, ok_document, push_body
from simulator.errors import BrokenError
from simulator.records import TaskStatus
from simulator.scopes import Scope

from .conftest import EVERYTHING, Bench

SERVICES = [f"svc{number}-{number:032x}" for number in range(3)]
ALLOWED = {
    TaskStatus.WAITING: {TaskStatus.RUNNING},
    TaskStatus.RUNNING: {TaskStatus.WAITING, TaskStatus.COMPLETE, TaskStatus.ERROR},
    TaskStatus.ERROR: {TaskStatus.WAITING},
    TaskStatus.COMPLETE: set(),
    TaskStatus.INVALID: set(),
    TaskStatus.DELETED: set(),
}
WITHDRAWN = {TaskStatus.INVALID, TaskStatus.DELETED}


class Clients(RuleBasedStateMachine):
    """Services that come, claim, push, fall silent and go; users that retry and withdraw."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.tasks = self.bench.tasks(4, hubs=("default",))
        self.tasks += self.bench.tasks(2, hubs=("default",), extends=self.tasks[0])
        self.statuses = {task.key: task.status for task in self.tasks}
        self.entries = dict.fromkeys(self.statuses, 0)
        self.handed_out: list[str] = []

    @rule(service=st.sampled_from(SERVICES))
    def come(self, service: str) -> None:
        if service not in self.bench.store.registry.services:
            self.bench.store.register_service(service, None)

    @rule(service=st.sampled_from(SERVICES))
    def go(self, service: str) -> None:
        if service in self.bench.store.registry.services:
            self.bench.store.deregister_service(service)

    @rule(seconds=st.sampled_from([100, 1000, 2000]), service=st.sampled_from(SERVICES))
    def beat(self, seconds: int, service: str) -> None:
        self.bench.time.advance(seconds)
        self.bench.store.heartbeat(service)
        expiry = self.bench.store.settings.service_expiry
        for registered in self.bench.store.registry.services.values():
            assert self.bench.time.now - registered.heartbeat <= expiry

    @rule(service=st.sampled_from(SERVICES), count=st.integers(0, 3))
    def claim(self, service: str, count: int) -> None:
        held = {task.key for task in self.tasks if task.claimed_by}
        claimed = self.bench.claim(service, count)
        assert len(claimed) == len(set(claimed)) <= count
        assert held.isdisjoint(claimed)
        registered = service in self.bench.store.registry.services
        for key in claimed:
            assert self.statuses[key] is TaskStatus.WAITING
            assert self.bench.store.workload.tasks[key].claimed_by == (
                service if registered else None
            )

    @rule(number=st.integers(0, 5), ok=st.booleans(), service=st.sampled_from(SERVICES))
    def push(self, number: int, ok: bool, service: str) -> None:
        task = self.tasks[number]
        make = ok_document if ok else failed_document
        document = make(task.key, task.transformation.key, new_id=self.bench.new_id)
        parent = self.bench.store.workload.tasks.get(task.extends or "")
        try:
            self.bench.store.push(
                task.key, push_body(encode_document(document), service), EVERYTHING
            )
        except BrokenError:
            assert parent is not None
            assert len(parent.results) > 1
        else:
            self.entries[task.key] += 1

    @rule(number=st.integers(0, 5))
    def retry(self, number: int) -> None:
        if self.tasks[number].status is TaskStatus.ERROR:
            self.bench.store.workload.set_status(self.tasks[number], TaskStatus.WAITING)

    @rule(number=st.integers(0, 5), status=st.sampled_from(sorted(WITHDRAWN)))
    def withdraw(self, number: int, status: TaskStatus) -> None:
        if self.tasks[number].status not in WITHDRAWN:
            self.bench.store.workload.set_status(self.tasks[number], status)

    @invariant()
    def statuses_move_only_as_allowed(self) -> None:
        for task in self.tasks:
            before, now = self.statuses[task.key], task.status
            assert now is before or now in ALLOWED[before] or now in WITHDRAWN, (before, now)
            self.statuses[task.key] = now

    @invariant()
    def exactly_the_running_are_held_and_by_somebody_registered(self) -> None:
        for task in self.tasks:
            assert (task.status is TaskStatus.RUNNING) is (task.claimed_by is not None)
            assert task.claimed_by is None or task.claimed_by in self.bench.store.registry.services

    @invariant()
    def no_push_that_was_accepted_is_lost_or_doubled(self) -> None:
        assert {task.key: len(task.results) for task in self.tasks} == self.entries

    @invariant()
    def what_is_counted_can_be_claimed(self) -> None:
        workload = self.bench.store.workload
        hub = workload.hub(Scope("a", "b", "c"), "default").key
        counted = workload.count_waiting([Scope()], ())
        assert len(workload.select(hub, 100, None)) == counted


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
