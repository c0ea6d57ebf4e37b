"""Which registered services have no process any more, so that their Tasks must wait again. Pure.

Deregistering a service puts its Tasks back to waiting at once; the server by itself would take half
an hour. It must not happen while the process may still be at work, nor while the server may still
be storing what it has sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from computepool_api.ids import ComputeServiceID

from .workers import Departed, Worker, WorkerState

PUSH_SETTLES = timedelta(seconds=60)
"""After this long the server has stored what a worker sent before it died, or never will."""

ENDED_OF_LATE = timedelta(minutes=15)
"""For so long the service of an ended worker is deregistered again and again where the server does
not list services. Repeating is harmless, and one that does not answer for longer expires them."""

UNKNOWN_FOR = timedelta(minutes=5)
"""After this long a service is held for dead that belongs to no pod we have ever seen. If it lives
all the same, on a node that nobody reaches, it finds its registration lost before it pushes."""


def services_to_reap(
    workers: Sequence[Worker],
    departed: Sequence[Departed],
    registered: Sequence[str],
    prefix: str,
    unclaimed_since: Mapping[str, datetime],
    now: datetime,
    orphans: Sequence[ComputeServiceID] = (),
) -> tuple[tuple[ComputeServiceID, ...], dict[str, datetime]]:
    """Decide which services to deregister, and remember which belong to nobody.

    Args:
        workers: those that are known, finished ones among them.
        departed: pods that are gone from the cluster.
        registered: the services that the server lists under the manager.
        prefix: how the names of the pool's own services begin; others are left alone.
        unclaimed_since: the second value of the last call.
        now: the present, in UTC.
        orphans: services whose pods are at work although their Jobs are gone: they live.

    """
    known = {str(worker.service_id) for worker in workers if worker.service_id is not None}
    known |= set(orphans)
    dead_from = _dead_from(workers, departed, known, now)
    unclaimed: dict[str, datetime] = {}
    for service in registered:
        if service not in known and service not in dead_from and prefix and _ours(service, prefix):
            unclaimed[service] = unclaimed_since.get(service, now)
            dead_from[service] = unclaimed[service] + UNKNOWN_FOR
    reap = [
        ComputeServiceID.parse(service)
        for service in registered
        if service in dead_from and now >= dead_from[service]
    ]
    return tuple(reap), unclaimed


def ended_services(
    workers: Sequence[Worker], departed: Sequence[Departed], now: datetime
) -> tuple[ComputeServiceID, ...]:
    """Services of workers that ended badly and of late: for a server that lists none.

    A server that has shut the manager down answers with no list, and whoever registered its name
    instead does not know our pods.
    """
    bad = [worker for worker in workers if worker.state is not WorkerState.SUCCEEDED]
    known = {str(worker.service_id) for worker in workers if worker.service_id is not None}
    dead_from = _dead_from(bad, departed, known, now)
    return tuple(
        ComputeServiceID.parse(service)
        for service, since in dead_from.items()
        if since <= now < since + ENDED_OF_LATE
    )


def _dead_from(
    workers: Sequence[Worker], departed: Sequence[Departed], known: Collection[str], now: datetime
) -> dict[str, datetime]:
    """From when on a service is certainly at an end: its process, and what it has sent.

    A pod that was removed while it ran may be at work until the kubelet has killed it, at the end
    of its grace, and may have sent a result at the last moment.
    """
    dead_from: dict[str, datetime] = {}
    for gone in departed:
        if gone.service_id not in known:
            pause = _settling(sending=gone.sending) if gone.ended else gone.grace + PUSH_SETTLES
            dead_from[gone.service_id] = gone.at + pause
    for worker in workers:
        if worker.finished and worker.service_id is not None:
            ended = worker.finished_at or now
            dead_from[worker.service_id] = ended + _settling(sending=worker.sending)
    return dead_from


def _settling(*, sending: bool) -> timedelta:
    return PUSH_SETTLES if sending else timedelta()


def _ours(service: str, prefix: str) -> bool:
    try:
        return ComputeServiceID.parse(service).name.startswith(prefix)
    except ValueError:
        return False
