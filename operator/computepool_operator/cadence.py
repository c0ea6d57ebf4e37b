"""When the next cycle of a pool begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .workers import Worker, WorkerState

LONGEST_ERROR_DELAY = 60.0
JITTER = 0.1

URGENT_SPACING = 0.25
"""Seconds between cycles that the end or the claim of a worker starts."""
CALM_SPACING = 2.0
"""Seconds between cycles that any other change of a worker starts."""


def delay_after(interval: float, errors_in_a_row: int, spread: float) -> float:
    """Seconds until the next cycle if nothing happens.

    Args:
        interval: `cycleInterval`, in seconds.
        errors_in_a_row: cycles that could not be completed, up to the last one.
        spread: a random number in [0, 1): pools that started together drift apart.

    """
    if errors_in_a_row:
        longest = max(interval, LONGEST_ERROR_DELAY)
        interval = min(longest, interval * 2.0 ** min(errors_in_a_row, 16))
    return interval * (1 + JITTER * (2 * spread - 1))


def spacing(*, urgent: bool) -> float:
    """Seconds that must pass between the start of a cycle and one that an event starts."""
    return URGENT_SPACING if urgent else CALM_SPACING


def is_urgent(before: Mapping[str, Worker], after: Mapping[str, Worker]) -> bool:
    """Whether workers (by UID) changed so that another may be needed, or a Task is covered anew.

    That is so when one has ended, claimed, or gone; getting a node or an image changes nothing
    that the plan depends on.
    """
    if before.keys() - after.keys():
        return True
    return any(
        not worker.state.may_claim_first
        and (uid not in before or _stage(before[uid]) != _stage(worker))
        for uid, worker in after.items()
    )


def _stage(worker: Worker) -> tuple[WorkerState, WorkerState | None]:
    return worker.state, worker.end
