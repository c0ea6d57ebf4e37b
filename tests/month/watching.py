"""What the operator sees of the cluster: later than it happens, and through the real readers."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from computepool_api.ids import ComputeServiceID
from computepool_operator.manager import BackendUnavailable, ComputeServiceBackend
from computepool_operator.orders import Orders
from computepool_operator.reading import departed, read_worker, service_of
from computepool_operator.workers import Departed, Worker, WorkerState
from month.kubernetes import APIAway, Kubernetes
from month.server import Step
from month.things import Job, Pod
from month.timeline import Timeline

STALE_AFTER = 120.0
DEPARTED_KEPT = timedelta(hours=1)

Object = dict[str, Any]


class Mirror:
    """Jobs and pods as two watches bring them, each in its own order and with its own delay."""

    def __init__(self, timeline: Timeline, cluster: Kubernetes, chance: random.Random) -> None:
        self.departed: dict[str, Departed] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._timeline = timeline
        self._cluster = cluster
        self._chance = chance
        self._jobs: dict[str, Object] = {}
        self._pods: dict[str, Object] = {}
        self._workers: dict[str, Worker] = {}
        self._busy_until = {Job: 0.0, Pod: 0.0}
        self._heard_at = timeline.now
        self._life = 0
        self._late: list[tuple[Job | Pod, Object | None]] = []

    def changed(self, thing: Job | Pod) -> None:
        """An object changed in the API; the news is under way."""
        kind = type(thing)
        news = (thing, None if thing.gone else thing.shown())
        at = max(self._busy_until[kind], self._timeline.now + self._chance.uniform(0.01, 0.25))
        self._busy_until[kind] = at
        life = self._life
        self._timeline.after(at - self._timeline.now, lambda: self._arrives(news, life))

    def api_is_back(self) -> None:
        """Everything is listed anew: what was in between is never seen."""
        late, self._late = self._late, []
        last = {id(thing): (thing, shown) for thing, shown in late}
        for thing, shown in last.values():
            self._take(thing, shown)
        self._heard_at = self._timeline.now

    def begin_anew(self) -> None:
        """List everything, as an operator does that has just started."""
        self._life += 1
        self._late.clear()
        self.departed.clear()
        self._jobs = {job.uid: job.shown() for job in self._cluster.jobs.values()}
        self._pods = {pod.job.uid: pod.shown() for pod in self._cluster.pods.values()}
        self._workers = {uid: self._read(uid) for uid in self._jobs}

    def saw(self, job: Job) -> None:
        """A write has answered with this Job."""
        if job.uid not in self._jobs:
            self._take(job, job.shown())

    @property
    def fresh(self) -> bool:
        """Whether the watches have been heard of lately."""
        return self._cluster.api_up or self._timeline.now - self._heard_at < STALE_AFTER

    def workers(self) -> dict[str, Worker]:
        """All workers by the UIDs of their Jobs."""
        return dict(self._workers)

    def orphans(self) -> tuple[ComputeServiceID, ...]:
        """The services of pods at work whose Jobs are gone."""
        found = (service_of(pod) for pod in self._orphans(ended=False))
        return tuple(service for service in found if service is not None)

    def ended_orphans(self) -> tuple[Departed, ...]:
        """What is left of pods that ended without a Job."""
        found = (departed(pod) for pod in self._orphans(ended=True))
        return tuple(gone for gone in found if gone is not None)

    def _orphans(self, *, ended: bool) -> list[Object]:
        orphans = [pod for uid, pod in self._pods.items() if uid not in self._jobs]
        return [p for p in orphans if (p["status"]["phase"] in ("Succeeded", "Failed")) is ended]

    def _arrives(self, news: tuple[Job | Pod, Object | None], life: int) -> None:
        if life != self._life:
            return
        if not self._cluster.api_up:
            self._late.append(news)
            return
        self._heard_at = self._timeline.now
        self._take(*news)

    def _take(self, thing: Job | Pod, shown: Object | None) -> None:
        uid = thing.uid if isinstance(thing, Job) else thing.job.uid
        mirror = self._jobs if isinstance(thing, Job) else self._pods
        if shown is not None:
            mirror[uid] = shown
        elif (last := mirror.pop(uid, None)) is not None and isinstance(thing, Pod):
            self._depart(last)
        if uid in self._jobs:
            self._workers[uid] = self._read(uid)
        else:
            self._workers.pop(uid, None)
        self.on_change()

    def _depart(self, pod: Object) -> None:
        now = self._timeline.moment
        gone = departed(pod, now)
        if gone is not None:
            self.departed[gone.service_id] = gone
            for old in [g for g in self.departed.values() if now - g.at > DEPARTED_KEPT]:
                del self.departed[old.service_id]

    def _read(self, uid: str) -> Worker:
        return read_worker(self._jobs[uid], self._pods.get(uid))


class Backend(ComputeServiceBackend):
    """Creates and removes Jobs in the model, by the rules of the real backend."""

    def __init__(
        self,
        mirror: Mirror,
        cluster: Kubernetes,
        *,
        step: Step,
        clock: Callable[[], datetime],
        new_suffix: Callable[[], str],
        chance: random.Random,
        on_create: Callable[[int], None],
        on_remove: Callable[[], None],
    ) -> None:
        self.loses_answers = 0.0
        self._mirror = mirror
        self._cluster = cluster
        self._step = step
        self._clock = clock
        self._new_suffix = new_suffix
        self._chance = chance
        self._on_create = on_create
        self._on_remove = on_remove
        self._unsure: dict[str, datetime] = {}

    def begin_anew(self) -> None:
        """What the memory of a process held is gone with it."""
        self._unsure.clear()

    async def workers(self) -> tuple[Worker, ...]:
        self._step()
        if not self._mirror.fresh:
            raise BackendUnavailable("nothing has been heard of the API for minutes")
        for worker in self._mirror.workers().values():
            self._unsure.pop(worker.name, None)
        self._settle()
        waiting = [
            Worker(name=name, uid="", state=WorkerState.PENDING, created_at=since)
            for name, since in self._unsure.items()
        ]
        seen = sorted(self._mirror.workers().values(), key=lambda worker: worker.name)
        return (*seen, *waiting)

    def departed(self) -> tuple[Departed, ...]:
        return (*self._mirror.departed.values(), *self._mirror.ended_orphans())

    def orphans(self) -> tuple[ComputeServiceID, ...]:
        return self._mirror.orphans()

    async def create(self, number: int, orders: Orders) -> int:
        self._on_create(number)
        for _ in range(number):
            self._step()
            name = f"a100-{self._new_suffix()}"
            try:
                job = self._cluster.create_job(name, orders)
            except APIAway:
                self._unsure[name] = self._clock()
                raise BackendUnavailable("no answer to a creation") from None
            if self._chance.random() < self.loses_answers:
                self._unsure[name] = self._clock()
                raise BackendUnavailable("the answer to a creation was lost")
            self._mirror.saw(job)
            self._step()
        return number

    async def remove(self, worker: Worker) -> None:
        self._step()
        self._on_remove()
        job = self._cluster.jobs.get(worker.name)
        try:
            if job is not None and worker.uid in ("", job.uid):
                self._cluster.delete_job(job, foreground=not worker.finished)
        except APIAway:
            raise BackendUnavailable("no answer to a deletion") from None

    def _settle(self) -> None:
        """Find out whether Jobs exist whose creation got no answer."""
        for name in list(self._unsure):
            if not self._cluster.api_up:
                raise BackendUnavailable("it is not known whether a Job was created")
            if (job := self._cluster.jobs.get(name)) is not None:
                self._mirror.saw(job)
            del self._unsure[name]
