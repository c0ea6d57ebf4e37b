"""The operator with other times than its own, and killed at a given call: for tests alone.

`python -m cluster.operator.altered` takes the operator's arguments. The environment variable
COMPUTEPOOL_TEST_ALTERATIONS holds JSON: `values` maps names of module constants to what they are
to be (timedeltas in seconds), `patience` is a factor to the time that answers of the compute API
may take, `crash` holds the fields of a `CrashPoint`. No module of the operator knows of this.

With the argument `nursery` it serves tests that start many operators: having imported all there
is, it forks one for each line on its standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from computepool_api.transport import ComputeAPI
from computepool_operator.__main__ import main
from computepool_operator.kubeapi import KubeAPI

ALTERATIONS = "COMPUTEPOOL_TEST_ALTERATIONS"


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """A call at which the operator is killed, by itself, with SIGKILL.

    `call` and `text` are regular expressions for "METHOD path" and for the body; calls of the
    compute API have the path of its base URL. `when`: before the request is sent, or after its
    answer has come in. `number`: which of the matching calls, from 1.
    """

    call: str
    when: Literal["before", "after"]
    text: str = ""
    number: int = 1


class Executioner:
    """Counts calls and ends the process at one of them."""

    def __init__(self, point: CrashPoint) -> None:
        self._point = point
        self._count = 0

    async def around(self, call: str, text: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call, or die before or after it."""
        found = re.search(self._point.call, call) and re.search(self._point.text, text)
        if found:
            self._count += 1
        if not found or self._count != self._point.number:
            return await make()
        if self._point.when == "after":
            await make()
        os.kill(os.getpid(), signal.SIGKILL)
        return None


def alter(alterations: Mapping[str, Any]) -> None:
    """Change the operator in this process."""
    for name, value in alterations.get("values", {}).items():
        module_name, _, constant = name.rpartition(".")
        module = importlib.import_module(f"computepool_operator.{module_name}")
        present = getattr(module, constant)
        setattr(module, constant, timedelta(seconds=value) if _is_length(present) else value)
    if patience := alterations.get("patience"):
        defaults = ComputeAPI.__init__.__kwdefaults__
        assert defaults is not None
        defaults["patience"] = patience
    if point := alterations.get("crash"):
        _arm(Executioner(CrashPoint(**point)))


def _is_length(value: object) -> bool:
    return isinstance(value, timedelta)


def _arm(executioner: Executioner) -> None:
    request, exchange = KubeAPI.request, ComputeAPI.exchange

    async def armed_request(self: KubeAPI, method: str, path: str, **options: Any) -> Any:
        return await executioner.around(
            f"{method} {path}",
            json.dumps(options.get("body")),
            lambda: request(self, method, path, **options),
        )

    async def armed_exchange(self: ComputeAPI, endpoint: Any, outgoing: Any) -> Any:
        return await executioner.around(
            f"{endpoint.method} {outgoing.path}",
            json.dumps(outgoing.body),
            lambda: exchange(self, endpoint, outgoing),
        )

    KubeAPI.request = armed_request  # type: ignore[method-assign]
    ComputeAPI.exchange = armed_exchange  # type: ignore[method-assign]


def nursery() -> None:
    """Fork an operator for each order that comes in, and say its pid."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them but by their pidfd
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(order)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(order: Mapping[str, Any]) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["computepool-operator", *order["arguments"]]
    alter(order["alterations"])
    os._exit(main())


if __name__ == "__main__":
    if sys.argv[1:] == ["nursery"]:
        nursery()
    else:
        alter(json.loads(os.environ[ALTERATIONS]))
        sys.exit(main())
