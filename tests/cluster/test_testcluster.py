"""The test cluster itself: it is real, it is alone, and it leaves nothing behind."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testcluster import embedded, processes
from testcluster.cluster import Cluster
from testcluster.errors import TestClusterError
from testcluster.progress import silent
from testcluster.state import StateFolder

pytestmark = pytest.mark.cluster

Timing = Callable[[str, float], None]


@pytest.fixture
def timing(record_property: Callable[[str, object], None]) -> Timing:
    """Report a duration in seconds to the reader of the test's output and its XML report."""

    def report(what: str, started: float) -> None:
        seconds = round(time.monotonic() - started, 2)
        record_property(what, seconds)
        print(f"{what}: {seconds} s")

    return report


def test_two_control_planes_side_by_side_never_meet(tmp_path: Path, timing: Timing) -> None:
    started = time.monotonic()
    paths = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda path: embedded.up_control_plane(path, "test", silent), paths)
    timing("two control planes started together", started)
    states = [StateFolder(path) for path in paths]
    try:
        one.kubectl("create", "configmap", "mark", "--from-literal=of=one")
        with pytest.raises(TestClusterError, match="NotFound"):
            two.kubectl("get", "configmap", "mark")
        assert one.kubectl("version").count("v1.36") == 2
    finally:
        started = time.monotonic()
        for path in paths:
            assert embedded.down(path)
        timing("two control planes stopped", started)
    for state in states:
        assert not state.path.exists()
        assert processes.marked(state.id) == []
        assert not any(processes.is_alive(process) for process in state.processes)


def test_a_component_that_dies_is_named_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testcluster.controlplane.SERVICE_RANGE", "not-a-range")
    path = tmp_path / "state"
    with pytest.raises(TestClusterError, match="apiserver died") as failure:
        embedded.up_control_plane(path, "test", silent)
    assert "not a valid cidr" in str(failure.value)
    assert str(path / "logs" / "apiserver.log") in str(failure.value)
    state = StateFolder(path)
    assert processes.marked(state.id) == []
    embedded.down(path)


def test_down_takes_down_what_a_killed_up_has_left(control_plane: Cluster, tmp_path: Path) -> None:
    assert control_plane.way == "embedded"
    state = StateFolder.create(tmp_path / "state")
    started = state.start("sleeper", ["sleep", "600"])
    state.update(processes=[])  # as if killed between start and record
    assert embedded.down(state.path)
    assert not processes.is_alive(started)
    assert not embedded.down(state.path)


def test_each_test_has_a_namespace_of_its_own(control_plane: Cluster, namespace: str) -> None:
    listed = json.loads(control_plane.kubectl("get", "configmaps", "-n", namespace, "-o", "json"))
    assert [item["metadata"]["name"] for item in listed["items"]] in ([], ["kube-root-ca.crt"])
