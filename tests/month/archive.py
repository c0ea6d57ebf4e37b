"""Tasks that ended a while ago are put aside, so that the server's lists stay short."""

from __future__ import annotations

from collections import Counter, deque

from month.timeline import Timeline
from month.work import Work
from simulator.records import Task
from simulator.workload import Workload

KEPT = 3600.0


class Archive:
    """All Tasks, those on the server and those put aside."""

    def __init__(self, timeline: Timeline, workload: Workload) -> None:
        self._timeline = timeline
        self._workload = workload
        self._aside: dict[str, Task] = {}
        self._ended: deque[Work] = deque()

    def task(self, key: str) -> Task:
        """A Task, wherever it is."""
        return self._aside.get(key) or self._workload.tasks[key]

    def end(self, work: Work) -> None:
        """A Task has ended."""
        self._ended.append(work)

    def tidy(self) -> None:
        """Put aside what ended an hour ago, unless another Task extends it and is still there."""
        old = self._timeline.now - KEPT
        if not self._ended or (self._ended[0].ended or 0.0) > old:
            return
        needed = {task.extends for task in self._workload.tasks.values()}
        kept: deque[Work] = deque()
        while self._ended and (self._ended[0].ended or 0.0) <= old:
            work = self._ended.popleft()
            if work.key in needed:
                kept.append(work)
            elif (task := self._workload.tasks.pop(work.key, None)) is not None:
                self._aside[work.key] = task
                for hub in self._workload.hubs.values():
                    hub.actions.pop(work.key, None)
        self._ended.extendleft(reversed(kept))

    def statuses(self) -> Counter[str]:
        """How many Tasks that are not put aside have which status."""
        return Counter(task.status.value for task in self._workload.tasks.values())
