"""Writes down every change of Jobs and pods in a namespace, with the time at which it was seen."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from testcluster.cluster import Cluster


@dataclass(frozen=True)
class Change:
    """One watch event: `ADDED`, `MODIFIED` or `DELETED`, seen at `at` (monotonic seconds)."""

    at: float
    type: str
    thing: dict[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        return str(self.thing["kind"])

    @property
    def name(self) -> str:
        return str(self.thing["metadata"]["name"])


class Recorder:
    """Runs `kubectl get jobs,pods --watch` and keeps what it says, in order."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._changes: list[Change] = []
        self._news = threading.Condition()
        environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        self._watches = [
            subprocess.Popen(
                [
                    str(cluster.kubectl_path),
                    f"--kubeconfig={cluster.kubeconfig}",
                    "get",
                    kind,
                    f"--namespace={namespace}",
                    "--watch",
                    "--output-watch-events",
                    "--output=json",
                ],
                stdout=subprocess.PIPE,
                env=environment,
            )
            for kind in ("jobs", "pods")
        ]
        self._readers = [
            threading.Thread(target=self._read, args=(watch,), daemon=True)
            for watch in self._watches
        ]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.terminate()
        for reader in self._readers:
            reader.join(10)
        for watch in self._watches:
            watch.wait(10)
            assert watch.stdout is not None
            watch.stdout.close()

    @property
    def changes(self) -> list[Change]:
        with self._news:
            return list(self._changes)

    def wait_for_news(self, seconds: float) -> None:
        """Return after the next change, or after so many seconds."""
        with self._news:
            self._news.wait(seconds)

    def _read(self, watch: subprocess.Popen[bytes]) -> None:
        assert watch.stdout is not None
        stream = watch.stdout.fileno()
        for event in _objects(iter(lambda: os.read(stream, 65536), b"")):
            with self._news:
                self._changes.append(Change(time.monotonic(), event["type"], event["object"]))
                self._news.notify_all()


def _objects(chunks: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Cut a stream of JSON objects that stand one after the other."""
    decoder, text = json.JSONDecoder(), ""
    for chunk in chunks:
        text = (text + chunk.decode()).lstrip()
        while text:
            try:
                thing, end = decoder.raw_decode(text)
            except ValueError:
                break
            yield thing
            text = text[end:].lstrip()


def phase(pod: dict[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def terminal(pod: dict[str, Any]) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def jobs_created(changes: list[Change]) -> dict[str, float]:
    """When each Job was first seen, by name."""
    seen: dict[str, float] = {}
    for change in changes:
        if change.kind == "Job":
            seen.setdefault(change.name, change.at)
    return seen


def pods_ended(changes: list[Change]) -> dict[str, float]:
    """When each pod was first seen in a terminal phase, by name."""
    seen: dict[str, float] = {}
    for change in changes:
        if change.kind == "Pod" and terminal(change.thing):
            seen.setdefault(change.name, change.at)
    return seen


def most_on_nodes(changes: list[Change]) -> int:
    """How many pods that are on a node, and so hold their GPU, there were at most at once."""
    holding: set[str] = set()
    most = 0
    for change in changes:
        if change.kind != "Pod":
            continue
        bound = bool(change.thing["spec"].get("nodeName"))
        if change.type == "DELETED" or terminal(change.thing) or not bound:
            holding.discard(change.name)
        else:
            holding.add(change.name)
        most = max(most, len(holding))
    return most


def termination_messages(changes: list[Change]) -> dict[str, dict[str, Any]]:
    """What each worker said when it ended, by pod."""
    said: dict[str, dict[str, Any]] = {}
    for change in changes:
        if change.kind != "Pod":
            continue
        for status in change.thing.get("status", {}).get("containerStatuses") or ():
            ended = status["state"].get("terminated")
            if ended and ended.get("message"):
                said[change.name] = json.loads(ended["message"])
    return said


def replacement_delays(changes: list[Change]) -> list[float]:
    """Seconds from each end of a pod to the first Job created after it, one Job for each end.

    Ends after which no further Job was created have no replacement and give no delay.
    """
    ends = sorted(pods_ended(changes).values())
    created = sorted(at for at in jobs_created(changes).values() if ends and at > ends[0])
    return [after - end for end, after in zip(ends, created, strict=False)]
