"""The loop of one pool: cycles that never overlap, woken by events, and the way out.

Everything that must survive lies in the pool's status, in its Jobs or on the server; a loop that
is killed at any instant is taken up by the next.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from computepool_api.errors import ComputeAPIError
from computepool_api.ids import ComputeManagerID, to_alchemiscale_name
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI

from .cadence import delay_after, is_urgent, spacing
from .clock import utc_now
from .cluster import FINALIZER, Cluster, JobBackend
from .connection import Connection, NotConnected
from .jobs import build_job
from .kubeapi import KubernetesError
from .manager import BackendUnavailable, ComputeManager, CycleResult, verdict_on
from .names import PoolReference, pool_selector, service_prefix
from .plan import Verdict
from .pool import RESUME_ANNOTATION, RESUME_LENGTH, PoolSpec, PoolStatus
from .reading import parse_time
from .reasons import HEALTH, Health, Reason
from .removal import plan_removal
from .salvage import faults, salvage
from .status import Facts, build_status, is_warning, news, recall, worth_an_event
from .throttle import Throttle
from .workers import Worker, count

logger = logging.getLogger(__name__)

FAREWELL = timedelta(minutes=2)
"""How long a deleted pool tries to tell an unreachable server that it is gone."""

SETTLING_SPACING = 5.0
"""Seconds between looks whether the last results of a deleted pool are stored."""

LOOK_SPACING = 0.1
"""Seconds between looks at which workers have changed, each of which looks at all of them."""

STATUS_SPACING = 10.0
"""Seconds between status writes in which nothing but the time of the last cycle is new."""


def new_suffix() -> str:
    """Eight characters that tell a Job from the pool's others."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(random.SystemRandom().choices(alphabet, k=8))


@dataclass(frozen=True, slots=True)
class Tools:
    """What a loop is given from outside, so that tests can give something else."""

    cluster: Cluster
    clock: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    spread: Callable[[], float] = random.random
    new_uuid: Callable[[], uuid.UUID] = uuid.uuid4
    new_suffix: Callable[[], str] = new_suffix


@dataclass(slots=True)
class _Alarm:
    """Wakes the loop: at once, or as soon as the spacing of cycles allows."""

    rings: asyncio.Event = field(default_factory=asyncio.Event)
    at: float | None = None

    def set(self, at: float) -> None:
        if self.at is None or at < self.at:
            self.at = at
            self.rings.set()


@dataclass(frozen=True, slots=True)
class _Seen:
    """The pool as it was at the start of a cycle: it may change while the cycle is at work."""

    pool: PoolReference
    spec: PoolSpec
    resume: str
    finalizers: Sequence[str]

    @classmethod
    def of(
        cls, body: Mapping[str, Any], read: Callable[[object], PoolSpec] = PoolSpec.model_validate
    ) -> _Seen:
        """Read a pool's object; ValidationError if its spec can't be read."""
        metadata = body["metadata"]
        annotations: Mapping[str, str] = metadata.get("annotations") or {}
        return cls(
            pool=_reference(body),
            spec=read(body.get("spec")),
            resume=annotations.get(RESUME_ANNOTATION, "")[:RESUME_LENGTH],
            finalizers=metadata.get("finalizers") or (),
        )


