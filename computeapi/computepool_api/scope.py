"""Scopes: which organisations, campaigns and projects a pool works for.

A scope is org, campaign and project, each a word or a wildcard, and no word may follow a wildcard
(the server answers 422). On the wire a wildcard is `null`; in text it is `*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of projects: `None` in a part means any. `"*"` is taken for `None`.

    Raises ValueError for a part that the server would refuse, and for a word after a wildcard.
    """

    org: str | None = None
    campaign: str | None = None
    project: str | None = None

    def __post_init__(self) -> None:
        seen_wildcard = False
        for field in ("org", "campaign", "project"):
            word: str | None = getattr(self, field)
            if word in (None, "*"):
                object.__setattr__(self, field, None)
                seen_wildcard = True
            elif word is None or _WORD.fullmatch(word) is None:
                raise ValueError(
                    f"{word!r} is no {field} of a scope: it must be '*' or a letter followed by "
                    "letters, digits or '_'"
                )
            elif seen_wildcard:
                raise ValueError(
                    f"{field} {word!r} follows a wildcard: write a scope from left to right, "
                    "like 'org-*-*' or 'org-campaign-*'"
                )

    def __str__(self) -> str:
        return "-".join(part or "*" for part in (self.org, self.campaign, self.project))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `org-campaign-project`, with `*` for any. Raises ValueError."""
        parts = text.split("-")
        if len(parts) != 3:
            raise ValueError(
                f"{text!r} is no scope: it must be three parts joined by '-', like 'org-*-*'"
            )
        return cls(*parts)

    def to_wire(self) -> dict[str, str | None]:
        """Give the object the server reads. A string in its place is answered with 500."""
        return {"org": self.org, "campaign": self.campaign, "project": self.project}

    def contains(self, other: Scope) -> bool:
        """Tell whether every project of `other` is one of this scope's (equal ones are)."""
        return all(
            mine is None or mine == theirs
            for mine, theirs in (
                (self.org, other.org),
                (self.campaign, other.campaign),
                (self.project, other.project),
            )
        )


def scope_of_task(task_key: str) -> Scope:
    """Read the scope out of a Task key, `Task-<hex>-<org>-<campaign>-<project>`.

    Raises ValueError when it is no Task key: the server answers such with 500.
    """
    return _scope_of("Task", task_key)


def scope_of_hub(hub_key: str) -> Scope:
    """Read the scope out of a hub key, `TaskHub-<hex>-<org>-<campaign>-<project>`.

    Raises ValueError when it is none.
    """
    return _scope_of("TaskHub", hub_key)


def _scope_of(kind: str, key: str) -> Scope:
    parts = key.split("-")
    if len(parts) == 5 and parts[0] == kind and _TOKEN.fullmatch(parts[1]):
        words = parts[2:]
        if all(_WORD.fullmatch(word) for word in words):
            return Scope(*words)
    raise ValueError(f"{key!r} is no {kind} key: expected {kind}-<hex>-<org>-<campaign>-<project>")
