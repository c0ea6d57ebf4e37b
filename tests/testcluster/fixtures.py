"""pytest fixtures: ``control_plane`` and ``cluster`` for the session, ``namespace`` for a test."""

import os
import secrets
from collections.abc import Iterator

import pytest

from testcluster import binaries, embedded
from testcluster.cluster import Cluster
from testcluster.progress import Progress

CLUSTER_FIXTURES = ("control_plane", "cluster")


def _reporter(config: pytest.Config) -> Progress:
    """Return a way to tell something to whoever watches pytest, past its capturing."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")

    def report(line: str) -> None:
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"[testcluster] {line}")

    return report


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare what takes minutes the first time before any test's own time limit runs."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if wanted.intersection(CLUSTER_FIXTURES):
        report = _reporter(session.config)
        embedded.sweep(report)
        binaries.ensure(report)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a cluster without a node: pods stay Pending, everything else is real."""
    report = _reporter(request.config)
    path = embedded.temporary_state()
    yield embedded.up_control_plane(path, "no node is needed", report)
    embedded.down(path)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a cluster with a node that runs pods; skipped, with the reason, without root."""
    report = _reporter(request.config)
    if os.geteuid() != 0:
        pytest.skip("a node of our own needs root, and there is neither KUBECONFIG nor kind")
    path = embedded.temporary_state()
    yield embedded.up(path, "no KUBECONFIG", report)
    embedded.down(path)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh namespace in the cluster that the test uses."""
    used = next(name for name in reversed(CLUSTER_FIXTURES) if name in request.fixturenames)
    running: Cluster = request.getfixturevalue(used)
    name = f"test-{secrets.token_hex(4)}"
    running.kubectl("create", "namespace", name)
    running.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}")
    yield name
    running.kubectl("delete", "namespace", name, "--wait=false")
