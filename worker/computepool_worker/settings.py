"""The worker's settings file: alchemiscale's own names, checked before anything is started.

A file for the stock compute service is a file for this worker, flat or nested under ``init`` and
``start``. The settings after ``log_format`` are this worker's own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from computepool_api.ids import ComputeManagerID
from computepool_api.scope import Scope
from computepool_worker.documents import DocumentError, read_mapping

# Settings that this worker knows and does not use: it leaves when nothing is to be claimed, keeps
# no cache and no spool, and paces its retries itself. They are accepted, and named in the log.
NOT_USED = (
    "client_cache_directory",
    "client_cache_size_limit",
    "client_max_retries",
    "client_retry_base_seconds",
    "client_retry_max_seconds",
    "client_use_local_cache",
    "deep_sleep_interval",
    "sleep_interval",
    "spool_dir",
)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingsError(ValueError):
    """The settings cannot be used; says which file, which setting, and what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a worker is told. Times are in seconds.

    ``scopes`` empty means every scope that the identity may see, ``protocols`` empty means every
    Protocol. ``max_tasks`` and ``max_time`` None mean no limit.
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
    log_format: str = "text"
    credentials_dir: Path | None = None
    state_dir: Path | None = None
    openmm_platform: str | None = None
    ready_timeout: float = 600.0
    result_patience: float = 1800.0
    push_pause: float = 60.0
    stop_grace: float = 3.0
    termination_grace: float = 30.0
    not_used: tuple[str, ...] = ()


def load(path: Path, overrides: Mapping[str, object]) -> Settings:
    """Read the settings file at ``path``; ``overrides`` (None: not given) replace what it says.

    Raises SettingsError.
    """
    try:
        values = read_mapping(path)
    except DocumentError as error:
        raise SettingsError(str(error)) from None
    given = {name: value for name, value in overrides.items() if value is not None}
    return build({**values, **given}, source=str(path))


def build(values: Mapping[str, object], *, source: str) -> Settings:
    """Check ``values`` and make Settings of them; ``source`` names their origin in errors.

    A value of None is the same as none given, as in the stock service's files. Raises
    SettingsError.
    """
    parsed: dict[str, object] = {}
    for name, value in values.items():
        if name in NOT_USED:
            continue
        parse = _PARSERS.get(name)
        if parse is None:
            raise SettingsError(f"{source}: {_unknown(name)}")
        if value is None:
            continue
        try:
            parsed[name] = parse(value)
        except ValueError as error:
            shown = "" if name == "key" else f", not {value!r}"
            raise SettingsError(f"{source}: {name} must be {error}{shown}") from None
    missing = [name for name in _REQUIRED if name not in parsed]
    if missing:
        raise SettingsError(f"{source} must give {', '.join(missing)}")
    _check_credentials(parsed, source)
    ignored = tuple(sorted(name for name in values if name in NOT_USED))
    return Settings(**parsed, not_used=ignored)  # type: ignore[arg-type]


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
    missing = [name for name in ("identifier", "key") if name not in parsed]
    if missing:
        raise SettingsError(f"{source} must give {' and '.join(missing)}, or credentials_dir")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text (in quotation marks if it looks like a number)")
    return value


def _url(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        raise ValueError("a URL such as https://compute.alchemiscale.example.org")
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a path")
    return Path(value).absolute()


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _count(minimum: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"a whole number of at least {minimum}")
        return value

    return parse


def _seconds(value: object) -> float:
    # NaN fails the comparison, infinity the second one.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("a number of seconds greater than 0")
    return float(value)


def _grace(value: object) -> float:
    # As terminationGracePeriodSeconds, of which it is a copy: 0 means killed at once.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError("a number of seconds of at least 0")
    return float(value)


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
        return value
    raise ValueError("true, false or the path of a file of certificate authorities")


_REQUIRED = ("api_url", "name", "shared_basedir", "scratch_basedir")

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
    "log_format": _log_format,
    "credentials_dir": _path,
    "state_dir": _path,
    "openmm_platform": _text,
    "ready_timeout": _seconds,
    "result_patience": _seconds,
    "push_pause": _seconds,
    "stop_grace": _seconds,
    "termination_grace": _grace,
}
