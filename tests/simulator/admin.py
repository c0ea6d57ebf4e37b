"""The admin port: tests add work, look at everything, set, advance and break things.

JSON in and out; 400 with a `detail` for what cannot be done, 404 for what is not there.
"""

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from starlette.requests import Request

from .admin_bodies import (
    Advance,
    HubChange,
    NewFault,
    NewIdentity,
    NewPattern,
    NewStatus,
    NewTasks,
)
from .documents import transformation_chain, transformation_of
from .faults import Fault
from .records import Hub, Identity, Manager, Service, Task
from .results import read_chain
from .scopes import Scope
from .simulator import Simulator


def make_admin(simulator: Simulator) -> FastAPI:
    """The application behind the admin port."""
    admin = FastAPI(title="Simulator admin", openapi_url=None)
    admin.add_exception_handler(ValueError, _impossible)
    admin.add_exception_handler(TypeError, _impossible)
    admin.add_exception_handler(KeyError, _missing)
    port = _Port(simulator)
    for method, path, handler in (
        ("GET", "/state", port.state),
        ("POST", "/reset", port.reset),
        ("GET", "/tasks", port.tasks),
        ("POST", "/tasks", port.add_tasks),
        ("GET", "/tasks/{task}", port.task),
        ("POST", "/tasks/{task}/status", port.set_status),
        ("GET", "/tasks/{task}/results", port.results),
        ("GET", "/hubs", port.hubs),
        ("PATCH", "/hubs/{hub}", port.change_hub),
        ("POST", "/hubs/{hub}/restart_patterns", port.add_pattern),
        ("GET", "/services", port.services),
        ("GET", "/managers", port.managers),
        ("POST", "/identities", port.add_identity),
        ("POST", "/tokens/rotate", port.rotate_tokens),
        ("GET", "/settings", port.settings),
        ("PATCH", "/settings", port.change_settings),
        ("GET", "/clock", port.clock),
        ("POST", "/clock/advance", port.advance),
        ("GET", "/faults", port.faults),
        ("POST", "/faults", port.add_fault),
        ("DELETE", "/faults", port.clear_faults),
        ("DELETE", "/faults/{fault}", port.clear_fault),
        ("GET", "/audit", port.audit),
        ("DELETE", "/audit", port.clear_audit),
    ):
        admin.add_api_route(path, handler, methods=[method])
    return admin


async def _impossible(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 400)


async def _missing(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"there is no {error.args[0]!r}"}, 404)


