"""A store whose time, ids and draws are known."""

import random

import pytest

from simulator.documents import transformation_chain, transformation_of
from simulator.identifiers import random_ids
from simulator.records import Identity, Task, Transformation
from simulator.scopes import Scope
from simulator.settings import Settings
from simulator.store import Store
from simulator.tokens import TokenData

EVERYTHING = TokenData("me", ("*-*-*",))
START = 1_000_000.0


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Bench:
    """A store on the bench, with shortcuts for what most tests set up."""

    def __init__(self) -> None:
        self.time = Time()
        self.new_id = random_ids(1)
        self.store = Store(
            clock=self.time, new_id=self.new_id, source=random.Random(1), settings=Settings()
        )
        self.store.identities["me"] = Identity("me", "key", ("*-*-*",))

    def id(self, name: str) -> str:
        """A well-formed id that is the same for the same name."""
        return f"{name}-{sum(name.encode()):032x}"

    def transformation(self, protocol: str = "StandInProtocol") -> Transformation:
        return transformation_of(transformation_chain(protocol=protocol))

    def tasks(
        self,
        count: int = 1,
        *,
        scope: str = "a-b-c",
        protocol: str = "StandInProtocol",
        hubs: tuple[str, ...] = ("default",),
        weight: float = 0.5,
        priority: int = 10,
        extends: Task | None = None,
    ) -> list[Task]:
        """Add waiting Tasks."""
        where = Scope.parse(scope)
        added = []
        for _ in range(count):
            task = self.store.workload.add_task(
                where,
                self.transformation(protocol),
                priority=priority,
                extends=extends.key if extends else None,
            )
            for name in hubs:
                self.store.workload.action(task, self.store.workload.hub(where, name), weight)
            added.append(task)
        return added

    def manager(self, name: str = "manager", *, steal: bool = False) -> str:
        """Register a manager and return its id."""
        manager_id = self.store.manager_id(self.id(name))
        self.store.check_manager_free(manager_id, steal=steal)
        self.store.add_manager(manager_id)
        return str(manager_id)

    def service(self, name: str = "service", *, manager: str | None = None) -> str:
        """Register a service and return its id."""
        service = self.id(name)
        self.store.register_service(service, manager)
        return service

    def claim(self, service: str, count: int = 1, *, hub: str = "default") -> list[str]:
        """Claim through one hub of scope a-b-c."""
        key = self.store.workload.hub(Scope("a", "b", "c"), hub).key
        keys = self.store.workload.select(key, count, None)
        self.store.finish_hub_claim(keys, service)
        return keys


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
    return Bench()
