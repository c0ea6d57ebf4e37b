"""A pool as a person would write it, pointed at a stand-in server."""

from __future__ import annotations

from typing import Any

import yaml

from testcluster.cluster import Cluster
from testcluster.images import REPOSITORY

EXAMPLE = REPOSITORY / "deploy" / "examples" / "pool.yaml"


def example() -> dict[str, Any]:
    """The pool of `deploy/examples/pool.yaml`."""
    (pool,) = [
        thing
        for thing in yaml.safe_load_all(EXAMPLE.read_text())
        if thing["kind"] == "AlchemiscaleComputePool"
    ]
    return dict(pool)


def pointed_at(pool: dict[str, Any], *, url: str, image: str, secret: str) -> dict[str, Any]:
    """The pool with what every user sets: the server, the Secret, and the worker's image."""
    spec = pool["spec"]
    compute_api = {**spec["computeAPI"], "url": url, "credentialsSecretRef": {"name": secret}}
    worker = {**spec["worker"], "image": image}
    return {**pool, "spec": {**spec, "computeAPI": compute_api, "worker": worker}}


def create_secret(
    cluster: Cluster, namespace: str, name: str, *, identifier: str, key: str
) -> None:
    """Create or renew the Secret with a compute identity's credentials."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"identifier": identifier, "key": key},
    }
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(secret))


def apply(cluster: Cluster, namespace: str, pool: dict[str, Any]) -> None:
    """Apply a pool in a namespace, as `kubectl apply -f pool.yaml` does."""
    cluster.kubectl("apply", f"-n{namespace}", "-f", "-", input=yaml.safe_dump(pool))
