"""What an administrator is told of a worker's surroundings. Pure.

One line for each thing that was looked at, in the order in which to mend them: the first that
failed gives the exit code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from computepool_api.outcomes import Outcome
from computepool_api.scope import Scope

Result: TypeAlias = Literal["ok", "failed", "not checked"]

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One line. ``outcome`` is how a worker would end for it, and is there if it failed."""

    name: str
    detail: str
    outcome: Outcome | None = None
    skipped: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def result(self) -> Result:
        """The result in a word or two."""
        if self.outcome is not None:
            return "failed"
        return "not checked" if self.skipped else "ok"


def verdict(checks: Sequence[Check]) -> Outcome | None:
    """Return how a worker would end here, or None if it could claim Tasks."""
    return next((check.outcome for check in checks if check.outcome is not None), None)


def table(checks: Sequence[Check]) -> str:
    """Return the lines for people."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        told = " ".join(check.detail.split())
        lines.append(f"{check.name:<{width}}  {check.result:<11}  {told}".rstrip())
        lines += [f"{'':<{width}}  {'':<11}  {line}" for line in _facts(check)]
    outcome = verdict(checks)
    if outcome is None:
        lines.append("A worker can claim Tasks here.")
    else:
        lines.append(f"A worker would end with {outcome}, exit code {outcome.exit_code}.")
    return "\n".join(lines)


def document(checks: Sequence[Check]) -> str:
    """Return the same as one JSON object."""
    outcome = verdict(checks)
    return json.dumps(
        {
            "ok": outcome is None,
            "outcome": outcome,
            "exit_code": 0 if outcome is None else outcome.exit_code,
            "checks": [
                {
                    "name": check.name,
                    "result": check.result,
                    "detail": check.detail,
                    "facts": dict(check.facts),
                }
                for check in checks
            ],
        },
        indent=2,
    )


def scopes_check(wanted: Sequence[Scope], visible: Sequence[Scope]) -> Check:
    """Say whether the settings' scopes lie within those that the identity may see.

    The server says nothing about a scope that the identity lacks: it just has no Tasks there.
    """
    seen = ", ".join(map(str, visible))
    if not visible:
        return Check(
            "scopes",
            "the identity may see no scope at all: the server's administrator has to grant some",
            Outcome.CREDENTIALS_REFUSED,
        )
    hidden = [scope for scope in wanted if not _overlaps(scope, visible)]
    if hidden:
        return Check(
            "scopes",
            f"the identity may not see {', '.join(map(str, hidden))}, only {seen}: correct scopes, "
            "or let the server's administrator grant them",
            Outcome.SETTINGS_INVALID,
        )
    partly = [scope for scope in wanted if not any(one.contains(scope) for one in visible)]
    if partly:
        cut = ", ".join(map(str, partly))
        return Check("scopes", f"the identity may see {seen}; of {cut} no more than that")
    return Check("scopes", f"the identity may see {seen}")


def _overlaps(scope: Scope, visible: Sequence[Scope]) -> bool:
    return any(one.contains(scope) or scope.contains(one) for one in visible)


def _facts(check: Check) -> list[str]:
    """Return the facts as ``name=value``, in lines that are not too long."""
    lines: list[str] = []
    for name, value in check.facts.items():
        word = f"{name}={value}"
        if lines and len(lines[-1]) + len(word) + 2 <= _WIDTH:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines
