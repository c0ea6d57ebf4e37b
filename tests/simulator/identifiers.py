"""Ids and keys as the server reads them."""

import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from .errors import BrokenError
from .scopes import Scope

IdMaker = Callable[[], str]
"""Makes 32 hex digits, another one at each call."""

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.:]*")


def random_ids(seed: int | None = None) -> IdMaker:
    """An id maker; with a seed it makes the same ids in the same order."""
    source = random.Random(seed) if seed is not None else random.SystemRandom()
    return lambda: f"{source.getrandbits(128):032x}"


@dataclass(frozen=True, slots=True)
class ComputeID:
    """`{name}-{uuid}` of a manager or service; the uuid is kept, and compared, as text."""

    name: str
    uuid: str

    def __str__(self) -> str:
        return f"{self.name}-{self.uuid}"

    @classmethod
    def parse(cls, text: str, kind: str) -> "ComputeID":
        """Read an id; ValueError with the server's own text (`kind` is its class name there)."""
        parts = text.split("-")
        if len(parts) != 2:
            raise ValueError(f"{kind} must have the form `{{name}}-{{uuid}}` with uuid in hex form")
        name, hex_digits = parts
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{kind} must either start with an alphabetical and contain only alphanumeric, "
                "underscores ('_'), periods ('.'), or colons (':') thereafter"
            )
        try:
            uuid.UUID(hex_digits)
        except ValueError:
            raise ValueError("Could not interpret the provided UUID.") from None
        return cls(name, hex_digits)


def is_name(text: str) -> bool:
    """Whether the text may be the name of a manager."""
    return _NAME.fullmatch(text) is not None


def scope_of_key(scoped_key: str) -> Scope:
    """The scope in `{prefix}-{hex}-{org}-{campaign}-{project}`; malformed keys break the server."""
    parts = scoped_key.split("-")
    if len(parts) != 5 or not all(parts):
        raise BrokenError(f"not a scoped key: {scoped_key!r}")
    return Scope(*parts[2:])