class PoolLoop:
    """Serves one pool from its first sight to its end."""

    def __init__(self, body: Mapping[str, Any], tools: Tools) -> None:
        self._tools = tools
        self._body = body
        self._pool = _reference(body)
        self._status = PoolStatus.of(dict(body))
        self._memory = recall(self._status)
        self._written: dict[str, Any] | None = None
        self._written_at = float("-inf")
        self._alarm = _Alarm()
        self._errors = 0
        self._look = Throttle(self._look_at_workers, LOOK_SPACING)
        self._seen: tuple[Mapping[str, Worker], Sequence[str]] = ({}, ())
        self._began_last = float("-inf")
        self._in_cycle = False
        self._is_read = False
        self._is_gone = False
        self._connection = Connection(tools.cluster, self._pool.namespace)
        self._backend: JobBackend | None = None
        self._farewell_since: datetime | None = None

    @property
    def pool(self) -> PoolReference:
        """Which pool this loop serves."""
        return self._pool

    def busy_seconds(self) -> float:
        """How long the present cycle has been running, in seconds; 0 between cycles."""
        return self._tools.monotonic() - self._began_last if self._in_cycle else 0.0

    def update(self, body: Mapping[str, Any]) -> None:
        """Take the pool's object as the watch brings it; a changed spec starts a cycle."""
        old, self._body = self._body, body
        self._pool = _reference(body)
        watched = ("generation", "deletionTimestamp", "annotations")
        if any(old["metadata"].get(key) != body["metadata"].get(key) for key in watched):
            self._errors = 0
            self._alarm.set(self._tools.monotonic())

    def workers_changed(self) -> None:
        """Take notice of changed Jobs and pods; those that matter start a cycle soon."""
        self._look.note()

    def _look_at_workers(self) -> None:
        cluster, uid = self._tools.cluster, self._pool.uid
        workers = {worker.uid: worker for worker in cluster.workers(uid)}
        orphans = cluster.orphaned_pods(uid)
        before, self._seen = self._seen, (workers, orphans)
        urgent = is_urgent(before[0], workers)
        if before == self._seen or (self._errors and not urgent):
            return
        # Something ends or claims again: so may a cycle, but at leisure.
        at = self._began_last + spacing(urgent=urgent and not self._errors)
        self._alarm.set(max(self._tools.monotonic(), at))

    async def run(self, delay: float = 0.0) -> None:
        """Run cycles until the pool is gone or the operator stops; begin after `delay` seconds."""
        await asyncio.sleep(delay)
        try:
            while not await self._one():
                await self._rest()
        finally:
            self._look.stop()
            await self._connection.close()

    async def _one(self) -> bool:
        """One cycle, whatever happens in it; whether it was the last."""
        self._alarm = _Alarm()
        self._began_last, self._in_cycle = self._tools.monotonic(), True
        try:
            if not self._is_read:
                await self._read()
            if not self._is_gone:
                if "deletionTimestamp" in self._body["metadata"]:
                    return await self._leave()
                await self._cycle()
            if self._is_gone:
                logger.info("pool is gone", extra=self._about())
                return True
        except KubernetesError as error:
            self._errors += 1
            logger.warning("cycle broken off", extra={**self._about(), "error": str(error)})
        except Exception as error:
            # A bug must not end the pool's loop; it is shown where people look.
            self._errors += 1
            logger.exception("cycle failed", extra=self._about())
            await self._show_failure(error)
        finally:
            self._in_cycle = False
        return False

    async def _read(self) -> None:
        """Read the status itself: the watch may be behind what a leader before us has written."""
        body = await self._tools.cluster.read_pool(self._pool)
        if body is None:
            self._is_gone = True
            return
        self._status = PoolStatus.of(body)
        self._memory = recall(self._status)
        self._is_read = True

    async def _rest(self) -> None:
        """Wait for the next cycle: until the interval is over or an event calls for it."""
        interval = 30.0
        if (spec := self._spec()) is not None:
            interval = spec.cycle_interval.total_seconds()
        until = self._tools.monotonic() + delay_after(interval, self._errors, self._tools.spread())
        while True:
            at = until if self._alarm.at is None else min(until, self._alarm.at)
            left = at - self._tools.monotonic()
            if left <= 0:
                return
            self._alarm.rings.clear()
            try:
                async with asyncio.timeout(left):
                    await self._alarm.rings.wait()
            except TimeoutError:
                return

    def _spec(self) -> PoolSpec | None:
        try:
            return PoolSpec.model_validate(self._body.get("spec"))
        except ValueError:
            return None

    async def _cycle(self) -> None:
        try:
            seen = _Seen.of(self._body)
        except ValidationError as error:
            await self._show_unreadable(error)
            return
        if FINALIZER not in seen.finalizers:
            await self._tools.cluster.set_finalizer(self._pool, present=True)
        manager_id = await self._identity(seen)
        if self._is_gone:
            return
        if self._status.observed_generation != seen.pool.generation:
            # The spec may name another server, which has never heard of this manager.
            self._memory = replace(self._memory, reported_at=None)
        result = await self._manage(seen, manager_id)
        await self._show(seen, manager_id, result)
        # What a person must mend is looked at again at the usual pace: it costs the server nothing.
        away = HEALTH[result.verdict.reason] is Health.UNKNOWN
        self._errors = self._errors + 1 if away and not result.completed else 0
        if result.again:
            self._alarm.set(self._began_last + spacing(urgent=True))

    def _known_id(self) -> ComputeManagerID | None:
        known = self._status.compute_manager_id
        return ComputeManagerID.parse(known) if known else None

    async def _identity(self, seen: _Seen) -> ComputeManagerID:
        """The manager's id: the one in the status, or a new one that is written there first."""
        if (known := self._known_id()) is not None:
            return known
        name = seen.spec.manager_name or to_alchemiscale_name(
            f"{self._pool.namespace}.{self._pool.name}"
        )
        manager_id = ComputeManagerID.new(name, self._tools.new_uuid())
        verdict = Verdict(
            Reason.PENDING, "The pool has been seen; its manager is about to register."
        )
        await self._show(seen, manager_id, CycleResult(verdict, self._memory))
        return manager_id

    async def _manage(
        self, seen: _Seen, manager_id: ComputeManagerID, *, leaving: bool = False
    ) -> CycleResult:
        """One cycle of the manager; one of a pool that leaves creates nothing."""
        connect = self._connection.last if leaving else self._connection.prepare
        try:
            manager = self._manager(await connect(seen.spec.compute_api), manager_id)
        except NotConnected as error:
            workers = self._tools.cluster.workers(self._pool.uid)
            counts = count(workers) if self._tools.cluster.fresh else None
            return CycleResult(error.verdict, self._memory, counts=counts)
        self._job_backend().manifest = lambda name, orders: build_job(
            seen.pool, seen.spec, manager_id, name, orders
        )
        return await manager.cycle(
            seen.spec.model_copy(update={"suspend": True}) if leaving else seen.spec,
            self._memory,
            seen.pool.generation,
            resume=seen.resume,
        )

    def _manager(self, api: ComputeAPI, manager_id: ComputeManagerID) -> ComputeManager:
        return ComputeManager(
            manager_id,
            ComputeManagerClient(api),
            ComputeServiceClient(api),
            self._job_backend(),
            service_prefix=service_prefix(self._pool.name),
            clock=self._tools.clock,
            log=lambda event, facts: logger.info(event, extra={**self._about(), **facts}),
        )

    def _job_backend(self) -> JobBackend:
        if self._backend is None:
            self._backend = JobBackend(
                self._tools.cluster,
                self._pool,
                clock=self._tools.clock,
                new_suffix=self._tools.new_suffix,
            )
        return self._backend

    async def _leave(self) -> bool:
        """One step of the way out of a deleted pool; whether it was the last."""
        if FINALIZER not in (self._body["metadata"].get("finalizers") or ()):
            return True
        # Nobody may be able to mend a spec any more that can't be read.
        seen = _Seen.of(self._body, salvage)
        manager_id = self._known_id()
        if not await self._workers_gone(seen, manager_id):
            return False
        if manager_id is not None and not await self._said_goodbye(seen, manager_id):
            return False
        if not await self._jobs_deleted():
            return False
        logger.info("pool let go", extra=self._about())
        await self._tools.cluster.set_finalizer(self._pool, present=False)
        return True

    async def _workers_gone(self, seen: _Seen, manager_id: ComputeManagerID | None) -> bool:
        """Let the workers go as the deletion policy says; whether nothing is to be waited for.

        Until the last worker has gone and what it has sent is stored, the manager goes on: it
        reports, and returns the Tasks of those that died.
        """
        now = self._tools.clock()
        deleted_at = parse_time(self._body["metadata"]["deletionTimestamp"]) or now
        backend = self._job_backend()
        try:
            removal = plan_removal(seen.spec, await backend.workers(), deleted_at, now)
            for worker in removal.stop:
                await backend.remove(worker)
        except BackendUnavailable as error:
            self._errors += 1
            logger.warning("removal waits", extra={**self._about(), "error": str(error)})
            return False
        self._errors = 0
        ended = removal.done and not self._tools.cluster.orphaned_pods(self._pool.uid)
        result = CycleResult(removal.verdict, self._memory)
        if manager_id is not None:
            managed = await self._manage(seen, manager_id, leaving=True)
            if ended and not (managed.completed and managed.settling):
                self._memory = managed.memory
                return True
            result = replace(managed, verdict=_LAST_RESULTS if ended else removal.verdict)
        elif ended:
            return True
        if ended:
            self._alarm.set(self._tools.monotonic() + SETTLING_SPACING)
        await self._show(seen, manager_id, result, deleting=True)
        return False

    async def _jobs_deleted(self) -> bool:
        """Delete the Jobs that are left, all of them finished; whether that is done."""
        backend = self._job_backend()
        try:
            for worker in await backend.workers():
                await backend.remove(worker)
        except BackendUnavailable as error:
            self._errors += 1
            logger.warning("removal waits", extra={**self._about(), "error": str(error)})
            return False
        return True

    async def _said_goodbye(self, seen: _Seen, manager_id: ComputeManagerID) -> bool:
        """Deregister; whether that is done with, also because the server can't be reached."""
        now = self._tools.clock()
        self._farewell_since = self._farewell_since or now
        try:
            api = await self._connection.last(seen.spec.compute_api)
            await self._manager(api, manager_id).leave()
        except NotConnected as error:
            verdict = error.verdict
        except ComputeAPIError as error:
            verdict = verdict_on(error)
        else:
            return True
        if now - self._farewell_since < FAREWELL and verdict.reason not in _HOPELESS:
            self._errors += 1
            logger.warning(
                "deregistration waits", extra={**self._about(), "error": verdict.message}
            )
            result = CycleResult(Verdict(Reason.STOPPING, verdict.message), self._memory)
            await self._show(seen, manager_id, result, deleting=True)
            return False
        message = (
            f"The pool goes without deregistering {manager_id} from the server: {verdict.message} "
            "Its registration stays there until another manager's report sweeps it."
        )
        await self._tools.cluster.post_event(
            self._pool, warning=True, reason="NotDeregistered", message=message, now=now
        )
        logger.warning("manager left registered", extra={**self._about(), "error": verdict.message})
        return True

    async def _show(
        self,
        seen: _Seen,
        manager_id: ComputeManagerID | None,
        result: CycleResult,
        *,
        deleting: bool = False,
    ) -> None:
        """Write the status if it says something new, and an event if people should know."""
        now = self._tools.clock()
        before = self._status
        facts = Facts(
            generation=seen.pool.generation,
            verdict=result.verdict,
            memory=result.memory,
            manager_id=str(manager_id or ""),
            selector=pool_selector(self._pool.uid),
            counts=result.counts,
            max_workers=seen.spec.max_compute_services,
            registered=result.registered,
            instruction=result.instruction,
            saturation=result.saturation,
            deleting=deleting,
            completed=result.completed,
        )
        status = build_status(before, facts, now)
        await self._write(status)
        # Acted upon next is what a successor would know: what could not be written is found again.
        self._memory = result.memory
        for told in news(before, status, seen.spec.failure_policy.task_crash_limit):
            logger.warning(told.message, extra={**self._about(), "reason": told.reason})
            await self._tools.cluster.post_event(
                self._pool, warning=True, reason=told.reason, message=told.message, now=now
            )
        if worth_an_event(before, status):
            logger.info(
                "pool changed",
                extra={**self._about(), "reason": status.reason, "detail": status.message},
            )
            await self._tools.cluster.post_event(
                self._pool,
                warning=is_warning(status),
                reason=status.reason,
                message=status.message,
                now=now,
            )

    async def _show_unreadable(self, error: ValidationError) -> None:
        self._errors = 0
        verdict = Verdict(
            Reason.SPEC_INVALID,
            f"The operator can't read the spec, so it does nothing: {faults(error)}. Correct it, "
            "or apply the CRD of the operator's own version.",
        )
        seen = _Seen.of(self._body, salvage)
        await self._show(seen, self._known_id(), CycleResult(verdict, self._memory))

    async def _show_failure(self, error: Exception) -> None:
        verdict = Verdict(
            Reason.INTERNAL_ERROR,
            f"The operator failed in this cycle ({type(error).__name__}) and tries again; its log "
            "has the traceback. Please report it.",
        )
        seen = _Seen.of(self._body, salvage)
        try:
            await self._show(seen, self._known_id(), CycleResult(verdict, self._memory))
        except KubernetesError as another:
            logger.warning("status lost", extra={**self._about(), "error": str(another)})

    async def _write(self, status: PoolStatus) -> None:
        body = status.to_body()
        news = {key: value for key, value in body.items() if key not in _TIMES}
        old = self._written or {}
        unchanged = news == {key: value for key, value in old.items() if key not in _TIMES}
        monotonic = self._tools.monotonic()
        if not unchanged or monotonic - self._written_at >= STATUS_SPACING:
            self._is_gone = not await self._tools.cluster.patch_status(self._pool, body)
            self._written, self._written_at = body, monotonic
        # Only what stands there: the manager's id must, before the manager is registered.
        self._status = status

    def _about(self) -> dict[str, object]:
        return {"namespace": self._pool.namespace, "pool": self._pool.name}


_LAST_RESULTS = Verdict(
    Reason.STOPPING,
    "All workers have ended. Services that may have sent a result at the last moment are left "
    "registered until the server has certainly stored it.",
)
_TIMES = frozenset({"lastCycleTime", "lastReportTime"})
_HOPELESS = frozenset({Reason.SECRET_MISSING, Reason.SECRET_INCOMPLETE, Reason.CREDENTIALS_REFUSED})


def _reference(body: Mapping[str, Any]) -> PoolReference:
    metadata = body["metadata"]
    return PoolReference(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
    )
