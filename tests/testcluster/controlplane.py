"""etcd, API server, controller-manager and scheduler, as processes on ports of their own."""

import secrets
import shutil
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

from testcluster import kubeconfig, pki
from testcluster.binaries import Binaries
from testcluster.errors import TestClusterError
from testcluster.pki import Authority
from testcluster.processes import wait_until
from testcluster.state import StateFolder

SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE_ADDRESS = "10.96.0.1"
LOOPBACK = "127.0.0.1"
# The API server refuses to advertise a loopback address. Where there are no pods, nobody uses
# the advertised one, and an address reserved for documentation reaches nobody by mistake.
NOBODY = "203.0.113.1"
COMPONENTS = ("scheduler", "controller-manager", "apiserver", "etcd")
START_TIMEOUT = 180.0
# No pod is admitted before its namespace has the ``default`` ServiceAccount, which the
# controller-manager makes; so that is what a usable control plane has.
FIRST_FRUIT = "/api/v1/namespaces/default/serviceaccounts/default"
ATTEMPTS = 3

ADMIN = "admin"
NODE_NAME = "computepool-node"
# As a master, the controller-manager needs no account of its own for each of its controllers.
USERS = {
    ADMIN: ("system:masters",),
    "system:kube-controller-manager": ("system:masters",),
    "system:kube-scheduler": ("system:masters",),
    "system:kube-proxy": (),
    f"system:node:{NODE_NAME}": ("system:nodes",),
}


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane: its URL, its authority, and a kubeconfig for each user."""

    state: StateFolder
    server: str
    authority: Authority

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.kubeconfig_of(ADMIN)

    def kubeconfig_of(self, user: str) -> Path:
        """Return the kubeconfig of one of USERS."""
        return self.state.path / f"{user.replace(':', '_')}.kubeconfig"


def start(state: StateFolder, binaries: Binaries, address: str = LOOPBACK) -> ControlPlane:
    """Start a control plane and return once it serves and its controllers work.

    ``address`` is where the API server listens and, unless loopback, what it tells pods to
    connect to. Raises TestClusterError, naming the component and the end of its log, when one
    dies.
    """
    authority = pki.new_authority(state.folder("pki"))
    tokens = _write_tokens(state.path / "pki" / "tokens.csv")
    pki.new_signing_key(state.path / "pki" / "service-account.key")
    authority.issue("kubelet-client", user="kube-apiserver", groups=["system:masters"])
    hosts = [LOOPBACK, "localhost", address, FIRST_SERVICE_ADDRESS]
    service = "kubernetes.default.svc"
    authority.issue(
        "apiserver",
        user="kube-apiserver",
        hosts=[*dict.fromkeys(hosts), service, f"{service}.cluster.local"],
    )
    for attempt in range(1, ATTEMPTS + 1):
        etcd_port, etcd_peer_port = free_ports(LOOPBACK, 2)
        (api_port,) = free_ports(address, 1)
        plane = ControlPlane(state, f"https://{address}:{api_port}", authority)
        for user, token in tokens.items():
            path = plane.kubeconfig_of(user)
            kubeconfig.write(path, plane.server, authority.pair.certificate, user, token)
        try:
            _start_etcd(state, binaries, etcd_port, etcd_peer_port)
            _start_api_server(plane, binaries, address, etcd_port)
            _wait_until_answered(plane, tokens[ADMIN], "/readyz", "the API server to be ready")
            # Not before: the controller-manager gives up on an API server that takes 10 s.
            _start_controllers(plane, binaries, has_nodes=address != LOOPBACK)
            _wait_until_answered(plane, tokens[ADMIN], FIRST_FRUIT, "the controllers to work")
        except TestClusterError as error:
            # Somebody took a port between the look and the use of it.
            if attempt == ATTEMPTS or "address already in use" not in str(error):
                raise
            stop(state)
            shutil.rmtree(state.path / "etcd", ignore_errors=True)
        else:
            break
    return plane


def stop(state: StateFolder) -> None:
    """Stop the components at once: nothing they hold outlives the cluster."""
    state.stop(COMPONENTS, grace=0)


def free_ports(address: str, count: int) -> list[int]:
    """Return different TCP ports that nobody listens on at ``address`` at this moment."""
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def _write_tokens(path: Path) -> dict[str, str]:
    tokens = {user: secrets.token_urlsafe(24) for user in USERS}
    path.touch(mode=0o600)
    lines = [
        f'{tokens[user]},{user},{user},"{",".join(groups)}"\n' for user, groups in USERS.items()
    ]
    path.write_text("".join(lines))
    return tokens


def _start_etcd(state: StateFolder, binaries: Binaries, port: int, peer_port: int) -> None:
    client, peer = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{peer_port}"
    state.start(
        "etcd",
        [
            binaries.path("etcd"),
            f"--data-dir={state.path / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # a test cluster need not survive a power cut
            "--log-level=warn",
        ],
    )


def _start_api_server(
    plane: ControlPlane, binaries: Binaries, address: str, etcd_port: int
) -> None:
    pki_folder = plane.authority.folder
    port = plane.server.rpartition(":")[2]
    has_nodes = address != LOOPBACK
    plane.state.start(
        "apiserver",
        [
            binaries.path("kube-apiserver"),
            f"--etcd-servers=http://{LOOPBACK}:{etcd_port}",
            f"--bind-address={address}",
            f"--secure-port={port}",
            f"--advertise-address={address if has_nodes else NOBODY}",
            f"--endpoint-reconciler-type={'lease' if has_nodes else 'none'}",
            f"--cert-dir={pki_folder}",
            f"--tls-cert-file={pki_folder / 'apiserver.crt'}",
            f"--tls-private-key-file={pki_folder / 'apiserver.key'}",
            f"--client-ca-file={pki_folder / 'ca.crt'}",
            f"--token-auth-file={pki_folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki_folder / 'service-account.key'}",
            f"--service-account-signing-key-file={pki_folder / 'service-account.key'}",
            f"--kubelet-certificate-authority={pki_folder / 'ca.crt'}",
            f"--kubelet-client-certificate={pki_folder / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki_folder / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
        ],
    )


def _start_controllers(plane: ControlPlane, binaries: Binaries, *, has_nodes: bool) -> None:
    pki_folder = plane.authority.folder
    # No ports of their own, and no client-side throttle: tests create many Jobs at once.
    common = ["--leader-elect=false", "--secure-port=0", "--kube-api-qps=200"]
    plane.state.start(
        "controller-manager",
        [
            binaries.path("kube-controller-manager"),
            f"--kubeconfig={plane.kubeconfig_of('system:kube-controller-manager')}",
            f"--service-account-private-key-file={pki_folder / 'service-account.key'}",
            f"--root-ca-file={pki_folder / 'ca.crt'}",
            "--kube-api-burst=400",
            # Nodes that are objects only never say that they are alive.
            *([] if has_nodes else ["--node-monitor-grace-period=24h"]),
            *common,
        ],
    )
    plane.state.start(
        "scheduler",
        [
            binaries.path("kube-scheduler"),
            f"--kubeconfig={plane.kubeconfig_of('system:kube-scheduler')}",
            "--kube-api-burst=400",
            *common,
        ],
    )


def _wait_until_answered(plane: ControlPlane, token: str, path: str, what: str) -> None:
    trusted = ssl.create_default_context(cafile=plane.authority.pair.certificate)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=plane.server, verify=trusted, headers=headers, trust_env=False, timeout=5.0
    ) as client:

        def answers() -> bool:
            try:
                return client.get(path).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        wait_until(
            answers,
            what,
            timeout=START_TIMEOUT,
            watched=[p for p in plane.state.processes if p.name in COMPONENTS],
        )
