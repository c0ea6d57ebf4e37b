"""Others on the same server: standing services that claim from the same hubs, another manager."""

from __future__ import annotations

import random
from collections.abc import Callable

from month.server import Server
from month.timeline import Timeline
from month.work import Attempt, Nature, Work
from simulator.errors import BrokenError
from simulator.identifiers import ComputeID, IdMaker

ASKS_EVERY = 60.0
REPORTS_EVERY = 300.0


class StandingService:
    """A service of no manager: it claims, runs and pushes, and sleeps when there is nothing."""

    def __init__(
        self,
        timeline: Timeline,
        server: Server,
        chance: random.Random,
        new_id: IdMaker,
        work: dict[str, Work],
        on_result: Callable[[Work, bool], None],
    ) -> None:
        self.closing = False
        self._timeline = timeline
        self._server = server
        self._chance = chance
        self._new_id = new_id
        self._work = work
        self._on_result = on_result
        self._service = ""

    def begin(self) -> None:
        """Register under a new id, and ask for Tasks until `closing`."""
        self._service = f"standing-{self._new_id()}"
        self._server.store.register_service(self._service, None)
        self._ask()

    def _ask(self) -> None:
        if self.closing:
            self._server.store.deregister_service(self._service)
            return
        try:
            tasks = self._claim()
        except BrokenError:
            self.begin()
            return
        if tasks:
            self._execute(self._work[tasks[0]])
        else:
            self._timeline.after(ASKS_EVERY, self._ask)

    def _claim(self) -> list[str] | None:
        if not self._server.up:
            return None
        self._server.store.heartbeat(self._service)
        return self._server.claim(self._service, 1)

    def _execute(self, work: Work) -> None:
        attempt = Attempt(work, self._timeline.now)
        self._beat(work, attempt, self._timeline.now + work.seconds)

    def _beat(self, work: Work, attempt: Attempt, until: float) -> None:
        """Go on executing, with a heartbeat every few minutes."""
        if work.nature is Nature.POISON and self._timeline.now > attempt.began:
            self._server.store.deregister_service(self._service)
            self._timeline.after(600.0, self.begin)
            return
        left = until - self._timeline.now
        if left > 0:
            if self._server.up:
                self._server.store.heartbeat(self._service)
            self._timeline.after(min(left, 300.0), lambda: self._beat(work, attempt, until))
        elif not self._server.up:
            self._timeline.after(30.0, lambda: self._beat(work, attempt, until))
        elif self._service not in self._server.store.registry.services:
            self.begin()
        else:
            ok = work.nature is Nature.FINE
            self._server.push(work.key, self._service, ok=ok)
            self._on_result(work, ok)
            self._ask()


class OtherManager:
    """Another manager, whose reports make the server sweep managers that are silent."""

    def __init__(self, timeline: Timeline, server: Server, new_id: IdMaker) -> None:
        self.closing = False
        self._timeline = timeline
        self._server = server
        self._id = ComputeID("elsewhere", new_id())

    def begin(self) -> None:
        """Register and report for ever."""
        self._server.store.add_manager(self._id)
        self._report()

    def _report(self) -> None:
        registry = self._server.store.registry
        if self.closing:
            registry.deregister_manager(self._id)
            return
        if self._server.up:
            if registry.manager(self._id) is None:
                self._server.store.add_manager(self._id)
            self._server.store.set_manager_status(str(self._id), "OK", None, 0.5)
        self._timeline.after(REPORTS_EVERY, self._report)
