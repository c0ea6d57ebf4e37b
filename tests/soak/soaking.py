"""The soak itself: Tasks flow, things happen, everything drains, both APIs are audited."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from computepool_worker.settings import Settings
from e2e.recorder import jobs_created, termination_messages
from e2e.scene import Scene
from simulator.views import RequestView
from soak.audit import (
    crashes,
    most_unfinished,
    was_told_to_fail,
    wrongs_of_managers,
    wrongs_of_task,
)
from soak.mischief import Mischief

GPUS = 4
CRASH_LIMIT = 2
QUEUE = 3 * GPUS
"""No Task is added while so many wait: they are to flow, not to pile up."""
LONGEST_DRAIN = 480.0
"""Seconds: a service that nobody saw go is held for dead after 5 minutes only."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it. `wrongs` is empty when everything held."""

    wrongs: list[str]
    tasks: Counter[str]
    done: Counter[str]
    story: list[str]
    outcomes: Counter[str]
    jobs: int
    most_unfinished: int
    requests: int
    drained_in: float


def soak(scene: Scene, seconds: float, seed: int, say: Callable[[str], None]) -> Soaked:
    """Soak for so long, then drain and delete the pool."""
    chance = random.Random(seed)
    mischief = Mischief(scene, chance)
    records = _Records(scene)
    scene.apply_pool(
        maxComputeServices=GPUS,
        cycleInterval="5s",
        job={"keepSucceeded": 3, "keepFailed": 3},
        failurePolicy={
            "taskCrashLimit": CRASH_LIMIT,
            "maxConsecutiveFailures": 8,
            "retryAfter": "10s",
            "nodeQuarantine": "1m",
        },
        worker={"nRetries": 0},
    )
    poison = _poison(scene)
    began = time.monotonic()
    next_task = next_strike = began + 5.0
    while (now := time.monotonic()) < began + seconds:
        if now >= next_task:
            if scene.admin.counts().get("waiting", 0) < QUEUE:
                _add(scene, chance)
            next_task = now + chance.uniform(2.0, 6.0)
        if now >= next_strike:
            if struck := mischief.strike():
                say(struck)
            next_strike = time.monotonic() + chance.uniform(1.0, 5.0)
        records.read()
        time.sleep(0.25)
    mischief.end()
    say("draining")
    began = time.monotonic()
    scene.until("all Tasks have ended", lambda: _ended(scene), LONGEST_DRAIN)
    scene.until("no service is left", lambda: not scene.admin.services(), LONGEST_DRAIN)
    drained_in = time.monotonic() - began
    records.read()
    scene.kubectl("delete", "computepool", "a100", "--timeout=120s")
    scene.until("no Job is left", lambda: not scene.get("jobs")["items"], 60)
    records.read()
    return _sum_up(scene, mischief, records, poison, drained_in)


class _Records:
    """Requests of the compute API, read before the server forgets them; managers at each look."""

    def __init__(self, scene: Scene) -> None:
        self.requests: list[RequestView] = []
        self.most_managers = 0
        self._admin = scene.admin

    def read(self) -> None:
        since = self.requests[-1].sequence if self.requests else 0
        # The last ones may still be under way, and are read again.
        fresh = [r for r in self._admin.audit(since) if r.status is not None or r.fault]
        self.requests += fresh
        self.most_managers = max(self.most_managers, len(self._admin.managers()))


def _add(scene: Scene, chance: random.Random) -> None:
    number, seconds = chance.randint(1, 2), chance.uniform(1.0, 5.0)
    behaviour = chance.choices(["ok", "raise"], weights=[20, 1])[0]
    scene.admin.add_tasks(
        number, scope="org-campaign-project", seconds=seconds, behaviour=behaviour
    )


def _poison(scene: Scene) -> list[str]:
    """Tasks that take their workers down, where workers know what to do with them."""
    if "poison_file" not in {field.name for field in dataclasses.fields(Settings)}:
        return []
    return scene.admin.add_tasks(2, scope="org-campaign-project", seconds=1.0, behaviour="segfault")


def _ended(scene: Scene) -> bool:
    return scene.admin.counts().keys() <= {"complete", "error"}


def _sum_up(
    scene: Scene, mischief: Mischief, records: _Records, poison: list[str], drained_in: float
) -> Soaked:
    changes = scene.recorder.changes
    down = crashes(changes)
    tasks = scene.admin.tasks()
    wrongs = wrongs_of_managers(records.requests)
    for task in tasks:
        may_fail = was_told_to_fail(task) or task.key in poison or down[task.key] >= CRASH_LIMIT
        wrongs += wrongs_of_task(task, may_fail=may_fail)
    wrongs += [f"{key} took {down[key]} workers down" for key in poison if down[key] > GPUS]
    most = most_unfinished(changes)
    if most > GPUS:
        wrongs.append(f"{most} Jobs were not finished at once")
    if records.most_managers > 1:
        wrongs.append(f"{records.most_managers} managers at once")
    if left := [*scene.admin.services(), *scene.admin.managers()]:
        wrongs.append(f"still registered: {left}")
    messages = termination_messages(changes).values()
    return Soaked(
        wrongs=wrongs,
        tasks=Counter(task.status for task in tasks),
        done=mischief.done,
        story=mischief.story,
        outcomes=Counter(str(message["outcome"]) for message in messages),
        jobs=len(jobs_created(changes)),
        most_unfinished=most,
        requests=len(records.requests),
        drained_in=drained_in,
    )


def told(soaked: Soaked, seconds: float, seed: int) -> str:
    """The soak in numbers, for people."""

    def listed(counts: Counter[str]) -> str:
        return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))

    return "\n".join(
        [
            f"soak of {seconds:.0f} s, seed {seed}, drained in {soaked.drained_in:.0f} s",
            f"done: {listed(soaked.done)}",
            f"Tasks: {listed(soaked.tasks)}; {soaked.requests} requests of the compute API",
            f"Jobs: {soaked.jobs}, at most {soaked.most_unfinished} not finished at once",
            f"workers' words: {listed(soaked.outcomes)}",
        ]
    )
