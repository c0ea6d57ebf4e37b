"""What the server says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from computepool_api.errors import UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class OkInstruction:
    """Create services as the workload asks.

    `num_tasks` counts waiting Tasks: those of hubs of weight 0 and those that a service with
    exclusions cannot claim too, but none that is running. `compute_service_ids` are the registered
    services of this manager in no order, with those that are stale and not yet swept.
    """

    num_tasks: int
    compute_service_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SkipInstruction:
    """Create nothing this time: a service of this manager has failed too often of late."""

    compute_service_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShutdownInstruction:
    """This name and uuid is not registered: never, stolen, expired or cleared."""

    message: str


Instruction = OkInstruction | SkipInstruction | ShutdownInstruction


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: Task keys, or denied for too many failures of late.

    No Tasks and not denied: there was nothing to claim.
    """

    tasks: tuple[str, ...]
    denied: bool


def parse_instruction(body: object, endpoint: str) -> Instruction:
    """Read the answer to an instruction request. Raises UnexpectedAnswer."""
    match body:
        case {"instruction": "OK", "num_tasks": int(count), "compute_service_ids": list(ids)} if (
            not isinstance(count, bool) and count >= 0
        ):
            return OkInstruction(count, parse_strings(ids, endpoint))
        case {"instruction": "SKIP", "compute_service_ids": list(ids)}:
            return SkipInstruction(parse_strings(ids, endpoint))
        case {"instruction": "SHUTDOWN", "message": str(message)}:
            return ShutdownInstruction(message)
        case _:
            raise _unexpected(body, endpoint, "an OK, SKIP or SHUTDOWN instruction")


def parse_claim(body: object, endpoint: str) -> Claim:
    """Read the answer to a claim: null is denial; a list is padded with null, or not.

    Raises UnexpectedAnswer.
    """
    match body:
        case None:
            return Claim((), denied=True)
        case list(entries):
            keys = [entry for entry in entries if entry is not None]
            return Claim(parse_strings(keys, endpoint), denied=False)
        case _:
            raise _unexpected(body, endpoint, "a list of Task keys")


def parse_result_ref(body: object, endpoint: str) -> str:
    """Read the answer to a push: the key of the stored entry, with its scope.

    Raises UnexpectedAnswer.
    """
    match body:
        case {
            "gufe_key": str(key),
            "org": str(org),
            "campaign": str(campaign),
            "project": str(project),
        }:
            return f"{key}-{org}-{campaign}-{project}"
        case _:
            raise _unexpected(body, endpoint, "the key of a stored result")


def parse_strings(body: object, endpoint: str) -> tuple[str, ...]:
    """Read a list of strings. Raises UnexpectedAnswer."""
    if isinstance(body, list) and all(isinstance(entry, str) for entry in body):
        return tuple(body)
    raise _unexpected(body, endpoint, "a list of strings")


def _unexpected(body: object, endpoint: str, wanted: str) -> UnexpectedAnswer:
    """Describe an answer by its form alone: its content may be anything, secrets included."""
    match body:
        case dict():
            form = f"an object with {shorten(', '.join(body) or 'no fields', 120)}"
        case list():
            form = "another list"
        case str():
            form = "a string"
        case _:
            form = "something else"
    return UnexpectedAnswer(endpoint, status=200, detail=f"expected {wanted}, got {form}")


def shorten(text: str, limit: int) -> str:
    """Cut a text to at most `limit` characters, marking the cut with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
