"""Jobs whose pool is gone for good, and which of them may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .names import POOL_UID_LABEL
from .reading import read_workers


@dataclass(frozen=True, slots=True)
class Stray:
    """A Job whose worker has ended, of a pool that does not exist any more."""

    namespace: str
    name: str
    uid: str


def finished_strays(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], pools: Collection[str]
) -> tuple[Stray, ...]:
    """The Jobs to delete: their worker has ended, and no pool has the UID in their label.

    A pool goes without its Jobs when its finalizer is removed by hand. Workers that have not ended
    may hold a Task, and are left to finish it.

    Args:
        jobs: Jobs of any pools.
        pods: their pods.
        pools: UIDs of all pools, listed later than the Jobs were seen: a pool is older than its
            Jobs, so one that was not listed then was gone, and not still to come.

    """
    lost = {
        job["metadata"]["uid"]: job
        for job in jobs
        if job["metadata"]["labels"][POOL_UID_LABEL] not in pools
    }
    ended = (worker for worker in read_workers(lost.values(), pods) if worker.end)
    return tuple(
        Stray(lost[worker.uid]["metadata"]["namespace"], worker.name, worker.uid)
        for worker in ended
    )
