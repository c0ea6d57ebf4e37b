"""A cluster as tests and the demo see it, whichever way it came about."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from testcluster.commands import run
from testcluster.errors import TestClusterError

GPU = "nvidia.com/gpu"


def _cannot_load(archive: Path) -> None:
    raise TestClusterError(f"{archive} was not loaded: this cluster has no node that we manage")


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    ``way`` is "kubeconfig", "kind" or "embedded", and ``reason`` says in one line why it was
    taken. ``host_address`` is an address of this host that pods reach. ``kubectl_path`` and
    ``image_loader`` depend on the way; callers use the methods.
    """

    kubeconfig: Path
    way: str
    reason: str
    host_address: str
    kubectl_path: Path
    image_loader: Callable[[Path], None] = field(default=_cannot_load, repr=False)

    def kubectl(self, *args: str, input: str | None = None, timeout: float = 300.0) -> str:  # noqa: A002
        """Run kubectl and return its output.

        Raises TestClusterError, with what kubectl said, when it fails or exceeds ``timeout`` (s).
        """
        cache = self.kubeconfig.parent / "kubectl-cache"
        options = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={cache}"]
        environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        command = [str(self.kubectl_path), *options, *args]
        return run(command, text_input=input, timeout=timeout, env=environment)

    def load_image(self, archive: Path) -> None:
        """Give the node the images of a docker-archive.

        Raises TestClusterError where the nodes are not ours to load images into.
        """
        self.image_loader(archive)

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        listed = json.loads(self.kubectl("get", "nodes", "-o", "json"))
        return [node["metadata"]["name"] for node in listed["items"]]

    def set_gpus(self, count: int) -> None:
        """Let the first node have ``count`` GPUs, which the scheduler then counts like real ones.

        The kubelet keeps an extended resource that it finds on its node, but takes the
        allocatable figure from its own rounds; so both are set. Safe to repeat.
        """
        nodes = self.nodes()
        if not nodes:
            raise TestClusterError("the cluster has no node to give GPUs to")
        name = GPU.replace("/", "~1")
        operations = [
            {"op": "add", "path": f"/status/{part}/{name}", "value": str(count)}
            for part in ("capacity", "allocatable")
        ]
        patch = ["--subresource=status", "--type=json", "-p", json.dumps(operations)]
        self.kubectl("patch", "node", nodes[0], *patch)
