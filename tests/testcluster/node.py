"""A real node: containerd, kubelet and kube-proxy in namespaces of their own (needs root).

Network, mount, PID and IPC namespaces make the node a closed room: taking down its first process
takes down every container, mount, bridge and packet-filter rule with it. On the host there are
only the state folder, a network link, a named network namespace, and a cgroup.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from testcluster import busybox, cgroups, nodeinit, packages
from testcluster.binaries import Binaries
from testcluster.commands import run
from testcluster.controlplane import NODE_NAME, ControlPlane
from testcluster.errors import TestClusterError
from testcluster.filesystems import can_overlay
from testcluster.network import Network
from testcluster.processes import wait_until
from testcluster.state import StateFolder

SHADOWED = ("/run", "/var/lib", "/var/log")
LONGEST_SOCKET_PATH = 107  # sun_path of unix(7), less the closing zero
START_TIMEOUT = 180.0
CONTAINERD_NAMESPACE = "k8s.io"


def socket_path(state: StateFolder) -> Path:
    """Return the path of containerd's socket."""
    return state.path / "containerd.sock"


def check(state_path: Path) -> None:
    """Raise TestClusterError, with what to do, unless a node can run with this state folder."""
    if os.geteuid() != 0:
        raise TestClusterError("a node needs root: run this as root, or give a kubeconfig")
    path = state_path.absolute()
    if len(str(path / "containerd.sock")) > LONGEST_SOCKET_PATH - len(".ttrpc"):
        raise TestClusterError(f"{path} is too long for a socket path: choose a shorter --state")
    if any(path.is_relative_to(shadowed) for shadowed in SHADOWED):
        raise TestClusterError(f"--state must not be below any of {', '.join(SHADOWED)}: {path}")
    packages.require(packages.NODE, "A node")


def start(plane: ControlPlane, binaries: Binaries, network: Network) -> None:
    """Start the node and return once the scheduler may use it.

    Raises TestClusterError with the end of the log of the daemon that died.
    """
    state = plane.state
    folder = state.folder("node")
    cgroups.create(state.id)
    settings = folder / "init.json"
    settings.write_text(json.dumps(_settings(plane, binaries, network, folder)))
    program = state.start(
        "node",
        [
            "nsenter",
            f"--net={network.namespace_path}",
            "unshare",
            "--mount",
            "--ipc",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
            sys.executable,
            "-I",
            nodeinit.__file__,
            settings,
        ],
    )
    wait_until(
        socket_path(state).exists, "containerd to listen", timeout=START_TIMEOUT, watched=[program]
    )
    state.adopt_child("node-init", program)
    load_image(state, busybox.write(folder / "busybox.tar"))
    wait_until(
        lambda: _is_ready(plane, binaries),
        "the node to be ready",
        timeout=START_TIMEOUT,
        watched=[program],
    )


def load_image(state: StateFolder, archive: Path) -> None:
    """Import the images of a docker-archive into the node's containerd.

    Raises TestClusterError if the cluster has no node or the import fails.
    """
    if not socket_path(state).exists():
        raise TestClusterError(f"{archive} was not loaded: the cluster has no node")
    client = packages.command("ctr") or "ctr"
    address = [f"--address={socket_path(state)}", f"--namespace={CONTAINERD_NAMESPACE}"]
    snapshotter = f"--snapshotter={_snapshotter(state.path)}"
    run([client, *address, "images", "import", snapshotter, archive])


def _is_ready(plane: ControlPlane, binaries: Binaries) -> bool:
    words = [f"--kubeconfig={plane.kubeconfig}", "get", "node", NODE_NAME, "--output=json"]
    with contextlib.suppress(TestClusterError):
        node = json.loads(run([binaries.path("kubectl"), *words]))
        ready = any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node["status"]["conditions"]
        )
        return ready and not node["spec"].get("taints")
    return False


def _settings(
    plane: ControlPlane, binaries: Binaries, network: Network, folder: Path
) -> dict[str, Any]:
    """Write the configuration files of the daemons; return what nodeinit is to do."""
    state = plane.state
    logs = state.folder("logs")
    containerd = _write(folder / "containerd.toml", _containerd(state, folder))
    cni = folder / "cni"
    cni.mkdir()
    _write(cni / "10-pods.conflist", json.dumps(_cni(network, folder)))
    kubelet = _write(
        folder / "kubelet.json", json.dumps(_kubelet(plane, network, folder), indent=1)
    )
    proxy = _write(folder / "proxy.json", json.dumps(_proxy(plane, network), indent=1))

    def daemon(name: str, *argv: str | Path, after: Path | None = None) -> dict[str, Any]:
        log = str(logs / f"{name}.log")
        words = [str(word) for word in argv]
        return {"name": name, "argv": words, "log": log, "after": str(after) if after else ""}

    return {
        "folder": str(folder),
        "path": packages.SEARCH_PATH,
        "daemons": [
            daemon("containerd", "containerd", "--config", containerd),
            daemon("kube-proxy", binaries.path("kube-proxy"), f"--config={proxy}"),
            daemon(
                "kubelet",
                binaries.path("kubelet"),
                f"--config={kubelet}",
                f"--kubeconfig={plane.kubeconfig_of(f'system:node:{NODE_NAME}')}",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={network.node_address}",
                f"--root-dir={folder / 'kubelet'}",
                f"--cert-dir={folder / 'kubelet-pki'}",
                after=socket_path(state),
            ),
        ],
    }


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _snapshotter(path: Path) -> str:
    return "overlayfs" if can_overlay(path) else "native"


def _containerd(state: StateFolder, folder: Path) -> str:
    quoted = json.dumps  # TOML's basic strings are JSON's
    return f"""\
version = 2
root = {quoted(str(folder / "containerd"))}
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = {quoted(str(socket_path(state)))}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {quoted(busybox.TAG)}
# Where the host may not lower oom_score_adj, runc fails with "can't get final child's PID".
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = {quoted(_snapshotter(state.path))}
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = {quoted(str(folder / "cni"))}
"""


def _cni(network: Network, folder: Path) -> dict[str, Any]:
    """Return the CNI configuration: a routed link for each pod.

    With a bridge, the answers of a service's pod to another would pass below the packet filter,
    unless the host has the module br_netfilter loaded.
    """
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": str(network.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(folder / "addresses"),
    }
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipam": addresses}],
    }


def _kubelet(plane: ControlPlane, network: Network, folder: Path) -> dict[str, Any]:
    serving = plane.authority.issue(
        "kubelet", user=f"system:node:{NODE_NAME}", hosts=[NODE_NAME, network.node_address]
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node_address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.pair.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{socket_path(plane.state)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.name(plane.state.id)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Resources that a test gives to the node count within a second.
        "nodeStatusUpdateFrequency": "1s",
        # The disk is shared with whatever else the host does.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # There is no name server for pods; at this address a query is refused without a wait.
        "clusterDNS": ["127.0.0.1"],
        "clusterDomain": "cluster.local",
        "volumePluginDir": str(folder / "volume-plugins"),
    }


def _proxy(plane: ControlPlane, network: Network) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(plane.kubeconfig_of("system:kube-proxy"))},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": str(network.pods),
        # The host's connection-tracking table is not ours to resize.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    }
