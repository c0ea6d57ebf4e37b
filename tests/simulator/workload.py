"""Hubs and Tasks: what waits, who claims it, and what a result changes."""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence

from .errors import BrokenError
from .identifiers import IdMaker
from .records import (
    Hub,
    RestartPattern,
    ResultEntry,
    Task,
    TaskEvent,
    TaskStatus,
    Transformation,
)
from .results import ResultDocument
from .scopes import Scope
from .selection import Candidate, choose

_FINAL = frozenset({TaskStatus.INVALID, TaskStatus.DELETED})
_PROTOCOL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")


def check_protocols(protocols: Iterable[str]) -> None:
    """Protocols are asked for by bare class name; anything else breaks the server."""
    for protocol in protocols:
        if not _PROTOCOL.fullmatch(protocol):
            raise BrokenError(f"not a protocol's class name: {protocol!r}")


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Workload:
    """All hubs and Tasks."""

    def __init__(self, clock: Callable[[], float], new_id: IdMaker, source: random.Random) -> None:
        self._now = clock
        self._new_id = new_id
        self._random = source
        self.hubs: dict[str, Hub] = {}
        self.tasks: dict[str, Task] = {}

    # what users of the server do

    def hub(self, scope: Scope, name: str) -> Hub:
        """The hub of the network of that name in that scope, made if it is new.

        A hub's key is a digest of its network's, as on the server.
        """
        network = f"AlchemicalNetwork-{_digest(f'{name} in {scope}')}-{scope}"
        key = f"TaskHub-{_digest(network)}-{scope}"
        return self.hubs.setdefault(key, Hub(key, network, scope))

    def add_task(
        self,
        scope: Scope,
        transformation: Transformation,
        *,
        priority: int = 10,
        extends: str | None = None,
    ) -> Task:
        """Add a Task that waits, on no hub yet; KeyError if it extends an unknown Task."""
        if extends is not None:
            transformation = self.tasks[extends].transformation
        key = f"Task-{self._new_id()}-{scope}"
        task = Task(key, scope, transformation, priority=priority, extends=extends)
        self.tasks[key] = task
        self._note(task, "created")
        return task

    def action(self, task: Task, hub: Hub, weight: float = 0.5) -> None:
        """Put a Task on a hub; the hub's restart patterns apply to it from now on."""
        hub.actions[task.key] = weight
        for pattern in hub.patterns:
            pattern.retries.setdefault(task.key, 0)

    def add_restart_pattern(self, hub: Hub, pattern: str, max_retries: int) -> None:
        """Let Tasks of a hub run again when their traceback matches; they apply to all on it."""
        hub.patterns.append(RestartPattern(pattern, max_retries, dict.fromkeys(hub.actions, 0)))

    def set_status(self, task: Task, status: TaskStatus) -> None:
        """What a user does to a Task: waiting (from error or running), invalid or deleted.

        The last two take everything that extends the Task with them, and there is no way back.
        ValueError for what the server does not let users do.
        """
        if task.status in _FINAL:
            raise ValueError(f"a Task that is {task.status} stays so")
        if status is TaskStatus.WAITING:
            if task.status not in {TaskStatus.WAITING, TaskStatus.RUNNING, TaskStatus.ERROR}:
                raise ValueError(f"a Task that is {task.status} cannot be set to {status}")
            self._drop_claim(task)
        elif status in _FINAL:
            for child in self.tasks.values():
                if child.extends == task.key and child.status not in _FINAL:
                    self.set_status(child, status)
            self._take_off_hubs(task)
            self._drop_claim(task)
        else:
            raise ValueError(f"a user cannot set a Task to {status}")
        self._move(task, status)

    # what the compute API does

    def count_waiting(self, scopes: Sequence[Scope], protocols: Sequence[str]) -> int:
        """How many Tasks an instruction counts: waiting, on a hub, parent done, in scope."""
        actioned = {key for hub in self.hubs.values() for key in hub.actions}
        counted: set[str] = set()
        for scope in scopes:
            check_protocols(protocols)
            counted |= {
                task.key
                for task in self.tasks.values()
                if task.key in actioned
                and scope.contains(task.scope)
                and self._is_ready(task)
                and self._matches(task, protocols or None)
            }
        return len(counted)

    def hubs_in(self, scopes: Iterable[Scope]) -> list[Hub]:
        """The hubs inside any of the scopes, in the order of scope and key."""
        wanted = list(scopes)
        found = [h for h in self.hubs.values() if any(s.contains(h.scope) for s in wanted)]
        return sorted(found, key=lambda hub: (hub.scope.parts, hub.key))

    def draw_hub(self, hubs: Sequence[Hub]) -> Hub | None:
        """Draw a hub by weight; None if no weight is left."""
        if not any(hub.weight for hub in hubs):
            return None
        return self._random.choices(hubs, weights=[hub.weight for hub in hubs])[0]

    def select(self, hub_key: str, count: int, protocols: Sequence[str] | None) -> list[str]:
        """First half of a claim through one hub: the Tasks to hand out."""
        if protocols is not None:
            if not protocols:
                raise BrokenError("an empty list of protocols")
            check_protocols(protocols)
        hub = self.hubs.get(hub_key)
        if hub is None:
            return []
        candidates = [
            Candidate(task.key, task.priority, weight)
            for task, weight in ((self.tasks[key], w) for key, w in hub.actions.items())
            if weight > 0 and self._is_ready(task) and self._matches(task, protocols)
        ]
        return choose(candidates, count, self._random)

    def mark_claimed(self, keys: Iterable[str], service_id: str) -> None:
        """Second half of a claim: those that nobody holds become the service's and run."""
        for task in (self.tasks[key] for key in keys):
            if task.claimed_by is None:
                task.claimed_by = service_id
                self._move(task, TaskStatus.RUNNING, "claimed", service_id)

    def release(self, service_id: str) -> None:
        """A service is gone: what it was running waits again."""
        for task in self.tasks.values():
            if task.claimed_by == service_id:
                task.claimed_by = None
                if task.status is TaskStatus.RUNNING:
                    self._move(task, TaskStatus.WAITING, "released", service_id)

    def task_and_parent_result(self, task_key: str) -> tuple[Task, ResultEntry | None]:
        """A Task, and the result it extends; breaks on unknown Tasks and on several results."""
        task = self.tasks.get(task_key)
        if task is None:
            raise BrokenError(f"no such Task: {task_key}")
        results = self.tasks[task.extends].results if task.extends else []
        if len(results) > 1:
            raise BrokenError(f"{task_key} extends {task.extends}, which has several results")
        return task, results[0] if results else None

    def store_result(
        self, task: Task, blob: bytes, document: ResultDocument, creator: str | None
    ) -> ResultEntry:
        """Store one more result entry, whatever the Task's status."""
        entry = ResultEntry(
            key=f"ProtocolDAGResultRef-{self._new_id()}",
            document_key=document.key,
            ok=document.ok,
            creator=creator,
            pushed=self._now(),
            blob=blob,
            tracebacks=document.tracebacks,
        )
        task.results.append(entry)
        self._note(task, "result stored" if entry.ok else "failure stored", creator)
        return entry

    def complete(self, task: Task) -> None:
        """A good result came: a running Task is complete, off all hubs, its claim dropped."""
        if task.status in {TaskStatus.RUNNING, TaskStatus.COMPLETE}:
            self._take_off_hubs(task)
            self._drop_claim(task)
            self._move(task, TaskStatus.COMPLETE)

    def fail(self, task: Task) -> None:
        """A failed result came: a running Task is in error, its claim dropped."""
        if task.status in {TaskStatus.RUNNING, TaskStatus.ERROR}:
            self._drop_claim(task)
            self._move(task, TaskStatus.ERROR)

    def resolve_restarts(self, task: Task) -> None:
        """Let the restart patterns decide on a Task in error.

        On each hub with patterns the Task stays if one matches and none that matches is used up;
        otherwise it is taken off that hub. It waits again if it is left on any such hub.
        """
        if task.status is not TaskStatus.ERROR:
            return
        tracebacks = next((e.tracebacks for e in reversed(task.results) if e.tracebacks), ())
        stays = False
        for hub in self.hubs.values():
            applied = [pattern for pattern in hub.patterns if task.key in pattern.retries]
            if not applied:
                continue
            matching = [p for p in applied if any(re.search(p.pattern, t) for t in tracebacks)]
            if matching and all(p.retries[task.key] < p.max_retries for p in matching):
                stays = True
                for pattern in matching:
                    pattern.retries[task.key] += 1
            else:
                self._take_off(task, hub)
        if stays:
            self._move(task, TaskStatus.WAITING, "restarted")

    def _is_ready(self, task: Task) -> bool:
        parent_done = task.extends is None or self.tasks[task.extends].status is TaskStatus.COMPLETE
        return task.status is TaskStatus.WAITING and parent_done

    @staticmethod
    def _matches(task: Task, protocols: Sequence[str] | None) -> bool:
        return protocols is None or not task.transformation.labels.isdisjoint(protocols)

    def _take_off_hubs(self, task: Task) -> None:
        for hub in self.hubs.values():
            self._take_off(task, hub)

    @staticmethod
    def _take_off(task: Task, hub: Hub) -> None:
        hub.actions.pop(task.key, None)
        for pattern in hub.patterns:
            pattern.retries.pop(task.key, None)

    @staticmethod
    def _drop_claim(task: Task) -> None:
        task.claimed_by = None

    def _move(
        self, task: Task, status: TaskStatus, event: str | None = None, service: str | None = None
    ) -> None:
        if task.status is not status:
            task.status = status
            self._note(task, event or status.value, service)

    def _note(self, task: Task, event: str, service: str | None = None) -> None:
        task.history.append(TaskEvent(self._now(), event, service))
