"""Manifests as plain dictionaries, and what is wrong with a pool before a server sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from computepool_operator.crd.manifest import custom_resource_definition
from computepool_operator.pool import GROUP, KIND, VERSION, PoolSpec

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))
HOSTS = DEPLOY / "examples" / "hosts"
# What a worker reads, not an object of Kubernetes.
SETTINGS_FILES = sorted(HOSTS.glob("*settings.yaml"))
OVERLAYS = sorted(path.parent for path in DEPLOY.glob("overlays/*/kustomization.yaml"))

Manifest = dict[str, Any]


def read(text: str) -> list[Manifest]:
    """Return the documents of a YAML text that hold something."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def is_pool(document: object) -> bool:
    return isinstance(document, dict) and document.get("kind") == KIND


def is_overlay_part(document: object) -> bool:
    """Whether it is what is to be added to an overlay's kustomization.yaml."""
    return isinstance(document, dict) and bool(document.keys() & {"patches", "components"})


def complaints(pool: Manifest) -> list[str]:
    """Say what is wrong with a pool, as far as that can be told without an API server.

    Raises ValueError where the models refuse its spec.
    """
    found = []
    if pool.get("apiVersion") != f"{GROUP}/{VERSION}":
        found.append(f"apiVersion is {pool.get('apiVersion')}")
    PoolSpec.model_validate(pool["spec"])
    (version,) = custom_resource_definition()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    found += [f"spec has no field {name}" for name in _unknown(pool["spec"], schema, "")]
    return found


def _unknown(value: object, schema: Manifest, path: str) -> Iterator[str]:
    """Yield the fields of a value that a structural schema does not have."""
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, schema.get("items", {}), f"{path}[]")
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    open_ended = "additionalProperties" in schema or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    for name, member in value.items():
        if name in known:
            yield from _unknown(member, known[name], f"{path}.{name}")
        elif not open_ended:
            yield f"{path}.{name}".lstrip(".")
