"""The third way: a cluster of our own processes, brought up and taken down by its state folder."""

import shutil
import tempfile
from pathlib import Path

from testcluster import binaries, controlplane, processes
from testcluster.cluster import Cluster
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
    except BaseException:
        state.stop_all()
        raise
    address = controlplane.LOOPBACK
    return Cluster(plane.kubeconfig, "embedded", reason, address, programs.path("kubectl"))


def down(path: Path) -> bool:
    """Take down the cluster in the folder ``path`` and remove the folder.

    Works on what a killed ``up`` has left, and can be repeated. Returns False if there was none.
    """
    state = StateFolder.open(path)
    if state is None:
        return False
    state.stop_all()
    shutil.rmtree(state.path)
    return True


def _new_state(path: Path) -> StateFolder:
    old = StateFolder.open(path)
    if old is not None and not any(map(processes.is_alive, old.processes)):
        down(path)
    return StateFolder.create(path)


def sweep(progress: Progress) -> None:
    """Take down the clusters of test sessions that were killed before they could do so."""
    for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        state = StateFolder.open(path)
        if state is not None and not processes.is_alive(state.owner):
            progress(f"taking down {path}, left behind by a killed test session")
            down(path)
