"""Asks Kubernetes for events about workers that do not start and of which nothing tells why."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .complaints import latest_complaint, subject, wordless
from .kubeapi import KubernetesError
from .workers import Worker

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 4
"""Requests in one cycle: the API server looks through all events of the namespace for each."""

KEPT = timedelta(minutes=2)
"""How long what was answered is not asked again."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was said about a pod, or a Job, and when it was asked."""

    words: str
    asked_at: datetime


class Inquiry:
    """What events say about the workers of one pool."""

    def __init__(self, read_events: Callable[[str], Awaitable[list[dict[str, Any]]]]) -> None:
        """Ask with `read_events`: it lists the events about the object with a UID.

        It may raise KubernetesError. Nobody fails for that: unknown words are no words.
        """
        self._read_events = read_events
        self._answers: dict[str, _Answer] = {}

    async def explained(self, workers: Sequence[Worker], now: datetime) -> tuple[Worker, ...]:
        """The workers, with the trouble of those that should have started by now."""
        silent = {subject(worker): worker for worker in wordless(workers, now)}
        self._answers = {uid: said for uid, said in self._answers.items() if uid in silent}
        # Those of which nothing is known come first, then those whose answer is oldest.
        known = [uid for uid, said in self._answers.items() if now - said.asked_at >= KEPT]
        due = [uid for uid in silent if uid not in self._answers]
        due += sorted(known, key=lambda uid: self._answers[uid].asked_at)
        for uid in due[:MOST_AT_ONCE]:
            try:
                events = await self._read_events(uid)
            except KubernetesError as error:
                logger.warning("events can't be read", extra={"error": str(error)})
                before = self._answers.get(uid)
                self._answers[uid] = _Answer(before.words if before else "", now)
                break
            self._answers[uid] = _Answer(latest_complaint(silent[uid], events, now), now)
        return tuple(self._with_words(worker, silent) for worker in workers)

    def _with_words(self, worker: Worker, silent: dict[str, Worker]) -> Worker:
        uid = subject(worker)
        if silent.get(uid) is not worker or uid not in self._answers:
            return worker
        return replace(worker, trouble=self._answers[uid].words)
