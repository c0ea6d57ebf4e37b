"""The whole month: everything put together, run to its end, and summed up."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from computepool_api.ids import ComputeManagerID
from computepool_operator.pool import PoolSpec
from computepool_worker.steps import Limits
from month.archive import Archive
from month.health import WellClock
from month.invariants import Invariants
from month.kubernetes import Kubernetes
from month.ledger import Account, Ledger, ideal_end
from month.operating import Life, Operator
from month.rivals import OtherManager, StandingService
from month.server import ManagerCalls, Server, ServiceCalls
from month.things import Job, Node, Pod
from month.timeline import Timeline, Violation
from month.users import Users
from month.watching import Backend, Mirror
from month.weather import Exposed, Weather
from month.work import Nature, Work
from month.working import Conditions, Surroundings, WorkerProcess
from simulator.identifiers import random_ids
from simulator.records import Task, TaskStatus

DAY = 86400.0
LONGEST_DRAIN = 15 * DAY
GPUS, STANDING = 4, 2
CLOCKS_AHEAD = (0.0, 0.0, 0.0, 3600.0, -120.0)
"""Of each node, in seconds: two are wrong."""
MAX_SERVICES = 16


@dataclass(frozen=True, slots=True)
class Summary:
    """How it went. Times are in seconds."""

    seed: int
    days: float
    tasks: Counter[str]
    jobs: int
    events: int
    cycles: int
    restarts: int
    struck: Counter[str]
    ends: Counter[str]
    account: Account
    makespan: float
    ideal: float
    reaped_after: tuple[float, ...]
    most_crashes: int
    reasons: dict[str, int]


class Month:
    """Runs once. `load` is the share of the pool's GPUs that the Tasks would fill."""

    def __init__(
        self, seed: int, days: float, *, max_tasks: int = 1, load: float = 0.6, fair: bool = False
    ) -> None:
        """A `fair` month has no weather."""
        self.timeline = Timeline()
        self._seed, self._days, self._fair = seed, days, fair
        self._work: dict[str, Work] = {}
        self._created = 0
        self._open: dict[str, Work] = {}
        self._news = 0
        self._vacant_at: tuple[int, int] = (-1, -1)
        self._vacancy = 0
        self._ends: Counter[str] = Counter()
        self._ledger = Ledger()
        self._spec = _spec(max_tasks)
        self._server = Server(self.timeline, seed)
        self._cluster = Kubernetes(
            self.timeline, self._chance("kubernetes"), random_ids(seed + 1_000_003)
        )
        self._cluster.nodes = [
            Node(f"node-{number}", GPUS, clock_ahead=wrong)
            for number, wrong in enumerate(CLOCKS_AHEAD)
        ]
        self._archive = Archive(self.timeline, self._server.store.workload)
        self._invariants = Invariants(
            self.timeline, self._spec, self._server, self._cluster, self._work, self._archive
        )
        life = Life()
        self._mirror = Mirror(self.timeline, self._cluster, self._chance("watches"))
        new_suffix = random_ids(seed + 2_000_003)
        self._backend = Backend(
            self._mirror,
            self._cluster,
            step=life.step,
            clock=lambda: self.timeline.moment,
            new_suffix=lambda: new_suffix()[:8],
            chance=self._chance("backend"),
            on_create=self._invariants.on_create,
            on_remove=self._invariants.on_remove,
        )
        manager_id = ComputeManagerID.parse(f"alchemiscale.a100-{new_suffix()}")
        self._operator = Operator(
            self.timeline,
            self._cluster,
            self._spec,
            manager_id,
            managers=ManagerCalls(self._server, life.step),
            services=ServiceCalls(self._server, life.step, self._invariants.on_reap),
            backend=self._backend,
            mirror=self._mirror,
            life=life,
            chance=self._chance("operator"),
            on_cycle=self._new_cycle,
        )
        self._invariants.operator = self._operator
        self._well = WellClock(self.timeline, self._is_well)
        self._invariants.well = self._well
        self.conditions = Conditions()
        self._around = Surroundings(
            timeline=self.timeline,
            server=self._server,
            cluster=self._cluster,
            chance=self._chance("workers"),
            conditions=self.conditions,
            manager_id=manager_id,
            limits=Limits(claim_limit=1, max_tasks=max_tasks, max_time=None),
            work=self._work,
            on_result=self._result,
            on_exit=self._exit,
        )
        self._cluster.launch = self._launch
        self._cluster.changed = self._changed
        self._cluster.released = lambda pod: self._ledger.release(pod, self.timeline.now)
        places = min(MAX_SERVICES, len(CLOCKS_AHEAD) * GPUS) + STANDING
        self._users = Users(
            self.timeline, self._server, self._chance("users"), self._work, load * places
        )
        new_id = random_ids(seed + 3_000_003)
        self._standing = [
            StandingService(
                self.timeline,
                self._server,
                self._chance("standing"),
                new_id,
                self._work,
                self._result,
            )
            for _ in range(STANDING)
        ]
        self._other = OtherManager(self.timeline, self._server, new_id)
        self._weather = Weather(
            Exposed(
                timeline=self.timeline,
                server=self._server,
                cluster=self._cluster,
                mirror=self._mirror,
                backend=self._backend,
                operator=self._operator,
                conditions=self.conditions,
                hubs=self._users.hubs,
                new_id=new_id,
            ),
            self._chance("weather"),
        )

    def run(self) -> Summary:
        """Live through it. Raises Violation when something does not hold that must."""
        self._users.begin(self._days * DAY)
        for service in self._standing:
            service.begin()
        self._other.begin()
        self._operator.start()
        if self._fair:
            self._weather.end()
        else:
            self._weather.begin()
        self._go_on(lambda: not self._users.busy, self._days * DAY + 1)
        self._weather.end()
        self._open = {key: work for key, work in self._work.items() if work.ended is None}
        self._go_on(self._drained, LONGEST_DRAIN)
        for service in self._standing:
            service.closing = True
        self._other.closing = True
        self._operator.delete_pool()
        self._go_on(lambda: self._operator.left and self._others_left(), DAY)
        self._invariants.check_end()
        return self._sum_up()

    def _go_on(self, done: Callable[[], bool], longest: float) -> None:
        until = self.timeline.now + longest
        while not done():
            if self.timeline.now > until:
                last, statuses = self._operator.last, dict(self._archive.statuses())
                raise Violation(
                    f"after {longest / DAY:.1f} days it is not done: {statuses}; the pool says "
                    f"{last.verdict if last else 'nothing'}"
                )
            before = self.timeline.now
            if (state := (self.timeline.told, self._news)) != self._vacant_at:
                self._vacant_at, self._vacancy = state, self._vacant()
            vacant = self._vacancy
            well = self._well.well
            self.timeline.step()
            self._ledger.vacancy(vacant, self.timeline.now - before, well=well)
            self._well.tick()
            self._invariants.check()

    # what happens

    def _launch(self, pod: Pod) -> WorkerProcess:
        process = WorkerProcess(pod, self._around)
        self._invariants.on_start(process)
        return process

    def _changed(self, thing: Job | Pod) -> None:
        if isinstance(thing, Job):
            self._invariants.on_job(thing)
            if thing.pod is None and not thing.gone and not thing.ended:
                self._created += 1
        else:
            self._invariants.on_pod(thing)
        self._news += 1
        self._mirror.changed(thing)

    def _exit(self, process: WorkerProcess) -> None:
        self._invariants.on_exit(process)
        self._ends[process.outcome or "Killed"] += 1
        for attempt in process.attempts:
            self._invariants.on_crash(attempt.work)

    def _result(self, work: Work, ok: bool) -> None:
        work.results += 1
        work.ended = self.timeline.now
        self._archive.end(work)
        self._open.pop(work.key, None)
        self._invariants.on_result(work)

    def _new_cycle(self) -> None:
        self._server.asked = None
        self._archive.tidy()

    # what is so

    def _is_well(self) -> bool:
        up = self._server.up and self._cluster.api_up and self._operator.up
        return up and not self._operator.halted

    def _vacant(self) -> int:
        """GPUs that the pool might have and has not, while Tasks wait for them."""
        places = sum(n.gpus - n.used for n in self._cluster.nodes if n.answers)
        held = sum(1 for pod in self._cluster.pods.values() if pod.node and not pod.finished)
        room = min(places, MAX_SERVICES - held)
        if room <= 0:
            return 0
        workload = self._server.store.workload
        waiting = 0
        for hub in workload.hubs.values():
            if hub.weight:
                waiting += sum(self._is_ready(workload.tasks[key]) for key in hub.actions)
        covering = sum(1 for p in self._cluster.pods.values() if p.node and not self._claimed(p))
        return max(0, min(room, waiting - covering))

    def _is_ready(self, task: Task) -> bool:
        if task.status is not TaskStatus.WAITING:
            return False
        parent = None if task.extends is None else self._archive.task(task.extends)
        return parent is None or parent.status is TaskStatus.COMPLETE

    @staticmethod
    def _claimed(pod: Pod) -> bool:
        return pod.finished or (pod.process is not None and pod.process.claimed)

    def _drained(self) -> bool:
        return all(self._invariants.orphaned(work) for work in self._open.values())

    def _others_left(self) -> bool:
        return not self._server.store.registry.services and not self._server.store.registry.managers

    def _chance(self, whose: str) -> random.Random:
        return random.Random(f"{self._seed} {whose}")

    def _sum_up(self) -> Summary:
        work = list(self._work.values())
        statuses = Counter(
            "never ready" if self._invariants.orphaned(w) else str(self._archive.task(w.key).status)
            for w in work
        )
        begin = self.timeline.begin
        ended = max((w.ended for w in work if w.ended is not None), default=begin)
        done = [w for w in work if w.ended is not None and w.nature is not Nature.POISON]
        return Summary(
            seed=self._seed,
            days=self._days,
            tasks=statuses,
            jobs=self._created,
            events=self.timeline.happened,
            cycles=self._operator.cycles,
            restarts=self._operator.restarts,
            struck=self._weather.struck,
            ends=self._ends,
            account=self._ledger.close(),
            makespan=ended - begin,
            ideal=ideal_end(done, min(MAX_SERVICES, len(CLOCKS_AHEAD) * GPUS) + STANDING) - begin,
            reaped_after=tuple(sorted(self._invariants.reaped_after)),
            most_crashes=max((w.crashes for w in work), default=0),
            reasons=self._operator.reasons,
        )


def _spec(max_tasks: int) -> PoolSpec:
    return PoolSpec.model_validate(
        {
            "compute_api": {
                "url": "https://compute.example.org",
                "credentials_secret_ref": {"name": "alchemiscale-compute"},
            },
            "max_compute_services": MAX_SERVICES,
            "cycle_interval": "60s",
            "worker": {"image": "registry.example.org/worker:v1", "max_tasks": max_tasks},
        }
    )
