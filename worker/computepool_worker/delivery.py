"""Getting a result to the server: once, under a claim that is held, and not given up too early.

The server stores a second entry for a second push, and two entries break every Task that extends
the first. So a result is pushed only while the registration is held, at most once, and a push of
unknown fate is never repeated under this claim. Until the server has clearly taken it the result
stays in the spool.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from computepool_api.endpoints import PUSH
from computepool_api.errors import (
    ComputeAPIError,
    CredentialsRefused,
    InvalidRequest,
    Misdirected,
    PushAmbiguous,
    ScopeRefused,
    Unavailable,
)
from computepool_api.ids import ComputeServiceID
from computepool_api.outcomes import Outcome
from computepool_api.service_client import ComputeServiceClient
from computepool_worker.endings import Ending, EndOfLifeError
from computepool_worker.logs import EventLog
from computepool_worker.registration import Registration
from computepool_worker.settings import Settings
from computepool_worker.settle import settled
from computepool_worker.spool import Spool

# After these errors of a push it is certain that nothing was stored; the first may pass. The URL is
# right: the server has just been asked whether the registration is held.
_MAY_PASS = (Unavailable, CredentialsRefused, Misdirected)
_REFUSED = (ScopeRefused, InvalidRequest, OSError)
# What is refused so (None: by the client) is this one result; another Task's may be taken.
_OF_ONE_RESULT = (
    None,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


class _PostponedError(Exception):
    """The result was not pushed, and may be pushed later; ``error`` says why."""

    def __init__(self, error: ComputeAPIError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Parcel:
    """A finished result of ``task`` in the file ``result``; ``log`` knows of what it is one."""

    task: str
    result: Path
    ok: bool
    log: EventLog


class Delivery:
    """Pushes results. ``in_flight`` is the Task whose result may be on its way, or None.

    ``push_time`` says how long (s) a push may go on after this worker was told to stop.
    ``on_sending`` is called with the Task before each push and with None when it is known that the
    server has not had it, ``on_pushed`` with what the server has taken.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        service_id: ComputeServiceID,
        registration: Registration,
        client: ComputeServiceClient,
        spool: Spool,
        push_time: Callable[[], float],
        on_sending: Callable[[str | None], None],
        on_pushed: Callable[[Parcel], None],
    ) -> None:
        self._settings = settings
        self._id = service_id
        self._registration = registration
        self._client = client
        self._spool = spool
        self._push_time = push_time
        self._on_sending = on_sending
        self._on_pushed = on_pushed
        self._now = asyncio.get_running_loop().time
        self.in_flight: str | None = None

    async def deliver(self, parcel: Parcel) -> None:
        """Push the result, and wait for what may pass: hours of work may be in it.

        A server that is away, a proxy that answers in its place while it is renewed, a key that was
        changed and has not arrived here yet. Raises EndOfLifeError if the registration was lost, or
        if a standing service has a result that the server does not take;
        ComputeAPIError, of which PushAmbiguous leaves open whether the result was stored; OSError.
        """
        patient_until = self._now() + self._settings.result_patience
        for pause in _pauses():
            try:
                await settled(self._push(parcel), self._push_time)
            except _PostponedError as postponed:
                if self._now() + pause > patient_until:
                    raise postponed.error from None
                parcel.log.warning("result.waiting", error=str(postponed), retry_in=pause)
                await asyncio.sleep(pause)
            else:
                return

    async def _push(self, parcel: Parcel) -> None:
        try:
            held = await self._registration.is_held()
        except ComputeAPIError as error:
            raise _PostponedError(error) from None
        if not held:
            parcel.log.error("result.discarded", reason="registration lost")
            raise EndOfLifeError(
                Ending(
                    Outcome.REGISTRATION_LOST,
                    parcel.task,
                    "the server had dropped this service's registration, so its Task has been "
                    "given away: the result was not pushed",
                )
            )
        await asyncio.to_thread(self._spool.mark_sent, parcel.task)
        self.in_flight = parcel.task
        self._on_sending(parcel.task)
        try:
            entry = await self._client.push(parcel.task, self._id, parcel.result)
        except _MAY_PASS as error:
            await self._not_sent(parcel.task)
            raise _PostponedError(error) from None
        except PushAmbiguous as error:
            # With a word of the server's own it is no accident of the network.
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                await asyncio.to_thread(self._spool.mark_refused, parcel.task)
            raise
        except _REFUSED as error:
            await self._not_sent(parcel.task)
            if isinstance(error, InvalidRequest):
                await asyncio.to_thread(self._spool.mark_refused, parcel.task)
                self._put_aside(parcel.task, error)
            raise
        self.in_flight = None
        parcel.log.info("result.pushed", ok=parcel.ok, entry=entry)
        self._on_pushed(parcel)
        await asyncio.to_thread(self._spool.drop, parcel.task)

    def _put_aside(self, task: str, error: InvalidRequest) -> None:
        """Let a standing service end no more than this life for one result that is not taken."""
        of_one_result = error.endpoint == PUSH.name and error.status in _OF_ONE_RESULT
        if self._settings.standing and of_one_result:
            raise EndOfLifeError(Ending(Outcome.TASK_UNUSABLE, task, str(error))) from None

    async def _not_sent(self, task: str) -> None:
        self.in_flight = None
        self._on_sending(None)
        await asyncio.to_thread(self._spool.mark_not_sent, task)


def _pauses() -> Iterator[float]:
    """Seconds between attempts to reach a server that is away."""
    yield from (2.0, 5.0, 10.0, 20.0)
    while True:
        yield 30.0
