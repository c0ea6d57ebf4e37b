"""Where Tasks are executed: by a child, by another one when it dies, and in vain at last."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from computepool_api.outcomes import Outcome
from computepool_worker import memory
from computepool_worker.boundary import Begun, Done, Execute, Fail, Refused
from computepool_worker.child_process import Child, ChildLostError, Exit
from computepool_worker.crashes import Crash, Surroundings, host_fault, reached_limit, story
from computepool_worker.endings import Ending, EndOfLifeError, outcome_of
from computepool_worker.logs import EventLog
from computepool_worker.scratch import TaskDirectories
from computepool_worker.settings import Settings
from computepool_worker.settle import settled

CRASHED = "ProcessDied"
POISONOUS = "KnownToTakeWorkersDown"

# Starting a process takes no longer, and one that was started must not be lost sight of.
_START_TIME = 3.0


class NotExecutableError(Exception):
    """The Task cannot be executed by this worker at all; only leaving gives it back."""


class Workshop:
    """The child at work, and the one that takes its place.

    Ends the worker's life (EndOfLifeError) where this machine is to blame.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        child: Child,
        new_child: Callable[[], Awaitable[Child]],
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._child = child
        self._new_child = new_child
        self._log = log
        self._now = asyncio.get_running_loop().time
        self._is_fit = False
        # A child in which a Protocol failed may have a spoilt device context.
        self._may_be_spoilt = False
        # What this child has said of its finished Tasks (s): the kernel counts its whole life.
        self._cpu_accounted = 0.0

    async def get_ready(self, task: str | None = None) -> None:
        """Wait until the child has found its device fit; ``task`` is the one in hand."""
        if self._is_fit:
            return
        try:
            ready = await self._child.ready(self._settings.ready_timeout)
        except ChildLostError as error:
            _tell_of("device.unfit", error, self._log)
            raise EndOfLifeError(Ending(Outcome.DEVICE_UNFIT, task, str(error))) from None
        if not ready.ok:
            self._log.error("device.unfit", reason=ready.reason, **ready.facts)
            raise EndOfLifeError(Ending(outcome_of(ready), task, ready.reason))
        self._is_fit = True
        self._log.info("device.fit", **ready.facts)

    async def execute(self, task: str, directories: TaskDirectories, log: EventLog) -> Done:
        """Execute the fetched Task; its result is in ``directories`` then.

        A process that dies by its own doing is followed by another one, ``n_retries`` times, and
        then by a failed result that tells of it. What the dead have used is accounted to the Task.
        ``log`` knows the Task. Raises NotExecutableError; OSError.
        """
        settings = self._settings
        request = Execute(
            task=task,
            transformation=str(directories.transformation),
            result=str(directories.result),
            shared=str(directories.shared),
            scratch=str(directories.scratch),
            n_retries=settings.n_retries,
            keep_shared=settings.keep_shared,
            keep_scratch=settings.keep_scratch,
        )
        crashes: list[Crash] = []
        ends: list[Exit] = []
        while True:
            before, began = self._surroundings(directories), self._now()
            try:
                done = self._accept(task, await self._attempt(request, log), log)
                self._may_be_spoilt = not done.ok
                return accounting(done, ends)
            except ChildLostError as error:
                _tell_of("task.crashed", error, log)
                after = self._surroundings(directories)
                self._blame_host(task, error, before, after)
                what = error.what
                if reached_limit(before, after):
                    what += ", since its container had reached its memory limit,"
                peak = None if error.ended is None else error.ended.peak_memory
                if error.ended is not None:
                    ends.append(self._share_of_task(error.ended))
                crashes.append(Crash(what, error.last_lines, peak, seconds=self._now() - began))
            if len(crashes) > settings.n_retries:
                done = await self.fail(task, directories, CRASHED, story(crashes), log)
                return accounting(done, ends)
            await asyncio.to_thread(directories.empty, len(crashes))
            await self.renew()
            log.warning("task.retrying", attempt=len(crashes) + 1)

    async def fail(
        self,
        task: str,
        directories: TaskDirectories,
        exception: str,
        traceback: str,
        log: EventLog,
    ) -> Done:
        """Have a failed result written for the fetched Task, without executing it.

        Raises NotExecutableError.
        """
        if self._child.has_ended:
            await self.renew()
        await self.get_ready(task)
        request = Fail(
            task=task,
            transformation=str(directories.transformation),
            result=str(directories.result),
            exception=exception,
            traceback=traceback,
        )
        try:
            return self._accept(task, await self._child.execute(request), log)
        except ChildLostError as error:
            _tell_of("task.crashed", error, log)
            detail = f"{traceback}\nWhile this was written down, {error}"
            raise EndOfLifeError(Ending(Outcome.TASK_CRASHED, task, detail)) from None

    async def prove_device(self, task: str, log: EventLog) -> None:
        """Make sure that ``task``, if its Protocol has just failed, has not failed for the device.

        Where a platform is demanded, another child looks at the device again: that costs one start
        of a child for each failed Task. After a crash that has been done already. An unfit device
        ends the worker's life; the failure is nobody's to push then.
        """
        if not self._may_be_spoilt or self._settings.openmm_platform is None:
            return
        log.info("device.checked_again", reason="the Task has failed")
        await self.renew()
        try:
            await self.get_ready(task)
        except EndOfLifeError as error:
            ending = error.ending
            detail = f"seen after {task} had failed, which is not held against it: {ending.detail}"
            raise EndOfLifeError(replace(ending, detail=detail)) from None

    async def renew_if_spoilt(self) -> None:
        """Take a new child if a Protocol has failed in this one."""
        if self._may_be_spoilt:
            await self.renew()

    async def renew(self) -> None:
        """Take a new child, which has yet to get ready."""
        await self._child.stop()
        self._is_fit = False
        await settled(self._take_new_child(), lambda: _START_TIME)

    async def stop(self) -> None:
        """End the child and all that it has started."""
        await self._child.stop()

    async def _take_new_child(self) -> None:
        self._child = await self._new_child()
        self._may_be_spoilt = False
        self._cpu_accounted = 0.0

    def _share_of_task(self, ended: Exit) -> Exit:
        return replace(ended, cpu_seconds=max(0.0, ended.cpu_seconds - self._cpu_accounted))

    async def _attempt(self, request: Execute, log: EventLog) -> Done | Refused:
        await self.get_ready(request.task)
        course = _Course(log, self._now)
        reporter = asyncio.create_task(course.report(self._settings.progress_interval))
        try:
            return await self._child.execute(
                request, max_silence=self._settings.max_silence, on_unit=course.note
            )
        finally:
            reporter.cancel()

    def _accept(self, task: str, answer: Done | Refused, log: EventLog) -> Done:
        match answer:
            case Refused(fault="task"):
                raise NotExecutableError(answer.detail)
            case Refused():
                log.error("task.not_executed", detail=answer.detail)
                raise EndOfLifeError(Ending(Outcome.TASK_CRASHED, task, answer.detail))
            case Done():
                self._cpu_accounted += answer.cpu_seconds
                return answer

    def _blame_host(
        self, task: str, error: ChildLostError, before: Surroundings, after: Surroundings
    ) -> None:
        fault = host_fault(before, after)
        if fault is not None:
            raise EndOfLifeError(
                Ending(Outcome.TASK_CRASHED, task, f"on this machine, {fault}: {error}")
            ) from None

    def _surroundings(self, directories: TaskDirectories) -> Surroundings:
        return Surroundings(memory.shortages(), directories.free_bytes())


