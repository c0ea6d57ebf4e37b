"""The operator, installed in a cluster from `deploy/`, under its own ServiceAccount."""

from __future__ import annotations

import json
from typing import Any

import yaml

from stage import processes
from testcluster.cluster import Cluster
from testcluster.images import REPOSITORY, Image

NAMESPACE = "computepool-system"
DEPLOYMENT = "computepool-operator"
SELECTOR = "app.kubernetes.io/name=computepool-operator"


def install(cluster: Cluster, image: Image) -> None:
    """Apply `deploy/base` with an image of our own, and wait until the operator is ready."""
    rendered = cluster.kubectl("kustomize", str(REPOSITORY / "deploy" / "base"))
    objects = [with_image(thing, image) for thing in yaml.safe_load_all(rendered)]
    definitions = [thing for thing in objects if thing["kind"] == "CustomResourceDefinition"]
    _apply(cluster, definitions)
    for definition in definitions:
        name = definition["metadata"]["name"]
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=90s")
    _apply(cluster, [thing for thing in objects if thing not in definitions])
    cluster.kubectl(
        "rollout", "status", f"deployment/{DEPLOYMENT}", f"-n{NAMESPACE}", "--timeout=300s"
    )


def with_image(thing: dict[str, Any], image: Image) -> dict[str, Any]:
    """Let a Deployment run an image that the nodes have already; leave other objects alone.

    The tag of an image stays when its content changes, so the content is named beside it.
    """
    if thing["kind"] != "Deployment":
        return thing
    template = thing["spec"]["template"]
    template["metadata"].setdefault("annotations", {})["image-content"] = image.archive.stem
    for container in template["spec"]["containers"]:
        container |= {"image": image.tag, "imagePullPolicy": "IfNotPresent"}
    return thing


def pod(cluster: Cluster) -> dict[str, Any]:
    """The operator's pod."""
    listed = json.loads(cluster.kubectl("get", "pods", f"-n{NAMESPACE}", f"-l{SELECTOR}", "-ojson"))
    (found,) = [p for p in listed["items"] if not p["metadata"].get("deletionTimestamp")]
    return dict(found)


def logs(cluster: Cluster) -> str:
    """What the operator has logged since its container started."""
    return cluster.kubectl("logs", f"-n{NAMESPACE}", f"deployment/{DEPLOYMENT}", "--tail=-1")


def _apply(cluster: Cluster, objects: list[dict[str, Any]]) -> None:
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))


def kill(cluster: Cluster) -> None:
    """Kill the operator's process with SIGKILL; where that can't be done, its pod without grace."""
    found = pod(cluster)
    if not processes.kill(found["metadata"]["uid"], "computepool-operator"):
        name = found["metadata"]["name"]
        cluster.kubectl("delete", "pod", name, f"-n{NAMESPACE}", "--grace-period=0", "--force")


def uninstall(cluster: Cluster) -> None:
    """Take the operator out again; pools must be gone by then."""
    rendered = cluster.kubectl("kustomize", str(REPOSITORY / "deploy" / "base"))
    cluster.kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=false", input=rendered)
