"""The test cluster itself: it is real, it is alone, and it leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from testcluster import busybox, controlplane, embedded, processes, ways
from testcluster.cluster import GPU, Cluster
from testcluster.errors import TestClusterError
from testcluster.processes import wait_until
from testcluster.progress import silent
from testcluster.state import StateFolder

pytestmark = pytest.mark.cluster

Timing = Callable[[str, float], None]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a node of our own needs root")


@pytest.fixture
def timing(record_property: Callable[[str, object], None]) -> Timing:
    """Report a duration in seconds to the reader of the test's output and its XML report."""

    def report(what: str, started: float) -> None:
        seconds = round(time.monotonic() - started, 2)
        record_property(what, seconds)
        print(f"{what}: {seconds} s")

    return report


@pytest.fixture
def embedded_cluster(cluster: Cluster) -> Cluster:
    """Give the session's cluster if its node is one of ours."""
    if cluster.way != "embedded":
        pytest.skip(f"this cluster is not of our own making: {cluster.reason}")
    return cluster


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


def test_a_port_that_somebody_else_took_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        offers = iter([[port]])
        free_ports = controlplane.free_ports
        monkeypatch.setattr(
            controlplane,
            "free_ports",
            lambda address, count: (
                (count == 1 and next(offers, None)) or free_ports(address, count)
            ),
        )
        running = embedded.up_control_plane(tmp_path / "state", "test", silent)
        try:
            assert f":{port}" not in running.kubeconfig.read_text()
            assert running.kubectl("get", "--raw", "/readyz") == "ok"
        finally:
            embedded.down(tmp_path / "state")


def test_a_component_that_dies_at_the_start_is_named_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testcluster.controlplane.SERVICE_RANGE", "not-a-range")
    path = tmp_path / "state"
    with pytest.raises(TestClusterError, match="apiserver died") as failure:
        embedded.up_control_plane(path, "test", silent)
    assert "not a valid cidr" in str(failure.value)
    assert str(path / "logs" / "apiserver.log") in str(failure.value)
    assert processes.marked(StateFolder(path).id) == []
    assert embedded.down(path)


def test_a_component_that_dies_later_is_named_when_kubectl_fails(tmp_path: Path) -> None:
    path = tmp_path / "state"
    running = embedded.up_control_plane(path, "test", silent)
    try:
        server = next(p for p in StateFolder(path).processes if p.name == "apiserver")
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not processes.is_alive(server), "its death", timeout=10)
        with pytest.raises(TestClusterError, match=r"refused[\s\S]*apiserver died"):
            running.kubectl("get", "namespaces")
        with pytest.raises(TestClusterError, match="apiserver died"):
            embedded.attach(path)
    finally:
        embedded.down(path)


def test_down_takes_down_what_a_killed_up_has_left(tmp_path: Path) -> None:
    state = StateFolder.create(tmp_path / "state")
    started = state.start("sleeper", ["sleep", "600"])
    state.update(processes=[])  # as if killed between start and record
    assert embedded.down(state.path)
    assert not processes.is_alive(started)
    assert not embedded.down(state.path)


def test_a_state_folder_is_not_used_twice(tmp_path: Path) -> None:
    state = StateFolder.create(tmp_path / "state")
    state.start("sleeper", ["sleep", "600"])
    with pytest.raises(TestClusterError, match=r"not empty.*down --state"):
        embedded.up_control_plane(state.path, "test", silent)
    assert embedded.down(state.path)


def test_each_test_has_a_namespace_of_its_own(control_plane: Cluster, namespace: str) -> None:
    listed = json.loads(control_plane.kubectl("get", "configmaps", "-n", namespace, "-o", "json"))
    assert [item["metadata"]["name"] for item in listed["items"]] in ([], ["kube-root-ca.crt"])


def pod(name: str, script: str, **spec: Any) -> str:
    """Return the manifest of a pod that runs a shell script once."""
    container: dict[str, Any] = {
        "name": "main",
        "image": busybox.TAG,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
    }
    container |= spec.pop("container", {})
    body = {"restartPolicy": "Never", "containers": [container], **spec}
    metadata = {"name": name, "labels": {"app": name}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body})


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    """Return the phase of a pod."""
    return cluster.kubectl("get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.phase}")


@needs_root
def test_the_node_runs_a_pod_that_prints_and_exits(
    embedded_cluster: Cluster, namespace: str, timing: Timing
) -> None:
    run = embedded_cluster.kubectl
    started = time.monotonic()
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    script = f"id -u; touch /x 2>/dev/null || echo read-only; test -s {token}"
    restricted = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    manifest = pod("hello", script, container={"securityContext": restricted})
    run("apply", "-n", namespace, "-f", "-", input=manifest)
    wait_until(
        lambda: phase(embedded_cluster, namespace, "hello") == "Succeeded", "end", timeout=90
    )
    timing("pod applied, run and seen to have succeeded", started)
    assert run("logs", "hello", "-n", namespace).split() == ["65532", "read-only"]


