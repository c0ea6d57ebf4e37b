"""A spec that can't be read as a whole: what is wrong with it, and what can be read. Pure.

The CRD refuses such a spec, but another version's CRD may have admitted it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from .pool import PoolSpec

_MISSING = {
    "computeAPI": {
        "url": "https://unreadable.invalid",
        "credentialsSecretRef": {"name": "unreadable"},
    },
    "worker": {"image": "unreadable"},
}


def salvage(raw: object) -> PoolSpec:
    """Read a spec; where that fails, its readable fields, and the defaults of all others.

    For what has to be done whatever the spec says. A server or an image that can't be read is
    replaced by one that does not exist.
    """
    try:
        return PoolSpec.model_validate(raw)
    except ValidationError:
        pass
    spec = PoolSpec.model_validate(_MISSING)
    kept: dict[str, object] = dict(_MISSING)
    for field, value in raw.items() if isinstance(raw, Mapping) else ():
        try:
            spec = PoolSpec.model_validate({**kept, field: value})
        except ValidationError:
            continue
        kept[field] = value
    return spec


def faults(error: ValidationError) -> str:
    """What is wrong with a spec, and where; nothing of what stands there."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(['spec', *(str(step) for step in fault['loc'])])}: {fault['msg']}"
        for fault in found
    )
