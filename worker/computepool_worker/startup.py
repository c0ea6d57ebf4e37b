"""From the command line to a living worker: what has to be right before anything is registered."""

import functools
import signal
import sys
from collections.abc import Mapping

from computepool_api.outcomes import Outcome, TerminationMessage
from computepool_worker import child_start, leaving, logs
from computepool_worker.boundary import Prepare
from computepool_worker.cli import Arguments
from computepool_worker.endings import CannotStartError
from computepool_worker.identity import service_id
from computepool_worker.logs import EventLog
from computepool_worker.presence import Presence
from computepool_worker.settings import Settings, load
from computepool_worker.stop_signal import StopSignal
from computepool_worker.termination import TerminationLog


def run(arguments: Arguments, environment: Mapping[str, str], stop: StopSignal) -> int:
    """Run a worker to its end and return its exit code."""
    termination = TerminationLog.from_environment(environment)
    try:
        return _run(arguments, environment, stop, termination).exit_code
    except CannotStartError as error:
        refusal = TerminationMessage(error.outcome, detail=str(error))
    log = logs.configure(level="INFO", form="text", logfile=None)
    log.error("worker.cannot_start", outcome=refusal.outcome, detail=refusal.detail)
    try:
        termination.write(refusal)
    except OSError as problem:
        log.warning("termination_message.not_written", error=str(problem))
    return refusal.outcome.exit_code


def _run(
    arguments: Arguments,
    environment: Mapping[str, str],
    stop: StopSignal,
    termination: TerminationLog,
) -> Outcome:
    try:
        settings = load(
            arguments.settings,
            {"name": arguments.name, "compute_manager_id": arguments.compute_manager_id},
            environment,
        )
        identity = service_id(settings.name, environment)
    except ValueError as error:
        raise CannotStartError(Outcome.SETTINGS_INVALID, str(error)) from None
    log = _prepare(settings, stop).bind(service=identity)
    # httpx would import its own command line, and where there are rich and pygments that takes
    # longer than all the rest of this process's start: a None here is "no such module" to it.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

    # What this process imports comes before the child, whose imports take seconds: side by side on
    # one processor they would make each other late, and registering has to come first.
    from computepool_worker.service import serve

    start_child = functools.partial(
        child_start.start,
        child_start.command(environment),
        demands(settings),
        child_start.without(environment, settings.secret_variables),
    )
    try:
        child = start_child()
    except (OSError, ValueError) as error:
        raise CannotStartError(
            Outcome.DEVICE_UNFIT, f"the child process cannot be started: {error}"
        ) from None
    log.info("worker.started", child=child.process.pid)
    if settings.not_used:
        log.warning("settings.not_used", names=" ".join(settings.not_used))

    return leaving.run(
        serve(
            settings=settings,
            service_id=identity,
            started=child,
            start_child=start_child,
            termination=termination,
            stop=stop,
            log=log,
        )
    )


def demands(settings: Settings) -> Prepare:
    """Return what the settings demand of the child's device and surroundings."""
    return Prepare(
        openmm_platform=settings.openmm_platform,
        device_min_memory=settings.device_min_memory,
        scratch=str(settings.scratch_basedir),
        scratch_min_free=settings.scratch_min_free,
    )


def _prepare(settings: Settings, stop: StopSignal) -> EventLog:
    """Make the directories and open the log; an unusable disk must show before a claim."""
    try:
        log = logs.configure(
            level=settings.loglevel, form=settings.log_format, logfile=settings.logfile
        )
        presence = Presence(settings.state_dir)
        presence.prepare()
        if presence.told_to_stop():
            stop.heed(signal.SIGTERM)
        for directory in (
            settings.shared_basedir,
            settings.scratch_basedir,
            settings.spool_dir,
        ):
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStartError(
            Outcome.DEVICE_UNFIT, f"a directory of the settings cannot be used: {error}"
        ) from None
    return log
