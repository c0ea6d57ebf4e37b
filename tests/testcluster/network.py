"""A network namespace for the node, and a link from the host to it.

The pods' links, routes, NAT rules and forwarding all live in that namespace: removing it removes
them, and the host's own rules are never touched.
"""

import contextlib
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from testcluster.cache import cache_folder, locked
from testcluster.commands import run
from testcluster.errors import TestClusterError
from testcluster.packages import command
from testcluster.processes import wait_until

# One /24 for a cluster: the first /30 is the link, the upper half is for pods.
POOL = IPv4Network("10.213.0.0/16")


@dataclass(frozen=True)
class Network:
    """The addresses of one cluster and the names of what carries them."""

    cluster_id: str
    subnet: IPv4Network

    @property
    def namespace(self) -> str:
        """The name of the network namespace."""
        return f"computepool-{self.cluster_id}"

    @property
    def namespace_path(self) -> Path:
        """The file by which the network namespace is entered."""
        return Path("/run/netns") / self.namespace

    @property
    def host_link(self) -> str:
        """The name of the link's end on the host (at most 15 characters)."""
        return f"cp-{self.cluster_id}-h"

    @property
    def node_link(self) -> str:
        """The name of the link's end at the node."""
        return f"cp-{self.cluster_id}-n"

    @property
    def host_address(self) -> str:
        """The host's address on the link: pods reach this host there."""
        return str(self.subnet[1])

    @property
    def node_address(self) -> str:
        """The node's address on the link."""
        return str(self.subnet[2])

    @property
    def pods(self) -> IPv4Network:
        """The range of pod addresses."""
        _, upper_half = self.subnet.subnets()
        return upper_half


def choose(routes: str) -> IPv4Network:
    """Return the first free /24 of POOL, given what ``ip -o route`` and ``ip -o addr`` print. Pure.

    Raises TestClusterError when none is free.
    """
    taken = []
    for word in routes.split():
        with contextlib.suppress(ValueError):  # "default", "dev", IPv6 addresses
            taken.append(IPv4Network(word, strict=False))
    # A wider route is the way to elsewhere, not a network of this host's own.
    used = [network for network in taken if network.prefixlen >= POOL.prefixlen]
    for subnet in POOL.subnets(new_prefix=24):
        if not any(subnet.overlaps(network) for network in used):
            return subnet
    raise TestClusterError(f"no free network in {POOL}: take down clusters that are not needed")


def create(cluster_id: str) -> Network:
    """Make the namespace, the link and the routes, with addresses nobody else on this host has."""
    # Two clusters that start together must not choose the same range.
    with locked(cache_folder() / "network.lock"):
        network = Network(cluster_id, choose(_ip("-o", "route") + _ip("-o", "addr")))
        name, host, node = network.namespace, network.host_link, network.node_link
        _ip("netns", "add", name)
        _ip("link", "add", host, "type", "veth", "peer", "name", node, "netns", name)
        _ip("addr", "add", f"{network.host_address}/30", "dev", host)
        _ip("link", "set", host, "up")
        _ip("route", "add", str(network.pods), "via", network.node_address)
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "addr", "add", f"{network.node_address}/30", "dev", node)
    _ip("-n", name, "link", "set", node, "up")
    _ip("-n", name, "route", "add", "default", "via", network.host_address)
    return network


def remove(cluster_id: str) -> None:
    """Remove what ``create`` made, or a part of it; nothing there is no error."""
    network = Network(cluster_id, POOL)
    if network.namespace_path.exists():
        _ip("netns", "delete", network.namespace)
    link = Path("/sys/class/net") / network.host_link
    if link.exists():
        # Gone with its namespace, but a moment later; deleting it may therefore find nothing.
        subprocess.run([_tool(), "link", "delete", network.host_link], check=False, stderr=-3)
    wait_until(lambda: not link.exists(), f"{network.host_link} to be gone", timeout=10)


def _ip(*words: str) -> str:
    return run([_tool(), *words])


def _tool() -> str:
    found = command("ip")
    if found is None:
        raise TestClusterError("the command `ip` is missing: install the package iproute2")
    return found
