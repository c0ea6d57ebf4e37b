"""The manifests of deploy/, as far as they can be judged without a cluster."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from computepool_operator.pool import GROUP
from written.manifests import (
    DEPLOY,
    EXAMPLES,
    ROOT,
    SETTINGS_FILES,
    complaints,
    is_pool,
    read,
)

MANIFESTS = set(DEPLOY.rglob("*.yaml")) - set(SETTINGS_FILES)
ALL = sorted([*MANIFESTS, ROOT / "crds" / "kustomization.yaml"])
KUSTOMIZATIONS = [path for path in ALL if path.name == "kustomization.yaml"]
POOLS = [
    pytest.param(document, id=f"{path.name}: {document['metadata']['name']}")
    for path in ALL
    for document in read(path.read_text())
    if is_pool(document)
]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ALL, ids=name)
def test_every_file_holds_objects_of_kubernetes(path: Path) -> None:
    documents = read(path.read_text())
    assert documents
    for document in documents:
        assert document["apiVersion"]
        assert document["kind"]
        if document["kind"] not in ("Kustomization", "Component"):
            assert document["metadata"]["name"]


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_is_one(pool: dict[str, object]) -> None:
    assert complaints(pool) == []


def test_a_misspelt_field_of_a_pool_is_noticed() -> None:
    (pool,) = read((DEPLOY / "examples" / "pool.yaml").read_text())
    pool["spec"]["worker"]["gpus"] = pool["spec"]["worker"].pop("gpu")
    assert complaints(pool) == ["spec has no field worker.gpus"]


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_examples_leave_the_namespace_to_whoever_applies_them(path: Path) -> None:
    for document in read(path.read_text()):
        assert "namespace" not in document["metadata"]


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_examples_hold_no_credentials(path: Path) -> None:
    for document in read(path.read_text()):
        if document["kind"] == "Secret":
            values = re.findall(r"(?:identifier|key):\s*(\S+)", yaml.safe_dump(document))
            assert len(values) == 2
            assert all(value.startswith("REPLACE-WITH-") for value in values)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=name)
def test_kustomizations_use_every_manifest_beside_them(path: Path) -> None:
    kustomization = yaml.safe_load(path.read_text())
    resources = kustomization.get("resources", [])
    for resource in resources:
        assert (path.parent / resource).exists(), resource
    beside = {other.name for other in path.parent.glob("*.yaml")} - {path.name}
    not_applied = {"application.yaml"}  # an example for Argo CD, to be changed first
    assert beside - not_applied == {r for r in resources if not r.startswith("..")}


def test_images_have_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = "\n".join(path.read_text() for path in ALL)
    tags = re.findall(r"newTag: (\S+)|worker:(v[\d.]+)|targetRevision: (v[\d.]+)", text)
    assert len(tags) > 8
    assert {next(filter(None, tag)) for tag in tags} == {f"v{version}"}


def test_argo_cd_finds_the_health_of_a_pool_by_its_group_and_kind() -> None:
    kustomization = yaml.safe_load((DEPLOY / "argocd" / "kustomization.yaml").read_text())
    (generator,) = kustomization["configMapGenerator"]
    key, _, file = generator["files"][0].partition("=")
    assert generator["name"] == "argocd-cm"
    assert key == f"resource.customizations.health.{GROUP}_AlchemiscaleComputePool"
    assert (DEPLOY / "argocd" / file).exists()
