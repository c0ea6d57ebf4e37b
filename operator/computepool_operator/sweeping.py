"""Deletes the Jobs that pools have left behind which are gone for good."""

from __future__ import annotations

import asyncio
import logging

from .cluster import Cluster
from .kubeapi import KubernetesError
from .strays import finished_strays

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0
"""Between two looks; nobody waits for one."""


async def keep_sweeping(cluster: Cluster) -> None:
    """Sweep at once and again and again, until cancelled; only while leading. No error ends it."""
    while True:
        try:
            await sweep(cluster)
        except KubernetesError as error:
            logger.warning("sweep broken off", extra={"error": str(error)})
        except Exception:
            logger.exception("sweep failed")
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep(cluster: Cluster) -> None:
    """Delete finished Jobs without a pool; nothing, where either can't be known.

    Raises KubernetesError where something is left to be done.
    """
    if not cluster.fresh:
        return
    # In this order of time: see `finished_strays`.
    jobs, pods = cluster.everything()
    if not jobs:
        return
    for stray in finished_strays(jobs, pods, await cluster.pool_uids()):
        await cluster.delete_job(
            stray.namespace, stray.name, uid=stray.uid, propagation="Background"
        )
        logger.info(
            "job without a pool deleted", extra={"namespace": stray.namespace, "job": stray.name}
        )
