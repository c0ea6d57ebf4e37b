"""The compute-manager protocol, for any platform.

A `ComputeManager` asks the server for an instruction, plans, has a backend create and remove
services, and answers the server. Whoever wants a manager for another platform writes a
`ComputeServiceBackend`: how a service is created there, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from computepool_api import errors
from computepool_api.endpoints import TASKHUBS
from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.models import Instruction, OkInstruction, ShutdownInstruction, SkipInstruction
from computepool_api.scope import Scope, scope_of_hub
from computepool_api.service_client import ComputeServiceClient

from .memory import Memory
from .orders import Orders
from .plan import Observation, Plan, Unknown, Verdict, is_halted, plan, saturation
from .pool import RESUME_ANNOTATION, InstructionName, PoolSpec
from .reasons import Reason
from .workers import Departed, Worker, WorkerCounts, count

STEAL = "steal"
"""How the value of the resume annotation begins by which a person lets a pool take its manager's
name from whoever holds it: `steal`, `steal-again`, and so on."""

LONGEST_SERIES = timedelta(seconds=60)
"""So long one cycle goes on removing or deregistering one after the other; then the next does."""

_UNASKED = Unknown(Reason.SHUT_DOWN_BY_SERVER, "the server has not been asked")


class BackendUnavailable(Exception):
    """The platform can't say what exists, or did not answer: nothing may be decided.

    `created` services had been created before.
    """

    def __init__(self, message: str, created: int = 0) -> None:
        super().__init__(message)
        self.created = created


class BackendRefused(Exception):
    """The platform refuses to create services; the message is the platform's own.

    `created` services had been created before.
    """

    def __init__(self, message: str, created: int = 0) -> None:
        super().__init__(message)
        self.created = created


class ComputeServiceBackend(ABC):
    """Where compute services live."""

    @abstractmethod
    async def workers(self) -> tuple[Worker, ...]:
        """All services of this manager, finished ones too as long as they are kept.

        Raises:
            BackendUnavailable: they can't be known now. Never answer with fewer than there are.

        """

    def departed(self) -> tuple[Departed, ...]:
        """Services whose processes the platform does not list any more; none where that is moot."""
        return ()

    def orphans(self) -> tuple[ComputeServiceID, ...]:
        """Services at work that `workers` does not list any more; none where that is moot."""
        return ()

    @abstractmethod
    async def create(self, number: int, orders: Orders) -> int:
        """Create so many services; return how many were created.

        Raises:
            BackendRefused: the platform will not have them; some may have been created.
            BackendUnavailable: no answer.

        """

    @abstractmethod
    async def remove(self, worker: Worker) -> None:
        """Remove a service, gracefully if it runs; without effect if it is gone.

        Raises:
            BackendUnavailable: no answer, or refused.

        """


class Clock(Protocol):
    """Tells the time."""

    def __call__(self) -> datetime:
        """The present, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle found and did.

    `registered` and `instruction` are None where the server was not asked or did not answer.
    `settling`: services are left behind that must not be deregistered yet. `again`: there is more
    to do, so the next cycle begins at once.
    """

    verdict: Verdict
    memory: Memory
    counts: WorkerCounts | None = None
    registered: bool | None = None
    instruction: InstructionName | None = None
    saturation: float | None = None
    completed: bool = False
    settling: bool = False
    again: bool = False


class ComputeManager:
    """One compute manager: a registration on the server and a fleet of services."""

    def __init__(
        self,
        manager_id: ComputeManagerID,
        managers: ComputeManagerClient,
        services: ComputeServiceClient,
        backend: ComputeServiceBackend,
        *,
        service_prefix: str,
        clock: Clock,
        log: Callable[[str, dict[str, object]], None],
    ) -> None:
        self.manager_id = manager_id
        self._managers = managers
        self._services = services
        self._backend = backend
        self._service_prefix = service_prefix
        self._clock = clock
        self._log = log

    async def cycle(
        self, spec: PoolSpec, memory: Memory, generation: int, *, resume: str = ""
    ) -> CycleResult:
        """Observe, plan, act and answer, once. Raises nothing that a caller could mend.

        Args:
            spec: the pool's spec.
            memory: what the last cycle left.
            generation: of the spec.
            resume: value of the resume annotation.

        """
        try:
            workers = await self._backend.workers()
        except BackendUnavailable as error:
            return CycleResult(Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error)), memory)
        seen = Observation(
            workers=workers,
            instruction=_UNASKED,
            generation=generation,
            departed=self._backend.departed(),
            orphans=self._backend.orphans(),
            resume=resume,
            service_prefix=self._service_prefix,
        )
        try:
            return await self._cycle(spec, seen, memory)
        except errors.ComputeAPIError as error:
            registered = False if isinstance(error, errors.ManagerNameTaken) else None
            if memory.resume is None:
                memory = replace(memory, resume=resume)
            return CycleResult(
                verdict_on(error), memory, counts=count(workers), registered=registered
            )

    async def _cycle(self, spec: PoolSpec, seen: Observation, memory: Memory) -> CycleResult:
        # What a pool already says when it is first seen is no person's word about what is now.
        resumed = memory.resume not in (None, seen.resume) and bool(seen.resume)
        halted = is_halted(memory, seen.generation) and not resumed
        if not halted and (memory.reported_at is None or memory.halt is not None):
            steal = resumed and seen.resume.startswith(STEAL)
            memory = await self._enter(memory, steal=steal)
        seen = replace(seen, instruction=_UNASKED if halted else await self._instruction(spec))
        decided = plan(spec, seen, memory, self._clock())
        if decided.renew:
            memory = await self._enter(memory, steal=False)
            seen = replace(seen, instruction=await self._instruction(spec))
            decided = plan(spec, seen, memory, self._clock())
        return await self._act(spec, decided, seen.instruction)

    async def _instruction(self, spec: PoolSpec) -> Instruction:
        """Ask the server, about exactly the Tasks that the pool's services can claim.

        An instruction knows no exclusions, so with `scopesExclude` it is asked about the scopes of
        the hubs that are left.
        """
        scopes = [Scope.parse(scope) for scope in spec.scopes]
        if not spec.scopes_exclude:
            return await self._managers.instruction(self.manager_id, scopes, spec.protocols)
        left = await self._hub_scopes(spec, scopes)
        # An empty list would mean everything (trap 5).
        answer = await self._managers.instruction(self.manager_id, left or scopes, spec.protocols)
        if isinstance(answer, OkInstruction) and not left:
            return replace(answer, num_tasks=0)
        return answer

    async def _hub_scopes(self, spec: PoolSpec, scopes: list[Scope]) -> list[Scope]:
        excluded = [Scope.parse(scope) for scope in spec.scopes_exclude]
        keys = await self._managers.taskhubs()
        try:
            hubs = {scope_of_hub(key) for key in keys}
        except ValueError as error:
            raise errors.UnexpectedAnswer(TASKHUBS.name, status=200, detail=str(error)) from None
        return sorted(
            (
                hub
                for hub in hubs
                if any(scope.contains(hub) for scope in scopes)
                and not any(scope.contains(hub) for scope in excluded)
            ),
            key=str,
        )

    async def _enter(self, memory: Memory, *, steal: bool) -> Memory:
        """Register, or find that our registration still stands.

        Raises:
            ManagerNameTaken: somebody else has the name, and no person has said to take it.

        """
        try:
            await self._managers.register(self.manager_id)
            self._log("manager registered", {"compute_manager_id": str(self.manager_id)})
        except errors.ManagerNameTaken as taken:
            # Is it ourselves, before a restart? The name and the uuid must both be ours.
            answer = await self._managers.instruction(self.manager_id, [], [])
            if not isinstance(answer, ShutdownInstruction):
                self._log("manager adopted", {"compute_manager_id": str(self.manager_id)})
            elif steal:
                await self._take_over(taken)
            else:
                raise
        return replace(memory, halt=None, reported_at=self._clock())

    async def _take_over(self, taken: errors.ManagerNameTaken) -> None:
        """Take the name from a holder that a person has declared dead."""
        if taken.held_status == "ERROR":
            await self._managers.clear_error(self.manager_id.name)
        await self._managers.register(self.manager_id, steal=True)
        self._log("manager name taken over", {"compute_manager_id": str(self.manager_id)})

    async def _act(
        self, spec: PoolSpec, decided: Plan, instruction: Instruction | Unknown
    ) -> CycleResult:
        reaped = await self._reap(decided.reap)
        verdict, created = await self._change(decided)
        registered = isinstance(instruction, OkInstruction | SkipInstruction)
        memory, answer, completed = decided.memory, None, True
        try:
            if decided.error is not None:
                await self._managers.report_error(self.manager_id, decided.error)
                memory = replace(memory, reported_at=self._clock())
            elif decided.saturation is not None:
                active = decided.counts.active + created
                answer = saturation(active, spec.max_compute_services)
                await self._managers.report_ok(self.manager_id, answer)
                memory = replace(memory, reported_at=self._clock())
        except errors.ComputeAPIError as error:
            verdict, answer, completed = verdict_on(error), None, False
            registered = registered and not isinstance(error, errors.ManagerNotRegistered)
        return CycleResult(
            verdict=verdict,
            memory=memory,
            counts=_with_created(decided.counts, created),
            registered=registered,
            instruction=_name(instruction),
            saturation=answer,
            completed=completed,
            settling=decided.settling,
            again=decided.again or reaped,
        )

    async def _change(self, decided: Plan) -> tuple[Verdict, int]:
        """Remove and create services; the verdict on it, and how many were created.

        What is to go goes first: where the number of Jobs is limited, it makes room.
        """
        verdict, created = decided.verdict, 0
        until = self._clock() + LONGEST_SERIES
        for worker in (*decided.remove, *decided.prune):
            if self._clock() >= until:
                break
            try:
                await self._backend.remove(worker)
            except BackendUnavailable as error:
                # One that can't be removed must not keep the others.
                verdict = Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error))
        try:
            if decided.create_workers:
                orders = Orders(decided.avoid_nodes, decided.poison)
                created = await self._backend.create(decided.create_workers, orders)
        except BackendRefused as error:
            verdict, created = Verdict(Reason.JOBS_REFUSED, str(error)), error.created
        except BackendUnavailable as error:
            verdict, created = Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error)), error.created
        return verdict, created

    async def _reap(self, services: Sequence[ComputeServiceID]) -> bool:
        """Deregister services of ended workers; whether any was still registered.

        What fails is left to the next cycle, and so are all others of a server that is away.
        """
        reaped = False
        until = self._clock() + LONGEST_SERIES
        for service in services:
            if self._clock() >= until:
                break
            facts: dict[str, object] = {"service": str(service)}
            try:
                if await self._services.deregister(service):
                    self._log("service of an ended worker deregistered", facts)
                    reaped = True
            except errors.ComputeAPIError as error:
                self._log(
                    "service of an ended worker not deregistered", {**facts, "error": str(error)}
                )
                if isinstance(error, errors.Unavailable):
                    break
        return reaped

    async def leave(self) -> None:
        """Deregister whatever is still registered under this manager, then the manager.

        To be called when no service of it can be alive any more.

        Raises:
            ComputeAPIError: the server could not be told everything.

        """
        answer = await self._managers.instruction(self.manager_id, [], [])
        if isinstance(answer, OkInstruction | SkipInstruction):
            for service in answer.compute_service_ids:
                try:
                    service_id = ComputeServiceID.parse(service)
                except ValueError:
                    continue  # not one of ours: our backends make ids of one form only
                await self._services.deregister(service_id)
        try:
            # A manager in ERROR stays registered when it deregisters (trap 24).
            await self._managers.report_ok(self.manager_id, 0.0)
        except errors.ManagerNotRegistered:
            return
        await self._managers.deregister(self.manager_id)
        self._log("manager deregistered", {"compute_manager_id": str(self.manager_id)})


def _with_created(counts: WorkerCounts, created: int) -> WorkerCounts:
    return replace(counts, pending=counts.pending + created)


def _name(instruction: Instruction | Unknown) -> InstructionName | None:
    match instruction:
        case OkInstruction():
            return "OK"
        case SkipInstruction():
            return "SKIP"
        case ShutdownInstruction():
            return "SHUTDOWN"
        case Unknown():
            return None


def verdict_on(error: errors.ComputeAPIError) -> Verdict:
    """What a failed call to the server means for the pool."""
    match error:
        case errors.CredentialsRefused() | errors.ScopeRefused():
            reason = Reason.CREDENTIALS_REFUSED
        case errors.ManagerNameTaken(held_status="ERROR"):
            reason = Reason.MANAGER_IN_ERROR
        case errors.ManagerNameTaken():
            reason = Reason.MANAGER_NAME_TAKEN
        case errors.InvalidRequest():
            reason = Reason.REQUEST_REFUSED
        case errors.UnexpectedAnswer():
            reason = Reason.COMPUTE_API_UNEXPECTED
        case errors.ManagerNotRegistered():
            reason = Reason.NOT_REGISTERED
        case _:
            reason = Reason.COMPUTE_API_UNAVAILABLE
    return Verdict(reason, f"{error} {_FOR_PEOPLE.get(reason, '')}".rstrip())


_TAKE_OVER = (
    f"(To take the name over, annotate the pool with {RESUME_ANNOTATION} and a value that it has "
    f"not had and that begins with {STEAL}, such as {STEAL}-1.)"
)

# What the errors advise is for programs; where a person needs other words, these follow.
_FOR_PEOPLE = {
    Reason.MANAGER_NAME_TAKEN: _TAKE_OVER,
    Reason.MANAGER_IN_ERROR: _TAKE_OVER,
    Reason.COMPUTE_API_UNAVAILABLE: (
        "(The pool does so by itself. If it lasts, check that the server is up, and that "
        "spec.computeAPI.url and network policies let the operator reach it.)"
    ),
}
