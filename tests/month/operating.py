"""The operator: cycles of the real manager, when the real rules say so; killed and started again.

What it remembers beyond its own life is what the real status keeps: it is written after each
cycle, read back at each start, and a write can be lost with the API server.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from computepool_api.errors import ComputeAPIError
from computepool_api.ids import ComputeManagerID
from computepool_operator.cadence import delay_after, is_urgent, spacing
from computepool_operator.manager import BackendUnavailable, ComputeManager, CycleResult
from computepool_operator.memory import Memory
from computepool_operator.names import service_prefix
from computepool_operator.pool import PoolSpec, PoolStatus
from computepool_operator.reasons import HEALTH, Health
from computepool_operator.removal import plan_removal
from computepool_operator.status import Facts, build_status, recall
from computepool_operator.workers import Worker
from month.kubernetes import Kubernetes
from month.server import ManagerCalls, ServiceCalls
from month.timeline import Event, Timeline
from month.watching import Backend, Mirror

T = TypeVar("T")


class Killed(Exception):
    """The operator's process was killed between two calls."""


class Life:
    """Counts down to a death between two calls."""

    def __init__(self) -> None:
        self._left: int | None = None

    def kill_after(self, calls: int) -> None:
        """Die so many calls from now."""
        self._left = calls

    def step(self) -> None:
        """Raise Killed if this is where the process dies."""
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            self._left = None
            raise Killed


class Operator:
    """One pool's loop."""

    def __init__(
        self,
        timeline: Timeline,
        cluster: Kubernetes,
        spec: PoolSpec,
        manager_id: ComputeManagerID,
        *,
        managers: ManagerCalls,
        services: ServiceCalls,
        backend: Backend,
        mirror: Mirror,
        life: Life,
        chance: random.Random,
        on_cycle: Callable[[], None],
    ) -> None:
        self.up = False
        self.started_at = timeline.now
        self.resume = ""
        self.leaving = False
        self.left = False
        self.last: CycleResult | None = None
        self.cycles = 0
        self.restarts = 0
        self.reasons: dict[str, int] = {}
        self._timeline = timeline
        self._cluster = cluster
        self._spec = spec
        self._backend = backend
        self._mirror = mirror
        self._life = life
        self._chance = chance
        self._on_cycle = on_cycle
        self._manager_id = manager_id
        self._memory = Memory()
        self._status = PoolStatus(compute_manager_id=str(manager_id))
        self._unwritten: tuple[Facts, datetime] | None = None
        self._news: object = None
        self._errors = 0
        self._again = False
        self._began_last = 0.0
        self._back_after = 5.0
        self._seen: Mapping[str, Worker] = {}
        self._next: Event | None = None
        self._deleted_at = timeline.moment
        mirror.on_change = self._workers_changed
        self._manager = ComputeManager(
            manager_id,
            managers,
            services,
            backend,
            service_prefix=service_prefix("a100"),
            clock=lambda: timeline.moment,
            log=lambda event, _facts: timeline.tell(f"operator: {event}"),
        )

    @property
    def halted(self) -> bool:
        """Whether it waits for a person."""
        return self._memory.halt is not None

    def start(self) -> None:
        """Start the process: it knows what the status says, and lists what there is."""
        if not self._cluster.api_up:
            self._timeline.after(5.0, self.start)
            return
        self.up, self.started_at, self._errors = True, self._timeline.now, 0
        self._write()
        self._status = PoolStatus.model_validate(self._status.to_body())
        self._memory = recall(self._status)
        self._mirror.begin_anew()
        self._backend.begin_anew()
        self._seen = self._mirror.workers()
        self._timeline.tell("operator started")
        self._wake_in(0.1)

    def kill(self) -> None:
        """End the process."""
        self.up = False
        self.restarts += 1
        if self._next is not None:
            self._next.cancel()
        self._timeline.tell("operator killed")

    def die_in_next_cycle(self, calls: int, back_after: float) -> None:
        """Be killed between two calls of the next cycle."""
        self._life.kill_after(calls)
        self._back_after = back_after

    def delete_pool(self) -> None:
        """The pool has been deleted: leave."""
        self.leaving, self._deleted_at = True, self._timeline.moment
        self._wake_in(0.0)

    def annotate(self, resume: str) -> None:
        """A person changes the resume annotation."""
        self.resume = resume
        if self.up:
            self._wake_in(0.0)

    def _cycle(self) -> None:
        if not self.up:
            return
        self._began_last, self._again = self._timeline.now, False
        self.cycles += 1
        try:
            if self.leaving:
                self._leave()
            else:
                self._work()
        except Killed:
            self.kill()
            self._timeline.after(self._back_after, self.start)
            return
        if not self.left:
            interval = self._spec.cycle_interval.total_seconds()
            pause = delay_after(interval, self._errors, self._chance.random())
            self._wake_in(spacing(urgent=True) if self._again else pause)

    def _work(self) -> None:
        self._on_cycle()
        result = _finish(self._manager.cycle(self._spec, self._memory, 1, resume=self.resume))
        self.last = result
        reason = result.verdict.reason
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        away = HEALTH[reason] is Health.UNKNOWN
        self._errors = self._errors + 1 if away and not result.completed else 0
        self._show(result)
        self._again = result.again

    def _show(self, result: CycleResult) -> None:
        facts = Facts(
            generation=1,
            verdict=result.verdict,
            memory=result.memory,
            manager_id=str(self._manager_id),
            selector="",
            counts=result.counts,
            max_workers=self._spec.max_compute_services,
            registered=result.registered,
            instruction=result.instruction,
            saturation=result.saturation,
            completed=result.completed,
        )
        self._life.step()
        if not self._cluster.api_up:
            self._errors += 1
            return
        self._memory = result.memory
        news = (facts.verdict.reason, facts.memory.failing, facts.registered, facts.instruction)
        if self._unwritten is not None and news != self._news:
            self._write()
        self._unwritten, self._news = (facts, self._timeline.moment), news

    def _write(self) -> None:
        """Write what the last cycle found; in between, only transitions would have mattered."""
        if self._unwritten is not None:
            self._status = build_status(self._status, *self._unwritten)
            self._unwritten = None

    def _leave(self) -> None:
        try:
            workers = _finish(self._backend.workers())
            removal = plan_removal(self._spec, workers, self._deleted_at, self._timeline.moment)
            for worker in removal.stop:
                _finish(self._backend.remove(worker))
            if removal.done and not self._cluster.pods_at_work():
                _finish(self._manager.leave())
                self.left = True
                self._timeline.tell("pool gone")
                return
        except (BackendUnavailable, ComputeAPIError):
            self._errors += 1
            return
        suspended = self._spec.model_copy(update={"suspend": True})
        result = _finish(self._manager.cycle(suspended, self._memory, 1, resume=self.resume))
        self._memory = result.memory

    def _workers_changed(self) -> None:
        if not self.up:
            return
        workers = self._mirror.workers()
        before, self._seen = self._seen, workers
        urgent = is_urgent(before, workers)
        if before == workers or (self._errors and not urgent):
            return
        at = self._began_last + spacing(urgent=urgent and not self._errors)
        if self._next is None or self._next.cancelled or at < self._next.at:
            self._wake_in(at - self._timeline.now)

    def _wake_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._timeline.after(seconds, self._cycle)


def _finish(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait."""
    try:
        call.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a call in virtual time waits for real time")
