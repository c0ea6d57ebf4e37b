"""The life of a worker: register, claim, fetch, execute, push, and always deregister.

What comes next is decided in `steps`, what an error means in `endings`; Tasks are executed in the
`workshop` and results pushed by the `delivery`. Here it is put in order, and taken leave.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from computepool_api.errors import (
    ComputeAPIError,
    Misdirected,
    ScopeRefused,
    ServiceIDTaken,
    TaskUnusable,
)
from computepool_api.ids import ComputeServiceID
from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_worker.acquaintance import Acquaintance
from computepool_worker.boundary import Done
from computepool_worker.child_process import Child
from computepool_worker.delivery import Delivery, Parcel
from computepool_worker.endings import Ending, EndOfLifeError, ending_of
from computepool_worker.fingerprint import fingerprint
from computepool_worker.logs import EventLog
from computepool_worker.patience import patiently
from computepool_worker.poison import PoisonListError, poison_stories
from computepool_worker.presence import Presence
from computepool_worker.registration import Registration
from computepool_worker.scratch import TaskDirectories
from computepool_worker.settings import Settings
from computepool_worker.settle import settled
from computepool_worker.spool import Spool
from computepool_worker.steps import (
    Claim,
    Leave,
    Limits,
    Progress,
    Run,
    Sleep,
    Step,
    next_step,
    pause_after_ambiguous_push,
)
from computepool_worker.stop_signal import StopSignal
from computepool_worker.termination import TerminationLog
from computepool_worker.workshop import POISONOUS, NotExecutableError, Workshop, of_what

T = TypeVar("T")

# What leaving itself may take of the termination grace: deregistering, and removing files.
_LEAVING_TIME = 8.0
_DEREGISTER_TIME = 20.0
_DEREGISTER_TIME_WHEN_STOPPED = 6.0
# A small request that is in flight when a signal comes is given this long.
_SETTLE_TIME = 3.0
# How often a probe may see that this process is alive.
_PULSE = 5.0


def limits_of(settings: Settings) -> Limits:
    """Return what the settings allow."""
    return Limits(
        claim_limit=settings.claim_limit,
        max_tasks=settings.max_tasks,
        max_time=settings.max_time,
        ephemeral=settings.ephemeral,
        sleep_interval=settings.sleep_interval,
        deep_sleep_interval=settings.deep_sleep_interval,
        max_failures=settings.max_failures,
        forgive_time=settings.forgive_time,
    )


class Life:
    """One worker, from registering to leaving. Runs once."""

    def __init__(
        self,
        *,
        settings: Settings,
        service_id: ComputeServiceID,
        api: ComputeAPI,
        client: ComputeServiceClient,
        acquaintance: Acquaintance,
        child: Child,
        new_child: Callable[[], Awaitable[Child]],
        presence: Presence,
        termination: TerminationLog,
        stop: StopSignal,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._id = service_id
        self._client = client
        self._acquaintance = acquaintance
        self._presence = presence
        self._termination = termination
        self._stop = stop
        self._log = log
        self._now = asyncio.get_running_loop().time
        self._limits = limits_of(settings)
        self._spool = Spool(
            settings.spool_dir,
            max_age=settings.spool_max_age,
            max_bytes=settings.spool_max_bytes,
            log=log,
        )
        self._workshop = Workshop(settings=settings, child=child, new_child=new_child, log=log)
        self._registration = Registration(api, client, service_id, settings.compute_manager_id)
        self._delivery = Delivery(
            settings=settings,
            service_id=service_id,
            registration=self._registration,
            client=client,
            spool=self._spool,
            push_time=self._push_time,
            on_sending=self._note_sending,
            on_pushed=self._note_pushed,
        )
        self._progress = Progress()
        self._began: float | None = None
        self._registered = asyncio.Event()
        self._may_be_registered = False
        self._directories: TaskDirectories | None = None
        self._unusable_detail = ""
        self._resources = ""
        self._announced: str | None = None

    @property
    def finished(self) -> int:
        """How many results of this life the server has taken."""
        return self._progress.finished

    async def run(self) -> Outcome:
        """Live. Whatever happens, nothing is left behind; the outcome says how it ended."""
        work = asyncio.create_task(self._work())
        heart = asyncio.create_task(self._beat())
        pulse = asyncio.create_task(self._show_life())
        signalled = asyncio.create_task(self._stop.wait())
        await asyncio.wait({work, heart, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        signalled.cancel()
        ending = self._ending(work, heart)
        await self._leave(ending, heart)
        pulse.cancel()
        self._show_end()
        return ending.outcome

    async def _work(self) -> Ending:
        await self._register()
        while True:
            await self._workshop.get_ready()
            match self._next_step():
                case Claim(count):
                    await asyncio.to_thread(self._spool.sweep)
                    await self._claim(count)
                case Run(task):
                    await self._run(task)
                case Sleep(seconds, reason):
                    await self._give_back()
                    self._log.info("service.sleeping", seconds=seconds, reason=reason)
                    await asyncio.sleep(seconds)
                    self._progress = replace(self._progress, found_nothing=False, denied=False)
                    if not self._registered.is_set():
                        await self._register()
                case Leave(outcome, detail):
                    if outcome is Outcome.TASK_UNUSABLE:
                        return Ending(outcome, self._progress.unusable, self._unusable_detail)
                    return Ending(
                        outcome, detail="\n".join(filter(None, (detail, self._resources)))
                    )

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        async def ask_once() -> T:
            try:
                return await ask()
            except Misdirected as error:
                raise self._acquaintance.meaning(error) from None

        return await patiently(ask_once, self._settings.patience, self._log)

    def _next_step(self) -> Step:
        return next_step(replace(self._progress, elapsed=self._elapsed()), self._limits)

    def _elapsed(self) -> float:
        """Return the seconds since the service registered first."""
        return 0.0 if self._began is None else self._now() - self._began

    async def _register(self) -> None:
        await self._patiently(lambda: settled(self._register_once(), self._settle_time))

    async def _register_once(self) -> None:
        self._may_be_registered = True
        manager = self._settings.compute_manager_id
        try:
            await self._client.register(self._id, manager)
        except ServiceIDTaken:
            # The id is ours alone: it is what an earlier attempt, whose answer was lost, or an
            # earlier life of this pod has left.
            self._log.warning("service.id_taken", advice="registering anew")
            await self._client.deregister(self._id)
            await self._client.register(self._id, manager)
        if self._began is None:
            self._began = self._now()
        self._registered.set()
        self._acquaintance.made = True
        self._log.info("service.registered", manager=manager)

    async def _give_back(self) -> None:
        """Let others have the Tasks in hand that this service would only keep while it sleeps.

        Raises ComputeAPIError.
        """
        tasks = self._progress.held
        if not tasks:
            return
        self._registered.clear()
        await settled(self._client.deregister(self._id), self._settle_time)
        self._may_be_registered = False
        self._progress = replace(self._progress, held=())
        self._log.info("task.given_back", count=len(tasks), tasks=" ".join(tasks))
        self._release()
        self._forget_message()

    async def _claim(self, count: int) -> None:
        await self._patiently(lambda: settled(self._claim_once(count), self._settle_time))

    async def _claim_once(self, count: int) -> None:
        settings = self._settings
        claim = await self._client.claim(
            self._id,
            scopes=settings.scopes or (Scope(),),
            scopes_exclude=settings.scopes_exclude,
            protocols=settings.protocols,
            count=count,
        )
        self._log.info(
            "task.claimed",
            count=len(claim.tasks),
            tasks=" ".join(claim.tasks),
            denied=claim.denied or None,
        )
        self._progress = replace(
            self._progress,
            held=claim.tasks,
            found_nothing=not claim.tasks,
            denied=claim.denied,
        )
        if claim.tasks:
            self._announce(claim.tasks[0])

    def _announce(self, task: str) -> None:
        """Show which Task is in hand; the message first, so that Ready never comes without it."""
        if task != self._announced:
            self._announced = task
            self._say(Ending(Outcome.HOLDING, task))
            self._presence.hold(task)

    async def _run(self, task: str) -> None:
        self._announce(task)
        log = self._log.bind(task=task)
        settings = self._settings
        directories = TaskDirectories.make(
            task,
            shared_basedir=settings.shared_basedir,
            scratch_basedir=settings.scratch_basedir,
            keep_shared=settings.keep_shared,
            keep_scratch=settings.keep_scratch,
        )
        self._directories = directories
        try:
            await self._patiently(lambda: self._client.fetch(task, directories.transformation))
            self._registration.note_task()
            parcel = await self._obtain(task, directories, log)
        except (TaskUnusable, ScopeRefused, NotExecutableError) as error:
            self._give_up(task, str(error))
        else:
            await self._delivery.deliver(parcel)
            if not isinstance(self._next_step(), Leave):
                await self._workshop.renew_if_spoilt()
        await self._tidy()

    async def _obtain(self, task: str, directories: TaskDirectories, log: EventLog) -> Parcel:
        """Get the result of a fetched Task: from the spool, or by having it executed."""
        what = await asyncio.to_thread(fingerprint, directories.transformation)
        log = log.bind(transformation=what.transformation or None, protocol=what.protocol or None)
        found = await asyncio.to_thread(self._spool.find, task, what, directories.result)
        if found is not None:
            log.info("task.found_in_spool", ok=found.ok, created=found.created)
            return Parcel(task, directories.result, found.ok, log)
        began = self._now()
        story = self._poison_story(task)
        if story is None:
            log.info("task.executing")
            done = await self._workshop.execute(task, directories, log)
        else:
            log.warning("task.poisonous", story=story)
            done = await self._workshop.fail(task, directories, POISONOUS, story, log)
        log = of_what(log, done)
        self._account(done, self._now() - began, log)
        # Before anybody may push it: a failure that is the device's is not kept either.
        await self._workshop.prove_device(task, log)
        await settled(
            asyncio.to_thread(self._spool.keep, task, what, directories.result, ok=done.ok),
            self._push_time,
        )
        return Parcel(task, directories.result, done.ok, log)

    def _poison_story(self, task: str) -> str | None:
        try:
            return poison_stories(self._settings.poison_file).get(task)
        except PoisonListError as error:
            # What is not known cannot be held against a Task.
            self._log.warning("poison.not_readable", error=str(error))
            return None

    def _account(self, done: Done, wall: float, log: EventLog) -> None:
        device = done.peak_device_memory
        log.info(
            "task.executed",
            ok=done.ok,
            units=done.units,
            failures=done.failures,
            seconds=done.seconds,
            wall_seconds=wall,
            cpu_seconds=done.cpu_seconds,
            peak_memory_mib=done.peak_memory // 2**20,
            peak_device_memory_mib=None if device is None else device // 2**20,
        )
        of_device = "" if device is None else f" and {device / 2**20:.0f} MiB of the device's"
        self._resources = (
            f"{done.task}: {done.units} units in {wall:.0f} s, {done.cpu_seconds:.0f} s of CPU, "
            f"at most {done.peak_memory / 2**20:.0f} MiB of memory{of_device}"
        )

    def _note_sending(self, task: str | None) -> None:
        if task is not None:
            self._say(Ending(Outcome.PUSHING, task))
        elif self._announced is not None:
            self._say(Ending(Outcome.HOLDING, self._announced))

    def _note_pushed(self, parcel: Parcel) -> None:
        progress = self._progress
        failed_at = () if parcel.ok else (self._elapsed(),)
        self._progress = replace(
            progress,
            held=tuple(other for other in progress.held if other != parcel.task),
            done=progress.done + parcel.ok,
            failed=progress.failed + (not parcel.ok),
            failed_at=progress.failed_at + failed_at,
        )
        if not self._progress.held and self._progress.unusable is None:
            self._release()
            self._forget_message()

    def _give_up(self, task: str, detail: str) -> None:
        """Put a Task aside that only deregistering gives back."""
        self._log.error("task.unusable", task=task, detail=detail)
        progress = self._progress
        self._unusable_detail = detail
        self._progress = replace(
            progress, held=tuple(other for other in progress.held if other != task), unusable=task
        )

    async def _beat(self) -> None:
        await self._registered.wait()
        # By the clock on the wall, which goes on while the machine sleeps.
        last = time.time()
        while True:
            await asyncio.sleep(self._settings.heartbeat_interval)
            if not self._registered.is_set():
                await self._registered.wait()
                last = time.time()
                continue
            try:
                await self._client.heartbeat(self._id)
                gap = time.time() - last
                if gap > self._settings.probe_after and self._may_be_asked():
                    await self._see_whether_registered(gap)
            except ComputeAPIError as error:
                self._log.warning("heartbeat.failed", error=str(error))
            else:
                last = time.time()
                self._log.debug("heartbeat.sent")

    def _may_be_asked(self) -> bool:
        """Whether a probe neither meets a push nor what was deregistered on purpose."""
        return self._delivery.in_flight is None and self._registered.is_set()

    async def _see_whether_registered(self, gap: float) -> None:
        held = await self._registration.is_held()
        self._log.warning("heartbeat.gap", seconds=gap, registered=held)
        if not held:
            raise EndOfLifeError(
                Ending(
                    Outcome.REGISTRATION_LOST,
                    self._progress.held[0] if self._progress.held else None,
                    f"no heartbeat reached the server for {gap:.0f} s, and it has dropped this "
                    "service's registration: its Task has been given away",
                )
            )

    async def _show_life(self) -> None:
        while True:
            try:
                self._presence.beat()
            except OSError as error:
                self._log.warning("presence.not_shown", error=str(error))
            await asyncio.sleep(_PULSE)

    def _show_end(self) -> None:
        try:
            self._presence.end()
        except OSError as error:
            self._log.warning("presence.not_ended", error=str(error))

    def _ending(self, work: "asyncio.Task[Ending]", heart: "asyncio.Task[None]") -> Ending:
        task = self._progress.held[0] if self._progress.held else None
        ending = self._ending_of_work(work, task)
        fault = heart.exception() if heart.done() else None
        if isinstance(fault, EndOfLifeError):
            ending = fault.ending
        elif fault is not None:
            self._log.bug("heartbeat.broken", fault)
            ending = Ending(Outcome.INTERNAL_ERROR, task, f"the heartbeat ended: {fault!r}")
        if self._delivery.in_flight is not None:
            detail = ending.detail or f"the push was cut off by {self._stop.name}"
            return Ending(Outcome.PUSH_AMBIGUOUS, self._delivery.in_flight, detail)
        if self._stop.name is not None:
            return Ending(Outcome.TERMINATED, ending.task, f"stopped by {self._stop.name}")
        return ending

    def _ending_of_work(self, work: "asyncio.Task[Ending]", task: str | None) -> Ending:
        if work.cancelled():
            return Ending(Outcome.TERMINATED, task)
        error = work.exception()
        match error:
            case None:
                return work.result()
            case EndOfLifeError():
                return error.ending
            case ComputeAPIError():
                return ending_of(self._acquaintance.meaning(error), task)
            case OSError() if task is not None:
                # This machine's fault, or a Task's that fills every disk: it is given back either
                # way, and if it happens to it again and again, the operator sees that.
                return Ending(Outcome.TASK_CRASHED, task, f"on this machine: {error}")
            case OSError():
                return Ending(Outcome.DEVICE_UNFIT, None, f"on this machine: {error}")
        self._log.bug("worker.broken", error)
        return Ending(Outcome.INTERNAL_ERROR, task, f"a fault of the worker: {error!r}")

    async def _leave(self, ending: Ending, heart: "asyncio.Task[None]") -> None:
        self._log.info(
            "worker.leaving", outcome=ending.outcome, task=ending.task, detail=ending.detail
        )
        self._say(ending)
        deregister = True
        if ending.outcome is Outcome.PUSH_AMBIGUOUS:
            await self._workshop.stop()
            deregister = await self._pause(since=self._now())
        heart.cancel()
        last_steps = (self._workshop.stop(), self._deregister(deregister))
        for fault in await asyncio.gather(*last_steps, return_exceptions=True):
            if isinstance(fault, Exception):
                self._log.bug("leaving.broken", fault)
        await self._tidy()
        self._release()
        self._log.info(
            "worker.left",
            outcome=ending.outcome,
            tasks_done=self._progress.done,
            tasks_failed=self._progress.failed,
        )

    async def _pause(self, since: float) -> bool:
        """Wait after a push of unknown fate; return whether the service may be deregistered."""
        while True:
            pause = pause_after_ambiguous_push(
                since=since,
                pause=self._settings.push_pause,
                killed_at=self._killed_at(),
            )
            left = pause.until - self._now()
            if left <= 0:
                return pause.deregister
            self._log.info("push.pausing", seconds=left, deregisters=pause.deregister)
            if self._stop.name is not None:
                await asyncio.sleep(left)
                return pause.deregister
            try:
                async with asyncio.timeout(left):
                    await self._stop.wait()
            except TimeoutError:
                return pause.deregister

    async def _deregister(self, wanted: bool) -> None:
        if not self._may_be_registered:
            return
        if not wanted:
            self._log.warning("service.left_registered", reason="a push may still be in progress")
            return
        when_stopped = self._stop.name is not None
        limit = _DEREGISTER_TIME_WHEN_STOPPED if when_stopped else _DEREGISTER_TIME
        try:
            async with asyncio.timeout(limit):
                was_registered = await self._client.deregister(self._id)
        except (ComputeAPIError, TimeoutError) as error:
            self._log.error(
                "service.not_deregistered",
                error=str(error) or f"no answer within {limit:.0f} s",
                advice="its Tasks wait until the server drops the registration",
            )
        else:
            self._log.info("service.deregistered", was_registered=was_registered)

    async def _tidy(self) -> None:
        directories, self._directories = self._directories, None
        if directories is not None:
            # In a thread: a Protocol's files can be many, and the heart has to beat.
            for problem in await asyncio.to_thread(directories.remove):
                self._log.warning("scratch.not_removed", problem=problem)

    def _release(self) -> None:
        self._announced = None
        try:
            self._presence.release()
        except OSError as error:
            self._log.warning("presence.not_released", error=str(error))

    def _say(self, ending: Ending) -> None:
        message = TerminationMessage(
            outcome=ending.outcome,
            task=ending.task,
            tasks_done=self._progress.done,
            tasks_failed=self._progress.failed,
            detail=ending.detail,
        )
        try:
            self._termination.write(message)
        except OSError as error:
            self._log.warning("termination_message.not_written", error=str(error))

    def _forget_message(self) -> None:
        try:
            self._termination.clear()
        except OSError as error:
            self._log.warning("termination_message.not_cleared", error=str(error))

    def _killed_at(self) -> float | None:
        """When leaving has to begin, so that it ends before SIGKILL; None: nobody has said so."""
        if self._stop.at is None:
            return None
        return self._stop.at + max(0.0, self._settings.termination_grace - _LEAVING_TIME)

    def _settle_time(self) -> float:
        return _SETTLE_TIME

    def _push_time(self) -> float:
        killed_at = self._killed_at()
        return _SETTLE_TIME if killed_at is None else killed_at - self._now()
