"""What goes wrong: each kind of trouble at random, at a rate a month, and its end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from month.kubernetes import Kubernetes
from month.operating import Operator
from month.server import Server
from month.things import Node, Pod
from month.timeline import Timeline
from month.watching import Backend, Mirror
from month.working import Conditions
from simulator.identifiers import IdMaker
from simulator.records import Hub

MINUTE, HOUR, MONTH = 60.0, 3600.0, 30 * 86400.0


@dataclass(slots=True)
class Exposed:
    """What the weather strikes."""

    timeline: Timeline
    server: Server
    cluster: Kubernetes
    mirror: Mirror
    backend: Backend
    operator: Operator
    conditions: Conditions
    hubs: list[Hub]
    new_id: IdMaker


class Weather:
    """Strikes until it is told to end; what has begun by then still comes to its own end."""

    def __init__(self, exposed: Exposed, chance: random.Random) -> None:
        self.struck: Counter[str] = Counter()
        self._on = False
        self._it = exposed
        self._chance = chance
        self._resumes = 0
        kinds: list[tuple[float, Callable[[], None]]] = [
            (60, self._api_hiccup),
            (15, self._api_outage),
            (2, self._long_api_outage),
            (40, self._kubernetes_outage),
            (60, self._operator_restart),
            (60, self._operator_dies_in_a_cycle),
            (1, self._operator_is_away),
            (10, self._node_crash),
            (10, self._node_unreachable),
            (4, self._node_gone),
            (4, self._node_unfit),
            (4, self._node_rejects),
            (60, self._pod_deleted),
            (30, self._pod_evicted),
            (10, self._pod_removed_by_force),
            (60, self._worker_killed),
            (15, self._job_deleted),
            (4, self._job_orphaned),
            (5, self._hub_of_weight_zero),
            (2, self._image_broken),
            (3, self._strict_server),
            (1, self._manager_removed),
        ]
        self._kinds = kinds

    def begin(self) -> None:
        """Let trouble come."""
        self._on = True
        self._it.server.loses_answers = 0.001
        self._it.backend.loses_answers = 0.002
        for rate, strike in self._kinds:
            self._wait(rate, strike)

    def end(self) -> None:
        """No new trouble."""
        self._on = False
        self._it.server.loses_answers = self._it.backend.loses_answers = 0.0
        conditions = self._it.conditions
        conditions.crashes = conditions.kills = 0.0
        conditions.lost_pushes = conditions.lost_claims = conditions.push_deaths = 0.0

    def _wait(self, rate: float, strike: Callable[[], None]) -> None:
        def happen() -> None:
            if not self._on:
                return
            kind = strike.__name__.strip("_").replace("_", " ")
            self.struck[kind] += 1
            self._it.timeline.tell(f"weather: {kind}")
            strike()
            self._wait(rate, strike)

        self._it.timeline.after(self._chance.expovariate(rate / MONTH), happen)

    def _later(self, least: float, most: float, call: Callable[[], None]) -> None:
        self._it.timeline.after(self._chance.uniform(least, most), call)

    # servers

    def _api_hiccup(self) -> None:
        self._server_away(1.0, 30.0)

    def _api_outage(self) -> None:
        self._server_away(MINUTE, 15 * MINUTE)

    def _long_api_outage(self) -> None:
        self._server_away(30 * MINUTE, 4 * HOUR)

    def _server_away(self, least: float, most: float) -> None:
        if self._it.server.up:
            self._it.server.up = False
            self._later(least, most, self._server_back)

    def _server_back(self) -> None:
        self._it.server.up = True

    def _kubernetes_outage(self) -> None:
        if not self._it.cluster.api_up:
            return
        self._it.cluster.set_api(up=False)
        self._later(1.0, self._chance.choice([20.0, 5 * MINUTE, 20 * MINUTE]), self._api_back)

    def _api_back(self) -> None:
        self._it.cluster.set_api(up=True)
        self._it.mirror.api_is_back()

    # the operator

    def _operator_restart(self) -> None:
        self._restart(1.0, MINUTE)

    def _operator_is_away(self) -> None:
        self._restart(30 * MINUTE, 3 * HOUR)

    def _restart(self, least: float, most: float) -> None:
        if self._it.operator.up:
            self._it.operator.kill()
            self._later(least, most, self._it.operator.start)

    def _operator_dies_in_a_cycle(self) -> None:
        if self._it.operator.up:
            calls = self._chance.randint(0, 12)
            self._it.operator.die_in_next_cycle(calls, self._chance.uniform(1.0, 30.0))

    # nodes

    def _node(self) -> Node | None:
        well = [node for node in self._it.cluster.nodes if node.answers]
        return self._chance.choice(well) if len(well) > 1 else None

    def _node_crash(self) -> None:
        if (node := self._node()) is not None:
            self._it.cluster.lose(node, crash=True, isolated=True)
            self._later(2 * MINUTE, 40 * MINUTE, lambda: self._it.cluster.regain(node))

    def _node_unreachable(self) -> None:
        if (node := self._node()) is not None:
            isolated = self._chance.random() < 0.5
            self._it.cluster.lose(node, crash=False, isolated=isolated)
            self._later(10.0, 90 * MINUTE, lambda: self._it.cluster.regain(node))

    def _node_gone(self) -> None:
        if (node := self._node()) is None:
            return
        cluster = self._it.cluster
        cluster.lose(node, crash=True, isolated=True)
        self._later(MINUTE, 20 * MINUTE, lambda: cluster.forget(node))
        name = f"node-{self._it.new_id()[:6]}"

        def replace() -> None:
            cluster.nodes.append(Node(name, node.gpus))
            cluster.try_again()

        self._later(20 * MINUTE, HOUR, replace)

    def _node_unfit(self) -> None:
        if (node := self._node()) is not None:
            node.unfit = True
            self._later(2 * HOUR, 12 * HOUR, lambda: setattr(node, "unfit", False))

    def _node_rejects(self) -> None:
        if (node := self._node()) is not None:
            node.rejects = True
            self._later(10 * MINUTE, 3 * HOUR, lambda: setattr(node, "rejects", False))

    # pods and Jobs

    def _pod(self) -> Pod | None:
        pods = [
            pod
            for pod in self._it.cluster.pods_at_work()
            if pod.node is not None and pod.node.answers and not pod.deleting
        ]
        return self._chance.choice(pods) if pods and self._it.cluster.api_up else None

    def _pod_deleted(self) -> None:
        if (pod := self._pod()) is not None:
            self._it.cluster.delete_pod(pod)

    def _pod_evicted(self) -> None:
        if (pod := self._pod()) is not None:
            self._it.cluster.delete_pod(pod, disrupted=True)

    def _pod_removed_by_force(self) -> None:
        if (pod := self._pod()) is not None:
            self._it.cluster.delete_pod(pod, by_force=True)

    def _worker_killed(self) -> None:
        pod = self._pod()
        if pod is not None and pod.process is not None:
            pod.process.kill()

    def _job_deleted(self) -> None:
        if (pod := self._pod()) is not None:
            foreground = self._chance.random() < 0.5
            self._it.cluster.delete_job(pod.job, foreground=foreground)

    def _job_orphaned(self) -> None:
        if (pod := self._pod()) is not None:
            self._it.cluster.orphan(pod.job)

    # people

    def _hub_of_weight_zero(self) -> None:
        hub = self._chance.choice(self._it.hubs)
        hub.weight = 0.0
        self._later(30 * MINUTE, 8 * HOUR, lambda: setattr(hub, "weight", 0.5))

    def _image_broken(self) -> None:
        self._it.conditions.image_broken = True
        self._later(HOUR, 5 * HOUR, self._image_mended)

    def _image_mended(self) -> None:
        self._it.conditions.image_broken = False

    def _strict_server(self) -> None:
        store = self._it.server.store
        store.settings = store.settings.changed({"max_failures": 0})
        self._later(4 * HOUR, 24 * HOUR, self._lenient_server)

    def _lenient_server(self) -> None:
        store = self._it.server.store
        store.settings = store.settings.changed({"max_failures": 3})

    def _manager_removed(self) -> None:
        registry = self._it.server.store.registry
        registry.managers = [m for m in registry.managers if m.id.name == "elsewhere"]
        self._later(HOUR, 4 * HOUR, self._resume)

    def _resume(self) -> None:
        self._resumes += 1
        self._it.operator.annotate(f"after-{self._resumes}")
