"""Which tests run one after the other, and what runs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

BUSY = 5
"""Niceness of tests that compute: those that wait for a cluster go first when they wake up."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Files and folders below `tests`, for one pytest process.

    `cluster`: whether it uses a cluster, and is not to share that with another lane.
    """

    name: str
    paths: tuple[str, ...]
    cluster: bool = True


_OPERATOR = (
    "deletion", "failing_workers", "kubernetes_away", "manager_protocol",
    "pool_life", "restarts", "silence", "troubles",
)  # fmt: skip

# What a narrower path names is left out of the wider one. The lanes are about equally long; more of
# them would only bring up more clusters.
LANES = (
    Lane("soak", ("e2e/test_soak.py",)),
    Lane("e2e", ("e2e",)),
    Lane("operator", tuple(f"cluster/operator/test_{name}.py" for name in _OPERATOR)),
    Lane("cluster", ("cluster",)),
    Lane(
        "faults",
        ("processes/worker/test_fault_matrix.py", "processes/worker/test_any_byte.py"),
        cluster=False,
    ),
    Lane("processes", ("processes",), cluster=False),
    Lane("planner", ("unit/operator", "long"), cluster=False),
    Lane("unit", ("unit", "contract"), cluster=False),
)


PREPARATION = Lane("preparation", ())
"""Not a lane of tests: it installs and builds what the clusters of the others take."""


def arguments(lane: Lane, lanes: Sequence[Lane] = LANES) -> list[str]:
    """Return pytest's arguments that select a lane's tests, and no other lane's."""
    others = [path for other in lanes if other is not lane for path in other.paths]
    ignored = [path for path in others if any(_contains(mine, path) for mine in lane.paths)]
    return [f"tests/{path}" for path in lane.paths] + [f"--ignore=tests/{p}" for p in ignored]


def queues(lanes: Sequence[Lane], *, shared: bool) -> list[list[Lane]]:
    """Return what runs side by side: queues of lanes that run one after the other.

    With `shared`, there is one cluster for all, so lanes that use it wait for each other.
    """
    if not shared:
        return [[lane] for lane in lanes]
    one = [lane for lane in lanes if lane.cluster]
    return [*([one] if one else []), *([lane] for lane in lanes if not lane.cluster)]


def _contains(folder: str, path: str) -> bool:
    return PurePosixPath(folder) in PurePosixPath(path).parents
