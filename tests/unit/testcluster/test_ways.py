import json
import os
from pathlib import Path

import pytest

from testcluster import kind, node, ways
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


def test_gpus_are_set_in_both_figures() -> None:
    assert gpu_patch(4) == [
        {"op": "add", "path": f"/status/{part}/nvidia.com~1gpu", "value": "4"}
        for part in ("capacity", "allocatable")
    ]


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
