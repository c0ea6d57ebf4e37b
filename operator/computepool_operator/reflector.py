"""A local copy of some of the cluster's objects, kept by a list and a watch. No list per cycle."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from .kubeapi import Gone, KubeAPI, KubernetesError
from .names import POISON_ANNOTATION

logger = logging.getLogger(__name__)

WATCH_SECONDS = 600
SILENCE_SECONDS = 90.0
"""The API server sends a bookmark about once a minute; longer silence is a dead connection."""
STALE_SECONDS = 240.0
FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
SHORTEST_WATCH = 1.0
"""Seconds; a watch that ends sooner is treated like one that broke."""

Object = dict[str, Any]


class Reflector:
    """Mirrors the objects of one collection that match a label selector.

    Objects are grouped by the value of one label. `on_change(group)` is called after each change,
    `on_gone(object)` with the last state of an object that is no more. The copy is *fresh* once the
    first list has come in and as long as the API server has been heard of lately; on a copy that is
    not fresh nothing may be decided.
    """

    def __init__(
        self,
        api: KubeAPI,
        path: str,
        *,
        selector: str,
        group_label: str,
        on_change: Callable[[str], None],
        on_gone: Callable[[Object], None] = lambda _thing: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self.path = path
        self._selector = selector
        self._group_label = group_label
        self._on_change = on_change
        self._on_gone = on_gone
        self._monotonic = monotonic
        self._groups: dict[str, dict[str, Object]] = {}
        self._heard_at: float | None = None
        self.synced = asyncio.Event()

    @property
    def fresh(self) -> bool:
        """Whether the copy may be relied on."""
        return self._heard_at is not None and self._monotonic() - self._heard_at < STALE_SECONDS

    def group(self, name: str) -> list[Object]:
        """The objects of one group, in no order. They must not be changed."""
        return list(self._groups.get(name, {}).values())

    def everything(self) -> list[Object]:
        """The objects of all groups, in no order. They must not be changed."""
        return [thing for group in self._groups.values() for thing in group.values()]

    def put(self, thing: Object) -> None:
        """Add an object that a write has just answered with, before the watch brings it."""
        group = self._groups.setdefault(self._group_of(thing), {})
        uid = thing["metadata"]["uid"]
        if uid not in group:
            group[uid] = _trimmed(thing)

    async def run(self) -> None:
        """List, watch, and start over whenever the watch ends; until cancelled."""
        version: str | None = None
        retry = FIRST_RETRY
        while True:
            began = self._monotonic()
            broken = False
            try:
                if version is None:
                    version = await self._list()
                async for event in self._api.watch(
                    self.path,
                    query={"labelSelector": self._selector, "resourceVersion": version},
                    silence=SILENCE_SECONDS,
                    length=WATCH_SECONDS,
                ):
                    version = self._take(event)
                    retry = FIRST_RETRY
                # A list now and then heals whatever a stream of changes can get wrong.
                version = None
            except Gone:
                version = None
            except KubernetesError as error:
                broken = True
                logger.warning(
                    "watch broken, trying again",
                    extra={"path": self.path, "error": str(error), "retry_seconds": retry},
                )
            # Also what ends well, but at once and again and again, must not become a storm.
            if broken or self._monotonic() - began < SHORTEST_WATCH:
                await asyncio.sleep(retry * random.uniform(0.5, 1.0))  # noqa: S311
                retry = min(retry * 2, LONGEST_RETRY)

    async def _list(self) -> str:
        listed: dict[str, Object] = {}
        version = ""
        async for page in self._api.pages(self.path, query={"labelSelector": self._selector}):
            for thing in page.get("items") or ():
                listed[thing["metadata"]["uid"]] = _trimmed(thing)
            version = page["metadata"]["resourceVersion"]
        self._replace(listed, int(version))
        self._heard_at = self._monotonic()
        self.synced.set()
        return version

    def _replace(self, listed: Mapping[str, Object], version: int) -> None:
        # What a write of ours has added since the list was made is not in it.
        newer = [
            thing
            for group in self._groups.values()
            for thing in group.values()
            if thing["metadata"]["uid"] not in listed and _version(thing) > version
        ]
        kept = listed.keys() | {thing["metadata"]["uid"] for thing in newer}
        for group in self._groups.values():
            for uid, thing in group.items():
                if uid not in kept:
                    self._on_gone(thing)
        before = set(self._groups)
        self._groups = {}
        for thing in (*listed.values(), *newer):
            group = self._groups.setdefault(self._group_of(thing), {})
            group[thing["metadata"]["uid"]] = thing
        for name in before | set(self._groups):
            self._on_change(name)

    def _take(self, event: Mapping[str, Any]) -> str:
        self._heard_at = self._monotonic()
        thing: Object = event["object"]
        version: str = thing["metadata"]["resourceVersion"]
        if event["type"] == "BOOKMARK":
            return version
        name = self._group_of(thing)
        group = self._groups.setdefault(name, {})
        uid = thing["metadata"]["uid"]
        if event["type"] == "DELETED":
            group.pop(uid, None)
            self._on_gone(thing)
            if not group:
                del self._groups[name]
        else:
            group[uid] = _trimmed(thing)
        self._on_change(name)
        return version

    def _group_of(self, thing: Mapping[str, Any]) -> str:
        labels: Mapping[str, str] = thing["metadata"].get("labels") or {}
        return labels.get(self._group_label, "")


def _version(thing: Mapping[str, Any]) -> int:
    return int(thing["metadata"]["resourceVersion"])


def _trimmed(thing: Object) -> Object:
    thing["metadata"].pop("managedFields", None)
    # Told to workers, read by nobody here, and in each of a thousand Jobs and pods.
    for metadata in (thing["metadata"], _template(thing).get("metadata") or {}):
        (metadata.get("annotations") or {}).pop(POISON_ANNOTATION, None)
    return thing


def _template(thing: Object) -> Object:
    found: Object = (thing.get("spec") or {}).get("template") or {}
    return found
