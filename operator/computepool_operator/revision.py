"""What a pool's workers are made from, in a word that changes whenever that does. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .pool import PoolSpec

_LENGTH = 10
"""Characters of each half, as many as in the hash of a Deployment's pod template."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Which version of a pool's spec a worker is of, as far as that matters to the worker.

    `form`: its pod and its server. `reach`: which Tasks it may claim.
    """

    form: str
    reach: str

    def __str__(self) -> str:
        """Write it as the value of a label."""
        return f"{self.form}-{self.reach}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` has written; None for anything else."""
        form, separator, reach = text.partition("-")
        return cls(form, reach) if separator else None


def revision_of(spec: PoolSpec) -> Revision:
    """The revision of the workers that are created from a spec.

    Fields with their default values are left out, so that an operator that knows more fields finds
    the same.
    """
    body = spec.model_dump(mode="json", exclude_defaults=True)
    job = _only(body.get("job") or {}, "activeDeadline", "labels", "annotations")
    return Revision(
        form=_digest({"job": job, **_only(body, "computeAPI", "worker")}),
        reach=_digest(_only(body, "scopes", "scopesExclude", "protocols")),
    )


def _only(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: body.get(name) for name in names}


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
