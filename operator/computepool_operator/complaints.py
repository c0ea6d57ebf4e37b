"""What Kubernetes says in events about workers that do not start. Pure.

A pod that a quota or an admission rule refuses is never made: only an event about its Job tells
(`FailedCreate`). A volume that can't be mounted shows in an event about the pod (`FailedMount`).
Jobs and pods themselves say nothing of either.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from .plan import PATIENCE
from .workers import Worker

RECENT = timedelta(minutes=15)
"""What holds a worker up is said again at least every few minutes; what is older is over."""

LONGEST = 1024
"""Characters that are kept of a message."""

_SUMMARIES = ("Unable to attach or mount volumes",)
"""How messages begin that sum up others, and leave out the cause that those have."""


def wordless(workers: Sequence[Worker], now: datetime) -> list[Worker]:
    """Workers that should have started by now and of which nothing is known why they have not."""
    return [
        worker
        for worker in workers
        if worker.uid
        and worker.state.may_claim_first
        and not worker.started
        and not worker.suspended
        and not worker.trouble
        and now >= worker.waiting_since + PATIENCE
    ]


def subject(worker: Worker) -> str:
    """UID of the object that events about a worker are about: its pod, or its Job without one."""
    service = worker.service_id
    return worker.uid if service is None else str(uuid.UUID(service.uuid))


def latest_complaint(worker: Worker, events: Iterable[Mapping[str, Any]], now: datetime) -> str:
    """The newest warning about what holds the worker up, as reason and message; empty for none.

    The name of the worker's Job or pod, which the pool's other workers do not share, is written as
    that of the pool followed by `*`: workers that are held up by the same thing say the same.
    """
    found = [event for event in events if _tells(worker, event, now)]
    if not found:
        return ""
    newest = max(found, key=lambda event: (not _sums_up(event), _said_at(event)))
    text = f"{newest.get('reason', '')}: {newest.get('message', '')}"
    return _without_name(text, worker)[:LONGEST]


def _tells(worker: Worker, event: Mapping[str, Any], now: datetime) -> bool:
    if event.get("type") != "Warning" or now - _said_at(event) > RECENT:
        return False
    # Of a worker that has a node by now.
    return worker.node is None or event.get("reason") != "FailedScheduling"


def _sums_up(event: Mapping[str, Any]) -> bool:
    return str(event.get("message", "")).startswith(_SUMMARIES)


def _said_at(event: Mapping[str, Any]) -> datetime:
    """When an event was last seen; events of either API, repeated or not, keep that elsewhere."""
    moments = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    said = next((moment for moment in moments if moment), None)
    return datetime.min.replace(tzinfo=UTC) if said is None else datetime.fromisoformat(said)


def _without_name(text: str, worker: Worker) -> str:
    pool = worker.name.rpartition("-")[0]
    return re.sub(rf"{re.escape(worker.name)}(-[a-z0-9]{{5}})?", f"{pool}-*", text)
