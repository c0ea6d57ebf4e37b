"""What an end-to-end test works with: a namespace, a stand-in server, a recorder, its pools."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Self

from e2e.recorder import Recorder
from simulator.process import SimulatorProcess
from stage import pools
from stage.images import STANDIN_TAG
from testcluster.cluster import Cluster

SECRET = "alchemiscale-compute"


class Scene:
    """One test's part of the cluster."""

    def __init__(self, cluster: Cluster, namespace: str, server: SimulatorProcess) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.server = server
        self.admin = server.admin
        self.recorder = Recorder(cluster, namespace)

    def __enter__(self) -> Self:
        pools.create_secret(
            self.cluster,
            self.namespace,
            SECRET,
            identifier=self.server.identifier,
            key=self.server.key,
        )
        self.recorder.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kubectl("delete", "computepools", "--all", "--wait=true", "--timeout=60s")
        self.recorder.__exit__(*exception)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace of the test."""
        return self.cluster.kubectl(*arguments, f"--namespace={self.namespace}")

    def get(self, *arguments: str) -> dict[str, Any]:
        """Get an object or a list as JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-ojson"))
        return found

    def apply_pool(
        self, *, worker: dict[str, Any] | None = None, image: str = STANDIN_TAG, **spec: Any
    ) -> None:
        """Apply the pool `a100` for 4 GPUs, with the given fields of its spec."""
        pool: dict[str, Any] = {
            "apiVersion": "compute.alchemiscale.org/v1alpha1",
            "kind": "AlchemiscaleComputePool",
            "metadata": {"name": "a100"},
            "spec": {
                "maxComputeServices": 4,
                "deletionPolicy": "Stop",
                "job": {"keepSucceeded": 100},
                "computeAPI": {},
                "worker": worker or {},
                **spec,
            },
        }
        pool = pools.pointed_at(pool, url=self.server.url, image=image, secret=SECRET)
        pools.apply(self.cluster, self.namespace, pool)

    def pool(self) -> dict[str, Any]:
        """The pool as it is now."""
        return self.get("computepool", "a100")

    def until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until a condition holds, looking again at every change in the namespace."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.describe()}")
            self.recorder.wait_for_news(0.25)

    def all_complete(self) -> bool:
        """Whether every Task on the server is complete."""
        return set(self.admin.counts()) == {"complete"}

    def describe(self) -> str:
        """The state of things, for a failed test."""
        return "\n".join(
            [
                self.kubectl("get", "computepools", "-owide"),
                self.kubectl("get", "jobs,pods", "-owide"),
                f"Tasks on the server: {self.admin.counts()}",
                f"services: {self.admin.services()}",
                f"managers: {self.admin.managers()}",
            ]
        )
