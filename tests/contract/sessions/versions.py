"""An older server, and ids that outlive an upgrade."""

import hashlib
import json
from typing import Any

from simulator.settings import VERSIONS

from ..recordings import cases
from ..replay import Replay
from ..session import Session

_SERVICE = "svc-88fddc3c4db546ef879b32730ce50720"
_TASK = "Task-25fd62b17b5d404386593cab32d28c11-hm-a-b"


def chain_of_nested(value: dict[str, Any]) -> list[list[Any]]:
    """The keyed chain of an object whose dependencies are written out inside it."""
    chain: list[list[Any]] = []

    def keyed(item: Any) -> Any:
        if isinstance(item, list):
            return [keyed(inner) for inner in item]
        if not isinstance(item, dict):
            return item
        shallow = {name: keyed(inner) for name, inner in item.items()}
        if "__qualname__" not in item:
            return shallow
        digest = hashlib.md5(json.dumps(item).encode(), usedforsecurity=False).hexdigest()
        key = f"{item['__qualname__']}-{digest}"
        if all(known != key for known, _ in chain):
            chain.append([key, shallow])
        return {":gufe-key:": key}

    keyed(value)
    return chain


def _old(replay: Replay) -> None:
    replay.admin.set(**VERSIONS["0.7.2"])


def _new(replay: Replay) -> None:
    replay.admin.set(**VERSIONS["0.7.2"] | {"checks_service_ids": True})


def _old_with_tasks(replay: Replay) -> None:
    _old(replay)
    replay.register(_SERVICE)
    nested = json.loads(cases()["v072-transformation-gufe"].answer[0])
    replay.running(_TASK, service=_SERVICE, chain=chain_of_nested(nested))


def _one_more(replay: Replay) -> None:
    replay.waiting(cases()["v072-claim-scopes-exclude-ignored"].answer[0])


def _many_waiting(replay: Replay) -> None:
    count = cases()["v072-mgr-instruction"].answer["num_tasks"]
    replay.admin.add_tasks(count, scope="many-a-b", protocol="DummyProtocol")


SESSIONS = (
    Session(
        "alchemiscale 0.7.2",
        "v072-ping",
        "v072-results-gzip",
        before={
            "v072-ping": _old_with_tasks,
            "v072-claim-scopes-exclude-ignored": _one_more,
            "v080-deregister-of-dashed-name": _new,
            "v072-deregister-dashed": _old,
            "v072-mgr-instruction": _many_waiting,
        },
        services={"*": _SERVICE},
    ),
)
