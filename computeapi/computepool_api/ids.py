"""Names and ids of compute managers and compute services.

An id is `{name}-{uuid}` with exactly one dash. The server takes names
`[A-Za-z][A-Za-z0-9_.:]*` and anything that Python's UUID parser takes without a dash, but compares
the uuid as text. So this package writes and accepts one form of it only: 32 lower-case hex digits.

Kubernetes names have dashes and may begin with a digit, which alchemiscale's may not. The mapping
between the two is reversible, so that the operator finds the Job of a registered service by its id
alone.
"""

from __future__ import annotations

import re
import uuid as _uuid
from typing import Final, Self

_ID: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.:]*)-([0-9a-f]{32})")
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_KUBERNETES_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DIGIT_PREFIX: Final = "N"


class _ComputeID(str):
    """An id in the one form that this package uses; a plain string everywhere else."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if _ID.fullmatch(text) is None:
            raise ValueError(
                f"{text!r} is no {cls.__name__}: it must be a name and 32 lower-case hex digits "
                "joined by the only dash, the name a letter followed by letters, digits, "
                "'_', '.' or ':'"
            )
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @classmethod
    def new(cls, name: str, uuid: _uuid.UUID) -> Self:
        """Compose an id. Raises ValueError when the server would refuse the name."""
        return cls(f"{name}-{uuid.hex}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id as it stands in an answer or in a status. Raises ValueError."""
        return cls(text)

    @property
    def name(self) -> str:
        """What stands before the dash. The server binds services to managers by it."""
        return self.partition("-")[0]

    @property
    def uuid(self) -> str:
        """32 lower-case hex digits."""
        return self.partition("-")[2]


class ComputeManagerID(_ComputeID):
    """Id of a compute manager: its name, and a uuid new at each registration."""

    __slots__ = ()


class ComputeServiceID(_ComputeID):
    """Id of a compute service: the mapped name of its Job, and the UID of its pod."""

    __slots__ = ()


def to_alchemiscale_name(kubernetes_name: str) -> str:
    """Map a Kubernetes name (labels joined by dots) to a name that alchemiscale takes.

    A dash becomes an underscore, a dot stays, a leading digit gets the prefix `N`. Kubernetes names
    have no underscore and no upper case, so that `to_kubernetes_name` can undo it.
    Raises ValueError when the argument is no Kubernetes name.
    """
    if _KUBERNETES_NAME.fullmatch(kubernetes_name) is None:
        raise ValueError(
            f"{kubernetes_name!r} is no Kubernetes name: it must be lower-case letters, digits, "
            "'-' and '.', beginning and ending each part with a letter or digit"
        )
    name = kubernetes_name.replace("-", "_")
    return _DIGIT_PREFIX + name if name[0].isdigit() else name


def to_kubernetes_name(name: str) -> str:
    """Undo `to_alchemiscale_name`. Raises ValueError when no Kubernetes name maps to `name`."""
    candidate = name.removeprefix(_DIGIT_PREFIX).replace("_", "-")
    if _KUBERNETES_NAME.fullmatch(candidate) is None or to_alchemiscale_name(candidate) != name:
        raise ValueError(f"{name!r} is not the alchemiscale form of any Kubernetes name")
    return candidate
