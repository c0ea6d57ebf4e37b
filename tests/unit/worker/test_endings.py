import pytest

from computepool_api.errors import (
    ClaimAmbiguous,
    ComputeAPIError,
    CredentialsRefused,
    InvalidRequest,
    ManagerUnknown,
    Misdirected,
    PushAmbiguous,
    ScopeRefused,
    ServiceIDTaken,
    ServiceNotRegistered,
    TaskUnusable,
    Unavailable,
    UnexpectedAnswer,
)
from computepool_api.outcomes import Outcome
from computepool_worker.boundary import Ready
from computepool_worker.endings import ending_of, outcome_of


def test_a_bad_image_is_no_bad_node() -> None:
    assert outcome_of(Ready(ok=False, reason="no driver")) is Outcome.DEVICE_UNFIT
    assert outcome_of(Ready(ok=False, reason="no gufe", fault="image")) is Outcome.IMAGE_UNFIT


@pytest.mark.parametrize(
    ("kind", "task", "outcome"),
    [
        (Unavailable, None, Outcome.API_UNREACHABLE),
        (Unavailable, "Task-1", Outcome.API_UNREACHABLE),
        (UnexpectedAnswer, None, Outcome.API_UNREACHABLE),
        (ServiceIDTaken, None, Outcome.API_UNREACHABLE),
        (ClaimAmbiguous, None, Outcome.API_UNREACHABLE),
        (CredentialsRefused, None, Outcome.CREDENTIALS_REFUSED),
        (CredentialsRefused, "Task-1", Outcome.CREDENTIALS_REFUSED),
        (ScopeRefused, None, Outcome.CREDENTIALS_REFUSED),
        (ScopeRefused, "Task-1", Outcome.TASK_UNUSABLE),
        (TaskUnusable, "Task-1", Outcome.TASK_UNUSABLE),
        (ManagerUnknown, None, Outcome.MANAGER_UNKNOWN),
        (ServiceNotRegistered, None, Outcome.REGISTRATION_LOST),
        (PushAmbiguous, "Task-1", Outcome.PUSH_AMBIGUOUS),
        (InvalidRequest, None, Outcome.SETTINGS_INVALID),
        (Misdirected, None, Outcome.SETTINGS_INVALID),
    ],
)
def test_what_an_error_of_the_api_means(
    kind: type[ComputeAPIError], task: str | None, outcome: Outcome
) -> None:
    error = kind("POST /claim", status=500, detail="as it happened")
    ending = ending_of(error, task)
    assert (ending.outcome, ending.task) == (outcome, task)
    assert ending.detail == str(error)
