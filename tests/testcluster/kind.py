"""The second way: a kind cluster in Docker, by pytest-kind."""

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest_kind.cluster as pytest_kind_cluster

from testcluster.cache import cache_folder
from testcluster.cluster import Cluster
from testcluster.commands import run
from testcluster.errors import TestClusterError
from testcluster.progress import Progress, timed
from testcluster.state import StateFolder

# What the release notes of this kind release name, by digest as they ask for. pytest-kind's own
# default is years old.
KIND_VERSION = "v0.33.0"
KUBECTL_VERSION = "v1.36.3"
NODE_IMAGE = (
    "docker.io/kindest/node:v1.36.4"
    "@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
)


def problem() -> str:
    """Return why kind cannot be used here, or an empty string if it can. May pull the image."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if not _succeeds("docker", "info"):
        return "no Docker engine answers"
    if not _succeeds("docker", "image", "inspect", NODE_IMAGE) and not _succeeds(
        "docker", "pull", "--quiet", NODE_IMAGE
    ):
        return f"Docker cannot pull {NODE_IMAGE}"
    return ""


def configure(options: Any) -> None:
    """Give pytest-kind's command-line options and versions our defaults where none are given."""
    if "KIND_VERSION" not in os.environ:
        pytest_kind_cluster.KIND_VERSION = KIND_VERSION
    if "KUBECTL_VERSION" not in os.environ:
        pytest_kind_cluster.KUBECTL_VERSION = KUBECTL_VERSION
    options.kind_image = options.kind_image or NODE_IMAGE
    options.kind_bin = options.kind_bin or shutil.which("kind")
    options.kind_kubectl_bin = options.kind_kubectl_bin or shutil.which("kubectl")


def wrap(kind_cluster: Any, reason: str) -> Cluster:
    """Return a Cluster for what the fixture ``kind_cluster`` of pytest-kind gives."""
    kind_cluster.ensure_kubectl()
    kind = Path(kind_cluster.kind_path).absolute()

    def load(archive: Path) -> None:
        run([kind, "load", "image-archive", archive, "--name", kind_cluster.name])

    return Cluster(
        kubeconfig=Path(kind_cluster.kubeconfig_path).absolute(),
        way="kind",
        reason=reason,
        host_address=gateway(run(["docker", "network", "inspect", "kind"])),
        kubectl_path=Path(kind_cluster.kubectl_path).absolute(),
        image_engine="docker",
        image_loader=load,
    )


def up(path: Path, reason: str, progress: Progress) -> Cluster:
    """Bring up a kind cluster whose kubeconfig and record are in the folder ``path``."""
    state = StateFolder.create(path)
    state.update(way="kind", reason=reason)
    with timed(progress, "kind cluster ready"):
        _pytest_kind(state).create()
    return attach(state)


def attach(state: StateFolder) -> Cluster:
    """Return the cluster that ``up`` made."""
    return wrap(_pytest_kind(state), state.get("reason"))


def down(state: StateFolder) -> None:
    """Delete the cluster that ``up`` made, or what there is of it."""
    existing = _pytest_kind(state)
    existing.ensure_kind()
    existing.delete()
    shutil.rmtree(state.path)


def gateway(inspected: str) -> str:
    """Return the host's IPv4 address in a network, from what ``docker network inspect`` prints."""
    for config in json.loads(inspected)[0]["IPAM"]["Config"]:
        address = config.get("Gateway", "")
        with contextlib.suppress(ValueError):
            return str(ipaddress.IPv4Address(address))
    raise TestClusterError(
        "Docker's network `kind` has no IPv4 gateway by which to reach this host"
    )


def _pytest_kind(state: StateFolder) -> Any:
    options = SimpleNamespace(kind_image=None, kind_bin=None, kind_kubectl_bin=None)
    configure(options)
    downloads = cache_folder() / "kind"
    downloads.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(downloads):  # pytest-kind keeps what it downloads in the current folder
        made = pytest_kind_cluster.KindCluster(
            f"computepool-{state.id}", state.path / "kubeconfig", image=options.kind_image
        )
        made.kind_path = Path(options.kind_bin or made.kind_path).absolute()
        made.kubectl_path = Path(options.kind_kubectl_bin or made.kubectl_path).absolute()
    return made


def _succeeds(*words: str) -> bool:
    try:
        done = subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
