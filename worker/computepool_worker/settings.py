"""The worker's settings file: alchemiscale's own names, checked before anything is started.

A file for the stock compute service is a file for this worker, flat or nested under ``init`` and
``start``. ``${VAR}`` is replaced by the environment's value. ALCHEMISCALE_URL, ALCHEMISCALE_ID and
ALCHEMISCALE_KEY stand in for ``api_url``, ``identifier`` and ``key`` where the file does not give
them, as for the stock clients.
"""

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from computepool_api.ids import ComputeManagerID
from computepool_api.scope import Scope
from computepool_worker.documents import DocumentError, read_mapping
from computepool_worker.patience import Patience
from computepool_worker.variables import MissingVariableError, Substituted, substitute

# Settings that this worker knows and does not use: it fetches each Transformation once, so a cache
# saves nothing. They are accepted, and named in the log.
NOT_USED = (
    "client_cache_directory",
    "client_cache_size_limit",
    "client_use_local_cache",
)

# Where the file gives one of these, the others are what the stock service has.
_RETRIES = ("client_max_retries", "client_retry_base_seconds", "client_retry_max_seconds")
_STOCK_RETRIES = 5

VARIABLES = {
    "api_url": "ALCHEMISCALE_URL",
    "identifier": "ALCHEMISCALE_ID",
    "key": "ALCHEMISCALE_KEY",
}

# What pydantic, which reads the stock service's files, takes for true and false.
_FLAGS: dict[object, bool] = {
    **dict.fromkeys((True, 1, "1", "true", "yes", "on", "t", "y"), True),
    **dict.fromkeys((False, 0, "0", "false", "no", "off", "f", "n"), False),
}
_WHOLE = re.compile(r"[+-]?[0-9_]{1,30}(\.0+)?")
_ENDLESS = 1e9
_LEAST_PAUSE = 1.0

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingsError(ValueError):
    """The settings cannot be used; says which file, which setting, and what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a worker is told. Times are in seconds.

    ``scopes`` empty means every scope that the identity may see, ``protocols`` empty means every
    Protocol. ``max_tasks`` and ``max_time`` None mean no limit.

    A service that is ``ephemeral`` leaves when there is nothing to claim; any other sleeps and asks
    again, until a limit ends it (bounded) or for good (standing). A service that was made by a
    compute manager is ephemeral unless the settings say otherwise.

    ``n_retries`` counts how often a unit of a Task is started again after it raised, and how often
    the whole Task is after the process that executed it died. ``max_silence`` is how long that
    process may neither write anything nor begin another unit before it counts as hanging; None: as
    long as it likes. After ``max_failures`` failed results within ``forgive_time`` the service
    pushes no more until the first of them is that old: one more, and the server would deny it Tasks
    and put its whole manager on hold. Both are the server's defaults.

    After ``probe_after`` without a heartbeat that reached the server the worker asks whether it is
    still registered: the server drops services that were silent for 1800 s, and says nothing.

    ``client_max_retries`` is how often a server that is away is asked again for a registration, a
    claim or a Task (-1: for ever), after waits that grow by ``client_retry_base_seconds`` up to
    ``client_retry_max_seconds``.

    ``spool_dir`` is where results wait that could not be pushed, at most ``spool_max_bytes`` and
    for ``spool_max_age``. ``poison_file`` names Tasks that are failed without being run.
    ``device_min_memory`` and ``scratch_min_free`` are in MiB, and what must be free before a claim,
    as far as it can be told. ``secret_variables`` are the environment variables that the key came
    from.
    """

    api_url: str
    identifier: str | None = None
    key: str | None = field(default=None, repr=False)
    name: str
    compute_manager_id: ComputeManagerID | None = None
    shared_basedir: Path
    scratch_basedir: Path
    keep_shared: bool = False
    keep_scratch: bool = False
    n_retries: int = 3
    heartbeat_interval: float = 300.0
    scopes: tuple[Scope, ...] = ()
    scopes_exclude: tuple[Scope, ...] = ()
    protocols: tuple[str, ...] = ()
    claim_limit: int = 1
    max_tasks: int | None = None
    max_time: float | None = None
    loglevel: str = "INFO"
    logfile: Path | None = None
    client_verify: bool | str = True
    client_max_retries: int = 0
    client_retry_base_seconds: float = 2.0
    client_retry_max_seconds: float = 60.0
    log_format: str = "text"
    credentials_dir: Path | None = None
    state_dir: Path | None = None
    openmm_platform: str | None = None
    ready_timeout: float = 600.0
    result_patience: float = 1800.0
    push_pause: float = 60.0
    stop_grace: float = 3.0
    termination_grace: float = 30.0
    ephemeral: bool
    sleep_interval: float = 30.0
    deep_sleep_interval: float = 300.0
    probe_after: float = 900.0
    max_silence: float | None = None
    max_failures: int = 3
    forgive_time: float = 600.0
    progress_interval: float = 300.0
    spool_dir: Path | None = None
    spool_max_age: float = 14 * 86400.0
    spool_max_bytes: int = 20 * 2**30
    poison_file: Path | None = None
    device_min_memory: int = 1024
    scratch_min_free: int = 1024
    secret_variables: tuple[str, ...] = ()
    not_used: tuple[str, ...] = ()

    @property
    def patience(self) -> Patience:
        """How long a server that is away is waited for."""
        return Patience(
            retries=self.client_max_retries,
            base=self.client_retry_base_seconds,
            longest=self.client_retry_max_seconds,
        )

    @property
    def standing(self) -> bool:
        """Whether the service goes on until it is told to stop, whatever happens to it."""
        return (
            not self.ephemeral
            and self.max_tasks is None
            and self.max_time is None
            and self.compute_manager_id is None
        )


