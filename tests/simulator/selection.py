"""Which Tasks a claim takes from a hub."""

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple


class Candidate(NamedTuple):
    """A Task that may be claimed: its priority and its weight in the hub."""

    key: str
    priority: int
    weight: float


def choose(candidates: Iterable[Candidate], count: int, source: random.Random) -> list[str]:
    """Pick up to `count` keys: lower priority numbers first, within one priority by weight."""
    chosen: list[str] = []
    ordered = sorted(candidates, key=attrgetter("priority"))
    for _, group in groupby(ordered, key=attrgetter("priority")):
        members = list(group)
        wanted = count - len(chosen)
        if len(members) > wanted:
            return chosen + _draw(members, wanted, source)
        chosen += [member.key for member in members]
    return chosen


def _draw(members: Sequence[Candidate], count: int, source: random.Random) -> list[str]:
    """Draw without replacement, each draw by weight."""
    left = list(members)
    drawn: list[str] = []
    for _ in range(count):
        [pick] = source.choices(left, weights=[member.weight for member in left])
        left.remove(pick)
        drawn.append(pick.key)
    return drawn
