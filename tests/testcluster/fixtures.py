"""pytest fixtures: ``control_plane`` and ``cluster`` for the session, ``namespace`` for a test."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testcluster import binaries, embedded, kind, packages, ways
from testcluster.cache import cache_folder, locked
from testcluster.cluster import Cluster
from testcluster.progress import Progress
from testcluster.ways import Choice

CLUSTER_FIXTURES = ("control_plane", "cluster")
CHOICE = pytest.StashKey[Choice]()


def pytest_configure(config: pytest.Config) -> None:
    """Set our versions of kind and of its node image as pytest-kind's defaults."""
    kind.configure(config.option)


def reporter(config: pytest.Config) -> Progress:
    """Return a way to tell something to whoever watches pytest, past its capturing."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")

    def report(line: str) -> None:
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"[testcluster] {line}")

    return report


def _choice(config: pytest.Config) -> Choice:
    if CHOICE not in config.stash:
        option, environment = config.getoption("kubeconfig"), os.environ.get("KUBECONFIG")
        config.stash[CHOICE] = ways.choose(option, environment)
    return config.stash[CHOICE]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Choose the way, and prepare what takes minutes before any test's own time limit runs."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if not wanted & {"control_plane", "way"}:
        return
    report = reporter(session.config)
    if _choice(session.config).way == "embedded":
        needed: tuple[packages.Package, ...] = packages.CONTROL_PLANE
        if "way" in wanted and os.geteuid() == 0:
            needed = (*packages.NODE, *packages.IMAGES)
        # Several sessions may start together, and are not to do the same at the same time.
        with locked(cache_folder() / "session.lock", report):
            packages.ensure(needed, "The test cluster", report)
            embedded.sweep(report)
            binaries.ensure(report)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a cluster without a node: pods stay Pending, everything else is real.

    A given cluster, or one made by kind, has nodes all the same.
    """
    with _provided(request, nodes=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def way(request: pytest.FixtureRequest) -> Choice:
    """Give the way to a node that runs pods; skipped, with the reason, if there is none."""
    choice = _choice(request.config)
    if choice.way == "embedded" and os.geteuid() != 0:
        pytest.skip(ways.NEEDS_ROOT)
    return choice


@pytest.fixture(scope="session")
def cluster(way: Choice, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give a cluster with a node that runs pods; skipped, with the reason, if there can be none."""
    with _provided(request, nodes=True) as cluster:
        yield cluster


@contextmanager
def _provided(request: pytest.FixtureRequest, *, nodes: bool) -> Iterator[Cluster]:
    choice = _choice(request.config)
    report = reporter(request.config)
    if choice.way == "kind":
        report(f"way: {choice.way} ({choice.reason})")
        yield kind.wrap(request.getfixturevalue("kind_cluster"), choice.reason)
        return
    path = embedded.temporary_state()
    try:
        yield ways.up(path, choice, report, nodes=nodes)
    finally:
        if not ways.down(path):
            shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh namespace in the cluster that the test uses; it is deleted afterwards."""
    used = next(name for name in reversed(CLUSTER_FIXTURES) if name in request.fixturenames)
    running: Cluster = request.getfixturevalue(used)
    name = f"test-{secrets.token_hex(4)}"
    running.kubectl("create", "namespace", name)
    running.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}")
    yield name
    if running.way == "embedded":
        running.kubectl("delete", "namespace", name, "--wait=false")
    else:
        _clean(running, name)


def _clean(running: Cluster, namespace: str) -> None:
    """Delete a namespace in a cluster that stays, although the operator of its pools is gone."""
    running.kubectl("delete", "namespace", namespace, "--wait=false")
    kinds = running.kubectl("api-resources", "--api-group=compute.alchemiscale.org", "-o", "name")
    for kind_name in kinds.split():
        where = [kind_name, f"--namespace={namespace}"]
        listed = json.loads(running.kubectl("get", *where, "-o", "json"))
        for item in listed["items"]:
            release = json.dumps({"metadata": {"finalizers": None}})
            pool = item["metadata"]["name"]
            running.kubectl("patch", *where, pool, "--type=merge", "-p", release)
    running.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=120s")
