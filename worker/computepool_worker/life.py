"""The life of a worker: register, claim, fetch, execute, push, and always deregister.

What comes next is decided in `steps`, what an error means in `endings`; here it is done. The rules
about pushing follow the server's: it stores a second entry for a second push, and two entries break
every Task that extends the first. So a result is pushed only while the registration is held, at
most once, and a push of unknown fate is followed by a long pause and never repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from computepool_api.errors import (
    ComputeAPIError,
    CredentialsRefused,
    InvalidRequest,
    ScopeRefused,
    ServiceIDTaken,
    TaskUnusable,
    Unavailable,
)
from computepool_api.ids import ComputeServiceID
from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_api.scope import Scope
from computepool_api.service_client import ComputeServiceClient
from computepool_api.transport import ComputeAPI
from computepool_worker.boundary import Done, Execute, Refused
from computepool_worker.child_process import Child, ChildLostError
from computepool_worker.endings import Ending, EndOfLifeError, ending_of
from computepool_worker.logs import EventLog
from computepool_worker.presence import Presence
from computepool_worker.scratch import TaskDirectories
from computepool_worker.settings import Settings
from computepool_worker.settle import settled
from computepool_worker.steps import (
    Claim,
    Leave,
    Limits,
    Progress,
    Run,
    next_step,
    pause_after_ambiguous_push,
)
from computepool_worker.stop_signal import StopSignal
from computepool_worker.termination import TerminationLog

# What leaving itself may take of the termination grace: deregistering, and removing files.
_LEAVING_TIME = 8.0
_DEREGISTER_TIME = 20.0
_DEREGISTER_TIME_WHEN_STOPPED = 6.0
# A small request that is in flight when a signal comes is given this long.
_SETTLE_TIME = 3.0

# After these errors of a push it is certain that nothing was stored; the first may pass.
_MAY_PASS = (Unavailable, CredentialsRefused)
_REFUSED = (ScopeRefused, InvalidRequest, OSError)


class _PostponedError(Exception):
    """The result was not pushed, and may be pushed later; ``error`` says why."""

    def __init__(self, error: ComputeAPIError) -> None:
        super().__init__(str(error))
        self.error = error


class Life:
    """One worker, from registering to leaving. Runs once."""

    def __init__(
        self,
        *,
        settings: Settings,
        service_id: ComputeServiceID,
        api: ComputeAPI,
        client: ComputeServiceClient,
        child: Child,
        new_child: Callable[[], Awaitable[Child]],
        presence: Presence,
        termination: TerminationLog,
        stop: StopSignal,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._id = service_id
        self._api = api
        self._client = client
        self._child = child
        self._new_child = new_child
        self._presence = presence
        self._termination = termination
        self._stop = stop
        self._log = log
        self._now = asyncio.get_running_loop().time
        self._limits = Limits(
            claim_limit=settings.claim_limit,
            max_tasks=settings.max_tasks,
            max_time=settings.max_time,
        )
        self._progress = Progress()
        self._began = self._now()
        self._registered = asyncio.Event()
        self._may_be_registered = False
        self._child_is_fit = False
        self._directories: TaskDirectories | None = None
        self._unusable_detail = ""
        self._announced: str | None = None
        self._in_flight: str | None = None

    async def run(self) -> Outcome:
        """Live. Whatever happens, nothing is left behind; the outcome says how it ended."""
        work = asyncio.create_task(self._work())
        heart = asyncio.create_task(self._beat())
        signalled = asyncio.create_task(self._stop.wait())
        await asyncio.wait({work, heart, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        signalled.cancel()
        ending = self._ending(work, heart)
        await self._leave(ending, heart)
        return ending.outcome

    async def _work(self) -> Ending:
        await settled(self._register(), self._settle_time)
        while True:
            if not self._child_is_fit:
                await self._wait_until_fit()
            step = next_step(
                replace(self._progress, elapsed=self._now() - self._began), self._limits
            )
            match step:
                case Claim(count):
                    await settled(self._claim(count), self._settle_time)
                case Run(task):
                    await self._run(task)
                case Leave(outcome):
                    return Ending(outcome, self._progress.unusable, self._unusable_detail)

    async def _register(self) -> None:
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
        self._began = self._now()
        self._registered.set()
        self._log.info("service.registered", manager=manager)

    async def _wait_until_fit(self) -> None:
        try:
            ready = await self._child.ready(self._settings.ready_timeout)
        except ChildLostError as error:
            self._tell_of("device.unfit", error)
            raise EndOfLifeError(Ending(Outcome.DEVICE_UNFIT, detail=str(error))) from None
        if not ready.ok:
            self._log.error("device.unfit", reason=ready.reason, **ready.facts)
            raise EndOfLifeError(Ending(Outcome.DEVICE_UNFIT, detail=ready.reason))
        self._child_is_fit = True
        self._log.info("device.fit", **ready.facts)

    async def _claim(self, count: int) -> None:
        settings = self._settings
        claim = await self._client.claim(
            self._id,
            scopes=settings.scopes or (Scope(),),
            scopes_exclude=settings.scopes_exclude,
            protocols=settings.protocols,
            count=count,
        )
        if claim.denied:
            raise EndOfLifeError(
                Ending(
                    Outcome.DENIED,
                    detail="the server denies this service Tasks: too many of its Tasks failed "
                    "within a short time",
                )
            )
        self._log.info("task.claimed", count=len(claim.tasks), tasks=" ".join(claim.tasks))
        self._progress = replace(self._progress, held=claim.tasks, found_nothing=not claim.tasks)
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
            await self._client.fetch(task, directories.transformation)
        except (TaskUnusable, ScopeRefused) as error:
            self._give_up(task, str(error))
        else:
            log.info("task.executing")
            await self._execute(task, directories, log)
        await self._tidy()

    async def _execute(self, task: str, directories: TaskDirectories, log: EventLog) -> None:
        request = Execute(
            task=task,
            transformation=str(directories.transformation),
            result=str(directories.result),
            shared=str(directories.shared),
            scratch=str(directories.scratch),
            n_retries=self._settings.n_retries,
            keep_shared=self._settings.keep_shared,
            keep_scratch=self._settings.keep_scratch,
        )
        try:
            answer = await self._child.execute(request)
        except ChildLostError as error:
            self._tell_of("task.crashed", error, task=task)
            raise EndOfLifeError(Ending(Outcome.TASK_CRASHED, task, str(error))) from None
        match answer:
            case Refused(fault="task"):
                self._give_up(task, answer.detail)
            case Refused():
                log.error("task.not_executed", detail=answer.detail)
                raise EndOfLifeError(Ending(Outcome.TASK_CRASHED, task, answer.detail))
            case Done():
                log.info(
                    "task.executed",
                    ok=answer.ok,
                    units=answer.units,
                    failures=answer.failures,
                    seconds=answer.seconds,
                )
                await self._deliver(task, answer, directories, log)
                if not answer.ok:
                    await self._renew_child()

    async def _deliver(
        self, task: str, answer: Done, directories: TaskDirectories, log: EventLog
    ) -> None:
        """Push the result, and wait for what may pass: hours of work may be in it.

        A server that is away, a proxy that answers in its place while it is renewed, a key that was
        changed and has not arrived here yet.
        """
        patient_until = self._now() + self._settings.result_patience
        for pause in _pauses():
            try:
                await settled(self._push(task, answer, directories, log), self._push_time)
            except _PostponedError as postponed:
                if self._now() + pause > patient_until:
                    raise postponed.error from None
                log.warning("result.waiting", error=str(postponed), retry_in=pause)
                await asyncio.sleep(pause)
            else:
                return

    async def _push(
        self, task: str, answer: Done, directories: TaskDirectories, log: EventLog
    ) -> None:
        # A probe that gets no answer proves nothing any more, and the result would be lost for it:
        # so it is sent only to a server that has just been seen to be well.
        try:
            await self._api.check()
            held = await self._client.holds_registration(
                self._id, self._settings.compute_manager_id
            )
        except ComputeAPIError as error:
            raise _PostponedError(error) from None
        if not held:
            log.error("result.discarded", reason="registration lost")
            raise EndOfLifeError(
                Ending(
                    Outcome.REGISTRATION_LOST,
                    task,
                    "the server had dropped this service's registration, so its Task has been "
                    "given away: the result was not pushed",
                )
            )
        self._in_flight = task
        try:
            entry = await self._client.push(task, self._id, directories.result)
        except _MAY_PASS as error:
            self._in_flight = None
            raise _PostponedError(error) from None
        except _REFUSED:
            self._in_flight = None
            raise
        self._in_flight = None
        progress = self._progress
        self._progress = replace(
            progress,
            held=tuple(other for other in progress.held if other != task),
            done=progress.done + answer.ok,
            failed=progress.failed + (not answer.ok),
        )
        if not self._progress.held and self._progress.unusable is None:
            self._release()
        log.info("result.pushed", ok=answer.ok, entry=entry)

    def _tell_of(self, event: str, lost: ChildLostError, task: str | None = None) -> None:
        self._log.error(event, task=task, what=lost.what, stderr="\n".join(lost.last_lines))

    def _give_up(self, task: str, detail: str) -> None:
        """Put a Task aside that only deregistering gives back."""
        self._log.error("task.unusable", task=task, detail=detail)
        progress = self._progress
        self._unusable_detail = detail
        self._progress = replace(
            progress, held=tuple(other for other in progress.held if other != task), unusable=task
        )

    async def _renew_child(self) -> None:
        """Take a new child: one in which a Protocol failed may have a spoilt device context."""
        step = next_step(replace(self._progress, elapsed=self._now() - self._began), self._limits)
        if isinstance(step, Leave):
            return
        await self._child.stop()
        self._child_is_fit = False
        await settled(self._take_new_child(), self._settle_time)

    async def _take_new_child(self) -> None:
        self._child = await self._new_child()

    async def _beat(self) -> None:
        await self._registered.wait()
        while True:
            await asyncio.sleep(self._settings.heartbeat_interval)
            try:
                await self._client.heartbeat(self._id)
            except ComputeAPIError as error:
                self._log.warning("heartbeat.failed", error=str(error))
            else:
                self._log.debug("heartbeat.sent")

    def _ending(self, work: "asyncio.Task[Ending]", heart: "asyncio.Task[None]") -> Ending:
        task = self._progress.held[0] if self._progress.held else None
        ending = self._ending_of_work(work, task)
        if heart.done() and (fault := heart.exception()) is not None:
            self._log.bug("heartbeat.broken", fault)
            ending = Ending(Outcome.INTERNAL_ERROR, task, f"the heartbeat ended: {fault!r}")
        if self._in_flight is not None:
            detail = ending.detail or f"the push was cut off by {self._stop.name}"
            return Ending(Outcome.PUSH_AMBIGUOUS, self._in_flight, detail)
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
                return ending_of(error, task)
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
            await self._child.stop()
            deregister = await self._pause(since=self._now())
        heart.cancel()
        last_steps = (self._child.stop(), self._deregister(deregister))
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


def _pauses() -> Iterator[float]:
    """Seconds between attempts to reach a server that is away."""
    yield from (2.0, 5.0, 10.0, 20.0)
    while True:
        yield 30.0