class _Port:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    # everything

    async def state(self) -> dict[str, Any]:
        return {
            "virtual_time": self._simulator.clock.now(),
            "tasks": await self.tasks(),
            "hubs": await self.hubs(),
            "services": await self.services(),
            "managers": await self.managers(),
        }

    async def reset(self) -> None:
        self._simulator.reset()

    # Tasks and hubs

    async def tasks(self, scope: str = "*-*-*", status: str | None = None) -> list[dict[str, Any]]:
        wanted = Scope.parse(scope)
        return [
            _task_view(task, self._simulator)
            for task in self._simulator.store.workload.tasks.values()
            if wanted.contains(task.scope) and status in {None, task.status.value}
        ]

    async def task(self, task: str) -> dict[str, Any]:
        return _task_view(self._simulator.store.workload.tasks[task], self._simulator)

    async def add_tasks(self, body: NewTasks) -> list[str]:
        workload = self._simulator.store.workload
        scope = Scope.parse(body.scope)
        if None in scope.parts:
            raise ValueError(f"a Task's scope has no wildcard: {scope}")
        hubs = [workload.hub(scope, name) for name in body.hubs]
        for hub in hubs:
            hub.weight = hub.weight if body.hub_weight is None else body.hub_weight
        transformation = transformation_of(
            body.chain
            or transformation_chain(
                protocol=body.protocol, module=body.module, name=body.name, stand_in=body.stand_in
            )
        )
        keys = []
        for _ in range(body.count):
            task = workload.add_task(
                scope, transformation, priority=body.priority, extends=body.extends
            )
            for hub in hubs:
                workload.action(task, hub, body.weight)
            keys.append(task.key)
        return keys

    async def set_status(self, task: str, body: NewStatus) -> None:
        workload = self._simulator.store.workload
        workload.set_status(workload.tasks[task], body.status)

    async def results(self, task: str) -> list[dict[str, Any]]:
        return [
            {
                "key": entry.key,
                "document_key": entry.document_key,
                "ok": entry.ok,
                "creator": entry.creator,
                "pushed": entry.pushed,
                "tracebacks": entry.tracebacks,
                "document": read_chain(entry.blob),
            }
            for entry in self._simulator.store.workload.tasks[task].results
        ]

    async def hubs(self) -> list[dict[str, Any]]:
        return [_hub_view(hub) for hub in self._simulator.store.workload.hubs.values()]

    async def change_hub(self, hub: str, body: HubChange) -> None:
        self._simulator.store.workload.hubs[hub].weight = body.weight

    async def add_pattern(self, hub: str, body: NewPattern) -> None:
        workload = self._simulator.store.workload
        workload.add_restart_pattern(workload.hubs[hub], body.pattern, body.max_retries)

    # registrations

    async def services(self) -> list[dict[str, Any]]:
        now = self._simulator.clock.now()
        services = self._simulator.store.registry.services.values()
        return [_service_view(service, now, self._simulator) for service in services]

    async def managers(self) -> list[dict[str, Any]]:
        now = self._simulator.clock.now()
        return [_manager_view(m, now) for m in self._simulator.store.registry.managers]

    async def add_identity(self, body: NewIdentity) -> None:
        for scope in body.scopes:
            Scope.parse(scope)
        self._simulator.store.identities[body.identifier] = Identity(
            body.identifier, body.key, tuple(body.scopes), body.disabled
        )

    async def rotate_tokens(self) -> None:
        self._simulator.store.rotate_secret()

    # settings and time

    async def settings(self) -> dict[str, Any]:
        return asdict(self._simulator.store.settings)

    async def change_settings(self, body: dict[str, Any]) -> dict[str, Any]:
        store = self._simulator.store
        store.settings = store.settings.changed(body)
        return await self.settings()

    async def clock(self) -> dict[str, float]:
        clock = self._simulator.clock
        return {"virtual_time": clock.now(), "offset": clock.offset}

    async def advance(self, body: Advance) -> dict[str, float]:
        self._simulator.clock.advance(body.seconds)
        return await self.clock()

    # faults and the audit log

    async def faults(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._simulator.faults.faults]

    async def add_fault(self, body: NewFault) -> dict[str, Any]:
        return asdict(self._simulator.faults.add(Fault(**body.model_dump())))

    async def clear_faults(self) -> None:
        self._simulator.faults.clear()

    async def clear_fault(self, fault: int) -> None:
        if all(known.id != fault for known in self._simulator.faults.faults):
            raise HTTPException(404, f"there is no fault {fault}")
        self._simulator.faults.clear(fault)

    async def audit(self, since: int = 0) -> list[dict[str, Any]]:
        return self._simulator.audit.entries(since)

    async def clear_audit(self) -> None:
        self._simulator.audit.clear()


def _task_view(task: Task, simulator: Simulator) -> dict[str, Any]:
    return {
        "key": task.key,
        "scope": str(task.scope),
        "status": task.status,
        "priority": task.priority,
        "extends": task.extends,
        "transformation_key": task.transformation.key,
        "claimed_by": task.claimed_by,
        "hubs": [h.key for h in simulator.store.workload.hubs.values() if task.key in h.actions],
        "results": [
            {
                "key": entry.key,
                "ok": entry.ok,
                "creator": entry.creator,
                "pushed": entry.pushed,
                "tracebacks": entry.tracebacks,
            }
            for entry in task.results
        ],
        "history": [asdict(event) for event in task.history],
    }


def _hub_view(hub: Hub) -> dict[str, Any]:
    return {
        "key": hub.key,
        "network": hub.network,
        "scope": str(hub.scope),
        "weight": hub.weight,
        "actions": hub.actions,
        "restart_patterns": [asdict(pattern) for pattern in hub.patterns],
    }


def _service_view(service: Service, now: float, simulator: Simulator) -> dict[str, Any]:
    return {
        "id": service.id,
        "manager_name": service.manager_name,
        "registered": service.registered,
        "heartbeat": service.heartbeat,
        "heartbeat_age": now - service.heartbeat,
        "failures": service.failures,
        "claims": [
            task.key
            for task in simulator.store.workload.tasks.values()
            if task.claimed_by == service.id
        ],
    }


def _manager_view(manager: Manager, now: float) -> dict[str, Any]:
    return {
        "id": str(manager.id),
        "name": manager.id.name,
        "uuid": manager.id.uuid,
        "status": manager.status,
        "detail": manager.detail,
        "saturation": manager.saturation,
        "registered": manager.registered,
        "last_status": manager.last_status,
        "status_age": now - manager.last_status,
    }