def _tell_of(event: str, lost: ChildLostError, log: EventLog) -> None:
    log.error(event, what=lost.what, stderr="\n".join(lost.last_lines))


def accounting(done: Done, ends: Sequence[Exit]) -> Done:
    """Return ``done`` with what the processes have used that died of the same Task before."""
    return replace(
        done,
        cpu_seconds=done.cpu_seconds + sum(end.cpu_seconds for end in ends),
        peak_memory=max([done.peak_memory, *(end.peak_memory for end in ends)]),
    )


def of_what(log: EventLog, told: Begun | Done) -> EventLog:
    """Return ``log`` with what the child has told: servers before 0.8 name no Transformation."""
    known = {"transformation": told.transformation, "protocol": told.protocol}
    return log.bind(**{name: value for name, value in known.items() if value})


class _Course:
    """How far a Task is, for the log."""

    def __init__(self, log: EventLog, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        self._began = now()
        self._unit: Begun | None = None

    def note(self, unit: Begun) -> None:
        self._unit = unit
        self._log = of_what(self._log, unit)
        self._tell("task.unit_begins")

    async def report(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self._tell("task.in_progress")

    def _tell(self, event: str) -> None:
        unit = self._unit
        self._log.info(
            event,
            unit=None if unit is None else unit.unit,
            units=None if unit is None else unit.units,
            name=None if unit is None else unit.name,
            elapsed=self._now() - self._began,
        )
