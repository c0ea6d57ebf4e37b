"""The first way: a cluster that is there already, by its kubeconfig."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from testcluster import binaries, embedded, kind
from testcluster.cluster import Cluster
from testcluster.commands import run
from testcluster.errors import TestClusterError
from testcluster.progress import Progress
from testcluster.state import StateFolder


def connect(kubeconfig: str, reason: str, folder: Path, progress: Progress) -> Cluster:
    """Return the cluster that ``kubeconfig`` (as in $KUBECONFIG: files joined by ``:``) leads to.

    A self-contained copy for its current context goes to ``folder``. A cluster that was brought
    up by this package, or by kind, is recognised, so that images can be loaded. Raises
    TestClusterError if it does not answer.
    """
    if not any(Path(part).is_file() for part in kubeconfig.split(os.pathsep)):
        raise TestClusterError(f"{kubeconfig}: no such file; unset KUBECONFIG or correct it")
    own = Path(kubeconfig).parent
    if StateFolder.open(own) is not None:
        return dataclasses.replace(embedded.attach(own), way="kubeconfig", reason=reason)
    found = shutil.which("kubectl")
    kubectl = Path(found) if found else binaries.ensure(progress).path("kubectl")
    environment = dict(os.environ) | {"KUBECONFIG": kubeconfig}
    view = ["config", "view", "--flatten", "--minify", "--raw", "--output=json"]
    text = run([kubectl, *view], env=environment)
    copy = folder / "kubeconfig"
    copy.touch(mode=0o600)
    copy.write_text(text)
    document = json.loads(text)
    name = _kind_name(document["current-context"])
    server = document["clusters"][0]["cluster"]["server"]
    cluster = Cluster(copy, "kubeconfig", reason, _host_address(server, name), kubectl)
    cluster.kubectl("get", "--raw", "/readyz", timeout=30)
    if name is None:
        return cluster
    return dataclasses.replace(
        cluster,
        image_engine="docker",
        image_loader=lambda archive: _load_into_kind(archive, name),
    )


def _kind_name(context: str) -> str | None:
    name = context.removeprefix("kind-")
    return name if name != context and shutil.which("kind") else None


def _load_into_kind(archive: Path, name: str) -> None:
    run(["kind", "load", "image-archive", archive, "--name", name])


def _host_address(server: str, kind_name: str | None) -> str:
    """Return the address by which this host reaches the cluster, and most likely the reverse."""
    if kind_name is not None:
        return kind.gateway(run(["docker", "network", "inspect", "kind"]))
    host = urlsplit(server).hostname or ""
    for towards in (host, "203.0.113.1"):  # the second: whichever address the default route has
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
        ):
            probe.connect((towards, 443))  # sends nothing
            address = str(probe.getsockname()[0])
            if not address.startswith("127."):
                return address
    raise TestClusterError(f"no address of this host was found that pods behind {server} may reach")
