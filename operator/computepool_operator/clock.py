"""The time of day, for those who are not given another."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)
