"""Whether the kernel has killed something of this container for want of memory."""

import re
from pathlib import Path

_CGROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def kills(cgroups: Path = _CGROUPS, root: Path = _ROOT) -> int | None:
    """Return how many processes of this cgroup the kernel has killed; None where it does not say.

    In a container the own cgroup is usually mounted as the root, whatever its path is called.
    """
    try:
        lines = cgroups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    candidates: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = path.lstrip("/")
        if controllers == "":
            candidates += [root / below / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            first = root / "memory"
            candidates += [first / below / "memory.oom_control", first / "memory.oom_control"]
    for file in candidates:
        try:
            found = re.search(r"^oom_kill (\d+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        except OSError:
            continue
        if found is not None:
            return int(found[1])
    return None
