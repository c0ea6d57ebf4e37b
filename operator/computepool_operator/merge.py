"""Merging a person's pod template over the one the operator builds, as Kubernetes would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIST_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
}
"""The lists of a PodTemplateSpec that merge by key (its `patchMergeKey`s); others are replaced."""


WHOLE_ELEMENTS = frozenset({"volumes", "env"})
"""Lists whose elements are unions (one volume source, one value): an element replaces its like."""


def strategic_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base` with the rules of a strategic merge patch for pod templates.

    Mappings merge key by key, a null removes the key, the lists in `LIST_KEYS` merge element by
    element, every other value replaces the one below. Neither argument is changed.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = strategic_merge(below if isinstance(below, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(below, list) and key in LIST_KEYS:
            merged[key] = _merge_list(below, value, key)
        else:
            merged[key] = value
    return merged


def _merge_list(below: list[Any], over: list[Any], name: str) -> list[Any]:
    key = LIST_KEYS[name]
    places = {item.get(key): place for place, item in enumerate(below)}
    merged = list(below)
    for item in over:
        place = places.get(item.get(key))
        if place is None:
            merged.append(item)
        elif name in WHOLE_ELEMENTS:
            merged[place] = item
        else:
            merged[place] = strategic_merge(merged[place], item)
    return merged
