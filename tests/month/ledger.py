"""Where the GPU-seconds went, each against the seconds that the Tasks themselves need."""

from __future__ import annotations

from dataclasses import dataclass, field

from month.things import Pod, Process
from month.work import Work


@dataclass(frozen=True, slots=True)
class Holding:
    """A GPU held by one pod."""

    seconds: float
    process: Process | None


@dataclass(frozen=True, slots=True)
class Account:
    """GPU-seconds of the pool's workers by what became of them.

    `used`: attempts whose result is the Task's. `lost`: attempts whose result is not, so that the
    work was done again. `overhead`: starting, pushing, leaving, and the pause after a push of
    unknown fate, of workers that had a Task. `wasted`: workers that never had one. `idle`: GPUs
    that the pool might have had while Tasks waited and all was well; `outage`: while not.
    `lost_by` is the lost part by how the workers ended.
    """

    used: float
    lost: float
    overhead: float
    wasted: float
    idle: float
    outage: float
    lost_by: dict[str, float]


@dataclass(slots=True)
class Ledger:
    """Counts as things happen."""

    holdings: list[Holding] = field(default_factory=list)
    idle: float = 0.0
    outage: float = 0.0

    def release(self, pod: Pod, now: float) -> None:
        """A pod has given its GPU back, or its machine has gone."""
        process = pod.process
        until = process.died_at + 1.0 if process is not None and not process.alive else now
        self.holdings.append(Holding(max(0.0, min(now, until) - pod.bound_at), process))

    def vacancy(self, gpus: int, seconds: float, *, well: bool) -> None:
        """So many GPUs stood free although Tasks waited for them."""
        if well:
            self.idle += gpus * seconds
        else:
            self.outage += gpus * seconds

    def close(self) -> Account:
        """Add up."""
        used = lost = overhead = wasted = 0.0
        lost_by: dict[str, float] = {}
        for holding in self.holdings:
            attempts = holding.process.attempts if holding.process is not None else []
            if holding.process is None or not holding.process.claimed:
                wasted += holding.seconds
                continue
            counted = sum(a.seconds(a.began) for a in attempts if a.counted)
            vain = sum(a.seconds(a.began) for a in attempts if not a.counted)
            used += counted
            lost += vain
            if vain:
                word = str(holding.process.outcome)
                lost_by[word] = lost_by.get(word, 0.0) + vain
            overhead += max(0.0, holding.seconds - counted - vain)
        return Account(used, lost, overhead, wasted, self.idle, self.outage, lost_by)


def ideal_end(work: list[Work], machines: int) -> float:
    """When all would have ended, each Task once, first come first served, and nothing ever wrong.

    In seconds since the epoch.
    """
    free = [0.0] * machines
    ends: dict[str, float] = {}
    for task in sorted(work, key=lambda task: task.submitted):
        ready = max(task.submitted, ends.get(task.parent or "", 0.0))
        first = min(range(machines), key=free.__getitem__)
        free[first] = ends[task.key] = max(free[first], ready) + task.seconds
    return max(ends.values(), default=0.0)
