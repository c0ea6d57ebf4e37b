"""``computepool-worker check``: whether a worker could claim Tasks here, and if not, why.

It looks at all that a worker needs and does nothing that lasts: it registers no service, claims no
Task and leaves no file. Whoever asks "why does this node do nothing?" runs it in a pod there.
"""

import asyncio
import contextlib
import functools
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from computepool_api.errors import ComputeAPIError
from computepool_api.outcomes import Outcome
from computepool_api.transport import ComputeAPI
from computepool_worker import __version__, child_start, leaving, logs
from computepool_worker.boundary import Ready
from computepool_worker.checklist import Check, document, scopes_check, table, verdict
from computepool_worker.child_process import Child, ChildLostError
from computepool_worker.child_start import Started
from computepool_worker.cli import CheckArguments
from computepool_worker.credentials import CredentialsUnreadable, source_for
from computepool_worker.endings import ending_of, outcome_of
from computepool_worker.identity import service_id
from computepool_worker.logs import EventLog
from computepool_worker.settings import Settings, load
from computepool_worker.startup import demands
from computepool_worker.stop_signal import StopSignal

_API = "compute API"
_STORES = "server's stores"


def run(arguments: CheckArguments, environment: Mapping[str, str], stop: StopSignal) -> int:
    """Check everything, print what was found, and return the exit code.

    0: a worker could claim Tasks here. Otherwise it is the code that a worker would end with.
    """
    try:
        checks = _run(arguments.settings, environment, stop)
    except asyncio.CancelledError:
        return Outcome.TERMINATED.exit_code
    sys.stdout.write((document if arguments.json else table)(checks) + "\n")
    outcome = verdict(checks)
    return 0 if outcome is None else outcome.exit_code


def _run(path: Path, environment: Mapping[str, str], stop: StopSignal) -> list[Check]:
    try:
        settings = load(path, {}, environment)
        identity = service_id(settings.name, environment)
    except ValueError as error:
        return [Check("settings", str(error), Outcome.SETTINGS_INVALID)]
    good = Check("settings", f"{path}: a service {identity.name} of {settings.api_url}")
    log = logs.configure(level="ERROR", form="text", logfile=None)
    with contextlib.ExitStack() as undone:
        directories = [
            _directory(name, directory, undone)
            for name, directory in _directories(settings)
            if directory is not None
        ]
        start = functools.partial(
            child_start.start,
            child_start.command(environment),
            demands(settings),
            child_start.without(environment, settings.secret_variables),
        )
        found = leaving.run(_unless_stopped(functools.partial(_look, settings, start, log), stop))
    return [good, *directories, *found]


async def _unless_stopped(
    look: Callable[[], Awaitable[list[Check]]], stop: StopSignal
) -> list[Check]:
    """Look, or raise CancelledError when a signal comes before the end."""
    loop = asyncio.get_running_loop()
    stop.attach(loop)
    work, stopped = asyncio.ensure_future(look()), asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    work.cancel()
    return await work


async def _look(settings: Settings, start: Callable[[], Started], log: EventLog) -> list[Check]:
    device = asyncio.create_task(_device(settings, start, log))
    try:
        server = await _server(settings)
        return [*server, *await device]
    finally:
        device.cancel()
        await asyncio.wait({device})


def _directories(settings: Settings) -> Iterator[tuple[str, Path | None]]:
    yield "shared_basedir", settings.shared_basedir
    yield "scratch_basedir", settings.scratch_basedir
    yield "state_dir", settings.state_dir
    yield "spool_dir", settings.spool_dir


def _directory(name: str, directory: Path, undone: contextlib.ExitStack) -> Check:
    """Write to a directory; what is made for that is taken away by ``undone``."""
    try:
        for missing in _missing(directory):
            missing.mkdir()
            undone.callback(_remove, missing)
        with tempfile.NamedTemporaryFile(dir=directory, prefix="check.") as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return Check(name, f"{directory} cannot be written to: {error}", Outcome.DEVICE_UNFIT)
    return Check(name, f"{directory} can be written to")


def _missing(directory: Path) -> Sequence[Path]:
    """Return what has to be made, from the top."""
    return [path for path in (*reversed(directory.parents), directory) if not path.exists()]


def _remove(directory: Path) -> None:
    # What somebody else has put there in the meantime stays.
    with contextlib.suppress(OSError):
        directory.rmdir()


async def _server(settings: Settings) -> list[Check]:
    try:
        credentials = source_for(settings)()
        api = ComputeAPI(
            settings.api_url,
            lambda: credentials,
            verify=settings.client_verify,
            user_agent=f"computepool-worker/{__version__}",
        )
    except CredentialsUnreadable as error:
        return [Check("credentials", str(error), Outcome.CREDENTIALS_REFUSED)]
    except ValueError as error:
        return [Check(_API, str(error), Outcome.SETTINGS_INVALID)]
    names = (_API, "credentials", "scopes", _STORES)
    checks: list[Check] = []
    async with api:
        try:
            await api.ping()
            checks.append(Check(_API, f"{settings.api_url} answers"))
            visible = await api.visible_scopes(credentials.identifier)
            checks.append(Check("credentials", f"the server accepts {credentials.identifier}"))
            checks.append(scopes_check(settings.scopes, visible))
            await api.check()
            checks.append(Check(_STORES, "the server reaches them"))
        except ComputeAPIError as error:
            failed = names[len(checks)]
            checks.append(Check(failed, str(error), ending_of(error, None).outcome))
    checks += [Check(name, "", skipped=True) for name in names[len(checks) :]]
    return checks


async def _device(settings: Settings, start: Callable[[], Started], log: EventLog) -> list[Check]:
    try:
        child = await Child.attach(start(), grace=settings.stop_grace, log=log)
    except (OSError, ValueError) as error:
        return [Check("software", f"the child cannot be started: {error}", Outcome.DEVICE_UNFIT)]
    try:
        ready = await child.ready(settings.ready_timeout)
    except ChildLostError as error:
        return [Check("device", str(error), Outcome.DEVICE_UNFIT)]
    finally:
        await child.stop()
    return _findings(settings, ready)


def _findings(settings: Settings, ready: Ready) -> list[Check]:
    software = {name: ready.facts[name] for name in ("gufe", "openmm") if name in ready.facts}
    rest = {name: value for name, value in ready.facts.items() if name not in software}
    if not ready.ok and ready.fault == "image":
        return [
            Check("software", ready.reason, outcome_of(ready), facts=software),
            Check("device", "", skipped=True, facts=rest),
        ]
    good = Check("software", "what executes Tasks can be imported", facts=software)
    if not ready.ok:
        return [good, Check("device", ready.reason, outcome_of(ready), facts=rest)]
    if settings.openmm_platform is None:
        unasked = "openmm_platform is not set, so no device is demanded"
        return [good, Check("device", unasked, skipped=True, facts=rest)]
    return [good, Check("device", f"{settings.openmm_platform} computes rightly", facts=rest)]
