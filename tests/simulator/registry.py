"""Registrations of compute managers and services: who is here, since when, and until when."""

from collections.abc import Callable, Iterable

from .errors import BrokenError, RefusedError
from .identifiers import ComputeID, is_name
from .records import Manager, ManagerStatus, Service
from .settings import Settings


class Registry:
    """Managers and services.

    Managers are a list, since the server can hold several registrations of one name: registering
    is not atomic there. A manager's services are those that name it, whatever its uuid.
    """

    def __init__(self, release: Callable[[str], None]) -> None:
        """`release` is told the id of each service that goes, so that its Tasks are freed."""
        self._release = release
        self.managers: list[Manager] = []
        self.services: dict[str, Service] = {}

    # managers

    def manager_named(self, name: str) -> Manager | None:
        """The first registration of that name."""
        return next((m for m in self.managers if m.id.name == name), None)

    def manager(self, manager_id: ComputeID) -> Manager | None:
        """The registration of that name and uuid."""
        return next((m for m in self.managers if m.id == manager_id), None)

    def check_free(self, manager_id: ComputeID, *, steal: bool) -> None:
        """First half of registering a manager: the name must be free, or is made free.

        Stealing removes one registration that is OK, and breaks the server if there is none.
        """
        held = self.manager_named(manager_id.name)
        if steal:
            if held is None:
                raise BrokenError("steal without a registration to steal")
            self.deregister_manager(held.id)
            held = self.manager_named(manager_id.name)
        if held is not None:
            raise RefusedError(
                422,
                f"ComputeManager with this name is already registered with status {held.status}",
            )

    def add_manager(self, manager_id: ComputeID, now: float) -> None:
        """Second half of registering a manager."""
        self.managers.append(Manager(manager_id, registered=now, last_status=now))

    def deregister_manager(self, manager_id: ComputeID) -> None:
        """Remove a registration, if there is one and it is not in ERROR."""
        self.managers = [
            manager
            for manager in self.managers
            if manager.id != manager_id or manager.status is ManagerStatus.ERROR
        ]

    def clear_error(self, name: str) -> None:
        """Remove the registration of that name, which must be in ERROR."""
        if not is_name(name):
            raise BrokenError(f"not a manager's name: {name!r}")
        held = self.manager_named(name)
        if held is None or held.status is not ManagerStatus.ERROR:
            raise BrokenError(f"no manager {name} in ERROR")
        self.managers.remove(held)

    def set_status(
        self,
        manager_id: ComputeID,
        status: str,
        detail: str | None,
        saturation: float | None,
        now: float,
    ) -> None:
        """Record what a manager says of itself; RefusedError(400) if it does not add up."""
        if status not in ManagerStatus.__members__:
            raise RefusedError(400, f'"{status}" is not a valid ComputeManagerStatus')
        parsed = ManagerStatus(status)
        if parsed is ManagerStatus.OK:
            if saturation is None:
                raise RefusedError(400, "saturation is required for the 'OK' status")
            if detail:
                raise RefusedError(400, "detail should only be provided for the 'ERROR' status")
            if not 0 <= saturation <= 1:
                raise RefusedError(400, "saturation must be between 0 and 1")
        else:
            if saturation is not None:
                raise RefusedError(400, "saturation should only be provided for the 'OK' status")
            if not detail:
                raise RefusedError(400, "detail is required for the 'ERROR' status")
        manager = self.manager(manager_id)
        if manager is None:
            raise RefusedError(400, f"No record for ComputeManager: {manager_id}")
        manager.status = parsed
        manager.detail = detail
        manager.saturation = saturation
        manager.last_status = now

    def sweep_managers(self, now: float, settings: Settings) -> None:
        """Drop the managers that have said nothing for too long."""
        expiry = {
            ManagerStatus.OK: settings.manager_expiry,
            ManagerStatus.ERROR: settings.manager_error_expiry,
        }
        self.managers = [m for m in self.managers if m.last_status >= now - expiry[m.status]]

    # services

    def services_of(self, manager_name: str) -> list[Service]:
        """The services that were registered for a manager of that name."""
        return [s for s in self.services.values() if s.manager_name == manager_name]

    def register_service(self, service_id: str, manager_name: str | None, now: float) -> None:
        """Register a service; a taken id breaks the server, an unknown manager is refused."""
        if service_id in self.services:
            raise BrokenError(f"service id {service_id} is registered already")
        if manager_name is not None and self.manager_named(manager_name) is None:
            raise RefusedError(422, "Could not find ComputeManagerRegistration")
        self.services[service_id] = Service(service_id, manager_name, registered=now, heartbeat=now)

    def deregister_service(self, service_id: str) -> None:
        """Remove a service and free its Tasks; an unknown id breaks the server."""
        if service_id not in self.services:
            raise BrokenError(f"service {service_id} is not registered")
        self._drop_service(service_id)

    def heartbeat(self, service_id: str, now: float, settings: Settings) -> None:
        """Sweep every stale service, the sender included, then stamp the sender if it is left."""
        self._sweep_services(now - settings.service_expiry)
        if service_id in self.services:
            self.services[service_id].heartbeat = now

    def log_failure(self, service_id: str | None, now: float) -> None:
        """Count a failed result against a service, if it is registered."""
        if service_id in self.services:
            self.services[service_id].failures.insert(0, now)

    def may_claim(self, services: Iterable[Service], now: float, settings: Settings) -> bool:
        """Whether none of the services has failed too often of late; forgets older failures."""
        allowed = True
        for service in services:
            recent = [t for t in service.failures if t > now - settings.forgive_time]
            service.failures = recent
            allowed = allowed and len(recent) <= settings.max_failures
        return allowed

    def _sweep_services(self, oldest: float) -> None:
        for stale in [s.id for s in self.services.values() if s.heartbeat < oldest]:
            self._drop_service(stale)

    def _drop_service(self, service_id: str) -> None:
        del self.services[service_id]
        self._release(service_id)
