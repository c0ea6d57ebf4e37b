"""A cluster as tests and the demo see it, whichever way it came about."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testcluster.commands import run
from testcluster.errors import TestClusterError

GPU = "nvidia.com/gpu"
PRETENDED = "computepool.test/pretended-gpus"


def _cannot_load(archive: Path) -> None:
    raise TestClusterError(
        f"{archive} was not loaded: this cluster has no node whose images we manage. "
        "Push the image to a registry that its nodes pull from."
    )


def _nothing_known() -> str:
    return ""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    ``way`` is "kubeconfig", "kind" or "embedded", and ``reason`` says in one line why it was
    taken. ``host_address`` is an address of this host that pods reach. ``image_engine`` is what
    `testcluster.images` is to build with for this cluster. ``kubectl_path``, ``image_loader`` and
    ``diagnose`` depend on the way; callers use the methods.
    """

    kubeconfig: Path
    way: str
    reason: str
    host_address: str
    kubectl_path: Path
    image_engine: str = "buildah"
    image_loader: Callable[[Path], None] = field(default=_cannot_load, repr=False)
    diagnose: Callable[[], str] = field(default=_nothing_known, repr=False)

    def kubectl(self, *args: str, input: str | None = None, timeout: float = 300.0) -> str:  # noqa: A002
        """Run kubectl and return its output.

        Raises TestClusterError, with what kubectl said and what is known to have died, when it
        fails or exceeds ``timeout`` (s).
        """
        cache = self.kubeconfig.parent / "kubectl-cache"
        options = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={cache}"]
        environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        command = [str(self.kubectl_path), *options, *args]
        try:
            return run(command, text_input=input, timeout=timeout, env=environment)
        except TestClusterError as error:
            if known := self.diagnose():
                raise TestClusterError(f"{error}\n{known}") from error
            raise

    def load_image(self, archive: Path) -> None:
        """Give the node the images of a docker-archive.

        Raises TestClusterError where the nodes are not ours to load images into.
        """
        self.image_loader(archive)

    def set_gpus(self, count: int) -> None:
        """Let the first node pretend to have ``count`` GPUs; the scheduler counts them as real.

        Safe to repeat, and to be repeated should a restarted kubelet have dropped them. Raises
        TestClusterError if there is no node, or if it has real GPUs.
        """
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        if not nodes:
            raise TestClusterError("the cluster has no node to give GPUs to")
        metadata = nodes[0]["metadata"]
        node, pretended = metadata["name"], PRETENDED in metadata.get("annotations", {})
        if nodes[0]["status"]["capacity"].get(GPU, "0") != "0" and not pretended:
            raise TestClusterError(f"node {node} has real GPUs; tests that pretend need another")
        self.kubectl("annotate", "--overwrite", "node", node, f"{PRETENDED}={count}")
        patch = ["--subresource=status", "--type=json", "-p", json.dumps(gpu_patch(count))]
        self.kubectl("patch", "node", node, *patch)


def gpu_patch(count: int) -> list[dict[str, Any]]:
    """Return the JSON patch that gives a node's status ``count`` GPUs.

    The kubelet keeps an extended resource that it finds in its node's capacity, but copies it to
    the allocatable figure, which the scheduler uses, only on its next round; so both are set.
    """
    name = GPU.replace("/", "~1")
    return [
        {"op": "add", "path": f"/status/{part}/{name}", "value": str(count)}
        for part in ("capacity", "allocatable")
    ]
