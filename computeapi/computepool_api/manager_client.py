"""The compute API as a compute manager uses it: register, instruction and status, deregister.

Registration of a name is not exclusive when several ask at once (trap 7): the caller needs a lock
of its own. A success of every call is the id, echoed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import quote

from computepool_api.answers import Answer, NoAnswer, check_echo, rejection
from computepool_api.endpoints import (
    MANAGER_CLEAR_ERROR,
    MANAGER_DEREGISTER,
    MANAGER_INSTRUCTION,
    MANAGER_REGISTER,
    MANAGER_STATUS,
    MANAGER_STEAL,
)
from computepool_api.errors import (
    InvalidRequest,
    ManagerNameTaken,
    ManagerNotRegistered,
    Unavailable,
)
from computepool_api.ids import ComputeManagerID
from computepool_api.models import (
    Instruction,
    ShutdownInstruction,
    parse_instruction,
    shorten,
)
from computepool_api.scope import Scope
from computepool_api.transport import UNANSWERED_TRIES, ComputeAPI
from computepool_api.wire import Outgoing

LONGEST_DETAIL: Final = 10_000
"""Characters of an ERROR status that are sent; 100 kB was seen accepted."""

_PROTOCOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TAKEN: Final = re.compile(r"already registered with status (OK|ERROR)\b")


def check_protocols(protocols: Sequence[str], endpoint: str) -> None:
    """Refuse what the server answers 500 to: only bare class names are names of protocols."""
    for protocol in protocols:
        if _PROTOCOL.fullmatch(protocol) is None:
            raise InvalidRequest(
                endpoint,
                detail=f"{protocol!r} is no protocol: it must be a class name without its module",
            )


class ComputeManagerClient:
    """One call for each thing that a compute manager says. Errors as in `computepool_api.errors`.

    Besides those named below, each call may raise Unavailable, CredentialsRefused, InvalidRequest
    and UnexpectedAnswer.
    """

    def __init__(self, api: ComputeAPI) -> None:
        self._api = api

    async def register(self, manager_id: ComputeManagerID, *, steal: bool = False) -> None:
        """Register, with status OK and saturation 0. Registering an id again succeeds.

        `steal` replaces another registration of the name that is OK; a live holder is told to shut
        down, so use it only when the holder is known to be dead. It has no effect on a free name
        (where the server answers 500 to it, trap 6).
        Raises ManagerNameTaken: held with status ERROR, or OK and not to be stolen.
        """
        unclear: Unavailable | None = None
        for number in range(1, UNANSWERED_TRIES + 1):
            outcome = await self._register(manager_id, steal=False)
            if isinstance(outcome, NoAnswer):
                unclear = outcome.unavailable(MANAGER_REGISTER)
                await self._api.pause(number)
                continue
            held = _held_status(outcome)
            if held is None:
                return check_echo(MANAGER_REGISTER, outcome, manager_id)
            # An earlier try whose answer was lost reads as "taken"; so does a restart.
            if held == "OK" and await self._is_registered(manager_id):
                return None
            if held == "OK" and steal and await self._steal(manager_id):
                return None
            if held == "ERROR" or not steal:
                raise ManagerNameTaken(
                    MANAGER_REGISTER.name,
                    held_status=held,
                    status=outcome.status,
                    detail=outcome.detail,
                )
        raise unclear or Unavailable(
            MANAGER_REGISTER.name, detail="the name is given up and taken again all the while"
        )

    async def _steal(self, manager_id: ComputeManagerID) -> bool:
        """Replace the holder; False when that is unclear, and registering anew will tell.

        500: there is no holder any more. 422: it is in ERROR now; or there were two of the name,
        one of which was replaced all the same.
        """
        outcome = await self._register(manager_id, steal=True)
        if isinstance(outcome, NoAnswer) or outcome.status == 500 or _held_status(outcome):
            return False
        check_echo(MANAGER_STEAL, outcome, manager_id)
        return True

    async def _register(self, manager_id: ComputeManagerID, *, steal: bool) -> Answer | NoAnswer:
        return await self._api.exchange(
            MANAGER_STEAL if steal else MANAGER_REGISTER,
            Outgoing(f"/computemanager/{manager_id}/register", {"steal": steal}),
        )

    async def _is_registered(self, manager_id: ComputeManagerID) -> bool:
        """Ask for an instruction, which changes nothing: SHUTDOWN says that the id is unknown."""
        instruction = await self.instruction(manager_id, [], [])
        return not isinstance(instruction, ShutdownInstruction)

    async def instruction(
        self, manager_id: ComputeManagerID, scopes: Sequence[Scope], protocols: Sequence[str]
    ) -> Instruction:
        """Ask what to do. Empty scopes or protocols mean all (to a claim they do not, trap 5)."""
        check_protocols(protocols, MANAGER_INSTRUCTION.name)
        answer = await self._api.ask(
            MANAGER_INSTRUCTION,
            Outgoing(
                f"/computemanager/{manager_id}/instruction",
                {
                    "scopes": [scope.to_wire() for scope in scopes],
                    "protocols": list(protocols),
                },
            ),
        )
        if answer.status != 200:
            raise rejection(MANAGER_INSTRUCTION, answer)
        return parse_instruction(answer.body, MANAGER_INSTRUCTION.name)

    async def report_ok(self, manager_id: ComputeManagerID, saturation: float) -> None:
        """Answer an OK or SKIP: alive, and using `saturation` (0 to 1) of what it may use.

        It also takes back an earlier ERROR. Raises ManagerNotRegistered; InvalidRequest, without
        asking the server, for a saturation that is no number from 0 to 1.
        """
        if not (math.isfinite(saturation) and 0.0 <= saturation <= 1.0):
            raise InvalidRequest(
                MANAGER_STATUS.name, detail=f"a saturation of {saturation} is not within 0 and 1"
            )
        await self._report(manager_id, {"status": "OK", "saturation": saturation, "detail": None})

    async def taskhubs(self) -> list[str]:
        """List the keys of the Task hubs that the identity may see."""
        return await self._api.taskhubs()

    async def report_error(self, manager_id: ComputeManagerID, detail: str) -> None:
        """Say that the manager cannot go on, and why. Keeps the name until the error is cleared.

        Raises ManagerNotRegistered; InvalidRequest, without asking the server, for no detail.
        """
        if not detail:
            raise InvalidRequest(MANAGER_STATUS.name, detail="an ERROR needs a detail")
        await self._report(
            manager_id,
            {"status": "ERROR", "saturation": None, "detail": shorten(detail, LONGEST_DETAIL)},
        )

    async def _report(self, manager_id: ComputeManagerID, status: dict[str, object]) -> None:
        answer = await self._api.ask(
            MANAGER_STATUS, Outgoing(f"/computemanager/{manager_id}/status", status)
        )
        if answer.status == 400 and answer.detail.startswith("No record for ComputeManager"):
            raise ManagerNotRegistered(MANAGER_STATUS.name, status=400, detail=answer.detail)
        check_echo(MANAGER_STATUS, answer, manager_id)

    async def deregister(self, manager_id: ComputeManagerID) -> None:
        """Give up the registration; its services stay. Succeeds for unknown ids as well.

        A manager in ERROR is not removed, although the server says 200 (trap 24): report OK, or
        clear the error, before.
        """
        answer = await self._api.ask(
            MANAGER_DEREGISTER, Outgoing(f"/computemanager/{manager_id}/deregister", {})
        )
        check_echo(MANAGER_DEREGISTER, answer, manager_id)

    async def clear_error(self, name: str) -> bool:
        """Remove the registration of a manager (its name, not its id) that is in ERROR.

        False when there is no such manager, or it is not in ERROR.
        """
        return await self._api.remove(
            MANAGER_CLEAR_ERROR,
            Outgoing(f"/computemanager/{quote(name, safe='')}/clear_error", {}),
            echo=None,
        )


def _held_status(answer: Answer) -> Literal["OK", "ERROR"] | None:
    """Read in which state another registration holds the name; None for any other answer."""
    if answer.status != 422 or (found := _TAKEN.search(answer.detail)) is None:
        return None
    return "OK" if found[1] == "OK" else "ERROR"
