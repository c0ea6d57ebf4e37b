"""The first process of the node's PID namespace: it prepares mounts, then runs the daemons.

Started by `testcluster.node` as a script inside fresh mount, PID, IPC and network namespaces, with
the path of a JSON file. When it ends, the kernel kills every process of the node and drops every
mount; so nothing of the node can outlive it. It ends when any daemon does.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SOCKET_TIMEOUT = 30.0
# The kubelet sets these for its host. It gets files of its own to write to instead.
TUNABLES = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def mount(*words: str) -> None:
    """Call the mount command."""
    subprocess.run(["mount", *words], check=True)


def prepare(folder: Path) -> None:
    """Give the node private copies of the host paths that the daemons insist on writing to."""
    # What the kubelet mounts must reach containers, but never the host: shared, yet on its own.
    mount("--make-rshared", "/")
    mount("-t", "tmpfs", "tmpfs", "/run")
    for path in ("/var/lib", "/var/log"):
        private = folder / path.strip("/").replace("/", "-")
        private.mkdir()
        mount("--bind", str(private), path)
    tunables = folder / "tunables"
    tunables.mkdir()
    for name in TUNABLES:
        original = Path("/proc/sys") / name
        if original.exists():
            copy = tunables / name.replace("/", "-")
            copy.write_text(original.read_text())
            mount("--bind", str(copy), str(original))
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start(daemon: dict[str, Any]) -> int:
    """Start one daemon in its own session with a log of its own; return its pid."""
    deadline = time.monotonic() + SOCKET_TIMEOUT
    while daemon["after"] and not Path(daemon["after"]).exists():
        if time.monotonic() > deadline:
            sys.exit(f"{daemon['name']} waits for {daemon['after']}, which does not appear")
        time.sleep(0.02)
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawnp(
        daemon["argv"][0],
        daemon["argv"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, daemon["log"], writing, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def main() -> None:
    """Prepare, start the daemons in order, and reap until one of them has ended."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    os.environ["PATH"] = settings["path"]
    prepare(Path(settings["folder"]))
    daemons = {start(daemon): daemon for daemon in settings["daemons"]}
    while True:
        pid, status = os.wait()
        if daemon := daemons.get(pid):
            code = os.waitstatus_to_exitcode(status)
            log = Path(daemon["log"]).read_text(errors="replace").splitlines()[-20:]
            end = "\n".join(log)
            sys.exit(f"{daemon['name']} ended with {code}. The end of {daemon['log']}:\n{end}")


if __name__ == "__main__":
    main()
