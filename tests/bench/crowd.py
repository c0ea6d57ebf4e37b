"""`python -m bench.crowd`: what a pool with many workers costs the operator. It judges nothing.

The operator's own mirrors, pools and planner are given the events of pods that start, from memory
and not over a network. What is measured is processor time, of the operator's one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from computepool_api.ids import ComputeManagerID
from computepool_api.models import OkInstruction
from computepool_operator.cluster import Cluster
from computepool_operator.jobs import build_job
from computepool_operator.kubeapi import KubeAPI
from computepool_operator.loop import PoolLoop, Tools
from computepool_operator.memory import Memory
from computepool_operator.names import PoolReference
from computepool_operator.orders import NO_ORDERS
from computepool_operator.plan import Observation, plan
from computepool_operator.pool import PoolSpec, PoolStatus
from computepool_operator.status import Facts, build_status
from computepool_operator.workers import count

Body = dict[str, Any]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POOL = PoolReference("lab", "a100", "7dd7aaf9-5071-4384-a107-2924ea1485f5", generation=1)
MANAGER = ComputeManagerID.new("lab.a100", uuid.UUID(int=1))
SPEC: Body = {
    "computeAPI": {
        "url": "https://compute.example.org",
        "credentialsSecretRef": {"name": "alchemiscale-compute"},
    },
    "worker": {"image": "registry.example.org/worker:v1"},
}
STEPS = ("Pending", "Bound", "Creating", "Running", "Ready")
"""What a pod goes through, one event each."""


class Feed:
    """The Kubernetes API as the mirrors see it: a list of Jobs, and the events of their pods."""

    def __init__(self, workers: int) -> None:
        self.jobs = [_job(number) for number in range(workers)]
        self.pods = {step: [_pod(job, step) for job in self.jobs] for step in (*STEPS, "Ended")}
        self.done = asyncio.Event()

    async def request(self, _method: str, path: str, **_options: Any) -> Body:
        """Answer the first list."""
        items = self.jobs if path.endswith("/jobs") else []
        return {"items": items, "metadata": {"resourceVersion": "1"}}

    async def watch(self, path: str, **_options: Any) -> AsyncIterator[Body]:
        """Bring each pod's life, step by step."""
        if path.endswith("/pods"):
            for step in STEPS:
                for pod in self.pods[step]:
                    yield {"type": "ADDED" if step == "Pending" else "MODIFIED", "object": pod}
                    await asyncio.sleep(0)  # as where each comes in a packet of its own
            self.done.set()
        await asyncio.Event().wait()


def _job(number: int) -> Body:
    spec = PoolSpec.model_validate(SPEC)
    job = build_job(POOL, spec, MANAGER, f"a100-{number:08}", NO_ORDERS)
    job["metadata"] |= {
        "uid": str(uuid.UUID(int=number)),
        "creationTimestamp": "2026-03-01T12:00:00Z",
        "resourceVersion": "1",
    }
    return job


def _pod(job: Mapping[str, Any], step: str) -> Body:
    at = "2026-03-01T12:00:05Z"
    container: Mapping[str, Body] = {
        "Creating": {"waiting": {"reason": "ContainerCreating"}},
        "Running": {"running": {"startedAt": at}},
        "Ready": {"running": {"startedAt": at}},
        "Ended": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": at}},
    }
    metadata = job["metadata"]
    labels = {
        **metadata["labels"],
        "batch.kubernetes.io/job-name": metadata["name"],
        "batch.kubernetes.io/controller-uid": metadata["uid"],
    }
    statuses = [{"name": "worker", "state": container[step]}] if step in container else []
    return {
        "metadata": {
            "name": f"{metadata['name']}-x",
            "namespace": POOL.namespace,
            "uid": metadata["uid"],
            "creationTimestamp": "2026-03-01T12:00:00Z",
            "resourceVersion": "2",
            "labels": labels,
        },
        "spec": {} if step == "Pending" else {"nodeName": "gpu-1"},
        "status": {
            "phase": {"Ended": "Succeeded", "Running": "Running", "Ready": "Running"}.get(
                step, "Pending"
            ),
            "conditions": [
                {"type": "Ready", "status": str(step == "Ready"), "lastTransitionTime": at}
            ],
            "containerStatuses": statuses,
        },
    }


async def events(feed: Feed) -> tuple[float, Cluster]:
    """Let the pods of all workers start, and return the seconds that took, and what is mirrored."""
    loop: PoolLoop | None = None

    def on_change(_uid: str) -> None:
        if loop is not None:
            loop.workers_changed()

    api = cast("KubeAPI", feed)
    cluster = Cluster(api, namespaces=[POOL.namespace], identity="bench", on_change=on_change)
    metadata = {"name": POOL.name, "namespace": "lab", "uid": POOL.uid, "generation": 1}
    loop = PoolLoop({"metadata": metadata, "spec": SPEC}, Tools(cluster))
    began = time.process_time()
    mirrors = asyncio.create_task(cluster.run())
    await feed.done.wait()
    took = time.process_time() - began
    mirrors.cancel()
    await asyncio.gather(mirrors, return_exceptions=True)
    return took, cluster


def cycle(cluster: Cluster, memory: Memory) -> tuple[float, float, float, int, Memory]:
    """Seconds to read, to plan and to write the status, its bytes, and what is remembered."""
    spec = PoolSpec.model_validate({**SPEC, "maxComputeServices": 1000})
    now = NOON + timedelta(minutes=10)
    gc.collect()
    began = time.process_time()
    workers = cluster.workers(POOL.uid)
    read = time.process_time()
    services = tuple(str(worker.service_id) for worker in workers)
    instruction = OkInstruction(num_tasks=100, compute_service_ids=services)
    decided = plan(spec, Observation(workers, instruction, 1), memory, now)
    planned = time.process_time()
    facts = Facts(1, decided.verdict, decided.memory, str(MANAGER), "x=y", count(workers), 1000)
    body = build_status(PoolStatus(), facts, now).to_body()
    written = time.process_time()
    size = len(json.dumps(body))
    return read - began, planned - read, written - planned, size, decided.memory


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000, help="of one pool (default: 1000)")
    workers = parser.parse_args().workers
    asyncio.run(_measure(workers, lambda text: print(text, flush=True)))
    return 0


async def _measure(workers: int, say: Callable[[str], None]) -> None:
    feed = Feed(workers)
    took, cluster = await events(feed)
    number = workers * len(STEPS)
    say(f"{workers} workers, {number} events of their pods: {took:.2f} s")
    memory = replace(Memory(), reported_at=NOON)
    for what in ("all hold a Task", "the same again"):
        memory = _say_cycle(say, cluster, memory, what)
    feed.pods["Ready"] = feed.pods["Ended"]
    feed.done.clear()
    _took, cluster = await events(feed)
    for what in ("all have ended", "the same again"):
        memory = _say_cycle(say, cluster, memory, what)


def _say_cycle(say: Callable[[str], None], cluster: Cluster, memory: Memory, what: str) -> Memory:
    read, planned, written, size, memory = cycle(cluster, memory)
    say(
        f"a cycle, {what}: reading {1000 * read:.1f} ms, planning {1000 * planned:.1f} ms, "
        f"status {1000 * written:.1f} ms of {size / 1024:.1f} KiB"
    )
    return memory


if __name__ == "__main__":
    raise SystemExit(main())
