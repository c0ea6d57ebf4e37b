"""The cgroup below which all pods of a cluster run, on hosts with cgroup v1 and v2."""

import os
import time
from pathlib import Path

from testcluster.errors import TestClusterError

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
PATIENCE = 10.0


def name(cluster_id: str) -> str:
    """Return the cgroup's name."""
    return f"computepool-{cluster_id}"


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Return the mount points of the hierarchies: one with v2, one for each controller with v1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    # With v1, cpu and cpuacct may be symbolic links to one shared hierarchy.
    found = {entry.resolve() for entry in root.iterdir() if (entry / "cgroup.procs").exists()}
    return sorted(found)


def create(cluster_id: str, root: Path = ROOT) -> None:
    """Make the cgroup in every hierarchy.

    Raises TestClusterError where cgroups cannot be made, as in an unprivileged container.
    """
    try:
        for hierarchy in hierarchies(root):
            folder = hierarchy / name(cluster_id)
            folder.mkdir()
            if hierarchy == root:  # cgroup v2: controllers are handed down level by level
                have = (root / "cgroup.controllers").read_text().split()
                wanted = " ".join(f"+{item}" for item in CONTROLLERS if item in have)
                for level in (root, folder):
                    (level / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise TestClusterError(
            f"cannot make a cgroup for the node: {error}. "
            "A node needs a machine, or a privileged container, of its own."
        ) from error


def remove(cluster_id: str, root: Path = ROOT) -> None:
    """Remove the cgroup and all below it; its processes must have been killed.

    Raises TestClusterError if one is still in use after ten seconds.
    """
    deadline = time.monotonic() + PATIENCE
    for hierarchy in hierarchies(root):
        top = hierarchy / name(cluster_id)
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_one(Path(folder), deadline)


def _remove_one(folder: Path, deadline: float) -> None:
    while folder.exists():
        try:
            folder.rmdir()
        except OSError as error:
            # A killed process leaves its cgroup a moment after it is gone.
            if time.monotonic() > deadline:
                raise TestClusterError(f"cannot remove the cgroup {folder}: {error}") from error
            time.sleep(0.02)
