"""How a worker's life ends: the outcome, the Task it is about, and a line for people."""

from dataclasses import dataclass

from computepool_api.errors import (
    ClaimAmbiguous,
    ComputeAPIError,
    CredentialsRefused,
    InvalidRequest,
    ManagerUnknown,
    PushAmbiguous,
    ScopeRefused,
    ServiceNotRegistered,
    TaskUnusable,
)
from computepool_api.outcomes import Outcome
from computepool_worker.boundary import Ready


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a worker leaves. ``detail`` says what happened, and never holds credentials."""

    outcome: Outcome
    task: str | None = None
    detail: str = ""


class CannotStartError(Exception):
    """The worker cannot begin: ``outcome`` sorts why, the text says what to do."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


class EndOfLifeError(Exception):
    """Raised where the worker finds that it has to leave."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.detail)
        self.ending = ending


def outcome_of(unfit: Ready) -> Outcome:
    """Return the outcome that a child's failure to get ready means."""
    return Outcome.IMAGE_UNFIT if unfit.fault == "image" else Outcome.DEVICE_UNFIT


_OUTCOMES: tuple[tuple[type[ComputeAPIError], Outcome], ...] = (
    (CredentialsRefused, Outcome.CREDENTIALS_REFUSED),
    (ManagerUnknown, Outcome.MANAGER_UNKNOWN),
    (ServiceNotRegistered, Outcome.REGISTRATION_LOST),
    (PushAmbiguous, Outcome.PUSH_AMBIGUOUS),
    (TaskUnusable, Outcome.TASK_UNUSABLE),
    (InvalidRequest, Outcome.SETTINGS_INVALID),
    # Deregistering gives back whatever the claim took; only a new service may claim again.
    (ClaimAmbiguous, Outcome.API_UNREACHABLE),
)


def ending_of(error: ComputeAPIError, task: str | None) -> Ending:
    """Return the ending that an error of the compute API means; ``task`` is the one in hand.

    Everything that is not typed as somebody's fault means that the API does not work as it should.
    """
    if isinstance(error, ScopeRefused):
        outcome = Outcome.CREDENTIALS_REFUSED if task is None else Outcome.TASK_UNUSABLE
        return Ending(outcome, task, str(error))
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            return Ending(outcome, task, str(error))
    return Ending(Outcome.API_UNREACHABLE, task, str(error))
