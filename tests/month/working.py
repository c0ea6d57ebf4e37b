"""The worker: its process in virtual time, with the real decision on what comes next."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from computepool_api.ids import ComputeManagerID
from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_operator.names import service_id
from computepool_worker.steps import Claim, Leave, Limits, Progress, Run, next_step
from month.kubernetes import Kubernetes
from month.server import Server
from month.things import Pod
from month.timeline import Event, Timeline
from month.work import Attempt, Nature, Work
from simulator.errors import BrokenError, RefusedError

PUSH_PAUSE = 60.0
PATIENCE = 1800.0
PROBE_AFTER = 900.0
LEAVES_BEFORE_KILL = 82.0
RETRIES = 12
LATEST_STORE = 30.0
"""Seconds after which the server has stored what was sent, or never will."""


@dataclass(slots=True)
class Conditions:
    """What workers are up against. Rates are per hour of execution, chances per push or claim."""

    crashes: float = 1 / 400
    kills: float = 1 / 400
    lost_pushes: float = 0.003
    lost_claims: float = 0.001
    push_deaths: float = 0.002
    image_broken: bool = False
    heartbeat: float = 300.0


@dataclass(slots=True)
class Surroundings:
    """What all workers share."""

    timeline: Timeline
    server: Server
    cluster: Kubernetes
    chance: random.Random
    conditions: Conditions
    manager_id: ComputeManagerID
    limits: Limits
    work: dict[str, Work]
    on_result: Callable[[Work, bool], None]
    on_exit: Callable[[WorkerProcess], None]


class WorkerProcess:
    """One worker."""

    def __init__(self, pod: Pod, around: Surroundings) -> None:
        self.pod = pod
        self.alive = False
        self.holding = False
        self.message = ""
        self.outcome: Outcome | None = None
        self.claimed = False
        self.attempts: list[Attempt] = []
        self.service = service_id(pod.job.name, pod.uid)
        self.idle_since: float | None = around.timeline.now
        self.longest_idle = 0.0
        self.died_at = 0.0
        self._around = around
        self._progress = Progress()
        self._phase = "starting"
        self._next: Event | None = None
        self._heart: Event | None = None
        self._tries = 0
        self._stopped_at: float | None = None
        self._began = self._beat_at = around.timeline.now

    def start(self) -> None:
        """Begin."""
        self.alive = True
        self._go(self._draw(0.3, 1.0), self._register)

    def terminate(self) -> None:
        """SIGTERM."""
        if not self.alive or self._stopped_at is not None:
            return
        self._stopped_at = self._around.timeline.now
        if self._phase == "pausing":
            self._go(LEAVES_BEFORE_KILL, self._exit)
        elif self._phase not in ("pushing", "leaving"):
            self._leave(Outcome.TERMINATED, self._task())

    def kill(self) -> None:
        """SIGKILL, or the like."""
        if self.alive:
            self._die(137, "Error")

    # from start to claim

    def _register(self) -> None:
        around = self._around
        if around.conditions.image_broken:
            self._say(Outcome.INTERNAL_ERROR, None)
            return self._exit()
        if not self._reaches():
            return self._try_again(self._register)
        try:
            around.server.store.register_service(self.service, str(around.manager_id))
        except RefusedError:
            self._say(Outcome.MANAGER_UNKNOWN, None)
            return self._exit()
        self._heart = around.timeline.after(around.conditions.heartbeat, self._beat)
        return self._go(self._draw(5, 25), self._check_device)

    def _check_device(self) -> None:
        node = self.pod.node
        if node is not None and node.unfit:
            self._leave(Outcome.DEVICE_UNFIT, None)
        else:
            self._proceed()

    def _proceed(self) -> None:
        now = self._around.timeline.now
        if self._stopped_at is not None:
            return self._leave(Outcome.TERMINATED, self._task())
        step = next_step(replace(self._progress, elapsed=now - self._began), self._around.limits)
        match step:
            case Claim(count=count):
                self._claim(count)
            case Run(task=task):
                self._fetch(task)
            case Leave(outcome=outcome):
                self._leave(outcome, None)
            case _:
                raise RuntimeError(f"an ephemeral worker does not {step}")
        return None

    def _claim(self, count: int) -> None:
        around = self._around
        if not self._reaches():
            return self._leave(Outcome.API_UNREACHABLE, None)
        try:
            tasks = around.server.claim(self.service, count)
        except BrokenError:
            return self._leave(Outcome.REGISTRATION_LOST, None)
        if tasks:
            around.timeline.tell(f"{self.pod.job.name} claims {tasks[0][:13]}")
        if around.chance.random() < around.conditions.lost_claims:
            return self._leave(Outcome.API_UNREACHABLE, None)
        if tasks is None:
            return self._leave(Outcome.DENIED, None)
        self._progress = replace(self._progress, held=tuple(tasks), found_nothing=not tasks)
        if tasks:
            self.claimed = True
            self._busy()
            self._say(Outcome.HOLDING, tasks[0])
            self._hold(holding=True)
        return self._proceed()

    # a Task

    def _fetch(self, task: str) -> None:
        if not self._reaches():
            return self._try_again(lambda: self._fetch(task))
        self._tries = 0
        if any(crashes.task == task for crashes in self.pod.job.orders.poison):
            return self._deliver(task, None, ok=False)
        return self._go(self._draw(0.2, 2.0), lambda: self._execute(task))

    def _execute(self, task: str) -> None:
        around = self._around
        work = around.work[task]
        self._phase = "executing"
        attempt = Attempt(work, around.timeline.now)
        self.attempts.append(attempt)
        work.attempts.append(attempt)
        crash = _drawn(around.chance, around.conditions.crashes)
        kill = _drawn(around.chance, around.conditions.kills)
        if work.nature is Nature.POISON:
            crash = min(crash, self._draw(0.05, 0.9) * min(work.seconds, 900))
        first = min(work.seconds, crash, kill)
        if first == work.seconds:
            self._go(first, lambda: self._executed(task, attempt))
        elif first == crash:
            self._go(first, lambda: self._crash(work))
        else:
            self._go(first, lambda: self._die(137, "OOMKilled"))

    def _executed(self, task: str, attempt: Attempt) -> None:
        attempt.ended = self._around.timeline.now
        self._deliver(task, attempt, ok=self._around.work[task].nature is Nature.FINE)

    def _crash(self, work: Work) -> None:
        work.crashes += 1
        self._leave(Outcome.TASK_CRASHED, work.key)

    # its result

    def _deliver(self, task: str, attempt: Attempt | None, *, ok: bool) -> None:
        self._phase = "delivering"
        patient_until = self._around.timeline.now + PATIENCE
        self._send(task, attempt, ok=ok, patient_until=patient_until, pause=2.0)

    def _send(
        self, task: str, attempt: Attempt | None, *, ok: bool, patient_until: float, pause: float
    ) -> None:
        around = self._around
        if not self._reaches():
            if around.timeline.now + pause > patient_until:
                return self._leave(Outcome.API_UNREACHABLE, task)
            longer = min(30.0, pause * 2)
            return self._go(
                pause,
                lambda: self._send(task, attempt, ok=ok, patient_until=patient_until, pause=longer),
            )
        if self.service not in around.server.store.registry.services:
            return self._leave(Outcome.REGISTRATION_LOST, task)
        self._phase = "pushing"
        self._say(Outcome.PUSHING, task)
        takes = self._draw(0.2, 3.0)
        if around.chance.random() < around.conditions.push_deaths:
            return self._go(takes, self.kill)
        if around.chance.random() < around.conditions.lost_pushes:
            self._lose(task, attempt, ok=ok, arrives=around.chance.random() < 0.5)
            return self._go(takes, lambda: self._pause(task))
        return self._go(takes, lambda: self._arrive(task, attempt, ok=ok))

    def _arrive(self, task: str, attempt: Attempt | None, *, ok: bool) -> None:
        if not self._reaches():
            self._lose(task, attempt, ok=ok, arrives=self._around.chance.random() < 0.5)
            return self._pause(task)
        self._store(task, attempt, ok=ok)
        progress = self._progress
        self._progress = replace(
            progress,
            held=(),
            found_nothing=False,
            done=progress.done + ok,
            failed=progress.failed + (not ok),
        )
        self._phase = "idle"
        self._hold(holding=False)
        self._idle()
        return self._proceed()

    def _lose(self, task: str, attempt: Attempt | None, *, ok: bool, arrives: bool) -> None:
        """Send a result whose answer never comes; the server may still store it, and later."""
        if arrives:
            delay = self._draw(0.0, LATEST_STORE)
            self._around.timeline.after(delay, lambda: self._store(task, attempt, ok=ok))

    def _store(self, task: str, attempt: Attempt | None, *, ok: bool) -> None:
        around = self._around
        around.server.push(task, self.service, ok=ok)
        around.timeline.tell(f"the result of {task[:13]} by {self.pod.job.name} is stored")
        if attempt is not None:
            attempt.counted = True
        around.on_result(around.work[task], ok)

    def _pause(self, task: str) -> None:
        self._phase = "pausing"
        self._say(Outcome.PUSH_AMBIGUOUS, task)
        pause = PUSH_PAUSE
        if self._stopped_at is not None:
            left = self._stopped_at + LEAVES_BEFORE_KILL - self._around.timeline.now
            if left < pause:
                return self._go(left, self._exit)
        return self._go(pause, lambda: self._leave(Outcome.PUSH_AMBIGUOUS, task))

    # the end

    def _leave(self, outcome: Outcome, task: str | None) -> None:
        if self._phase == "executing":
            self._stop_executing()
        self._phase = "leaving"
        self._say(outcome, task)
        self._go(self._draw(0.1, 0.6), self._deregister)

    def _deregister(self) -> None:
        registry = self._around.server.store.registry
        if self._reaches() and self.service in registry.services:
            self._around.server.store.deregister_service(self.service)
        self._exit()

    def _exit(self) -> None:
        assert self.outcome is not None
        code = self.outcome.exit_code
        self._die(code, "Error" if code else "Completed")

    def _die(self, code: int, reason: str) -> None:
        around = self._around
        now = around.timeline.now
        if self._phase == "pushing" and code == 137 and around.chance.random() < 0.5:
            # What it had sent is still on its way.
            task = self._task()
            assert task is not None
            ok = around.work[task].nature is Nature.FINE
            attempt = self.attempts[-1] if self.attempts else None
            self._lose(task, attempt, ok=ok, arrives=True)
        if self._phase == "executing":
            self._stop_executing()
            if (task := self._task()) is not None and code == 137:
                around.work[task].crashes += 1
        self._busy()
        self.alive = False
        self.holding = False
        self.died_at = now
        for event in (self._next, self._heart):
            if event is not None:
                event.cancel()
        word = self.outcome or "no word"
        around.timeline.tell(f"{self.pod.job.name} ends: {word}, exit code {code}")
        around.on_exit(self)
        around.cluster.process_ended(self.pod, code, reason, self.message)

    # small things

    def _beat(self) -> None:
        around = self._around
        now = around.timeline.now
        if self._reaches():
            store = around.server.store
            store.heartbeat(self.service)
            silent, self._beat_at = now - self._beat_at, now
            unsure = silent > PROBE_AFTER and self._phase not in ("pushing", "pausing", "leaving")
            if unsure and self.service not in store.registry.services:
                self._leave(Outcome.REGISTRATION_LOST, self._task())
                return
        self._heart = around.timeline.after(around.conditions.heartbeat, self._beat)

    def _reaches(self) -> bool:
        node = self.pod.node
        return self._around.server.up and node is not None and not node.isolated

    def _try_again(self, call: Callable[[], None]) -> None:
        self._tries += 1
        if self._tries > RETRIES:
            self._leave(Outcome.API_UNREACHABLE, self._task())
        else:
            self._go(5.0, call)

    def _task(self) -> str | None:
        return self._progress.held[0] if self._progress.held else None

    def _say(self, outcome: Outcome, task: str | None) -> None:
        self.outcome = outcome
        done, failed = self._progress.done, self._progress.failed
        self.message = TerminationMessage(outcome, task, done, failed).to_json()

    def _hold(self, *, holding: bool) -> None:
        self.holding = holding
        self._around.cluster.holding_changed(self.pod)

    def _busy(self) -> None:
        if self.idle_since is not None:
            idle = self._around.timeline.now - self.idle_since
            self.longest_idle = max(self.longest_idle, idle)
            self.idle_since = None

    def _stop_executing(self) -> None:
        self.attempts[-1].ended = self._around.timeline.now

    def _idle(self) -> None:
        self.idle_since = self._around.timeline.now

    def _go(self, seconds: float, call: Callable[[], None]) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._around.timeline.after(seconds, call)

    def _draw(self, least: float, most: float) -> float:
        return self._around.chance.uniform(least, most)


def _drawn(chance: random.Random, per_hour: float) -> float:
    """Seconds until something happens that happens so often."""
    return chance.expovariate(per_hour / 3600) if per_hour else float("inf")
