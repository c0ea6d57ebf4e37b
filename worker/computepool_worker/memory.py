"""Whether the kernel has killed something of this container for want of memory, and of whose."""

import re
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Shortages:
    """What the kernel has counted so far.

    ``kills`` are processes of this cgroup that it has killed for want of memory; ``at_limit`` is
    how often the cgroup had come to its own limit, and not the machine to its end.
    """

    kills: int
    at_limit: int


def shortages(cgroups: Path = _CGROUPS, root: Path = _ROOT) -> Shortages | None:
    """Return what is counted for this cgroup; None where the kernel does not say.

    In a container the own cgroup is usually mounted as the root, whatever its path is called.
    """
    try:
        lines = cgroups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = path.lstrip("/")
        if controllers == "":
            found = _of_version_2(root / below) or _of_version_2(root)
        elif "memory" in controllers.split(","):
            found = _of_version_1(root / "memory" / below) or _of_version_1(root / "memory")
        else:
            continue
        if found is not None:
            return found
    return None


def _of_version_2(group: Path) -> Shortages | None:
    kills = _number(group / "memory.events", r"^oom_kill (\d+)$")
    if kills is None:
        return None
    return Shortages(kills, _number(group / "memory.events", r"^oom (\d+)$") or 0)


def _of_version_1(group: Path) -> Shortages | None:
    kills = _number(group / "memory.oom_control", r"^oom_kill (\d+)$")
    if kills is None:
        return None
    return Shortages(kills, _number(group / "memory.failcnt", r"^(\d+)$") or 0)


def _number(file: Path, pattern: str) -> int | None:
    try:
        found = re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1])
