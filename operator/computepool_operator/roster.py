"""The workers of one pool, each read once for every change of its Job or pod."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .reading import pair, read_worker
from .workers import Worker

Object = Mapping[str, Any]


class Roster:
    """Remembers what was read from which objects.

    A pool of a thousand workers has thousands of events while they start, and reading all of its
    Jobs and pods takes tens of milliseconds. The objects must not be changed, only replaced.
    """

    def __init__(self, read: Callable[[Object, Object | None], Worker] = read_worker) -> None:
        self._read = read
        self._known: dict[str, tuple[Object, Object | None, Worker]] = {}

    def workers(self, jobs: Iterable[Object], pods: Iterable[Object]) -> tuple[Worker, ...]:
        """Read Jobs and their pods into workers, one for each Job, in order of name."""
        before, self._known = self._known, {}
        for job, pod in pair(jobs, pods):
            uid = job["metadata"]["uid"]
            known = before.get(uid)
            if known is None or known[0] is not job or known[1] is not pod:
                known = job, pod, self._read(job, pod)
            self._known[uid] = known
        found = (worker for _job, _pod, worker in self._known.values())
        return tuple(sorted(found, key=lambda worker: worker.name))
