"""One instance leads: a Lease decides, by the rules of Kubernetes' own controllers.

The election of the `kubernetes` library is not used: its calls may hang for minutes, in which an
instance would go on believing that it leads. Why two never lead at once:
docs/decisions/0018-one-leads.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .kubeapi import AlreadyExists, Conflict, KubeAPI, KubernetesError, NotFound

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10
"""A dead leader is followed within this, the time until its last renewal is seen, and that until
the next look: RETRY_SECONDS each, and what the calls take."""
RENEW_DEADLINE_SECONDS = 7.0
RETRY_SECONDS = 1.0
CALL_SECONDS = 2.0

# Goes on while the process, or the machine, is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Seconds since the machine was started, those in which it slept among them."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A state of the Lease, and when (monotonic seconds) it was first seen.

    Whether a Lease has run out is told by how long it has not changed here, not by comparing the
    clocks of two machines.
    """

    holder: str
    renewed: str
    seconds: int
    at: float

    def has_run_out(self, now: float) -> bool:
        """Whether the holder has not renewed it for as long as it promised to."""
        return not self.holder or now >= self.at + self.seconds


class Leadership:
    """Takes, holds and gives back one Lease."""

    def __init__(
        self,
        api: KubeAPI,
        *,
        name: str,
        namespace: str,
        identity: str,
        monotonic: Callable[[], float] = boot_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._monotonic = monotonic
        self._sleep = sleep
        self._seen: Sighting | None = None
        self._renewed_at = float("-inf")
        self._facts = {"lease": f"{namespace}/{name}", "identity": identity}

    @property
    def held(self) -> bool:
        """Whether the Lease is surely ours at this instant, whatever has been missed meanwhile."""
        return self._monotonic() < self._renewed_at + RENEW_DEADLINE_SECONDS + CALL_SECONDS

    async def lead(self, started: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, call `started`, hold the Lease; return when it is lost.

        An instance that was killed and comes back under the same identity (a container restarted
        in its pod) takes its own Lease up at once. One that can't renew stops by itself before
        another may lead. The time that `started` takes counts: it must not wait for anything.
        """
        tried_at = self._monotonic()
        while not await self._attempt():
            await self._sleep(RETRY_SECONDS)
            tried_at = self._monotonic()
        logger.info("leading", extra=self._facts)
        self._renewed_at = tried_at
        await started()
        while self._in_time(RETRY_SECONDS):
            await self._sleep(RETRY_SECONDS)
            tried_at = self._monotonic()
            # Who was suspended meanwhile may have been followed: not one step more.
            if self._in_time() and await self._attempt():
                self._renewed_at = tried_at
        self._renewed_at = float("-inf")
        logger.error("leadership lost", extra=self._facts)

    def _in_time(self, ahead: float = 0.0) -> bool:
        """Whether one may still try to renew in so many seconds; CALL_SECONDS more are spare."""
        return self._monotonic() + ahead < self._renewed_at + RENEW_DEADLINE_SECONDS

    async def give_back(self) -> None:
        """Let another lead at once. Fails silently: the Lease runs out by itself."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                lease = await self._api.request("GET", f"{self._collection}/{self._name}")
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._replace(lease)
        except (KubernetesError, TimeoutError) as error:
            logger.warning("lease not given back", extra={**self._facts, "error": str(error)})

    async def _attempt(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._take_or_renew()
        except (Conflict, AlreadyExists):
            return False
        except (KubernetesError, TimeoutError) as error:
            logger.warning(
                "lease not renewed", extra={**self._facts, "error": str(error) or "timed out"}
            )
            return False

    async def _take_or_renew(self) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        try:
            lease = await self._api.request("GET", f"{self._collection}/{self._name}")
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": self._held({}, now),
            }
            await self._api.request("POST", self._collection, body=body)
            return True
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self._identity and not self._look(spec):
            return False
        lease["spec"] = self._held(spec, now)
        await self._replace(lease)
        return True

    def _look(self, spec: dict[str, Any]) -> bool:
        """Whether somebody else's Lease has run out."""
        holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
        seconds = spec.get("leaseDurationSeconds") or LEASE_SECONDS
        now = self._monotonic()
        if self._seen is None or (self._seen.holder, self._seen.renewed) != (holder, renewed):
            self._seen = Sighting(holder, renewed, seconds, now)
        return self._seen.has_run_out(now)

    def _held(self, spec: dict[str, Any], now: str) -> dict[str, Any]:
        mine = spec.get("holderIdentity") == self._identity
        transitions = int(spec.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": spec.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions if mine else transitions + 1,
        }

    async def _replace(self, lease: dict[str, Any]) -> None:
        await self._api.request("PUT", f"{self._collection}/{self._name}", body=lease)
