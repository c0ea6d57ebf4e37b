"""What is done to the cluster and the server, at random: each kind, how often, and how."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from e2e.scene import Scene
from soak.cast import Cast, Thing, api_server, kill_worker, paused
from stage import operator
from testcluster.errors import TestClusterError

OPERATOR_KILLS = 3
"""More, and the kubelet would keep the operator from starting for minutes: it is moved instead."""

OPERATOR_RESTS = 45.0
"""Seconds between two deaths of the operator: its lease alone holds the next one up for 15."""

SOMEWHERE = (
    "token",
    "check",
    "manager_instruction",
    "manager_status",
    "service_register",
    "service_heartbeat",
    "service_deregister",
    "claim",
    "transformation_gufe",
)


class Mischief:
    """Does one thing at a time. `done` counts what was done."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self.story: list[str] = []
        self._scene = scene
        self._cast = Cast(scene.recorder)
        self._chance = chance
        self._began = time.monotonic()
        self._operator_rests_until = self._began
        self._kinds: list[tuple[int, str, Callable[[], bool]]] = [
            (5, "worker killed", self._kill_worker),
            (3, "pod deleted", self._delete_pod),
            (2, "pod deleted by force", self._force_pod),
            (2, "Job deleted", self._delete_job),
            (2, "operator killed", self._kill_operator),
            (3, "API server paused", self._pause_api_server),
            (3, "server answers 500 or 503", self._break_server),
            (3, "connections reset", self._reset),
            (2, "server slow", self._slow),
            (1, "tokens rotated", self._rotate),
            (2, "answer to a claim lost", lambda: self._lose("claim")),
            (2, "answer to a registration lost", lambda: self._lose("service_register")),
            (2, "answer to the manager lost", lambda: self._lose("manager_*")),
            (1, "answer to a push lost", lambda: self._lose("results")),
        ]
        self._left = self._shuffled()

    def strike(self) -> str | None:
        """Do the next thing and say what; each kind comes as often as its number in every round.

        What cannot be done now (no pod is there, say) is left out: None.
        """
        if not self._left:
            self._left = self._shuffled()
        name, act = self._left.pop()
        try:
            acted = act()
        except TestClusterError as error:
            # What was to be struck has gone in the meantime, or the API server is busy.
            return self._note(f"{name}: {str(error).splitlines()[0]}")
        if not acted:
            return None
        self.done[name] += 1
        return self._note(name)

    def end(self) -> None:
        """No more faults."""
        self._scene.admin.clear_faults()

    def _shuffled(self) -> list[tuple[str, Callable[[], bool]]]:
        round_ = [(name, act) for number, name, act in self._kinds for _ in range(number)]
        self._chance.shuffle(round_)
        return round_

    def _note(self, what: str) -> str:
        line = f"{time.monotonic() - self._began:7.1f} s  {what}"
        self.story.append(line)
        return line

    # the cluster

    def _kill_worker(self) -> bool:
        pod = self._one(self._cast.pods_at_work())
        return pod is not None and kill_worker(pod["metadata"]["uid"])

    def _delete_pod(self) -> bool:
        return self._delete("pod", self._cast.pods_at_work())

    def _force_pod(self) -> bool:
        return self._delete("pod", self._cast.pods_at_work(), "--grace-period=0", "--force")

    def _delete_job(self) -> bool:
        return self._delete("job", self._cast.jobs())

    def _delete(self, kind: str, things: Sequence[Thing], *how: str) -> bool:
        thing = self._one(things)
        if thing is None:
            return False
        name = thing["metadata"]["name"]
        self._scene.kubectl("delete", kind, name, "--wait=false", "--ignore-not-found", *how)
        return True

    def _kill_operator(self) -> bool:
        cluster = self._scene.cluster
        now = time.monotonic()
        if now < self._operator_rests_until:
            return False
        self._operator_rests_until = now + OPERATOR_RESTS
        if self.done["operator killed"] < OPERATOR_KILLS:
            operator.kill(cluster)
        else:
            where = (f"-n{operator.NAMESPACE}", f"-l{operator.SELECTOR}")
            cluster.kubectl("delete", "pod", *where, "--grace-period=0", "--force")
        return True

    def _pause_api_server(self) -> bool:
        process = api_server(self._scene.cluster)
        if process is None:
            return False
        with paused(process):
            time.sleep(self._chance.uniform(2.0, 6.0))
        return True

    # the server

    def _break_server(self) -> bool:
        status = self._chance.choice([500, 502, 503])
        self._fault("status", status=status, when=self._when())
        return True

    def _reset(self) -> bool:
        self._fault("reset", when=self._when())
        return True

    def _slow(self) -> bool:
        seconds = self._chance.uniform(0.5, 3.0)
        self._scene.admin.fault("*", "latency", seconds=seconds, count=self._chance.randint(5, 20))
        return True

    def _rotate(self) -> bool:
        self._scene.admin.rotate_tokens()
        return True

    def _lose(self, endpoint: str) -> bool:
        self._scene.admin.fault(endpoint, "reset", when="after", count=1)
        return True

    def _fault(self, kind: str, **details: object) -> None:
        # Those that nobody has met yet would pile up.
        self._scene.admin.clear_faults()
        for endpoint in self._chance.sample(SOMEWHERE, 3):
            count = self._chance.randint(1, 3)
            self._scene.admin.fault(endpoint, kind, count=count, **details)

    def _when(self) -> str:
        return self._chance.choice(["before", "after"])

    def _one(self, things: Sequence[Thing]) -> Thing | None:
        return self._chance.choice(things) if things else None
