"""What both APIs recorded, held against what must always hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from e2e.recorder import Change, terminal, termination_messages
from simulator.views import RequestView, TaskView

_CLAIMED, _FREED = "claimed", ("released", "waiting", "restarted")
_STORED = ("result stored", "failure stored")


def most_unfinished(changes: Sequence[Change]) -> int:
    """How many Jobs there were at most whose pod had not ended.

    Resource versions come from one counter, so they order the changes of Jobs and pods.
    """
    jobs: dict[str, bool] = {}
    ended: set[str] = set()
    most = 0
    for change in sorted(changes, key=_version):
        thing = change.thing
        if change.kind == "Pod":
            owner = str(thing["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name"))
            if change.type == "DELETED" or terminal(thing):
                ended.add(owner)
        elif change.type == "DELETED":
            jobs.pop(change.name, None)
        else:
            jobs[change.name] = not thing.get("status", {}).get("conditions")
        most = max(most, sum(open_ and name not in ended for name, open_ in jobs.items()))
    return most


def crashes(changes: Sequence[Change]) -> Counter[str]:
    """How many workers ended while they held a Task, by Task."""
    messages = termination_messages(list(changes)).values()
    held = ("Holding", "TaskCrashed")
    return Counter(said["task"] for said in messages if said["outcome"] in held)


def wrongs_of_task(task: TaskView, *, may_fail: bool) -> list[str]:
    """What is wrong with how a Task went."""
    wrongs = []
    if len(task.results) != 1:
        wrongs.append(f"{task.key} is {task.status} with {len(task.results)} results")
    if task.status != "complete" and not (task.status == "error" and may_fail):
        wrongs.append(f"{task.key} ended as {task.status}{_why(task)}")
    holder: str | None = None
    for entry in task.history:
        event, service = entry["event"], entry["service"]
        if event == _CLAIMED:
            holder = service
        elif event in _FREED:
            holder = None
        elif event in _STORED and service != holder:
            wrongs.append(f"{task.key}: {service} pushed, and {holder} held it")
    return wrongs


def was_told_to_fail(task: TaskView) -> bool:
    """Whether its Protocol raised, as the stand-in's does where it is told to."""
    return any("told to raise" in text for r in task.results for text in r.tracebacks)


def _why(task: TaskView) -> str:
    said = [text.strip()[-1000:] for result in task.results for text in result.tracebacks]
    went = [f"{entry['event']} ({entry['service']})" for entry in task.history]
    return "\n  " + "\n  ".join(["; ".join(went), *said])


def wrongs_of_managers(requests: Sequence[RequestView]) -> list[str]:
    """Whether more than one manager was ever registered, or one was told to shut down."""
    registered = {
        str(request.ids.get("manager"))
        for request in requests
        if request.endpoint == "manager_register" and request.status == 200
    }
    wrongs = [] if len(registered) <= 1 else [f"several managers: {', '.join(registered)}"]
    if any(_told(request) == "SHUTDOWN" for request in requests):
        wrongs.append("the manager was told to shut down")
    return wrongs


def _told(request: RequestView) -> Any:
    return request.notes.get("instruction")


def _version(change: Change) -> int:
    return int(change.thing["metadata"]["resourceVersion"])
