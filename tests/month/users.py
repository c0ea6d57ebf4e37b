"""The people who submit Tasks: in bursts, mostly in the evening, with long ones for the weekend."""

from __future__ import annotations

import random

from month.server import Server
from month.timeline import Timeline
from month.work import Nature, Work
from simulator.documents import transformation_chain, transformation_of
from simulator.records import Hub
from simulator.scopes import Scope

HOUR, DAY = 3600.0, 86400.0
CAMPAIGNS = ("lab-kinases-one", "lab-kinases-two", "lab-proteases-one")


class Users:
    """Submits `load` seconds of work for each second of the month, on average."""

    def __init__(
        self,
        timeline: Timeline,
        server: Server,
        chance: random.Random,
        work: dict[str, Work],
        load: float,
    ) -> None:
        self.busy = True
        self.hubs: list[Hub] = []
        self._timeline = timeline
        self._workload = server.store.workload
        self._chance = chance
        self._work = work
        self._load = load
        for name in CAMPAIGNS:
            self.hubs.append(self._workload.hub(Scope.parse(name), "network"))
        self._transformation = transformation_of(transformation_chain())

    def begin(self, seconds: float) -> None:
        """Submit for so long, then no more."""
        self._timeline.after(seconds, self._stop)
        self._submit()

    def _stop(self) -> None:
        self.busy = False
        self._timeline.tell("users submit nothing any more")

    def _submit(self) -> None:
        if not self.busy:
            return
        typical = self._chance.choice([0.2, 1.0, 1.0, 3.0]) * HOUR
        lengths = [self._length(typical) for _ in range(self._chance.randint(1, 60))]
        hub = self._chance.choice(self.hubs)
        parents: list[str] = []
        for seconds in lengths:
            extends = None
            if parents and self._chance.random() < 0.1:
                extends = self._chance.choice(parents)
            task = self._workload.add_task(hub.scope, self._transformation, extends=extends)
            self._workload.action(task, hub)
            nature = self._chance.choices(list(Nature), weights=[0.97, 0.02, 0.01])[0]
            self._work[task.key] = Work(task.key, seconds, nature, self._timeline.now, extends)
            parents.append(task.key)
        self._timeline.tell(f"{len(lengths)} Tasks of about {typical / HOUR:.1f} h")
        self._timeline.after(self._until_next(sum(lengths)), self._submit)

    def _length(self, typical: float) -> float:
        """From minutes to days."""
        return min(2 * DAY, max(180.0, typical * self._chance.lognormvariate(0.0, 1.0)))

    def _until_next(self, submitted: float) -> float:
        """Such a wait that the load comes out right; people leave in the evening."""
        wait = submitted / self._load * self._chance.uniform(0.4, 1.6)
        hour = (self._timeline.now + wait) % DAY / HOUR
        if hour < 9:
            wait += (9 - hour) * HOUR * self._chance.random()
        elif 11 < hour < 17:
            wait += (17 - hour) * HOUR * self._chance.random()
        return wait
