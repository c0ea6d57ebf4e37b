"""What must hold at every moment of the month, and at its end (the numbers are the design's)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_operator.names import TERMINATION_GRACE, service_id
from computepool_operator.pool import PoolSpec
from computepool_operator.reaping import PUSH_SETTLES, UNKNOWN_FOR
from month.archive import Archive
from month.health import WellClock
from month.kubernetes import Kubernetes
from month.operating import Operator
from month.server import Server
from month.things import Job, Pod
from month.timeline import Timeline, Violation
from month.work import Nature, Work
from simulator.records import TaskStatus

if TYPE_CHECKING:
    from month.working import WorkerProcess

CYCLES = 100.0
"""Seconds within which the next cycle has come, also after errors."""
LONGEST_IDLE = 150.0
"""Seconds that a worker may have a GPU and no Task: start, device check, and retries in vain."""


class Invariants:
    """Raises Violation."""

    def __init__(
        self,
        timeline: Timeline,
        spec: PoolSpec,
        server: Server,
        cluster: Kubernetes,
        work: dict[str, Work],
        archive: Archive,
    ) -> None:
        self.operator: Operator
        self.well: WellClock
        self.reaped_after: list[float] = []
        self._timeline = timeline
        self._spec = spec
        self._server = server
        self._cluster = cluster
        self._work = work
        self._archive = archive
        self._alive: set[str] = set()
        self._dead: dict[str, tuple[float, float]] = {}

    # 1 and 2: creating

    def on_create(self, number: int) -> None:
        """The operator is about to create so many Jobs."""
        asked = self._server.asked
        if asked is None:
            raise Violation("8: Jobs are created although the server has not answered")
        per_worker = self._spec.worker.max_tasks
        unclaimed = sum(self._covers(job) for job in self._cluster.jobs.values())
        room = math.ceil((asked - per_worker * unclaimed) / per_worker)
        if number > room:
            raise Violation(
                f"2: {number} Jobs for {asked} Tasks, of which {unclaimed} workers cover "
                f"{per_worker} each"
            )

    def on_job(self, job: Job) -> None:
        """A Job is new or has changed."""
        active = sum(self._active(other) for other in self._cluster.jobs.values())
        if not job.gone and active > self._spec.max_compute_services:
            raise Violation(f"1: {active} Jobs are not finished")

    def on_remove(self) -> None:
        """The operator removes a Job."""
        if self._server.asked is None and not self.operator.leaving and not self.operator.halted:
            raise Violation("8: a Job is removed although the server has not answered")

    @staticmethod
    def _active(job: Job) -> bool:
        ended = bool(job.target or job.ended)
        return not ended and (job.pod is None or not (job.pod.finished or job.pod.gone))

    @staticmethod
    def _covers(job: Job) -> bool:
        """Whether its worker is certain to claim, were there Tasks enough."""
        pod = job.pod
        if job.target or job.ended or job.deleting:
            return False
        if pod is None:
            return True
        if pod.deleting or pod.end is not None or pod.gone:
            return False
        if pod.node is not None and not (pod.node.answers and pod.node.ready):
            return False
        return pod.process is None or (
            pod.process.alive and not pod.process.claimed and not pod.process.outcome
        )

    # 3: idle

    def on_exit(self, process: WorkerProcess) -> None:
        """A worker's process has ended."""
        self._alive.discard(process.service)
        if process.longest_idle > LONGEST_IDLE:
            raise Violation(f"3: {process.service} had no Task for {process.longest_idle:.0f} s")

    def on_start(self, process: WorkerProcess) -> None:
        """A worker's process has begun."""
        self._alive.add(process.service)

    # 4: lost

    def on_pod(self, pod: Pod) -> None:
        """A pod's object has changed: when its end shows, its service is owed a deregistration."""
        if not pod.finished and not pod.gone:
            return
        service = service_id(pod.job.name, pod.uid)
        if service not in self._dead:
            self._dead[service] = (self.well.seconds, self._allowed(pod))
        elif pod.gone and self._timeline.now - self.operator.started_at < CYCLES:
            # An operator that has not seen the end takes its time.
            since, _ = self._dead[service]
            self._dead[service] = (since, UNKNOWN_FOR.total_seconds() + 2 * CYCLES)

    def on_reap(self, service: str) -> None:
        """The operator deregisters a service."""
        asked = self._server.asked is not None
        if not asked and not self.operator.leaving and not self.operator.halted:
            raise Violation("8: a service is reaped although the server has not answered")
        if service in self._alive:
            raise Violation(f"4: {service} is alive and is deregistered")
        if service in self._dead:
            self.reaped_after.append(self.well.seconds - self._dead[service][0])

    def _allowed(self, pod: Pod) -> float:
        message = TerminationMessage.parse(pod.end.message) if pod.end else None
        allowed = CYCLES
        if not pod.finished or not self._cluster.api_up or not self.operator.up:
            allowed += TERMINATION_GRACE + (PUSH_SETTLES + UNKNOWN_FOR).total_seconds()
        if message is not None and message.outcome in (Outcome.PUSHING, Outcome.PUSH_AMBIGUOUS):
            allowed += PUSH_SETTLES.total_seconds()
        return allowed

    # 5 and 7: results

    def on_result(self, work: Work) -> None:
        """A result has been stored."""
        if work.results > 1:
            raise Violation(f"5: {work.key} has {work.results} results")

    def on_crash(self, work: Work) -> None:
        """A Task has taken a worker down."""
        limit = self._spec.failure_policy.task_crash_limit + self._spec.max_compute_services
        if work.crashes > limit:
            raise Violation(f"7: {work.key} has taken {work.crashes} workers down")

    # at every moment

    def check(self) -> None:
        """After each event."""
        registry = self._server.store.registry
        ours = [m for m in registry.managers if m.id.name != "elsewhere"]
        if len(ours) > 1:
            raise Violation(f"11: there are {len(ours)} managers of ours")
        if self._dead:
            self._check_dead(registry.services)

    def _check_dead(self, registered: Mapping[str, object]) -> None:
        for service, (since, allowed) in list(self._dead.items()):
            if service not in registered:
                if service not in self._alive:
                    del self._dead[service]
                continue
            owed = self.well.seconds - since
            if owed > allowed and service not in self._alive:
                raise Violation(f"4: {service} has ended {owed:.0f} s ago and is registered still")

    # at the end

    def check_end(self) -> None:
        """When the pool has gone."""
        store = self._server.store
        for work in self._work.values():
            task = self._archive.task(work.key)
            status = task.status
            limit = self._spec.failure_policy.task_crash_limit
            may_fail = work.nature is not Nature.FINE or work.crashes >= limit
            if status is TaskStatus.COMPLETE or (status is TaskStatus.ERROR and may_fail):
                if len(task.results) != 1:
                    raise Violation(f"5: {work.key} is {status} without exactly one result")
            elif not self.orphaned(work):
                raise Violation(f"{work.key} ({work.nature}) is {status} at the end")
        if store.registry.services or store.registry.managers:
            left = [*store.registry.services, *(str(m.id) for m in store.registry.managers)]
            raise Violation(f"10: still registered: {', '.join(left)}")
        if any(self._active(job) for job in self._cluster.jobs.values()):
            raise Violation("10: a Job is left")

    def orphaned(self, work: Work) -> bool:
        """Whether it extends, at whatever remove, a Task that failed: the server never gives it."""
        while work.parent is not None:
            work = self._work[work.parent]
            if self._archive.task(work.key).status is TaskStatus.ERROR:
                return True
        return False
