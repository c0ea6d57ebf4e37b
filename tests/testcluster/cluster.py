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

        Returns once the kubelet knows as well. Safe to repeat, and to be repeated should a
        restarted kubelet have dropped them. Raises TestClusterError if there is no node, or if it
        has real GPUs.
        """
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        if not nodes:
            raise TestClusterError("the cluster has no node to give GPUs to")
        node, status = nodes[0]["metadata"]["name"], nodes[0]["status"]
        if status["capacity"].get(GPU, "0") != "0" and PRETENDED not in status["capacity"]:
            raise TestClusterError(f"node {node} has real GPUs; tests that pretend need another")
        # Were a pod bound before the kubelet knows, the kubelet would fail it with OutOfnvidia.com.
        self.kubectl("cordon", node)
        patch = ["--subresource=status", "--type=json", "-p", json.dumps(gpu_patch(count))]
        self.kubectl("patch", "node", node, *patch)
        marker = PRETENDED.replace(".", r"\.")
        copied = f"--for=jsonpath={{.status.allocatable.{marker}}}={count}"
        self.kubectl("wait", copied, f"node/{node}", "--timeout=60s")
        self.kubectl("uncordon", node)


def gpu_patch(count: int) -> list[dict[str, Any]]:
    """Return the JSON patch that gives a node's status ``count`` GPUs.

    The kubelet keeps an extended resource that it finds in its node's capacity, and copies it to
    the allocatable figure, which the scheduler uses, on its next round. Both are set for the GPUs,
    and only the capacity of a marker: when its copy appears, the kubelet has seen the patch.
    """

    def add(path: str) -> dict[str, Any]:
        return {"op": "add", "path": f"/status/{path}", "value": str(count)}

    gpu, marker = (name.replace("/", "~1") for name in (GPU, PRETENDED))
    return [add(f"capacity/{gpu}"), add(f"allocatable/{gpu}"), add(f"capacity/{marker}")]
