"""The stand-in server's own store, asked without a wire: what its clients see, its outages too.

The clients do what the real ones do with the answers of a server that is well; what the wire adds
(retries, tokens, both meanings of 401) has tests of its own.
"""

import random
import re
from collections.abc import Callable, Sequence

from computepool_api.errors import (
    ManagerNameTaken,
    ManagerNotRegistered,
    Unavailable,
)
from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.models import Instruction, ShutdownInstruction, parse_instruction
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from month.timeline import Timeline, Violation
from simulator.documents import encode_document, failed_document, ok_document, push_body
from simulator.errors import RefusedError
from simulator.identifiers import random_ids
from simulator.scopes import Scope as Everything
from simulator.store import Store
from simulator.tokens import TokenData

CALLER = TokenData("compute-identity", ("*-*-*",))

Step = Callable[[], None]
"""Called around each call of the operator: where it can be killed."""


class Server:
    """The store, and whether it can be reached.

    `asked` is the number of Tasks that the last instruction of this cycle counted, None before it.
    """

    def __init__(self, timeline: Timeline, seed: int) -> None:
        self.up = True
        self.loses_answers = 0.0
        self._chance = random.Random(f"{seed} answers")
        self._timeline = timeline
        self._new_id = random_ids(seed)
        self.asked: int | None = None
        self.store = Store(
            clock=lambda: timeline.now,
            new_id=self._new_id,
            source=random.Random(f"{seed} claims"),
        )

    def claim(self, service: str, count: int) -> list[str] | None:
        """Claim Tasks, as `POST /claim` does; None: denied."""
        store = self.store
        if not store.may_claim(service):
            return None
        hubs = store.claimable_hubs([Everything()], [], CALLER)
        claimed: list[str] = []
        while len(claimed) < count and (hub := store.workload.draw_hub(hubs)) is not None:
            hubs.remove(hub)
            keys = store.workload.select(hub.key, count - len(claimed), None)
            store.finish_hub_claim(keys, service)
            claimed += keys
        return claimed

    def push(self, task: str, service: str, *, ok: bool) -> None:
        """Store a result, as a push does."""
        if task not in self.store.workload.tasks:
            raise Violation(f"5: a result for {task}, which ended long ago")
        transformation = self.store.workload.tasks[task].transformation.key
        document = (ok_document if ok else failed_document)(
            task, transformation, new_id=self._new_id, now=self._timeline.moment
        )
        self.store.push(task, push_body(encode_document(document), service), CALLER)

    def reach(self) -> None:
        """Raise Unavailable during an outage."""
        if not self.up:
            raise Unavailable("the server", detail="no connection")

    def answer(self) -> None:
        """Raise Unavailable when the answer gets lost, although the server has acted."""
        if self.loses_answers and self._chance.random() < self.loses_answers:
            raise Unavailable("the server", detail="the answer was lost")


class ManagerCalls(ComputeManagerClient):
    """The calls of a manager."""

    def __init__(self, server: Server, step: Step) -> None:
        self._server = server
        self._step = step

    async def register(self, manager_id: ComputeManagerID, *, steal: bool = False) -> None:
        self._step()
        self._server.reach()
        store, text = self._server.store, str(manager_id)
        try:
            store.check_manager_free(store.manager_id(text), steal=steal)
        except RefusedError as refused:
            held = re.search("OK|ERROR", refused.detail)
            assert held is not None
            if held[0] == "OK" and not isinstance(self._ask(manager_id), ShutdownInstruction):
                return
            raise ManagerNameTaken(
                "register",
                held_status="OK" if held[0] == "OK" else "ERROR",
                status=422,
                detail=refused.detail,
            ) from None
        store.add_manager(store.manager_id(text))
        self._server.answer()
        self._step()

    async def instruction(
        self, manager_id: ComputeManagerID, scopes: Sequence[Scope], protocols: Sequence[str]
    ) -> Instruction:
        self._step()
        self._server.reach()
        return self._ask(manager_id)

    def _ask(self, manager_id: ComputeManagerID) -> Instruction:
        answer = self._server.store.instruction(str(manager_id), [], [], CALLER)
        instruction = parse_instruction(answer, "instruction")
        self._server.asked = getattr(instruction, "num_tasks", 0)
        return instruction

    async def report_ok(self, manager_id: ComputeManagerID, saturation: float) -> None:
        self._tell(manager_id, "OK", None, saturation)

    async def report_error(self, manager_id: ComputeManagerID, detail: str) -> None:
        self._tell(manager_id, "ERROR", detail, None)

    def _tell(
        self, manager: ComputeManagerID, status: str, detail: str | None, saturation: float | None
    ) -> None:
        self._step()
        self._server.reach()
        try:
            self._server.store.set_manager_status(str(manager), status, detail, saturation)
        except RefusedError as refused:
            raise ManagerNotRegistered("status", status=400, detail=refused.detail) from None
        self._server.answer()
        self._step()

    async def deregister(self, manager_id: ComputeManagerID) -> None:
        self._step()
        self._server.reach()
        store = self._server.store
        store.registry.deregister_manager(store.manager_id(str(manager_id)))


class ServiceCalls(ComputeServiceClient):
    """The one call that the operator makes in a service's place."""

    def __init__(self, server: Server, step: Step, on_reap: Callable[[str], None]) -> None:
        self._server = server
        self._step = step
        self._on_reap = on_reap

    async def deregister(self, service_id: ComputeServiceID) -> bool:
        self._step()
        self._server.reach()
        if service_id not in self._server.store.registry.services:
            return False
        self._on_reap(service_id)
        self._server.store.deregister_service(service_id)
        self._server.answer()
        self._step()
        return True
