"""One instance leads: a Lease decides, as for Kubernetes' own controllers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from .kubeapi import KubeAPI

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10
RETRY_SECONDS = 2


async def lead(
    api: KubeAPI,
    *,
    name: str,
    namespace: str,
    identity: str,
    started: Callable[[], Awaitable[None]],
) -> None:
    """Wait for the Lease, call `started`, and hold the Lease; return when it is lost.

    An instance that was killed and comes back under the same identity (a container restarted in
    its pod) takes its own Lease up at once. One that loses the Lease must stop at once: another may
    lead `LEASE_SECONDS` after the last renewal, and renewal is given up well before that.
    """

    async def begin() -> None:
        logger.info("leading", extra={"lease": f"{namespace}/{name}", "identity": identity})
        await started()

    async def end() -> None:
        logger.error("leadership lost", extra={"lease": f"{namespace}/{name}"})

    lock = LeaseLock(name, namespace, identity, api.client)
    await LeaderElection(
        Config(
            lock,
            lease_duration=LEASE_SECONDS,
            renew_deadline=RENEW_DEADLINE_SECONDS,
            retry_period=RETRY_SECONDS,
            onstarted_leading=begin,
            onstopped_leading=end,
        )
    ).run()
