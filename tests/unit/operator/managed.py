"""A compute manager with a fleet in memory, and the stand-in compute API as its server."""

import json
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from unit.operator.builders import NOON, make_service_id, make_spec, make_worker

from computepool_api.credentials import Credentials
from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_operator.manager import (
    BackendRefused,
    BackendUnavailable,
    ComputeManager,
    ComputeServiceBackend,
    CycleResult,
)
from computepool_operator.memory import Memory
from computepool_operator.orders import Orders
from computepool_operator.pool import PoolSpec
from computepool_operator.workers import Departed, Worker, WorkerState
from simulator.documents import encode_document, failed_document
from simulator.identifiers import random_ids
from simulator.process import SimulatorProcess

IDENTITY = Credentials("compute-identity", "compute-key")
MANAGER = ComputeManagerID.new("lab.a100", uuid.UUID(int=1))
RIVAL = ComputeManagerID.new("lab.a100", uuid.UUID(int=2))


class Fleet(ComputeServiceBackend):
    """Services that are only written down. A worker's name is also that of its service."""

    def __init__(self) -> None:
        self.present: list[Worker] = []
        self.gone: list[Departed] = []
        self.orders: list[Orders] = []
        self.created = 0
        self.away = False
        self.refusal = ""
        self.most_jobs = 1000
        self.stuck: set[str] = set()

    async def workers(self) -> tuple[Worker, ...]:
        if self.away:
            raise BackendUnavailable("the platform does not answer")
        return tuple(self.present)

    def departed(self) -> tuple[Departed, ...]:
        return tuple(self.gone)

    async def create(self, number: int, orders: Orders) -> int:
        if self.refusal:
            raise BackendRefused(self.refusal)
        self.orders.append(orders)
        for created in range(number):
            if len(self.present) >= self.most_jobs:
                raise BackendRefused("exceeded quota: jobs", created)
            self.created += 1
            self.present.append(make_worker("Starting", f"a100-{self.created}"))
        return number

    async def remove(self, worker: Worker) -> None:
        if worker.name in self.stuck:
            raise BackendUnavailable(f"{worker.name} can't be removed")
        self.present.remove(worker)

    def change(self, name: str, state: WorkerState, **fields: Any) -> None:
        """Let a worker come to another state."""
        place = next(place for place, worker in enumerate(self.present) if worker.name == name)
        self.present[place] = make_worker(state, name, **fields)


@dataclass
class Managed:
    """A manager whose cycles follow one another, each with the memory of the last."""

    sim: SimulatorProcess
    api: ComputeAPI
    manager_id: ComputeManagerID = MANAGER
    spec: PoolSpec = field(default_factory=make_spec)
    fleet: Fleet = field(default_factory=Fleet)
    memory: Memory = field(default_factory=Memory)
    generation: int = 1
    resume: str = ""
    now: datetime = NOON
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.managers = ComputeManagerClient(self.api)
        self.services = ComputeServiceClient(self.api)
        self.manager = self.made()

    def made(self) -> ComputeManager:
        return ComputeManager(
            self.manager_id,
            self.managers,
            self.services,
            self.fleet,
            service_prefix="a100_",
            clock=lambda: self.now,
            log=lambda event, _facts: self.events.append(event),
        )

    async def cycle(self, after: timedelta = timedelta(seconds=1)) -> CycleResult:
        self.pass_time(after)
        result = await self.manager.cycle(
            self.spec, self.memory, self.generation, resume=self.resume
        )
        self.memory = result.memory
        return result

    def pass_time(self, length: timedelta) -> None:
        """Let time pass, here and on the server."""
        self.now += length
        self.sim.admin.advance(length.total_seconds())

    def restart(self) -> None:
        """Begin again with nothing but the manager's id."""
        self.memory = Memory()
        self.manager = self.made()

    def work_on(self, name: str, **fields: Any) -> ComputeServiceID:
        """Let a worker be at work; the id of its service."""
        self.fleet.present.append(make_worker("Running", name, **fields))
        return make_service_id(name)

    async def claim(self, name: str) -> str:
        """Register the service of a worker and claim a Task."""
        service = make_service_id(name)
        await self.services.register(service, self.manager_id)
        claim = await self.services.claim(service, scopes=[Scope()])
        return claim.tasks[0]

    async def push_failure(self, name: str, task: str, folder: Path) -> None:
        """Push a failed result of a Task."""
        document = failed_document(task, "NonTransformation-1", new_id=random_ids(3))
        result = folder / "result.json"
        result.write_text(json.dumps(encode_document(document)))
        await self.services.push(task, make_service_id(name), result)

    def registered(self) -> list[tuple[str, str]]:
        """Ids of the managers on the server, with their states."""
        return [(manager.id, manager.status) for manager in self.sim.admin.managers()]

    def asked(self) -> list[str]:
        """Endpoints that have been asked since the log was last cleared."""
        return [request.endpoint for request in self.sim.admin.audit()]


MakeManaged = Callable[..., Managed]


@asynccontextmanager
async def client(
    sim: SimulatorProcess, *, key: str = IDENTITY.key, patience: float = 0.1
) -> AsyncIterator[ComputeAPI]:
    """A client that does not pause between its tries, nor waits long for an answer."""

    async def sleep(_seconds: float) -> None:
        return None

    api = ComputeAPI(
        sim.url,
        lambda: replace(IDENTITY, key=key),
        sleep=sleep,
        random=random.Random(7),
        patience=patience,
    )
    async with api:
        yield api
