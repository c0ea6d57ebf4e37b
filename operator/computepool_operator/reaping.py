"""Which registered services have no process any more, so that their Tasks must wait again. Pure.

Deregistering a service puts its Tasks back to waiting at once; the server by itself would take half
an hour. It must not happen while the process may still be at work, nor while the server may still
be storing what it has sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from computepool_api.ids import ComputeServiceID

from .workers import Departed, Worker

PUSH_SETTLES = timedelta(seconds=60)
"""After this long the server has stored what a worker sent before it died, or never will."""

UNKNOWN_FOR = timedelta(minutes=5)
"""After this long a service is held for dead that belongs to no pod we have ever seen. If it lives
all the same, on a node that nobody reaches, it finds its registration lost before it pushes."""

ENDED_OF_LATE = timedelta(minutes=15)
"""For so long the service of an ended worker is deregistered again and again where the server does
not list services. Repeating is harmless."""


@dataclass(frozen=True, slots=True)
class Reaping:
    """What to do about services that are left behind.

    `reap`: those to deregister now. `left_since`: those that are not to be forgotten, and when
    each was first seen left behind. `settling`: some must wait a while yet.
    """

    reap: tuple[ComputeServiceID, ...] = ()
    left_since: tuple[tuple[str, datetime], ...] = ()
    settling: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of the processes: workers, pods that are gone, and pods without a Job.

    Names of the pool's own services begin with `prefix`; the others are left alone.
    """

    workers: Sequence[Worker] = ()
    departed: Sequence[Departed] = ()
    orphans: Sequence[ComputeServiceID] = ()
    prefix: str = ""

    def pauses(self) -> dict[str, timedelta | None]:
        """How long each known service must be left alone once its end shows; None: it lives.

        A pod that was removed while it ran may be at work until the kubelet has killed it, at the
        end of its grace, and may have sent a result at the last moment.
        """
        pauses: dict[str, timedelta | None] = {}
        for gone in self.departed:
            ended = _settling(sending=gone.sending)
            pauses[gone.service_id] = ended if gone.ended else gone.grace + PUSH_SETTLES
        for worker in self.workers:
            if worker.service_id is not None:
                ended = _settling(sending=worker.sending)
                if worker.may_work_for:
                    ended = worker.may_work_for + PUSH_SETTLES
                pauses[worker.service_id] = ended if worker.end is not None else None
        return pauses | dict.fromkeys(self.orphans)


def services_to_reap(
    fleet: Fleet,
    registered: Sequence[str],
    left_since: Mapping[str, datetime],
    now: datetime,
) -> Reaping:
    """Decide which of the services that the server lists to deregister.

    Times are counted from when an end was first seen: the clock of a node may be wrong.

    Args:
        fleet: what is known of the processes.
        registered: the services that the server lists under the manager.
        left_since: as the last call left it.
        now: the present, in UTC.

    """
    known = fleet.pauses()
    pauses: dict[str, timedelta] = {}
    for service in registered:
        if service in known:
            pause = known[service]
        else:
            pause = UNKNOWN_FOR if fleet.prefix and _ours(service, fleet.prefix) else None
        if pause is not None:
            pauses[service] = pause
    return _due(pauses, left_since, now)


def ended_services(
    fleet: Fleet,
    new: Collection[str],
    left_since: Mapping[str, datetime],
    now: datetime,
) -> Reaping:
    """Decide which services to deregister where the server lists none.

    A server that has shut the manager down answers with no list, and whoever registered its name
    instead does not know our pods.

    Args:
        fleet: what is known of the processes.
        new: names of workers that have ended badly since the last call.
        left_since: as the last call left it.
        now: the present, in UTC.

    """
    of_late = {str(w.service_id) for w in fleet.workers if w.name in new and w.service_id}
    of_late |= {str(gone.service_id) for gone in fleet.departed if now - gone.at < ENDED_OF_LATE}
    left_since = {s: since for s, since in left_since.items() if now - since < ENDED_OF_LATE}
    of_late |= left_since.keys()
    known = fleet.pauses()
    pauses = {
        service: pause
        for service in sorted(of_late)
        if (pause := known.get(service, UNKNOWN_FOR)) is not None
    }
    reaping = _due(pauses, left_since, now)
    # Whether it was still registered is not known, so it is tried again.
    left = tuple((service, left_since.get(service, now)) for service in pauses)
    return Reaping(reaping.reap, left, reaping.settling)


def _due(
    pauses: Mapping[str, timedelta], left_since: Mapping[str, datetime], now: datetime
) -> Reaping:
    since = {service: left_since.get(service, now) for service in pauses}
    due = [service for service, pause in pauses.items() if now >= since[service] + pause]
    waiting = tuple((service, since[service]) for service, pause in pauses.items() if pause)
    return Reaping(
        reap=tuple(ComputeServiceID.parse(service) for service in due),
        left_since=waiting,
        settling=len(due) < len(pauses),
    )


def _settling(*, sending: bool) -> timedelta:
    return PUSH_SETTLES if sending else timedelta()


def _ours(service: str, prefix: str) -> bool:
    try:
        return ComputeServiceID.parse(service).name.startswith(prefix)
    except ValueError:
        return False
