"""The whole state of the simulated server, and each request as one operation on it.

No HTTP and no I/O: the clock, the ids and the randomness come from outside. An operation returns
what the server would answer, or raises RefusedError (an answer with a `detail`) or BrokenError
(a 500). Operations whose reading and writing the real server does not hold together come in two
halves.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from .documents import nested_json
from .errors import BrokenError, RefusedError
from .identifiers import ComputeID, IdMaker, scope_of_key
from .records import Hub, Identity, ResultEntry
from .registry import Registry
from .results import read_document, read_push
from .scopes import Scope, minimal, visible_part
from .settings import Settings, TransformationForm
from .tokens import InvalidTokenError, TokenData, issue, read
from .workload import Workload

_NOT_FOUND = "no compute manager was found with the given manager name and UUID"
_LONGEST_KEY = 4096


class Store:
    """Identities, registrations, hubs and Tasks."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        new_id: IdMaker,
        source: random.Random,
        settings: Settings | None = None,
        secret: str | None = None,
    ) -> None:
        """`secret` signs tokens; two servers with the same one accept each other's."""
        self._now = clock
        self._new_id = new_id
        self.settings = settings or Settings()
        self.secret = secret or new_id()
        self.identities: dict[str, Identity] = {}
        self.workload = Workload(clock, new_id, source)
        self.registry = Registry(release=self.workload.release)

    # tokens and scopes

    def token(self, identifier: str, key: str) -> str:
        """Answer `POST /token`; unknown identities and over-long keys break the server."""
        identity = self.identities.get(identifier)
        if identity is None:
            raise BrokenError(f"unknown identity {identifier!r}")
        if len(key) > _LONGEST_KEY:
            raise BrokenError(f"a key of more than {_LONGEST_KEY} characters")
        if key != identity.key:
            raise RefusedError(401, "Incorrect identity or key")
        return issue(
            TokenData(identity.identifier, identity.scopes),
            secret=self.secret,
            expires_at=self._now() + self.settings.token_lifetime,
        )

    def identify(self, token: str) -> TokenData:
        """Say whose token it is; RefusedError(401) if it is expired, forged or foreign."""
        try:
            return read(token, secret=self.secret, now=self._now())
        except InvalidTokenError:
            raise RefusedError(401, "Could not validate credentials") from None

    def rotate_secret(self) -> None:
        """Make every token so far worthless, as a restart does on some servers."""
        self.secret = self._new_id()

    def scopes_of(self, identifier: str) -> list[str]:
        """Any identity's scopes; none for an unknown one."""
        identity = self.identities.get(identifier)
        return list(identity.scopes) if identity else []

    def check_scope(self, scoped_key: str, caller: TokenData) -> None:
        """A Task or hub must be within the caller's scopes: RefusedError(401) otherwise."""
        scope = scope_of_key(scoped_key)
        if not any(Scope.parse(text).contains(scope) for text in caller.scopes):
            raise RefusedError(
                401,
                f"Targeted scope '{scope}' not accessible via scopes for this identity: "
                f"{list(caller.scopes)}.",
            )

    # managers

    def manager_id(self, text: str) -> ComputeID:
        """Read a manager's id; RefusedError(422) says what is wrong with it."""
        try:
            return ComputeID.parse(text, "ComputeManagerID")
        except ValueError as error:
            raise RefusedError(422, str(error)) from None

    def check_manager_free(self, manager_id: ComputeID, *, steal: bool) -> None:
        """First half of registering a manager."""
        self.registry.check_free(manager_id, steal=steal and self.settings.obeys_steal)

    def add_manager(self, manager_id: ComputeID) -> None:
        """Second half of registering a manager."""
        self.registry.add_manager(manager_id, self._now())

    def instruction(
        self, manager: str, scopes: Sequence[Scope], protocols: Sequence[str], caller: TokenData
    ) -> dict[str, Any]:
        """OK with the number of waiting Tasks, SKIP after failures, SHUTDOWN for strangers."""
        visible = self._visible(scopes or [Scope()], caller)
        manager_id = self.manager_id(manager)
        if self.registry.manager(manager_id) is None:
            return {"message": _NOT_FOUND, "instruction": "SHUTDOWN"}
        services = self.registry.services_of(manager_id.name)
        managed = [service.id for service in services]
        if not self.registry.may_claim(services, self._now(), self.settings):
            return {"compute_service_ids": managed, "instruction": "SKIP"}
        wanted = protocols if self.settings.obeys_instruction_protocols else ()
        return {
            "compute_service_ids": managed,
            "num_tasks": self.workload.count_waiting(visible, wanted),
            "instruction": "OK",
        }

    def set_manager_status(
        self, manager: str, status: str, detail: str | None, saturation: float | None
    ) -> None:
        """Record a manager's status, then sweep every manager that has been silent too long."""
        manager_id = self.manager_id(manager)
        self.registry.set_status(manager_id, status, detail, saturation, self._now())
        self.registry.sweep_managers(self._now(), self.settings)

    # services

    def register_service(self, service: str, manager: str | None) -> None:
        """Register a service, for a manager if one is named; of the id only the name counts."""
        manager_name = self.manager_id(manager).name if manager else None
        self.check_service_id(service)
        self.registry.register_service(service, manager_name, self._now())

    def deregister_service(self, service: str) -> None:
        """Remove a service; its running Tasks wait again."""
        self.check_service_id(service)
        self.registry.deregister_service(service)

    def check_service_id(self, text: str) -> None:
        """Malformed service ids break the server (since 0.8)."""
        if not self.settings.checks_service_ids:
            return
        try:
            ComputeID.parse(text, "ComputeServiceID")
        except ValueError as error:
            raise BrokenError(str(error)) from None

    def heartbeat(self, service: str) -> None:
        """Sweep stale services, then stamp this one; strangers sweep too."""
        self.registry.heartbeat(service, self._now(), self.settings)

    # claims

    def may_claim(self, service: str) -> bool:
        """Whether a service may claim; breaks if it is not registered."""
        registered = self.registry.services.get(service)
        if registered is None:
            raise BrokenError(f"service {service} is not registered")
        return self.registry.may_claim([registered], self._now(), self.settings)

    def claimable_hubs(
        self, scopes: Sequence[Scope], excluded: Sequence[Scope], caller: TokenData
    ) -> list[Hub]:
        """The hubs that a claim draws from; no scopes, no hubs."""
        hubs = self.workload.hubs_in(self._visible(scopes, caller))
        if not self.settings.obeys_scopes_exclude:
            return hubs
        return [hub for hub in hubs if not any(scope.contains(hub.scope) for scope in excluded)]

    def visible_hubs(self, scope: Scope, caller: TokenData) -> list[Hub]:
        """Answer `GET /taskhubs`."""
        return self.workload.hubs_in(self._visible([scope], caller))

    def finish_hub_claim(self, keys: Sequence[str], service: str) -> None:
        """Second half of a claim through one hub; an unregistered service holds nothing."""
        if service in self.registry.services:
            self.workload.mark_claimed(keys, service)

    # fetching and results

    def transformation_key(self, task_key: str, caller: TokenData) -> str:
        """Answer `GET /tasks/{task}/transformation`."""
        self.check_scope(task_key, caller)
        task, _ = self.workload.task_and_parent_result(task_key)
        return f"{task.transformation.key}-{task.scope}"

    def transformation(self, task_key: str, caller: TokenData) -> list[Any]:
        """Answer `GET /tasks/{task}/transformation/gufe`.

        That is the transformation, and the result of the Task it extends (or None) as latin-1
        text of its stored bytes.
        """
        self.check_scope(task_key, caller)
        task, parent_result = self.workload.task_and_parent_result(task_key)
        previous = None
        if parent_result is not None:
            self._check_object_store()
            previous = parent_result.blob.decode("latin-1")
        chain = task.transformation.chain
        if self.settings.transformation_form is TransformationForm.JSON_STRING:
            return [nested_json(chain), previous]
        return [chain, previous]

    def push(self, task_key: str, body: bytes, caller: TokenData) -> tuple[ResultEntry, str | None]:
        """Take a result; return its entry and the service that pushed it.

        Nothing checks who holds the Task. A failed result without tracebacks breaks the server
        after the entry was stored.
        """
        blob, service = read_push(body)
        self.check_scope(task_key, caller)
        document = read_document(blob, self.settings.unimportable_modules)
        task, _ = self.workload.task_and_parent_result(task_key)
        self._check_object_store()
        assert isinstance(blob, bytes)
        entry = self.workload.store_result(task, blob, document, service)
        if document.ok:
            self.workload.complete(task)
        else:
            document.check_tracebacks()
            self.workload.fail(task)
            self.registry.log_failure(service, self._now())
            self.workload.resolve_restarts(task)
        return entry, service

    def _visible(self, scopes: Sequence[Scope], caller: TokenData) -> list[Scope]:
        return [part for scope in minimal(scopes) for part in visible_part(scope, caller.scopes)]

    def _check_object_store(self) -> None:
        if not self.settings.object_store_up:
            raise BrokenError("the object store is down")