def load(
    path: Path,
    overrides: Mapping[str, object],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """Read the settings file at ``path``; ``overrides`` (None: not given) replace what it says.

    Raises SettingsError.
    """
    try:
        values = read_mapping(path)
    except DocumentError as error:
        raise SettingsError(str(error)) from None
    given = {name: value for name, value in overrides.items() if value is not None}
    return build({**values, **given}, source=str(path), environment=environment)


def build(
    values: Mapping[str, object],
    *,
    source: str,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """Check ``values`` and make Settings of them; ``source`` names their origin in errors.

    A value of None is the same as none given, as in the stock service's files. Raises
    SettingsError.
    """
    parsed: dict[str, object] = {"name": socket.gethostname()}
    secret_variables: tuple[str, ...] = (VARIABLES["key"],)
    # As they are: a key may well hold what looks like a reference.
    taken = _from_environment(values, environment)
    for name, value in {**values, **taken}.items():
        if name in NOT_USED:
            continue
        parse = _PARSERS.get(name)
        if parse is None:
            raise SettingsError(f"{source}: {_unknown(name)}")
        try:
            found = value if name in taken else substitute(value, environment)
        except MissingVariableError as error:
            raise SettingsError(
                f"{source}: {name}: {error}: set it, or write ${{{error.name}:-default}}"
            ) from None
        if name == "key" and isinstance(found, Substituted):
            secret_variables += found.names
        if isinstance(found, Substituted) and parse not in _TEXTS:
            found = found.plain()
        if found is None:
            continue
        try:
            parsed[name] = parse(found)
        except ValueError as error:
            secret = name == "key" or (name == "api_url" and "@" in str(found))
            shown = "" if secret else f", not {found!r}"
            raise SettingsError(f"{source}: {name} must be {error}{shown}") from None
    missing = [_with_variable(name) for name in _REQUIRED if name not in parsed]
    if missing:
        raise SettingsError(f"{source} must give {', '.join(missing)}")
    _check_credentials(parsed, source)
    parsed.setdefault("ephemeral", "compute_manager_id" in parsed)
    if any(name in parsed for name in _RETRIES):
        parsed.setdefault("client_max_retries", _STOCK_RETRIES)
    ignored = tuple(sorted(name for name in values if name in NOT_USED))
    return Settings(**parsed, secret_variables=secret_variables, not_used=ignored)  # type: ignore[arg-type]


def _from_environment(
    values: Mapping[str, object], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return what the environment gives and the file does not."""
    return {
        name: environment[variable]
        for name, variable in VARIABLES.items()
        if values.get(name) is None and environment.get(variable)
    }


def _with_variable(name: str) -> str:
    return f"{name} (or {VARIABLES[name]} in the environment)" if name in VARIABLES else name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` was most likely meant to be, or None."""
    import difflib

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _unknown(name: str) -> str:
    meant = nearest(name.lower().replace("-", "_"), [*_PARSERS, *NOT_USED])
    if meant is None:
        return f"there is no setting {name!r}: remove it"
    return f"there is no setting {name!r}: did you mean {meant!r}?"


def _check_credentials(parsed: Mapping[str, object], source: str) -> None:
    if "credentials_dir" in parsed:
        return
    missing = [_with_variable(name) for name in ("identifier", "key") if name not in parsed]
    if missing:
        raise SettingsError(f"{source} must give {' and '.join(missing)}, or credentials_dir")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text (in quotation marks if it looks like a number)")
    return str(value)


def _url(value: object) -> str:
    # No @ at all: a slash in a password would end the host's part before it.
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#@]+[^\s?#@]*", value):
        raise ValueError(
            "a URL such as https://compute.alchemiscale.example.org, without user name or password"
        )
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a path")
    return Path(value).absolute()


def _flag(value: object) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if not isinstance(word, str | int | float) or word not in _FLAGS:
        raise ValueError("true or false")
    return _FLAGS[word]


def _number(value: object) -> int | float | None:
    """Return the number that ``value`` is or says; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _whole(value: object) -> int | None:
    """Return the whole number that ``value`` is or says, also as ``3.0``; None if it is none."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
        return None
    number = _number(value)
    # NaN and infinity have a remainder, too: NaN.
    return None if number is None or number % 1 else int(number)


def _count(minimum: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        number = _whole(value)
        if number is None or number < minimum:
            raise ValueError(f"a whole number of at least {minimum}")
        return number

    return parse


def _seconds(value: object) -> float:
    # NaN fails the comparison, infinity the second one.
    number = _number(value)
    if number is None or not 0 < number < _ENDLESS:
        raise ValueError("a number of seconds greater than 0")
    return float(number)


def _pause(value: object) -> float:
    number = _number(value)
    if number is None or not 0 <= number < _ENDLESS:
        raise ValueError("a number of seconds of at least 0")
    # The stock service takes 0, and then asks without a pause for as long as there is nothing.
    return float(number) or _LEAST_PAUSE


def _growth(value: object) -> float:
    number = _number(value)
    # Below 1 the waits would become shorter and shorter.
    if number is None or not 1 <= number < _ENDLESS:
        raise ValueError("a number of at least 1")
    return float(number)


def _grace(value: object) -> float:
    # As terminationGracePeriodSeconds, of which it is a copy: 0 means killed at once.
    number = _number(value)
    if number is None or not 0 <= number < _ENDLESS:
        raise ValueError("a number of seconds of at least 0")
    return float(number)


def _manager(value: object) -> ComputeManagerID:
    try:
        return ComputeManagerID.parse(_text(value))
    except ValueError:
        raise ValueError(
            "a compute manager's id, that is its name, a dash and 32 hexadecimal digits"
        ) from None


def _scopes(value: object) -> tuple[Scope, ...]:
    try:
        return tuple(Scope.parse(text) for text in _texts(value))
    except ValueError:
        raise ValueError(
            "a list of scopes such as org-campaign-project or org-*-* (nothing specific after a *)"
        ) from None


def _protocols(value: object) -> tuple[str, ...]:
    # Class names alone: the server answers 500 to anything else.
    names = _texts(value)
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in names):
        raise ValueError("a list of bare class names such as RelativeHybridTopologyProtocol")
    return names


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _log_level(value: object) -> str:
    level = value.upper() if isinstance(value, str) else ""
    level = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level)
    if level not in LOG_LEVELS:
        raise ValueError(f"one of {', '.join(LOG_LEVELS)}")
    return level


def _log_format(value: object) -> str:
    if value not in ("text", "json"):
        raise ValueError("text or json")
    return str(value)


def _verify(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip():
        # 0 and 1 are paths as well as anything.
        return value if value in ("0", "1") else _FLAGS.get(value.lower(), value)
    raise ValueError("true, false or the path of a file of certificate authorities")


_REQUIRED = ("api_url", "shared_basedir", "scratch_basedir")

# What is text even if it looks like a number.
_TEXTS = (_text, _url, _path, _manager)

_PARSERS: dict[str, Callable[[object], object]] = {
    "api_url": _url,
    "identifier": _text,
    "key": _text,
    "name": _text,
    "compute_manager_id": _manager,
    "shared_basedir": _path,
    "scratch_basedir": _path,
    "keep_shared": _flag,
    "keep_scratch": _flag,
    "n_retries": _count(0),
    "heartbeat_interval": _seconds,
    "scopes": _scopes,
    "scopes_exclude": _scopes,
    "protocols": _protocols,
    "claim_limit": _count(1),
    "max_tasks": _count(1),
    "max_time": _seconds,
    "loglevel": _log_level,
    "logfile": _path,
    "client_verify": _verify,
    "client_max_retries": _count(-1),
    "client_retry_base_seconds": _growth,
    "client_retry_max_seconds": _seconds,
    "log_format": _log_format,
    "credentials_dir": _path,
    "state_dir": _path,
    "openmm_platform": _text,
    "ready_timeout": _seconds,
    "result_patience": _seconds,
    "push_pause": _seconds,
    "stop_grace": _seconds,
    "termination_grace": _grace,
    "ephemeral": _flag,
    "sleep_interval": _pause,
    "deep_sleep_interval": _pause,
    "probe_after": _seconds,
    "max_silence": _seconds,
    "max_failures": _count(1),
    "forgive_time": _seconds,
    "progress_interval": _seconds,
    "spool_dir": _path,
    "spool_max_age": _seconds,
    "spool_max_bytes": _count(0),
    "poison_file": _path,
    "device_min_memory": _count(0),
    "scratch_min_free": _count(0),
}
