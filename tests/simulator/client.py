"""A typed client of the admin port."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from .views import HubView, ManagerView, RequestView, ResultView, ServiceView, TaskView


class AdminError(Exception):
    """The admin port refused; the text says why."""


class AdminClient:
    """Scripts and inspects a simulator. Blocking: each call is a few milliseconds on loopback."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def reset(self) -> None:
        """Forget everything: Tasks, registrations, faults, audit log, clock, changed settings."""
        self._call("POST", "/reset")

    # Tasks and hubs

    def add_tasks(
        self,
        n: int = 1,
        *,
        scope: str = "a-b-c",
        protocol: str = "StandInProtocol",
        module: str = "computepool_standin",
        name: str = "stand-in",
        seconds: float = 0.0,
        behaviour: str = "ok",
        units: int = 1,
        stand_in: dict[str, Any] | None = None,
        chain: Sequence[tuple[str, dict[str, Any]]] | None = None,
        weight: float = 0.5,
        priority: int = 10,
        extends: str | None = None,
        hubs: Sequence[str] = ("default",),
        hub_weight: float | None = None,
    ) -> list[str]:
        """Add `n` waiting Tasks and return their keys.

        `hubs` are names of hubs within the scope, made when they are new; none leaves the Tasks
        unactioned. `stand_in` adds to what the stand-in child is told; `chain` replaces the whole
        transformation. A Task that extends another has its transformation.
        """
        body = {
            "count": n,
            "scope": scope,
            "protocol": protocol,
            "module": module,
            "name": name,
            "stand_in": {"seconds": seconds, "behaviour": behaviour, "units": units}
            | (stand_in or {}),
            "chain": chain,
            "weight": weight,
            "priority": priority,
            "extends": extends,
            "hubs": list(hubs),
            "hub_weight": hub_weight,
        }
        keys: list[str] = self._call("POST", "/tasks", body)
        return keys

    def tasks(self, *, scope: str = "*-*-*", status: str | None = None) -> list[TaskView]:
        """All Tasks, or those within a scope or of a status, in the order they were added."""
        query = {"scope": scope} | ({"status": status} if status else {})
        return [TaskView.of(task) for task in self._call("GET", "/tasks", query=query)]

    def task(self, key: str) -> TaskView:
        """One Task; AdminError if there is none of that key."""
        return TaskView.of(self._call("GET", f"/tasks/{key}"))

    def counts(self) -> dict[str, int]:
        """How many Tasks there are of each status."""
        counts: dict[str, int] = {}
        for task in self.tasks():
            counts[task.status] = counts.get(task.status, 0) + 1
        return counts

    def results(self, task: str) -> list[ResultView]:
        """A Task's result entries, oldest first, each with its decoded document."""
        return [ResultView.of(entry) for entry in self._call("GET", f"/tasks/{task}/results")]

    def set_task_status(self, task: str, status: str) -> None:
        """Do what users do: set a Task to waiting, invalid or deleted."""
        self._call("POST", f"/tasks/{task}/status", {"status": status})

    def hubs(self) -> list[HubView]:
        """All hubs."""
        return [HubView.of(hub) for hub in self._call("GET", "/hubs")]

    def set_hub_weight(self, hub: str, weight: float) -> None:
        """Change a hub's weight; 0 hides its Tasks from claims, not from instructions."""
        self._call("PATCH", f"/hubs/{hub}", {"weight": weight})

    def add_restart_pattern(self, hub: str, pattern: str, max_retries: int) -> None:
        """Let failed Tasks of a hub whose traceback matches run again."""
        body = {"pattern": pattern, "max_retries": max_retries}
        self._call("POST", f"/hubs/{hub}/restart_patterns", body)

    # registrations and identities

    def services(self) -> list[ServiceView]:
        """The registered services."""
        return [ServiceView.of(service) for service in self._call("GET", "/services")]

    def managers(self) -> list[ManagerView]:
        """The registered managers."""
        return [ManagerView.of(manager) for manager in self._call("GET", "/managers")]

    def add_identity(
        self,
        identifier: str,
        key: str,
        scopes: Sequence[str] = ("*-*-*",),
        *,
        disabled: bool = False,
    ) -> None:
        """Add or replace an identity; tokens that it has keep their scopes."""
        body = {
            "identifier": identifier,
            "key": key,
            "scopes": list(scopes),
            "disabled": disabled,
        }
        self._call("POST", "/identities", body)

    def rotate_tokens(self) -> None:
        """Make all tokens so far invalid."""
        self._call("POST", "/tokens/rotate")

    # settings and time

    def settings(self) -> dict[str, Any]:
        """The settings in force; `settings.Settings` explains them."""
        settings: dict[str, Any] = self._call("GET", "/settings")
        return settings

    def set(self, **changes: Any) -> dict[str, Any]:
        """Change settings and return them all."""
        settings: dict[str, Any] = self._call("PATCH", "/settings", changes)
        return settings

    def now(self) -> float:
        """The virtual time."""
        return float(self._call("GET", "/clock")["virtual_time"])

    def advance(self, seconds: float) -> float:
        """Move the virtual time forward and return it."""
        return float(self._call("POST", "/clock/advance", {"seconds": seconds})["virtual_time"])

    # faults and the audit log

    def fault(self, endpoint: str, kind: str, **details: Any) -> int:
        """Inject a fault and return its number; the details are the fields of `faults.Fault`."""
        body = {"endpoint": endpoint, "kind": kind, **details}
        return int(self._call("POST", "/faults", body)["id"])

    def faults(self) -> list[dict[str, Any]]:
        """The faults that were injected, with how often each has struck."""
        faults: list[dict[str, Any]] = self._call("GET", "/faults")
        return faults

    def clear_faults(self, fault: int | None = None) -> None:
        """Take one fault away, or all."""
        self._call("DELETE", "/faults" if fault is None else f"/faults/{fault}")

    def audit(self, since: int = 0, *, endpoint: str | None = None) -> list[RequestView]:
        """The requests with a higher number than `since`, oldest first."""
        entries = self._call("GET", "/audit", query={"since": since})
        return [RequestView.of(e) for e in entries if endpoint in {None, e["endpoint"]}]

    def clear_audit(self) -> None:
        """Forget the requests so far."""
        self._call("DELETE", "/audit")

    def _call(
        self, method: str, path: str, body: Any = None, *, query: dict[str, Any] | None = None
    ) -> Any:
        answer = self._http.request(method, path, json=body, params=query)
        if answer.is_error:
            raise AdminError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()
