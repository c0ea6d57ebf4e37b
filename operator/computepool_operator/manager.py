"""The compute-manager protocol, for any platform.

A `ComputeManager` asks the server for an instruction, plans, has a backend create and remove
services, and answers the server. Whoever wants a manager for another platform writes a
`ComputeServiceBackend`: how a service is created there, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from computepool_api import errors
from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.models import Instruction, OkInstruction, ShutdownInstruction, SkipInstruction
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient

from .plan import Memory, Observation, Plan, Unknown, Verdict, is_halted, plan, saturation
from .pool import InstructionName, PoolSpec
from .reasons import Reason
from .workers import Worker, WorkerCounts, count


class BackendUnavailable(Exception):
    """The platform can't say what exists, or did not answer: nothing may be decided."""


class BackendRefused(Exception):
    """The platform refuses to create services; the message is the platform's own."""


class ComputeServiceBackend(ABC):
    """Where compute services live."""

    @abstractmethod
    async def workers(self) -> tuple[Worker, ...]:
        """All services of this manager, finished ones too as long as they are kept.

        Raises:
            BackendUnavailable: they can't be known now. Never answer with fewer than there are.

        """

    @abstractmethod
    async def create(self, number: int) -> int:
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
    """

    verdict: Verdict
    memory: Memory
    counts: WorkerCounts | None = None
    registered: bool | None = None
    instruction: InstructionName | None = None
    waiting_tasks: int | None = None
    saturation: float | None = None
    completed: bool = False


class ComputeManager:
    """One compute manager: a registration on the server and a fleet of services."""

    def __init__(
        self,
        manager_id: ComputeManagerID,
        managers: ComputeManagerClient,
        services: ComputeServiceClient,
        backend: ComputeServiceBackend,
        *,
        clock: Clock,
        log: Callable[[str, dict[str, object]], None],
    ) -> None:
        self.manager_id = manager_id
        self._managers = managers
        self._services = services
        self._backend = backend
        self._clock = clock
        self._log = log

    async def cycle(self, spec: PoolSpec, memory: Memory, generation: int) -> CycleResult:
        """Observe, plan, act and answer, once. Raises nothing that a caller could mend."""
        try:
            workers = await self._backend.workers()
        except BackendUnavailable as error:
            return CycleResult(Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error)), memory)
        try:
            return await self._cycle(spec, workers, memory, generation)
        except errors.ComputeAPIError as error:
            registered = False if isinstance(error, errors.ManagerNameTaken) else None
            return CycleResult(
                verdict_on(error), memory, counts=count(workers), registered=registered
            )

    async def _cycle(
        self, spec: PoolSpec, workers: tuple[Worker, ...], memory: Memory, generation: int
    ) -> CycleResult:
        halted = is_halted(memory, generation)
        if not halted and (memory.reported_at is None or memory.halt is not None):
            memory = await self._enter(memory)
        decided, instruction = await self._decide(spec, workers, memory, generation)
        if decided.renew:
            memory = await self._enter(decided.memory)
            decided, instruction = await self._decide(spec, workers, memory, generation)
        return await self._act(spec, decided, instruction)

    async def _decide(
        self, spec: PoolSpec, workers: tuple[Worker, ...], memory: Memory, generation: int
    ) -> tuple[Plan, Instruction | None]:
        instruction: Instruction | None = None
        if not is_halted(memory, generation):
            instruction = await self._managers.instruction(
                self.manager_id, [Scope.parse(scope) for scope in spec.scopes], spec.protocols
            )
        unasked = Unknown(Reason.SHUT_DOWN_BY_SERVER, "the server is not asked while shut down")
        observation = Observation(workers, instruction or unasked, generation)
        return plan(spec, observation, memory, self._clock()), instruction

    async def _enter(self, memory: Memory) -> Memory:
        """Register, or find that our registration still stands.

        Raises:
            ManagerNameTaken: somebody else has the name.

        """
        try:
            await self._managers.register(self.manager_id)
            self._log("manager registered", {"compute_manager_id": str(self.manager_id)})
        except errors.ManagerNameTaken:
            # Is it ourselves, before a restart? The name and the uuid must both be ours.
            answer = await self._managers.instruction(self.manager_id, [], [])
            if isinstance(answer, ShutdownInstruction):
                raise
            self._log("manager adopted", {"compute_manager_id": str(self.manager_id)})
        return replace(memory, halt=None, reported_at=self._clock())

    async def _act(
        self, spec: PoolSpec, decided: Plan, instruction: Instruction | None
    ) -> CycleResult:
        verdict, created = decided.verdict, 0
        for service in decided.reap:
            if await self._services.deregister(service):
                self._log("service of an ended worker deregistered", {"service": str(service)})
        try:
            if decided.create_workers:
                created = await self._backend.create(decided.create_workers)
            for worker in decided.prune:
                await self._backend.remove(worker)
        except BackendRefused as error:
            verdict = Verdict(Reason.JOBS_REFUSED, str(error))
        except BackendUnavailable as error:
            verdict = Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error))

        memory, answer = decided.memory, None
        if decided.saturation is not None:
            active = decided.counts.active + created
            answer = saturation(active, spec.max_compute_services)
            await self._managers.report_ok(self.manager_id, answer)
            memory = replace(memory, reported_at=self._clock())
        return CycleResult(
            verdict=verdict,
            memory=memory,
            counts=_with_created(decided.counts, created),
            registered=isinstance(instruction, OkInstruction | SkipInstruction),
            instruction=_name(instruction),
            waiting_tasks=(
                instruction.num_tasks if isinstance(instruction, OkInstruction) else None
            ),
            saturation=answer,
            completed=True,
        )

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
        await self._managers.deregister(self.manager_id)
        self._log("manager deregistered", {"compute_manager_id": str(self.manager_id)})


def _with_created(counts: WorkerCounts, created: int) -> WorkerCounts:
    return replace(counts, pending=counts.pending + created)


def _name(instruction: Instruction | None) -> InstructionName | None:
    match instruction:
        case OkInstruction():
            return "OK"
        case SkipInstruction():
            return "SKIP"
        case ShutdownInstruction():
            return "SHUTDOWN"
        case None:
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
    return Verdict(reason, str(error))
