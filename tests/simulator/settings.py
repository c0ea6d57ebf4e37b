"""What of the simulated server can be set, with the real server's defaults."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TransformationForm(StrEnum):
    """How a transformation travels."""

    KEYED_CHAIN = "keyed_chain"
    JSON_STRING = "json_string"


@dataclass(frozen=True, slots=True)
class Settings:
    """All times in seconds.

    `close_delay` is the real time between a 500 and the close of its connection: a client that
    sends its next request within it meets a reset.
    `registration_gap` and `claim_gap` hold real time between reading and writing inside manager
    registration and per-hub claims, which makes the real server's races happen every time.
    """

    token_lifetime: float = 1800.0
    service_expiry: float = 1800.0
    manager_expiry: float = 3600.0
    manager_error_expiry: float = 86400.0
    max_failures: int = 3
    forgive_time: float = 600.0
    close_delay: float = 0.02
    registration_gap: float = 0.0
    claim_gap: float = 0.0
    database_up: bool = True
    object_store_up: bool = True
    unimportable_modules: tuple[str, ...] = ()
    transformation_form: TransformationForm = TransformationForm.KEYED_CHAIN
    has_managers: bool = True
    obeys_steal: bool = True
    obeys_scopes_exclude: bool = True
    obeys_instruction_protocols: bool = True
    checks_service_ids: bool = True
    pads_empty_claims: bool = True

    def changed(self, changes: dict[str, Any]) -> "Settings":
        """Return a copy with the changes.

        ValueError names a setting that does not exist, TypeError one whose value does not fit.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in fields:
                raise ValueError(f"no such setting: {name!r}; there are {', '.join(fields)}")
            fields[name] = _fitted(name, value, fields[name])
        return Settings(**fields)


def _fitted(name: str, value: Any, present: Any) -> Any:
    if isinstance(present, tuple):
        if not isinstance(value, list | tuple):
            raise TypeError(f"setting {name} wants a list of strings, not {value!r}")
        return tuple(str(item) for item in value)
    if isinstance(present, TransformationForm):
        return TransformationForm(value)
    if isinstance(present, bool) != isinstance(value, bool):
        raise TypeError(f"setting {name} wants {type(present).__name__}, not {value!r}")
    return type(present)(value)


VERSIONS: dict[str, dict[str, Any]] = {
    "0.8.0": {},
    "0.7.2": {
        "transformation_form": "json_string",
        "obeys_scopes_exclude": False,
        "checks_service_ids": False,
        "pads_empty_claims": False,
    },
    "0.7.0": {
        "transformation_form": "json_string",
        "obeys_scopes_exclude": False,
        "obeys_steal": False,
        "obeys_instruction_protocols": False,
        "checks_service_ids": False,
        "pads_empty_claims": False,
    },
    "0.6.1": {
        "transformation_form": "json_string",
        "has_managers": False,
        "obeys_scopes_exclude": False,
        "checks_service_ids": False,
        "pads_empty_claims": False,
    },
}
"""What differs from the defaults in the server's releases (COMPUTE_API, section 6)."""


def settings_of_version(version: str) -> Settings:
    """The settings that make the simulator behave as that release."""
    if version not in VERSIONS:
        raise ValueError(f"no such server version: {version!r}; there are {', '.join(VERSIONS)}")
    return Settings().changed(VERSIONS[version])
