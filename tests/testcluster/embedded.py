"""The third way: a cluster of our own processes, brought up and taken down by its state folder."""

import shutil
import tempfile
from pathlib import Path

from testcluster import binaries, cgroups, controlplane, network, node, processes
from testcluster.binaries import Binaries
from testcluster.cluster import Cluster
from testcluster.controlplane import ControlPlane
from testcluster.errors import TestClusterError
from testcluster.progress import Progress, timed
from testcluster.state import StateFolder

TEMPORARY = "computepool-testcluster-"


def temporary_state() -> Path:
    """Return a new empty folder for the state of a cluster that one test session uses."""
    return Path(tempfile.mkdtemp(prefix=TEMPORARY))


def up_control_plane(path: Path, reason: str, progress: Progress) -> Cluster:
    """Bring up a cluster without nodes in the folder ``path``.

    When something fails, whatever was started is stopped; only the logs stay, until ``down`` or
    the next ``up``.
    """
    programs = binaries.ensure(progress)
    state = _new_state(path)
    try:
        with timed(progress, f"control plane {programs.version} ready"):
            plane = controlplane.start(state, programs)
        return _finish(state, plane, programs, reason, controlplane.LOOPBACK)
    except BaseException:
        _halt(state)
        raise


def up(path: Path, reason: str, progress: Progress) -> Cluster:
    """Bring up a cluster with one node in the folder ``path``; as root.

    When something fails, what was started is stopped; only the logs stay, until ``down`` or the
    next ``up``.
    """
    node.check(path)
    programs = binaries.ensure(progress)
    state = _new_state(path)
    try:
        with timed(progress, f"control plane {programs.version} ready"):
            net = network.create(state.id)
            state.update(subnet=str(net.subnet))
            plane = controlplane.start(state, programs, net.host_address)
        with timed(progress, "node ready"):
            node.start(plane, programs, net)
        return _finish(state, plane, programs, reason, net.host_address)
    except BaseException:
        _halt(state)
        raise


def attach(path: Path) -> Cluster:
    """Return the running cluster whose state is in the folder ``path``.

    Raises TestClusterError if there is none, or if a part of it has died.
    """
    state = StateFolder.open(path)
    if state is None or state.get("kubeconfig") is None:
        raise TestClusterError(f"no cluster in {path}: bring one up there first")
    cluster = _cluster(state)
    if known := cluster.diagnose():
        raise TestClusterError(known)
    return cluster


def down(path: Path) -> bool:
    """Take down the cluster in the folder ``path`` and remove the folder.

    Works on what a killed ``up`` has left, and can be repeated. Returns False if there was none.
    """
    state = StateFolder.open(path)
    if state is None:
        return False
    _halt(state)
    shutil.rmtree(state.path)
    return True


def sweep(progress: Progress) -> None:
    """Take down the clusters of test sessions that were killed before they could do so."""
    for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        state = StateFolder.open(path)
        if state is not None and not processes.is_alive(state.owner):
            progress(f"taking down {path}, left behind by a killed test session")
            down(path)


def _new_state(path: Path) -> StateFolder:
    old = StateFolder.open(path)
    if old is not None and not any(map(processes.is_alive, old.processes)):
        down(path)
    return StateFolder.create(path)


def _finish(
    state: StateFolder, plane: ControlPlane, programs: Binaries, reason: str, address: str
) -> Cluster:
    state.update(
        kubeconfig=str(plane.kubeconfig),
        kubectl=str(programs.path("kubectl")),
        reason=reason,
        host_address=address,
    )
    return _cluster(state)


def _cluster(state: StateFolder) -> Cluster:
    def diagnose() -> str:
        dead = [process for process in state.processes if not processes.is_alive(process)]
        return "\n".join(processes.died(process, "found just now") for process in dead)

    return Cluster(
        kubeconfig=Path(state.get("kubeconfig")),
        way="embedded",
        reason=state.get("reason"),
        host_address=state.get("host_address"),
        kubectl_path=Path(state.get("kubectl")),
        image_loader=lambda archive: node.load_image(state, archive),
        diagnose=diagnose,
    )


def _halt(state: StateFolder) -> None:
    """Undo all of a cluster but its folder; also when only a part of it was ever made."""
    state.stop_all()
    cgroups.remove(state.id)
    network.remove(state.id)
