from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cluster.operator.kube import Kube, Refused
from cluster.operator.nursery import Nursery
from cluster.operator.process import (
    OperatorProcess,
    account_kubeconfig,
    assert_log_is_clean,
    install,
)
from cluster.operator.proxy import Proxy
from cluster.operator.world import World

from simulator.process import SimulatorProcess
from testcluster.cluster import Cluster


@pytest.fixture(scope="session")
def installed(control_plane: Cluster) -> Cluster:
    """Give the cluster with the manifests of `deploy/base`."""
    install(control_plane)
    return control_plane


@pytest.fixture(scope="session")
def account(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a kubeconfig of the operator's own ServiceAccount."""
    return account_kubeconfig(installed, tmp_path_factory.mktemp("account") / "kubeconfig")


@pytest.fixture(scope="session")
def running_server() -> Iterator[SimulatorProcess]:
    """Give a stand-in server, with whatever the last test has left there."""
    with SimulatorProcess() as running:
        yield running


@pytest.fixture
def server(running_server: SimulatorProcess) -> SimulatorProcess:
    """Give a stand-in server as new."""
    running_server.admin.reset()
    return running_server


@pytest.fixture
def namespace(installed: Cluster) -> Iterator[str]:
    """Give a fresh namespace, without the time that kubectl takes."""
    with fresh_namespace(installed) as name:
        yield name


@pytest.fixture
def world(installed: Cluster, namespace: str, server: SimulatorProcess) -> Iterator[World]:
    """Give a namespace of its own; whatever operator runs must be started beside it."""
    with World(installed, namespace, server.url, server.admin) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_operator(
    account: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Give one operator for all namespaces, which serves a whole module of tests."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with OperatorProcess(account, log) as operator:
        yield operator
        assert operator.runs, operator.log
    assert_log_is_clean(operator)


@pytest.fixture
def operator(shared_operator: OperatorProcess) -> OperatorProcess:
    """Give the module's operator."""
    return shared_operator


@pytest.fixture
def second_world(installed: Cluster, server: SimulatorProcess) -> Iterator[World]:
    """Give another namespace with the same server."""
    with (
        fresh_namespace(installed) as name,
        World(installed, name, server.url, server.admin) as opened,
    ):
        yield opened


@contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """Make a namespace in which pods are admitted; delete it in the end."""
    kube = Kube(cluster.kubeconfig, f"test-{secrets.token_hex(4)}")
    kube.call("POST", "/api/v1/namespaces", json={"metadata": {"name": kube.namespace}})
    deadline = time.monotonic() + 30
    while kube.get("serviceaccounts", "default") is None:
        assert time.monotonic() < deadline, "there is no default ServiceAccount"
        time.sleep(0.02)
    yield kube.namespace
    with suppress(Refused):  # it may be gone already
        kube.call("DELETE", f"/api/v1/namespaces/{kube.namespace}")
    kube.close()


@pytest.fixture(scope="module")
def nursery(account: Path) -> Iterator[Nursery]:
    """Give a process that starts operators quickly."""
    with Nursery(account) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(installed: Cluster) -> Iterator[Proxy]:
    """Give a proxy in front of the API server."""
    with Proxy(installed.kubeconfig) as running:
        yield running


@pytest.fixture(scope="module")
def config_file(installed: Cluster, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a kubeconfig that leads through the proxy."""
    path = tmp_path_factory.mktemp("proxied") / "kubeconfig"
    return account_kubeconfig(installed, path, proxy.url)
