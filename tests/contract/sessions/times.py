"""What expires, and what happens while the stores are down."""

from functools import partial

import httpx

from simulator.tokens import TokenData, issue

from ..binding import MismatchError
from ..pushes import body_of
from ..recordings import cases
from ..replay import Replay, at_once
from ..session import Session, Step
from .services import recorded_chain

_A = "A-440f53b258c74c4285d7332ee0699abb"
_G = "G-301db34a0aaa405c9b248f61c9d07dd5"
_DOWN = "svc-c2e0fefed2304514af3be1d328044f0d"
_DOWN_TASK = "Task-b173a0830561451991ccdb7ca3dc1fbb-down-a-b"
_STALE, _LATER = 5.0, 2.5


def _short_times(replay: Replay) -> None:
    replay.admin.set(
        token_lifetime=3,
        service_expiry=4,
        manager_expiry=4,
        manager_error_expiry=8,
        max_failures=1,
        forgive_time=6,
    )


def _after(seconds: float, *, keep_tokens: bool = False) -> Step:
    return lambda replay: replay.advance(seconds, keep_tokens=keep_tokens)


def _foreign_token(replay: Replay) -> None:
    """A token that another server with the same secret has made."""
    case = cases()["jwt-from-another-server-with-same-secret"]
    data = TokenData(replay.target.identifier, ("*-*-*",))
    token = issue(data, secret=replay.target.secret, expires_at=replay.admin.now() + 60)
    answer = replay.send(case.method, case.path, {"Authorization": f"Bearer {token}"})
    replay.compare(case, answer)


def _ten_waiting(replay: Replay) -> None:
    chain = recorded_chain("exp-A-transformation-after-expiry")
    replay.admin.add_tasks(10, scope="rig-c-p", chain=chain)


def _four_to_fail(replay: Replay) -> None:
    replay.admin.add_tasks(4, scope="brk-c-p", protocol="BrokenProtocol")


def _object_store_down(replay: Replay) -> None:
    replay.admin.set(object_store_up=False)
    replay.register(_DOWN)
    chain = recorded_chain("s3down-transformation-gufe")
    replay.running(_DOWN_TASK, service=_DOWN, chain=chain)


def _database_down(replay: Replay) -> None:
    replay.token()
    replay.admin.set(database_up=False)


def _no_answer(replay: Replay) -> None:
    """The check hangs; the recording gave up after a minute, this one does so at once."""
    case = cases()["dbdown-check"]
    headers = {"Authorization": f"Bearer {replay.token()}"}
    try:
        replay.send(case.method, case.path, headers, timeout=0.3)
    except httpx.ReadTimeout:
        return
    raise MismatchError("the check answered though the database is down")


def _load(replay: Replay) -> None:
    """Pushes, claims and heartbeats at once on one hub: everything is 200 and no push is lost."""
    admin = replay.admin
    case = "load-results-claims-heartbeats-at-once-on-one-hub"
    each = cases()[case].record["statuses"]["claim"]["200"]
    pushers = [f"pusher{number}-{number:032x}" for number in range(2)]
    claimer, beater = f"claimer-{2:032x}", f"beater-{3:032x}"
    replay.register(*pushers, claimer, beater)
    admin.add_tasks(3 * each, scope="load-a-b", protocol="DummyProtocol")
    scope = {"org": "load", "campaign": "a", "project": "b"}
    claim = {"scopes": [scope], "compute_service_id": claimer, "count": 1}
    tasks = [
        replay.call("/claim", claim | {"compute_service_id": pusher, "count": each})
        for pusher in pushers
    ]

    def push(number: int) -> None:
        body = body_of(case, pushers[number])
        headers = {"Authorization": f"Bearer {replay.token()}"}
        for key in tasks[number]:
            path = f"/tasks/{key}/results"
            replay.send("POST", path, headers, content=body).raise_for_status()

    def repeat(path: str, body: object = None) -> None:
        for _ in range(each):
            replay.call(path, body)

    at_once(
        partial(push, 0),
        partial(push, 1),
        partial(repeat, "/claim", claim),
        partial(repeat, f"/computeservice/{beater}/heartbeat"),
    )
    pushed = [admin.task(key) for keys in tasks for key in keys]
    if not all(task.status == "complete" and len(task.results) == 1 for task in pushed):
        raise MismatchError(f"not every push arrived once: {pushed}")
    if admin.counts() != {"complete": 2 * each, "running": each}:
        raise MismatchError(f"after the load there are {admin.counts()}")


def _none_with_a_result_waits(replay: Replay) -> None:
    """Have others wait in place of those with a result: the recorded claim met none of these."""
    chain = recorded_chain("exp-A-transformation-after-expiry")
    for task in replay.admin.tasks(status="waiting"):
        if task.results:
            replay.admin.set_task_status(task.key, "invalid")
            replay.admin.add_tasks(1, scope="rig-c-p", chain=chain)


SESSIONS = (
    Session(
        "expiry",
        "jwt-fresh",
        "forgive-claim-allowed-again",
        before={
            "jwt-fresh": _short_times,
            "jwt-expired-info": _after(4, keep_tokens=True),
            "jwt-renewed": lambda replay: replay.renew_tokens(),
            "exp-A-claims-2": _ten_waiting,
            "exp-A-claim-when-stale-but-unswept": _after(_STALE),
            "exp-D-own-late-heartbeat-removes-D": _after(_STALE),
            "exp-E-claim-midway": _none_with_a_result_waits,
            "exp-D-heartbeat-2": _after(_LATER),
            "exp-D-heartbeat-3": _after(_LATER),
            "mexp-m1-instruction-when-stale": _after(_STALE),
            "mexp-m2-status-sweeps-error-manager": _after(4.5),
            "forgive-claim-0": _four_to_fail,
            "forgive-claim-allowed-again": _after(7),
        },
        instead={"jwt-from-another-server-with-same-secret": _foreign_token},
        services={"*": _G, "results-A-after-expiry": _A},
    ),
    Session(
        "object store down",
        "s3down-ping",
        "s3down-transformation-gufe",
        before={"s3down-ping": _object_store_down},
        services={"*": _DOWN},
    ),
    Session(
        "database down",
        "dbdown-ping",
        "dbdown-info",
        before={"dbdown-ping": _database_down},
        instead={"dbdown-check": _no_answer},
    ),
    Session(
        "load",
        "load-results-claims-heartbeats-at-once-on-one-hub",
        "load-results-claims-heartbeats-at-once-on-one-hub",
        instead={"load-results-claims-heartbeats-at-once-on-one-hub": _load},
    ),
    Session(
        "probing for a lost registration",
        "probe-register",
        "probe-register-same-id-after-sweep",
        before={
            "probe-register": lambda replay: _set_expiry(replay, 3),
            "exp-heartbeat-of-unknown-id-sweeps-others": _after(4),
        },
    ),
)


def _set_expiry(replay: Replay, seconds: float) -> None:
    replay.admin.set(service_expiry=seconds)
