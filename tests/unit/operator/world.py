"""A small model of everything around the planner: the server's queue, workers, a loop of cycles.

The server and the workers move on their own; the operator sees workers as they were when it
looked, learns of a claim later than it happens, and may be restarted at any time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count as numbers

from unit.operator.builders import NOON, make_service_id

from computepool_api.models import Instruction, OkInstruction, SkipInstruction
from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_operator.memory import Memory
from computepool_operator.plan import Observation, Plan, Unknown, plan
from computepool_operator.pool import PoolSpec, PoolStatus
from computepool_operator.reasons import Reason
from computepool_operator.status import Facts, build_status, recall
from computepool_operator.workers import Worker, WorkerState, count

SECOND = timedelta(seconds=1)
NODES = ("node-0", "node-1", "node-2")


def task_key(number: int) -> str:
    """The key of the Task of that number."""
    return f"Task-{number}-org-campaign-project"


@dataclass
class Service:
    """A worker as it is; `seen` is what the cluster shows of it."""

    seen: Worker
    avoid: tuple[str, ...] = ()
    poison: frozenset[str] = frozenset()
    registered: bool = False
    claimed: bool = False
    tasks: list[int] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.seen.finished

    @property
    def can_claim(self) -> bool:
        return self.seen.state is WorkerState.STARTING and not self.claimed


@dataclass
class World:
    """`tasks_per_worker` Tasks are claimed at once by a worker, which then ends.

    A `deadly` Task kills every worker that executes it; on a `bad` node no device works.
    """

    spec: PoolSpec
    waiting: list[int] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    submitted: int = 0
    services: dict[str, Service] = field(default_factory=dict)
    created: int = 0
    in_vain: int = 0
    interrupted: int = 0
    ends: set[str] = field(default_factory=set)
    deadly: set[int] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    skips: bool = False
    reachable: bool = True
    now: datetime = NOON
    memory: Memory = field(default_factory=lambda: Memory(reported_at=NOON))
    status: PoolStatus = field(default_factory=PoolStatus)
    names: Iterator[int] = field(default_factory=numbers)

    # The server and its users

    def submit(self, tasks: int) -> None:
        self.waiting += range(self.submitted, self.submitted + tasks)
        self.submitted += tasks

    def instruction(self) -> Instruction | Unknown:
        if not self.reachable:
            return Unknown(Reason.COMPUTE_API_UNAVAILABLE, "no answer")
        registered = tuple(make_service_id(n) for n, s in self.services.items() if s.registered)
        return (
            SkipInstruction(registered)
            if self.skips
            else OkInstruction(len(self.waiting), registered)
        )

    def lose_registration(self, service: Service) -> None:
        """Deregistered, by itself or by the operator: its Tasks wait again."""
        service.registered = False
        self.waiting += service.tasks
        service.tasks = []

    # Workers

    def those(self, *, ended: bool = False) -> list[str]:
        return [name for name, service in self.services.items() if service.ended is ended]

    @property
    def active(self) -> int:
        return len(self.those())

    @property
    def left_behind(self) -> bool:
        """Whether somebody died without giving back what it held."""
        return any(service.registered and service.ended for service in self.services.values())

    def start(self, name: str) -> None:
        service = self.services[name]
        nodes = [node for node in NODES if node not in service.avoid]
        if service.seen.state is WorkerState.PENDING and nodes:
            node = nodes[self.created % len(nodes)]
            service.registered = True
            service.seen = replace(
                service.seen,
                state=WorkerState.STARTING,
                service_id=make_service_id(name),
                pod=f"{name}-pod",
                node=node,
            )
            if node in self.bad:
                self._end(service, Outcome.DEVICE_UNFIT)

    def show_start(self, name: str) -> None:
        """The kubelet reports that the container runs, which it does after the fact."""
        service = self.services[name]
        if service.registered and not service.ended:
            service.seen = replace(service.seen, started=True)

    def claim(self, name: str) -> None:
        service = self.services[name]
        if not service.can_claim:
            return
        most = self.spec.worker.max_tasks
        service.tasks, self.waiting = self.waiting[:most], self.waiting[most:]
        service.claimed = True
        if not service.tasks:
            self.in_vain += 1
            self._end(service, Outcome.NOTHING_TO_DO)

    def show_claim(self, name: str) -> None:
        """Its pod turns Ready."""
        service = self.services[name]
        if service.claimed and not service.ended:
            service.seen = replace(service.seen, state=WorkerState.RUNNING, started=True)

    def finish(self, name: str) -> None:
        service = self.services[name]
        if service.claimed and not service.ended:
            executed = {task for task in service.tasks if task_key(task) not in service.poison}
            if executed & self.deadly:
                self.kill(name)
                return
            self.done.update(service.tasks)
            service.tasks = []
            self._end(service, Outcome.DONE)

    def crash(self, name: str) -> None:
        """It fails and says so: its Tasks wait again."""
        service = self.services[name]
        if service.registered and not service.ended:
            self._end(service, Outcome.TASK_CRASHED)

    def kill(self, name: str) -> None:
        """It dies without a word: its registration, and with it its Tasks, stay behind."""
        service = self.services[name]
        if not service.ended:
            self.ends.add(name)
            held = task_key(service.tasks[0]) if service.tasks else None
            service.seen = replace(
                service.seen,
                state=WorkerState.FAILED,
                finished_at=self.now,
                message=TerminationMessage(Outcome.HOLDING, held) if held else None,
            )

    def _end(self, service: Service, outcome: Outcome) -> None:
        good = outcome.exit_code == 0
        self.ends.add(service.seen.name)
        service.seen = replace(
            service.seen,
            state=WorkerState.SUCCEEDED if good else WorkerState.FAILED,
            finished_at=self.now,
            message=TerminationMessage(outcome),
        )
        self.lose_registration(service)

    # The operator

    def look(self) -> tuple[Worker, ...]:
        return tuple(service.seen for service in self.services.values())

    def cycle(self, workers: tuple[Worker, ...] | None = None, *, dies: bool = False) -> Plan:
        """One cycle, on workers as they were seen a while ago or as they are now.

        One that `dies` does everything but to write down what it knows.
        """
        self.now += SECOND
        seen = self.look() if workers is None else workers
        decided = plan(self.spec, Observation(seen, self.instruction(), 1), self.memory, self.now)
        by_id = {make_service_id(name): service for name, service in self.services.items()}
        for service_id in decided.reap:
            if by_id[service_id].registered:
                self.lose_registration(by_id[service_id])
        for _ in range(decided.create_workers):
            self._create(decided)
        for worker in decided.remove:
            service = self.services[worker.name]
            self.interrupted += bool(service.tasks)
            if not service.ended:
                self._end(service, Outcome.TERMINATED)
        for worker in decided.prune:
            del self.services[worker.name]
        if dies:
            self.restart_operator()
            return decided
        self.memory = decided.memory
        if decided.saturation is not None:
            self.memory = replace(self.memory, reported_at=self.now)
        self._write_status(decided, seen)
        return decided

    def _create(self, decided: Plan) -> None:
        name = f"w{next(self.names)}"
        self.created += 1
        self.services[name] = Service(
            Worker(name=name, uid=name, state=WorkerState.PENDING, created_at=self.now),
            avoid=decided.avoid_nodes,
            poison=frozenset(crashes.task for crashes in decided.poison),
        )

    def _write_status(self, decided: Plan, seen: tuple[Worker, ...]) -> None:
        facts = Facts(
            generation=1,
            verdict=decided.verdict,
            memory=self.memory,
            manager_id="pool-00000000000000000000000000000000",
            selector="",
            counts=count(seen),
        )
        written = build_status(self.status, facts, self.now).to_body()
        self.status = PoolStatus.model_validate(written)

    def restart_operator(self) -> None:
        self.memory = recall(self.status)

    @property
    def counted(self) -> int:
        """How many ends the operator has taken into account."""
        ended = (WorkerState.SUCCEEDED, WorkerState.FAILED)
        return sum(self.memory.finished(state) for state in ended)

    # All together

    def stand_still(self) -> None:
        """Let everything run its course, until no Task waits and no worker is left."""
        standing = 0
        for _ in range(1000):
            if standing == 12:
                break
            before = (self.created, len(self.done))
            self.cycle()
            for name in self.those():
                self.start(name)
                self.claim(name)
                self.show_claim(name)
            self.cycle()
            for name in self.those():
                self.finish(name)
            if not self.waiting and not self.active and not self.left_behind:
                return
            if before == (self.created, len(self.done)):
                standing += 1
                self.now += timedelta(minutes=20)  # a pause of some kind
            else:
                standing = 0
        raise AssertionError(f"{len(self.waiting)} Tasks wait, and nothing moves any more")
