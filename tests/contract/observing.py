"""The state after a case, in the same words as the recording tells it.

A recording says as much of the state as the case is about, and its shape says what it is.
"""

import re
from collections import Counter
from collections.abc import Container
from typing import Any

from simulator.client import AdminClient
from simulator.views import TaskView

from .recordings import Case


def observe(case: Case, path: str, admin: AdminClient) -> Any:
    """Look at what `case.after` tells of; `path` names the ids it is about."""
    match case.after:
        case str():
            return admin.task(_key_in(path)).status
        case int():
            return len(_managers(admin, path))
        case {"task_status": _, **rest}:
            return _task_state(admin, admin.task(_key_in(path)), rest)
        case dict():
            return _overview(admin, case.after)
        case [{"u": _}, *_]:
            return _managers(admin, path)
        case [{"manager_name": name, "n": _}]:
            served = [s for s in admin.services() if s.manager_name == name]
            return [{"manager_name": name, "n": len(served)}]
        case [{"n": _}]:
            return [{"n": sum(service.id in path for service in admin.services())}]
        case [{"failures": _}]:
            return [{"failures": len(service.failures)} for service in admin.services()]
        case [str(first), *_] if ":" in first:
            return _manager_words(admin)
        case [] if path.startswith("/computemanager/"):
            return _managers(admin, path)
        case [] if case.name.startswith("svc-"):
            return [service.id for service in admin.services() if service.id in path]
        case list():
            return _service_names(admin)
    raise AssertionError(f"{case.name}: cannot tell what its `after` is: {case.after!r}")


def _task_state(admin: AdminClient, task: TaskView, rest: Container[object]) -> dict[str, Any]:
    state: dict[str, Any] = {
        "task_status": task.status,
        "claimed_by": [task.claimed_by] if task.claimed_by else [],
        "result_refs": [{"ok": entry.ok, "creator": entry.creator} for entry in task.results],
    }
    if "hubs" in rest:
        state["hubs"] = len(task.hubs)
    if "svc" in rest:
        pusher = task.results[-1].creator
        failures = [len(s.failures) for s in admin.services() if s.id == pusher]
        state["svc"] = [{"failures": count} for count in failures]
    return state


def _overview(admin: AdminClient, recorded: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for word in recorded:
        if word == "services":
            state[word] = _service_names(admin)
        elif word == "managers":
            state[word] = _manager_words(admin)
    if recorded.keys() - state.keys():
        state |= Counter(task.status for task in admin.tasks())
    return state


def _managers(admin: AdminClient, path: str) -> list[dict[str, Any]]:
    name = path.split("/")[2].partition("-")[0]
    return [
        {"u": m.uuid, "status": m.status, "detail": m.detail, "saturation": m.saturation}
        for m in admin.managers()
        if m.name == name
    ]


def _manager_words(admin: AdminClient) -> list[str]:
    return sorted(f"{manager.name}:{manager.status}" for manager in admin.managers())


def _service_names(admin: AdminClient) -> list[str]:
    return sorted(service.id.partition("-")[0] for service in admin.services())


def _key_in(path: str) -> str:
    found = re.search(r"(Task-[^/]+)", path)
    assert found is not None, path
    return found.group(1)
