from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from e2e.scene import Scene
from simulator.process import SimulatorProcess
from stage import images, operator
from stage.images import Images
from testcluster.cluster import Cluster
from testcluster.fixtures import CHOICE, reporter
from testcluster.ways import Choice

IMAGES = pytest.StashKey[Images]()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the images before any test's own time limit runs; cold, that takes minutes."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    config = session.config
    if "built_images" not in wanted or config.option.collectonly or CHOICE not in config.stash:
        return
    way = config.stash[CHOICE].way
    if way == "embedded" and os.geteuid() != 0:
        return
    engine = "docker" if way == "kind" else "buildah"
    config.stash[IMAGES] = images.build(engine, reporter(config))


@pytest.fixture(scope="session")
def built_images(way: Choice, request: pytest.FixtureRequest) -> Images:
    """Give both images, built for clusters of the session's way."""
    return request.config.stash[IMAGES]


@pytest.fixture(scope="session")
def stage(cluster: Cluster, built_images: Images) -> Iterator[Cluster]:
    """Give a cluster that has 4 GPUs, both images, and the operator from `deploy/`."""
    built_images.load_into(cluster)
    cluster.set_gpus(4)
    operator.install(cluster, built_images.operator)
    yield cluster
    operator.uninstall(cluster)


@pytest.fixture
def scene(stage: Cluster, namespace: str) -> Iterator[Scene]:
    """Give a namespace with credentials, a stand-in server of its own, and a recorder."""
    arguments = ["--host", stage.host_address, "--admin-host", "127.0.0.1"]
    with SimulatorProcess(arguments) as server, Scene(stage, namespace, server) as opened:
        yield opened
