"""The play: bring everything up, let the pool work, say what happened."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import screen, server
from simulator.client import AdminClient
from stage import images, operator, pools
from testcluster import binaries, packages, ways
from testcluster.cluster import Cluster
from testcluster.errors import TestClusterError

NAMESPACE = "alchemiscale"
SECRET = "alchemiscale-compute"
GPUS = 4
LONGEST = 600.0


@dataclass(frozen=True)
class Story:
    """How it went."""

    tasks: int
    seconds: float
    most_active: int
    jobs: int
    results: int
    services_left: int
    manager: str


def up(state: Path, kubeconfig: str | None, tasks: int, seconds: float) -> None:
    """Play it. Can be played again while the cluster of an earlier run is still up."""
    began = time.monotonic()
    cluster, engine = _cluster(state / "cluster", kubeconfig)
    screen.step("Images of the operator and the worker (with a stand-in for the science)")
    built = images.build(engine, screen.progress)
    built.load_into(cluster)
    cluster.set_gpus(GPUS)
    screen.say(f"both are on the node, which offers {GPUS} nvidia.com/gpu")

    screen.step("The operator")
    screen.shell("kubectl apply -k deploy/base")
    operator.install(cluster, built.operator)
    screen.say("it runs in namespace computepool-system, under its own ServiceAccount")

    screen.step(f"A simulated compute API, with {tasks} Tasks of {seconds:g} s")
    _ensure_namespace(cluster)
    cluster.kubectl("delete", "computepools", "--all", f"-n{NAMESPACE}", "--wait", "--timeout=120s")
    serving = server.start(state, cluster.host_address)
    screen.say(f"it answers at {serving.url}")
    with AdminClient(serving.admin_url) as admin:
        admin.add_tasks(tasks, scope="lab-campaign-project", seconds=seconds)
        pools.create_secret(
            cluster, NAMESPACE, SECRET, identifier=server.IDENTIFIER, key=server.KEY
        )
        screen.step("A pool: deploy/examples/pool.yaml, with this url and this image")
        screen.shell(f"kubectl apply -n {NAMESPACE} -f pool.yaml", "kubectl get computepools -w")
        pool = pools.pointed_at(
            pools.example(), url=serving.url, image=built.worker.tag, secret=SECRET
        )
        pools.apply(cluster, NAMESPACE, pool)
        story = _watch(cluster, admin, pool["metadata"]["name"], tasks)
    _tell(story, cluster, time.monotonic() - began)


def down(state: Path) -> None:
    """Take everything down; nothing of it is left."""
    server.stop(state)
    found = ways.down(state / "cluster")
    for name in ("server.log", "cluster.lock"):
        (state / name).unlink(missing_ok=True)
    if state.exists():
        state.rmdir()
    screen.say("the demo is down" if found else "there was no demo")


def _cluster(state: Path, kubeconfig: str | None) -> tuple[Cluster, str]:
    screen.step("A cluster")
    try:
        running = ways.attach(state, screen.progress)
    except TestClusterError:
        ways.down(state)
    else:
        screen.say(f"the cluster of an earlier run is still up ({running.way})")
        return running, running.image_engine
    # Only a kubeconfig that is named on purpose: a demo is not for the cluster one works with.
    choice = ways.choose(kubeconfig, None)
    if choice.way == "embedded":
        packages.ensure((*packages.NODE, *packages.IMAGES), "The demo", screen.progress)
        binaries.ensure(screen.progress)
    running = ways.up(state, choice, screen.progress)
    return running, running.image_engine


def _ensure_namespace(cluster: Cluster) -> None:
    manifest = f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"
    cluster.kubectl("apply", "-f", "-", input=manifest)


def _watch(cluster: Cluster, admin: AdminClient, name: str, tasks: int) -> Story:
    """Show the pool until its work is done; TestClusterError if that takes too long."""
    began = time.monotonic()
    shown, most = "", 0
    print(screen.header(), flush=True)
    while True:
        counts, pool = admin.counts(), _pool(cluster, name)
        line = screen.row(time.monotonic() - began, counts, pool)
        if (news := line.partition(" s ")[2]) != shown:
            print(line, flush=True)
            shown = news
        workers = pool.get("status", {}).get("workers", {})
        most = max(most, workers.get("active", 0))
        if counts.get("complete", 0) == tasks and workers.get("active") == 0:
            break
        if time.monotonic() - began > LONGEST:
            described = cluster.kubectl("describe", "computepool", name, f"-n{NAMESPACE}")
            raise TestClusterError(f"the Tasks were not done in {LONGEST:.0f} s:\n{described}")
        time.sleep(0.5)
    (manager,) = admin.managers()
    return Story(
        tasks=tasks,
        seconds=time.monotonic() - began,
        most_active=most,
        jobs=workers["succeeded"] + workers["failed"],
        results=sum(len(task.results) for task in admin.tasks()),
        services_left=len(admin.services()),
        manager=manager.id,
    )


def _pool(cluster: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        cluster.kubectl("get", "computepool", name, f"-n{NAMESPACE}", "-ojson")
    )
    return found


def _tell(story: Story, cluster: Cluster, seconds: float) -> None:
    screen.step(f"All {story.tasks} Tasks are complete")
    services = "none is" if not story.services_left else f"{story.services_left} are"
    screen.summary(
        f"""
        Done {story.seconds:.0f} s after `kubectl apply` ({seconds:.0f} s in all).

        - The operator registered the compute manager {story.manager}
          and asked the server for instructions: {story.tasks} Tasks were waiting.
        - It created {story.jobs} Jobs, at most {story.most_active} at a time, as GPUs became free.
          Each claimed a Task, executed it, pushed the result and left; the GPU was free again.
        - The server has {story.results} results. Of the compute services, {services} registered.

        Look around:
          export KUBECONFIG={cluster.kubeconfig}
          alias kubectl={cluster.kubectl_path}
          kubectl get computepools -n {NAMESPACE} -o wide
          kubectl describe computepool -n {NAMESPACE} a100
          kubectl logs -n computepool-system deploy/computepool-operator

        `make demo` plays it again, `make demo-down` takes it down.
        """
    )
