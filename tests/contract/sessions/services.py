"""Compute services: registration, claims, fetching, denial."""

from typing import Any

from ..binding import MismatchError
from ..recordings import cases
from ..replay import Replay, at_once
from ..session import Session

_SERVICE = "svc-a86924610e90452ba243aa40076dc05e"
_DENIED = "w-9429ac3873e94e52af61635214497c20"
_DENIED_MANAGER = "mgr-fcbf34383a3b468bbd1574c568ef378f"


def recorded_chain(case: str) -> Any:
    """The transformation that a case fetched, as a keyed chain."""
    return cases()[case].answer[0]


def _twenty_four_waiting(replay: Replay) -> None:
    add = replay.admin.add_tasks
    add(6, scope="rig-c-p", chain=recorded_chain("transformation-gufe-identity-encoding"))
    add(6, scope="rig-d-x", protocol="DummyProtocol")
    add(6, scope="other-e-y", protocol="DummyProtocol")
    add(2, scope="other-e-z", protocol="DummyProtocol")
    add(4, scope="brk-c-p", chain=recorded_chain("transformation-gufe-unclaimed-task"))


def _race_on_two_hubs(replay: Replay) -> None:
    """Two services claim the same Tasks through two hubs at once, and both are given them."""
    admin = replay.admin
    keys = admin.add_tasks(4, scope="twohubs-a-b", hubs=("one", "two"))
    hubs = [hub.key for hub in admin.hubs() if hub.scope == "twohubs-a-b"]
    services = [f"racer{number}-{number:032x}" for number in range(2)]
    replay.register(*services)
    admin.set(claim_gap=0.1)
    answers = at_once(
        *(
            lambda hub=hub, service=service: replay.call(
                f"/taskhubs/{hub}/claim", {"compute_service_id": service, "count": 4}
            )
            for hub, service in zip(hubs, services, strict=True)
        )
    )
    admin.set(claim_gap=0.0)
    if not all(sorted(answer) == sorted(keys) for answer in answers):
        raise MismatchError(f"not all Tasks were handed to both services: {answers}")
    holders = {admin.task(key).claimed_by for key in keys}
    if len(holders) != 1:
        raise MismatchError(f"Tasks are held by {holders}")


def _race_on_one_hub(replay: Replay) -> None:
    """Three services claim through one hub at once, and no Task is handed out twice."""
    admin = replay.admin
    keys = admin.add_tasks(6, scope="onehub-a-b")
    services = [f"racer{number}-{number:032x}" for number in range(3)]
    replay.register(*services)
    admin.set(claim_gap=0.05)
    scope = {"org": "onehub", "campaign": "a", "project": "b"}
    answers = at_once(
        *(
            lambda service=service: replay.call(
                "/claim", {"scopes": [scope], "compute_service_id": service, "count": 2}
            )
            for service in services
        )
    )
    admin.set(claim_gap=0.0)
    handed_out = [key for answer in answers for key in answer]
    if sorted(handed_out) != sorted(keys):
        raise MismatchError(f"of {len(keys)} Tasks these were handed out: {answers}")


def _denial(replay: Replay) -> None:
    replay.admin.add_tasks(27, scope="den-a-b", protocol="BrokenProtocol")
    [hub] = replay.admin.hubs()
    replay.binding.bind("TaskHub-d2ddf924c4a9b8d370c96519b605f1e0-den-a-b", hub.key)
    replay.call(f"/computemanager/{_DENIED_MANAGER}/register")
    replay.register(_DENIED, manager=_DENIED_MANAGER)


def _one_waiting(replay: Replay) -> None:
    key = "Task-584739836adb444ab22edf60d2b6c730-rig-c-p"
    replay.waiting(key, chain=recorded_chain("example-transformation-gufe"))


SESSIONS = (
    Session(
        "services, claims, fetching",
        "svc-heartbeat-unknown",
        "claim-race-task-on-two-hubs",
        before={"claim-unregistered-service": _twenty_four_waiting},
        instead={"claim-race-task-on-two-hubs": _race_on_two_hubs},
        services={"claim-gzip-request-body": _SERVICE},
    ),
    Session(
        "denial",
        "claim-after-0-failures",
        "claim-race-3-services-one-hub",
        before={"claim-after-0-failures": _denial},
        instead={"claim-race-3-services-one-hub": _race_on_one_hub},
        services={"*": _DENIED},
    ),
    Session(
        "a Task from claim to result",
        "example-svc-register",
        "example-svc-deregister",
        before={"example-svc-register": _one_waiting},
    ),
)
