import json
import os
from pathlib import Path

import pytest

from testcluster import cgroups, embedded, kind, node, processes, ways
from testcluster.cluster import Cluster, gpu_patch
from testcluster.errors import TestClusterError
from testcluster.progress import silent
from testcluster.state import StateFolder
from testcluster.ways import Choice


def not_asked() -> str:
    raise AssertionError


def test_the_option_comes_before_the_environment() -> None:
    choice = ways.choose("/a", "/b", not_asked)
    assert choice == Choice("kubeconfig", "--kubeconfig=/a is given", "/a")


def test_the_environment_comes_before_kind() -> None:
    choice = ways.choose(None, "/b:/c", not_asked)
    assert choice == Choice("kubeconfig", "KUBECONFIG=/b:/c is set", "/b:/c")


def test_kind_comes_before_processes_of_our_own() -> None:
    assert ways.choose(None, None, str).way == "kind"


def test_the_last_way_says_why_not_kind() -> None:
    choice = ways.choose(None, "", lambda: "no Docker engine answers")
    assert choice.way == "embedded"
    assert choice.reason.endswith("kind cannot be used: no Docker engine answers")
    assert "\n" not in choice.reason


def test_without_root_the_last_way_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TestClusterError, match="root"):
        ways.up(tmp_path, Choice("embedded", "test"), silent)


def test_a_given_kubeconfig_that_is_missing_leaves_no_state_behind(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(TestClusterError, match="missing: no such file"):
        ways.up(path, Choice("kubeconfig", "test", str(tmp_path / "missing")), silent)
    assert not path.exists()


def test_a_given_cluster_is_left_as_it_is(tmp_path: Path) -> None:
    state = StateFolder.create(tmp_path / "state")
    state.update(way="kubeconfig", given="/somewhere/config", reason="test")
    assert ways.down(state.path)
    assert not ways.down(state.path)


def test_nothing_to_attach_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(TestClusterError, match="bring one up there first"):
        ways.attach(tmp_path, silent)


def test_kinds_gateway_is_the_ipv4_one() -> None:
    config = [{"Subnet": "fc00::/64", "Gateway": "fc00::1"}, {"Gateway": "172.18.0.1"}]
    assert kind.gateway(json.dumps([{"IPAM": {"Config": config}}])) == "172.18.0.1"
    with pytest.raises(TestClusterError, match="no IPv4 gateway"):
        kind.gateway(json.dumps([{"IPAM": {"Config": [{}]}}]))


def test_gpus_are_set_in_both_figures_and_the_marker_only_in_one() -> None:
    assert {step["path"]: step["value"] for step in gpu_patch(4)} == {
        "/status/capacity/nvidia.com~1gpu": "4",
        "/status/allocatable/nvidia.com~1gpu": "4",
        "/status/capacity/computepool.test~1pretended-gpus": "4",
    }


def test_images_of_a_cluster_that_is_not_ours_are_not_loaded(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "kubeconfig", "test", "192.0.2.1", Path("kubectl"))
    with pytest.raises(TestClusterError, match="registry"):
        cluster.load_image(tmp_path / "image.tar")


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/var/lib/x", "must not be below"), (f"/srv/{'x' * 90}", "too long")],
)
def test_state_folders_that_a_node_cannot_use(
    path: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(TestClusterError, match=problem):
        node.check(Path(path))


def test_a_killed_sessions_cluster_is_swept_and_a_running_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    running = StateFolder.create(embedded.temporary_state())
    killed = StateFolder.create(embedded.temporary_state())
    started = killed.start("sleeper", ["sleep", "60"])
    killed.update(owner=killed.owner.to_json() | {"started": 1})
    said: list[str] = []
    embedded.sweep(said.append)
    assert not killed.path.exists()
    assert not processes.is_alive(started)
    assert running.path.exists()
    assert said == [f"taking down {killed.path}, left behind by a killed test session"]


def test_cgroups_of_both_versions(tmp_path: Path) -> None:
    old, new = tmp_path / "v1", tmp_path / "v2"
    for folder in (old / "cpu,cpuacct", old / "memory", old / "unrelated", new):
        folder.mkdir(parents=True)
    for folder in (old / "cpu,cpuacct", old / "memory", new):
        (folder / "cgroup.procs").touch()
    (old / "cpu").symlink_to("cpu,cpuacct")
    (new / "cgroup.controllers").write_text("cpu io misc")
    assert cgroups.hierarchies(old) == [old / "cpu,cpuacct", old / "memory"]
    assert cgroups.hierarchies(new) == [new]
    cgroups.create("a1b2c3", old)
    made = {path.parent.name for path in old.glob("*/computepool-a1b2c3")}
    assert made == {"memory", "cpu,cpuacct", "cpu"}
    cgroups.remove("a1b2c3", old)
    assert list(old.glob("*/computepool-a1b2c3")) == []
    cgroups.create("a1b2c3", new)
    assert (new / "cgroup.subtree_control").read_text() == "+cpu +io"
    assert (new / "computepool-a1b2c3" / "cgroup.subtree_control").read_text() == "+cpu +io"


def test_a_machine_without_writable_cgroups_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "computepool-x").touch()
    with pytest.raises(TestClusterError, match="privileged container"):
        cgroups.create("x", tmp_path)
