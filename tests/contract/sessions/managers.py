"""Tokens, small endpoints, compute managers."""

import time
from functools import partial

import httpcore
import httpx

from ..binding import MismatchError
from ..recordings import cases
from ..replay import Replay, at_once
from ..session import Session

_REGISTER_RACERS = 3
_TIMEOUT = 10.0


def _same_connection(replay: Replay) -> None:
    """A 500, and the next request on the same connection, which is reset or ends unanswered.

    It is written past the client's pool, which takes another connection if it sees in time that
    the server has closed this one.
    """
    broken = cases()["500-then-same-connection-a"]
    with httpx.Client(base_url=replay.target.url, trust_env=False) as client:
        answer = client.post(broken.path, data=broken.form)
        replay.compare(broken, answer)
        again = client.build_request("GET", cases()["500-then-same-connection-b"].path)
        connection = answer.extensions["network_stream"]
        try:
            connection.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % again.url.raw_path, _TIMEOUT)
            start = connection.read(100, _TIMEOUT)
        except (httpcore.ReadError, httpcore.WriteError):
            return
    if start:
        raise MismatchError(f"the connection was not reset, but answered {start!r}")


def _ten_waiting(replay: Replay) -> None:
    """Ten Tasks in three scopes; three of them sit on two hubs, one has weight 0 in its hub."""
    add = replay.admin.add_tasks
    add(3, scope="rig-c-p", protocol="DummyProtocol", hubs=("default", "second"))
    add(4, scope="rig-c-p", protocol="BrokenProtocol")
    add(1, scope="rig-d-x", protocol="DummyProtocol")
    add(1, scope="rig-d-x", protocol="DummyProtocol", weight=0.0)
    add(1, scope="other-e-y", protocol="DummyProtocol")


def _hide_other(replay: Replay) -> None:
    for hub in replay.admin.hubs():
        if hub.scope == "other-e-y":
            replay.admin.set_hub_weight(hub.key, 0.0)


def _unactioned(replay: Replay) -> None:
    replay.admin.add_tasks(2, scope="na-a-b", protocol="DummyProtocol", hubs=())


def _parent_and_child(replay: Replay) -> None:
    [parent] = replay.admin.add_tasks(1, scope="ext-a-b", protocol="DummyProtocol")
    replay.admin.add_tasks(1, scope="ext-a-b", extends=parent)


def _register_race(replay: Replay) -> None:
    """Simultaneous registrations of one name: one wins at least, and every winner is stored."""
    rounds = len(cases()["mgr-register-race-3-at-once-same-name"].record["statuses"])
    admin = replay.target.admin
    if admin is not None:
        admin.set(registration_gap=0.05)
        rounds = 2
    for number in range(rounds):
        name = f"race{number}"
        ids = [f"{name}-{racer:032x}" for racer in range(_REGISTER_RACERS)]
        replay.token()
        statuses = at_once(*(partial(_register, replay, manager) for manager in ids))
        if not set(statuses) <= {200, 422} or 200 not in statuses:
            raise MismatchError(f"racing registrations gave {statuses}")
        if admin is not None:
            stored = sum(manager.name == name for manager in admin.managers())
            if stored != statuses.count(200) or stored != _REGISTER_RACERS:
                raise MismatchError(f"{statuses} left {stored} registrations")
        for manager in ids:
            replay.call(f"/computemanager/{manager}/deregister")
    if admin is not None:
        admin.set(registration_gap=0.0)


def _register(replay: Replay, manager: str, delay: float = 0.0) -> int:
    time.sleep(delay)
    headers = {"Authorization": f"Bearer {replay.token()}"}
    return replay.send("POST", f"/computemanager/{manager}/register", headers).status_code


def _three_of_one_name(replay: Replay) -> None:
    """Three managers that won such a race, in a known order."""
    replay.admin.set(registration_gap=0.3)
    replay.token()
    ids = [
        "dup0-74995cf4c4804dcca2e6e89b05decc3f",
        "dup0-c3d0b97d2bb841ddb3427b576ae37a65",
        "dup0-423513920f2c4f88bc0484413f595738",
    ]
    statuses = at_once(*(partial(_register, replay, m, 0.08 * n) for n, m in enumerate(ids)))
    replay.admin.set(registration_gap=0.0)
    if statuses != [200, 200, 200]:
        raise MismatchError(f"preparation: racing registrations gave {statuses}")


SESSIONS = (
    Session(
        "tokens and small endpoints",
        "token-good",
        "500-then-same-connection-b",
        instead={
            "500-then-same-connection-a": _same_connection,
            "500-then-same-connection-b": _same_connection,
        },
    ),
    Session("a manager's life", "mgr-register-new", "mgr-status-upper-case-ok-again"),
    Session(
        "instructions",
        "i-register",
        "mgr-register-race-3-at-once-same-name",
        before={
            "mgr-instruction-10-waiting-in-3-scopes": _ten_waiting,
            "mgr-instruction-hub-weight-zero-still-counted": _hide_other,
            "mgr-instruction-not-actioned": _unactioned,
            "mgr-instruction-extends-incomplete-parent": _parent_and_child,
        },
        instead={"mgr-register-race-3-at-once-same-name": _register_race},
    ),
    Session(
        "several registrations of one name",
        "mgr-duplicate-names-service-register",
        "mgr-duplicate-names-deregister-0",
        before={"mgr-duplicate-names-service-register": _three_of_one_name},
    ),
)
