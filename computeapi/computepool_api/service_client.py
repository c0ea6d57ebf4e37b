"""The compute API as a compute service uses it: register, claim, fetch, push, deregister.

What a caller must know of the server: heartbeats never report that the registration was lost
(trap 3); pushing is not idempotent and cannot be queried (trap 10); what was claimed can only be
given back by deregistering (trap 11).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from computepool_api.answers import Answer, NoAnswer, check_echo, rejection
from computepool_api.bodies import compose_results_request, results_request, save
from computepool_api.endpoints import (
    CLAIM,
    FETCH,
    INFO,
    PUSH,
    SERVICE_DEREGISTER,
    SERVICE_HEARTBEAT,
    SERVICE_PROBE,
    SERVICE_REGISTER,
    Endpoint,
)
from computepool_api.errors import (
    ClaimAmbiguous,
    ComputeAPIError,
    InvalidRequest,
    ManagerUnknown,
    PushAmbiguous,
    ServiceIDTaken,
    ServiceNotRegistered,
    TaskUnusable,
    Unavailable,
    UnexpectedAnswer,
)
from computepool_api.ids import ComputeManagerID, ComputeServiceID
from computepool_api.manager_client import check_protocols
from computepool_api.models import Claim, parse_claim, parse_result_ref
from computepool_api.scope import Scope, scope_of_task
from computepool_api.transport import UNANSWERED_TRIES, ComputeAPI
from computepool_api.wire import Outgoing

_NO_MANAGER: Final = "Could not find ComputeManagerRegistration"

# A request of so many bytes takes a while to compose and to send.
_LARGE: Final = 1024 * 1024


class ComputeServiceClient:
    """One call for each thing that a compute service says. Errors as in `computepool_api.errors`.

    Besides those named below, each call may raise Unavailable, CredentialsRefused, InvalidRequest
    and UnexpectedAnswer. The client remembers under which manager it registered an id, and which
    registers went unanswered: use one client for the life of a service.
    """

    def __init__(self, api: ComputeAPI) -> None:
        self._api = api
        self._manager: dict[ComputeServiceID, ComputeManagerID | None] = {}
        # Ids whose register was sent without an answer: a later 500 may be of our own making.
        self._unanswered: set[ComputeServiceID] = set()
        # Ids whose probe was: a later 500 may be, and proves nothing any more.
        self._doubtful: set[ComputeServiceID] = set()

    async def register(
        self, service_id: ComputeServiceID, manager_id: ComputeManagerID | None
    ) -> None:
        """Register, under a manager or none. The id must be this process's own.

        A try without an answer is repeated: the id being unique, finding it taken then means that
        the first try arrived.
        Raises ManagerUnknown; ServiceIDTaken when the id was registered before.
        """
        outgoing = _registration(service_id, manager_id)
        tries = 1
        while isinstance(outcome := await self._api.exchange(SERVICE_REGISTER, outgoing), NoAnswer):
            self._unanswered.add(service_id)
            if tries == UNANSWERED_TRIES:
                raise outcome.unavailable(SERVICE_REGISTER)
            await self._api.pause(tries)
            tries += 1
        if outcome.status == 500:
            await self._api.make_sure_it_lives(SERVICE_REGISTER)
            if service_id not in self._unanswered:
                raise ServiceIDTaken(
                    SERVICE_REGISTER.name, status=500, detail=f"{service_id} is registered already"
                )
        elif _says_no_manager(outcome):
            raise ManagerUnknown(SERVICE_REGISTER.name, status=422, detail=outcome.detail)
        else:
            check_echo(SERVICE_REGISTER, outcome, service_id)
        self._forget(service_id)
        self._manager[service_id] = manager_id

    async def heartbeat(self, service_id: ComputeServiceID) -> None:
        """Say that the service lives. A success does not say that it is registered (trap 3).

        It makes the server sweep services whose last heartbeat is too old, the sender included.
        """
        answer = await self._api.ask(
            SERVICE_HEARTBEAT, Outgoing(f"/computeservice/{service_id}/heartbeat", {})
        )
        check_echo(SERVICE_HEARTBEAT, answer, service_id)

    async def deregister(self, service_id: ComputeServiceID) -> bool:
        """End the registration; running Tasks of the service go back to waiting.

        False when it was gone before (the server answers 500 twice, and is well otherwise).
        """
        was_there = await self._deregister(service_id)
        self._manager.pop(service_id, None)
        return was_there

    async def holds_registration(
        self, service_id: ComputeServiceID, manager_id: ComputeManagerID | None
    ) -> bool:
        """Probe whether the registration is still held, by registering the same id (trap 3).

        False means that it was lost, and with it what it had claimed; the probe has then put a new
        one in its place. A probe that was sent and not answered spoils the evidence, as it may have
        done so too: it raises Unavailable, and from then on the answer is False.
        """
        outcome = await self._api.exchange(SERVICE_PROBE, _registration(service_id, manager_id))
        if isinstance(outcome, Answer) and _says_no_manager(outcome):
            # The manager has gone, which is no news of the service: ask without it.
            outcome = await self._api.exchange(SERVICE_PROBE, _registration(service_id, None))
        if isinstance(outcome, NoAnswer):
            self._doubtful.add(service_id)
            raise outcome.unavailable(SERVICE_PROBE)
        if outcome.status == 500:
            await self._api.make_sure_it_lives(SERVICE_PROBE)
            return service_id not in self._doubtful
        check_echo(SERVICE_PROBE, outcome, service_id)
        return False

    async def claim(
        self,
        service_id: ComputeServiceID,
        *,
        scopes: Sequence[Scope],
        scopes_exclude: Sequence[Scope] = (),
        protocols: Sequence[str] = (),
        count: int = 1,
    ) -> Claim:
        """Claim up to `count` Tasks. No scopes, or no protocols, means all.

        A 500 is asked again once (a lock conflict); after the second the registration is probed,
        and one that the probe found lost, and so renewed, is ended again.
        Raises ServiceNotRegistered; ClaimAmbiguous; InvalidRequest when a Task was given out that
        the settings exclude, as servers before 0.8 do (trap 25): deregister then, to give it back.
        """
        check_protocols(protocols, CLAIM.name)
        if count < 1:
            raise InvalidRequest(CLAIM.name, detail=f"a count of {count} claims nothing")
        wanted = list(scopes) or [Scope()]
        outcome = await self._api.exchange(
            CLAIM,
            Outgoing(
                "/claim",
                {
                    "scopes": [scope.to_wire() for scope in wanted],
                    "scopes_exclude": [scope.to_wire() for scope in scopes_exclude] or None,
                    "compute_service_id": service_id,
                    "count": count,
                    "protocols": list(protocols) or None,
                },
            ),
        )
        if isinstance(outcome, NoAnswer):
            raise ClaimAmbiguous(CLAIM.name, status=outcome.status, detail=outcome.detail)
        if outcome.status == 500:
            raise await self._why_claim_failed(service_id, count)
        if outcome.status != 200:
            raise rejection(CLAIM, outcome)
        try:
            claim = parse_claim(outcome.body, CLAIM.name)
            outside = [key for key in claim.tasks if not _within(key, wanted, scopes_exclude)]
        except (UnexpectedAnswer, ValueError) as error:
            trouble = error.detail if isinstance(error, UnexpectedAnswer) else str(error)
        else:
            if outside:
                raise InvalidRequest(
                    CLAIM.name,
                    status=200,
                    detail=f"the server gave out {', '.join(outside)} against the scopes or "
                    "exclusions of the request: it is older than 0.8 and ignores scopes_exclude. "
                    "Name what is wanted in scopes instead",
                )
            return claim
        raise ClaimAmbiguous(CLAIM.name, status=200, detail=trouble)

    async def _why_claim_failed(self, service_id: ComputeServiceID, count: int) -> ComputeAPIError:
        """Find the meaning of a repeated 500 of claim (trap 2)."""
        if not await self.holds_registration(service_id, self._manager.get(service_id)):
            with suppress(Unavailable):
                await self._deregister(service_id)
            return ServiceNotRegistered(
                CLAIM.name, status=500, detail=f"{service_id} is not registered (any more)"
            )
        detail = f"although {service_id} is registered and the server is well"
        if count > 1:
            # Each hub is claimed from by itself: one may have given Tasks before another failed.
            return ClaimAmbiguous(CLAIM.name, status=500, detail=detail)
        return Unavailable(CLAIM.name, status=500, detail=detail)

    async def fetch(self, task: str, destination: Path) -> None:
        """Write what a Task asks for to a file, as the server gives it, unread.

        The file holds a JSON list of the transformation (a keyed chain; before 0.8 a string) and
        the result that the Task extends, or null. It appears when it is whole.
        Raises ScopeRefused; TaskUnusable, when the server is well and answers 500 twice; OSError.
        """
        path = f"/tasks/{_checked(task, FETCH)}/transformation/gufe"

        async def sink(pieces: AsyncGenerator[bytes]) -> None:
            await save(_expect_list(pieces), destination)

        answer = await self._api.ask(FETCH, Outgoing(path, sink=sink))
        if answer.status == 500:
            await self._api.make_sure_it_lives(FETCH)
            raise TaskUnusable(
                FETCH.name,
                status=500,
                detail=f"{task} is not given out; so it is when it is unknown, or extends a Task "
                "with more than one result",
            )
        if answer.status != 200:
            raise rejection(FETCH, answer)

    async def push(self, task: str, service_id: ComputeServiceID, result: Path) -> str:
        """Send a result, once, and give the key of the entry that the server has stored.

        `result` is a file with the JSON object that gufe's encoder makes of the result's bytes. The
        request is written, gzipped, to a file beside it, and removed in the end.

        Before, make sure that the registration is held (`holds_registration`): the server takes a
        result from anybody, and a second entry spoils every extending Task for ever. It is sent
        again only where the server cannot have had it: when no connection was made, or the token
        was refused.

        Raises PushAmbiguous: never send it again. Unavailable: the server has not had it whole.
        InvalidRequest: it was refused (too large for a proxy, say), or the file is no JSON object.
        ScopeRefused; OSError.
        """
        path = f"/tasks/{_checked(task, PUSH)}/results"
        with results_request(result) as target:
            try:
                body = await compose_results_request(result, service_id, target)
            except ValueError as error:
                refused = InvalidRequest(PUSH.name, detail=str(error))
            else:
                # The probe has just shown that server and token are well. A large body is not sent
                # in vain for what happened since; of a small one that costs less than the question.
                if body.size > _LARGE:
                    await self._expect_ok(INFO, Outgoing("/info"))
                outcome = await self._api.exchange(PUSH, Outgoing(path, file=body))
                return _read_push(outcome, sent_whole=body.sent_whole)
        raise refused

    async def _expect_ok(self, endpoint: Endpoint, outgoing: Outgoing) -> None:
        answer = await self._api.ask(endpoint, outgoing)
        if answer.status != 200:
            raise rejection(endpoint, answer)

    async def _deregister(self, service_id: ComputeServiceID) -> bool:
        was_there = await self._api.remove(
            SERVICE_DEREGISTER,
            Outgoing(f"/computeservice/{service_id}/deregister", {}),
            echo=service_id,
        )
        self._forget(service_id)
        return was_there

    def _forget(self, service_id: ComputeServiceID) -> None:
        self._unanswered.discard(service_id)
        self._doubtful.discard(service_id)


def _read_push(outcome: Answer | NoAnswer, *, sent_whole: bool) -> str:
    if isinstance(outcome, NoAnswer):
        if not sent_whole:
            raise outcome.unavailable(PUSH)
        raise PushAmbiguous(PUSH.name, status=outcome.status, detail=outcome.detail)
    if outcome.status != 200:
        raise rejection(PUSH, outcome)
    try:
        return parse_result_ref(outcome.body, PUSH.name)
    except UnexpectedAnswer as error:
        trouble = error.detail
    raise PushAmbiguous(PUSH.name, status=200, detail=trouble)


def _registration(service_id: ComputeServiceID, manager_id: ComputeManagerID | None) -> Outgoing:
    return Outgoing(f"/computeservice/{service_id}/register", {"compute_manager_id": manager_id})


def _says_no_manager(answer: Answer) -> bool:
    return answer.status == 422 and _NO_MANAGER in answer.detail


def _within(task: str, scopes: Sequence[Scope], excluded: Sequence[Scope]) -> bool:
    """Check a claimed key against what was asked for. Raises ValueError if it is no Task key."""
    scope = scope_of_task(task)
    return any(wanted.contains(scope) for wanted in scopes) and not any(
        unwanted.contains(scope) for unwanted in excluded
    )


def _checked(task: str, endpoint: Endpoint) -> str:
    try:
        scope_of_task(task)
    except ValueError as error:
        trouble = str(error)
    else:
        return task
    raise InvalidRequest(endpoint.name, detail=trouble)


async def _expect_list(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Pass a body on whose first character begins a JSON list, as no error page's does."""
    begun = False
    async for piece in pieces:
        if not begun and (text := piece.lstrip()):
            begun = True
            if not text.startswith(b"["):
                break
        yield piece
    else:
        if begun:
            return
    raise UnexpectedAnswer(FETCH.name, status=200, detail="expected a JSON list")
