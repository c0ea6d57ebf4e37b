"""Scopes (org, campaign, project) and how the server intersects and minimises them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """A triple of names; None is a wildcard."""

    org: str | None = None
    campaign: str | None = None
    project: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Read `a-b-c` or `a-*-*`; ValueError if it has not three parts."""
        parts = text.split("-")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"not a scope: {text!r} (want org-campaign-project, * for any)")
        return cls(*(None if part == "*" else part for part in parts))

    def __str__(self) -> str:
        return "-".join("*" if part is None else part for part in self.parts)

    @property
    def parts(self) -> tuple[str | None, str | None, str | None]:
        """The three levels, widest first."""
        return self.org, self.campaign, self.project

    def contains(self, other: "Scope") -> bool:
        """Whether everything in `other` is in this scope too."""
        pairs = zip(self.parts, other.parts, strict=True)
        return all(mine is None or mine == theirs for mine, theirs in pairs)


def minimal(scopes: Iterable[Scope]) -> list[Scope]:
    """Drop every scope that another one contains.

    Sorted by text as the server does: `*` sorts before every letter, so the wide come first.
    """
    kept: list[Scope] = []
    for scope in sorted(scopes, key=str):
        if not any(other.contains(scope) for other in kept):
            kept.append(scope)
    return kept


def visible_part(query: Scope, granted: Iterable[str]) -> list[Scope]:
    """Cut a query down to what a token's scopes allow: itself, or the granted ones inside it."""
    space = minimal(Scope.parse(text) for text in granted)
    if any(scope.contains(query) for scope in space):
        return [query]
    return [scope for scope in space if query.contains(scope)]
