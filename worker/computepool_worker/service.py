"""Puts a worker together from its parts and lets it live."""

import asyncio
import uuid
from collections.abc import Callable

from computepool_api.ids import ComputeServiceID
from computepool_api.outcomes import Outcome
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_worker import __version__
from computepool_worker.acquaintance import Acquaintance
from computepool_worker.child_process import Child
from computepool_worker.child_start import Started
from computepool_worker.credentials import source_for
from computepool_worker.endings import CannotStartError
from computepool_worker.life import Life, limits_of
from computepool_worker.logs import EventLog
from computepool_worker.presence import Presence
from computepool_worker.settings import Settings
from computepool_worker.steps import pause_before_next_life
from computepool_worker.stop_signal import StopSignal
from computepool_worker.termination import TerminationLog


async def serve(
    *,
    settings: Settings,
    service_id: ComputeServiceID,
    started: Started,
    start_child: Callable[[], Started],
    termination: TerminationLog,
    stop: StopSignal,
    log: EventLog,
) -> Outcome:
    """Run a compute service, with the child that was started for it, to its end.

    A standing service registers anew, under another id and with another child, when its
    registration has come to an end that passes.
    Raises CannotStartError.
    """
    loop = asyncio.get_running_loop()
    stop.attach(loop)

    async def attach(child: Started) -> Child:
        return await Child.attach(child, grace=settings.stop_grace, log=log)

    async def new_child() -> Child:
        return await attach(start_child())

    try:
        api = ComputeAPI(
            settings.api_url,
            source_for(settings),
            verify=settings.client_verify,
            user_agent=f"computepool-worker/{__version__}",
        )
    except ValueError as error:
        raise CannotStartError(Outcome.SETTINGS_INVALID, str(error)) from None
    identity, child, troubles = service_id, await attach(started), 0
    acquaintance = Acquaintance()
    async with api:
        while True:
            life = Life(
                settings=settings,
                service_id=identity,
                api=api,
                client=ComputeServiceClient(api),
                acquaintance=acquaintance,
                child=child,
                new_child=new_child,
                presence=Presence(settings.state_dir),
                termination=termination,
                stop=stop,
                log=log.bind(service=identity),
            )
            outcome = await life.run()
            troubles = 1 if life.finished else troubles + 1
            pause = None
            if settings.standing and stop.name is None:
                pause = pause_before_next_life(outcome, troubles, limits_of(settings))
            if pause is None:
                break
            if not await _slept(pause, stop, log):
                outcome = Outcome.TERMINATED
                break
            # A new id: what was asked under the old one, and not answered, may still happen.
            identity, child = ComputeServiceID.new(service_id.name, uuid.uuid4()), await new_child()
    stop.detach(loop)
    return outcome


async def _slept(seconds: float, stop: StopSignal, log: EventLog) -> bool:
    """Wait, and return whether nobody said stop meanwhile."""
    log.info("service.begins_anew", seconds=seconds)
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return True
    return False
