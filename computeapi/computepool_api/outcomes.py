"""What a worker says when it ends: the contract between worker and operator.

The exit code alone sorts the outcomes; the termination message adds the Task and a line for people.
A worker writes the message on claiming as well (outcome HOLDING), so that the operator knows which
Task a worker held that was killed without a word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

MAX_BYTES: Final = 4096
"""The kubelet keeps no more than this of a container's termination message."""


class Outcome(StrEnum):
    """How a worker ended."""

    DONE = "Done"
    """At least one Task was finished."""
    NOTHING_TO_DO = "NothingToDo"
    """There was nothing to claim."""
    DEVICE_UNFIT = "DeviceUnfit"
    """The device check failed before any claim: the node is to blame."""
    IMAGE_UNFIT = "ImageUnfit"
    """The image lacks what executes Tasks; it would on every node."""
    CREDENTIALS_REFUSED = "CredentialsRefused"
    SETTINGS_INVALID = "SettingsInvalid"
    API_UNREACHABLE = "APIUnreachable"
    MANAGER_UNKNOWN = "ManagerUnknown"
    """The manager under which the worker was made is not registered."""
    DENIED = "Denied"
    """The server denies claims after too many failures."""
    REGISTRATION_LOST = "RegistrationLost"
    """The server had forgotten the worker; nothing was pushed."""
    TASK_CRASHED = "TaskCrashed"
    """The child process died; its Task waits again."""
    PUSH_AMBIGUOUS = "PushAmbiguous"
    """A result was sent and no clear answer came."""
    TASK_UNUSABLE = "TaskUnusable"
    """The server does not give out, or refuses, what belongs to the Task."""
    INTERNAL_ERROR = "InternalError"
    """A bug of the worker."""
    TERMINATED = "Terminated"
    """SIGTERM; a Task in hand waits again."""
    HOLDING = "Holding"
    """Never an end: the worker holds the Task named beside it."""
    PUSHING = "Pushing"
    """Never an end: the worker is sending the result of the Task named beside it."""

    @property
    def is_end(self) -> bool:
        """Whether a worker can end so; otherwise it is what one says while it is at work."""
        return self in _EXIT_CODES

    @property
    def exit_code(self) -> int:
        """Exit code of a process that ends so. Raises ValueError for HOLDING and PUSHING."""
        code = _EXIT_CODES.get(self)
        if code is None:
            raise ValueError(f"{self.name} is no end of a worker and has no exit code")
        return code

    @classmethod
    def from_exit_code(cls, code: int) -> Outcome | None:
        """Read an exit code; None when it is none of a worker's (137 after a kill, say).

        0 reads as DONE: only the termination message tells it from NOTHING_TO_DO.
        """
        return _BY_EXIT_CODE.get(code)


_EXIT_CODES: Final = {
    Outcome.DONE: 0,
    Outcome.NOTHING_TO_DO: 0,
    Outcome.DEVICE_UNFIT: 10,
    Outcome.CREDENTIALS_REFUSED: 11,
    Outcome.SETTINGS_INVALID: 12,
    Outcome.API_UNREACHABLE: 13,
    Outcome.MANAGER_UNKNOWN: 14,
    Outcome.DENIED: 15,
    Outcome.REGISTRATION_LOST: 16,
    Outcome.TASK_CRASHED: 17,
    Outcome.PUSH_AMBIGUOUS: 18,
    Outcome.TASK_UNUSABLE: 19,
    Outcome.IMAGE_UNFIT: 20,
    Outcome.INTERNAL_ERROR: 70,
    Outcome.TERMINATED: 143,
}
_BY_EXIT_CODE: Final = {code: outcome for outcome, code in reversed(_EXIT_CODES.items())}
_WORDS: Final = frozenset(outcome.value for outcome in Outcome)


@dataclass(frozen=True, slots=True)
class TerminationMessage:
    """The last word of a worker. Counts are of Tasks whose result the server has taken."""

    outcome: Outcome
    task: str | None = None
    tasks_done: int = 0
    tasks_failed: int = 0
    detail: str = ""

    def to_json(self) -> str:
        """Write it as JSON of ASCII characters only, at most 4096 bytes.

        What is too long is cut: the detail first. A Task key that leaves no room for the rest is
        left out, since half a key would name another Task.
        """
        text = self._compose()
        if len(text) <= MAX_BYTES:
            return text
        if len(replace(self, detail="")._compose()) > MAX_BYTES:
            return replace(self, task=None).to_json()
        low, high = 0, min(len(self.detail), MAX_BYTES)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._cut(middle)._compose()) <= MAX_BYTES:
                low = middle
            else:
                high = middle - 1
        return self._cut(low)._compose()

    def _cut(self, length: int) -> Self:
        return replace(self, detail=self.detail[:length] + ("..." if length else ""))

    def _compose(self) -> str:
        return json.dumps(
            {
                "outcome": self.outcome.value,
                "task": self.task,
                "tasks_done": self.tasks_done,
                "tasks_failed": self.tasks_failed,
                "detail": self.detail,
            }
        )

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a message; None for anything else (a log tail, a cut or an empty text)."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return None
        match body:
            case {
                "outcome": str(word),
                "task": (str() | None) as task,
                "tasks_done": int(done),
                "tasks_failed": int(failed),
                "detail": str(detail),
            } if word in _WORDS and done >= 0 and failed >= 0:
                return cls(Outcome(word), task, int(done), int(failed), detail)
            case _:
                return None