@needs_root
def test_with_two_gpus_a_third_pod_stays_pending(embedded_cluster: Cluster, namespace: str) -> None:
    run = embedded_cluster.kubectl
    embedded_cluster.set_gpus(2)
    wanted = {"resources": {"limits": {GPU: "1"}}}
    for name in ("one", "two", "three"):
        manifest = pod(name, "sleep 600", container=wanted, terminationGracePeriodSeconds=0)
        run("apply", "-n", namespace, "-f", "-", input=manifest)
    names = ["one", "two", "three"]

    def phases() -> list[str]:
        return sorted(phase(embedded_cluster, namespace, name) for name in names)

    wait_until(lambda: phases() == ["Pending", "Running", "Running"], "two to run", timeout=90)
    pending = next(n for n in names if phase(embedded_cluster, namespace, n) == "Pending")
    run("wait", "--for=condition=PodScheduled=False", f"pod/{pending}", "-n", namespace)
    assert "Insufficient nvidia.com/gpu" in run("describe", "pod", pending, "-n", namespace)
    embedded_cluster.set_gpus(3)
    wait_until(lambda: phases() == ["Running"] * 3, "the third to run", timeout=90)
    embedded_cluster.set_gpus(0)


@needs_root
def test_a_service_address_and_this_host_are_reached_from_a_pod(
    embedded_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    run = embedded_cluster.kubectl
    server = "while true; do echo served | nc -l -p 8080; done"
    run("apply", "-n", namespace, "-f", "-", input=pod("server", server))
    run("expose", "pod", "server", "-n", namespace, "--port=80", "--target-port=8080")
    run("wait", "--for=condition=Ready", "pod/server", "-n", namespace)
    address = run("get", "service", "server", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
    here = embedded_cluster.host_address
    command = [sys.executable, "-u", "-m", "http.server", "--bind", here, "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as listening:
        try:
            assert listening.stdout is not None
            port = listening.stdout.readline().partition(" port ")[2].split()[0]
            request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {here} {port} | head -n 1"
            ask = f"until nc -w 1 {address} 80; do sleep 0.2; done </dev/null; {request}"
            run("apply", "-n", namespace, "-f", "-", input=pod("client", ask))
            wait_until(
                lambda: phase(embedded_cluster, namespace, "client") == "Succeeded",
                "the client to be answered",
                timeout=90,
            )
        finally:
            listening.terminate()
    assert run("logs", "client", "-n", namespace).split()[:3] == ["served", "HTTP/1.0", "200"]


def traces(state: StateFolder) -> dict[str, list[str]]:
    """Return what of a cluster can be found on the host, by kind."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True)
    subnet = str(state.get("subnet")).removesuffix("0/24")
    return {
        "processes": [str(process) for process in processes.marked(state.id)],
        "mounts": [line for line in mounts if str(state.path) in line],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*{state.id}*")],
        "links": [path.name for path in Path("/sys/class/net").glob(f"*{state.id}*")],
        "namespaces": [path.name for path in Path("/run/netns").glob(f"*{state.id}*")],
        "routes": [line for line in routes.stdout.splitlines() if subnet in line],
        "rules": [line for line in listed.stdout.splitlines() if subnet in line],
        "folder": [str(state.path)] if state.path.exists() else [],
    }


def tunables() -> list[str]:
    """Return the kernel settings of the host that a kubelet or kube-proxy likes to change."""
    names = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
    return [Path("/proc/sys", name).read_text() for name in names]


@needs_root
def test_stop_leaves_nothing_behind_while_a_pod_runs(
    embedded_cluster: Cluster, tmp_path: Path, timing: Timing
) -> None:
    assert embedded_cluster.way == "embedded"
    settings = tunables()
    path = tmp_path / "s"
    started = time.monotonic()
    running = embedded.up(path, "test", silent)
    timing("a second cluster with a node, beside the first", started)
    state = StateFolder(path)
    try:
        volume = {"name": "memory", "emptyDir": {"medium": "Memory"}}
        mounted = {"volumeMounts": [{"name": "memory", "mountPath": "/memory"}]}
        manifest = pod("busy", "sleep 600", container=mounted, volumes=[volume])
        running.kubectl("apply", "-f", "-", input=manifest)
        running.kubectl("wait", "--for=condition=Ready", "pod/busy", "--timeout=90s")
        assert tunables() == settings
        found = traces(state)
    finally:
        started = time.monotonic()
        assert embedded.down(path)
        timing("stopped while a pod ran", started)
    # While it ran there was something to find, though neither a mount nor a rule on the host.
    assert [kind for kind, seen in found.items() if not seen] == ["mounts", "rules"]
    assert not any(traces(state).values()), traces(state)
    assert not any(processes.is_alive(process) for process in state.processes)
    assert embedded_cluster.kubectl("get", "--raw", "/readyz") == "ok"


@needs_root
def test_down_after_a_crash_of_up_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "s"
    environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
    environment["PYTHONPATH"] = str(Path(embedded.__file__).parents[1])
    command = [sys.executable, "-m", "testcluster", "up", "--state", str(path)]

    def node_is_starting() -> bool:
        state = StateFolder.open(path)
        return state is not None and "node" in {process.name for process in state.processes}

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as up:
        wait_until(node_is_starting, "the node to be started", timeout=90)
        up.kill()
    state = StateFolder(path)
    found = traces(state)
    assert found["processes"]
    assert found["cgroups"]
    assert found["links"]
    assert ways.down(path)
    assert not any(traces(state).values()), traces(state)
    assert not any(processes.is_alive(process) for process in state.processes)
