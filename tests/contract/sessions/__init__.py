"""The recorded cases in sessions that share a state, and what each session needs beforehand."""

from . import managers, results, services, times, versions

SESSIONS = (
    *managers.SESSIONS,
    *services.SESSIONS,
    *results.SESSIONS,
    *times.SESSIONS,
    *versions.SESSIONS,
)

NOT_REPLAYED = {
    "latency-medians-of-5": "how long one machine took is no behaviour of the server",
}
"""Cases that are not replayed, and why."""
