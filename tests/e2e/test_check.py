"""deploy/examples/hosts/check-job.yaml on a real node: it has all that a check needs."""

from __future__ import annotations

import pytest
import yaml

from e2e.scene import Scene
from stage.images import STANDIN_TAG
from written.manifests import HOSTS, Manifest, read

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CHECK = "job/computepool-check"


def check_job(scene: Scene, **changes: str) -> list[Manifest]:
    """Return the example with this cluster's node, image and server; the image has a stand-in."""
    text = (HOSTS / "check-job.yaml").read_text()
    (node,) = scene.get("nodes")["items"]
    for old, new in {
        "https://compute.alchemiscale.example.org": scene.server.url,
        "gpu-node-7": node["metadata"]["labels"]["kubernetes.io/hostname"],
        **changes,
    }.items():
        assert old in text
        text = text.replace(old, new)
    documents = read(text)
    (container,) = documents[1]["spec"]["template"]["spec"]["containers"]
    container["image"] = STANDIN_TAG
    container["imagePullPolicy"] = "Never"
    return documents


def run(scene: Scene, documents: list[Manifest], ends: str) -> str:
    here = f"--namespace={scene.namespace}"
    scene.cluster.kubectl("create", here, "-f", "-", input=yaml.safe_dump_all(documents))
    scene.kubectl("wait", CHECK, f"--for=condition={ends}", "--timeout=90s")
    said = scene.kubectl("logs", CHECK)
    scene.cluster.kubectl("delete", here, "-f", "-", input=yaml.safe_dump_all(documents))
    return said


def test_a_node_that_works_and_a_server_that_does_not_answer(scene: Scene) -> None:
    scene.admin.add_tasks(1)
    said = run(scene, check_job(scene), "Complete")
    assert said.splitlines()[-1] == "A worker can claim Tasks here."
    assert "device=stand-in" in said
    assert scene.admin.services() == []
    assert scene.admin.counts() == {"waiting": 1}
    away = {scene.server.url: "http://127.0.0.1:9"}
    said = run(scene, check_job(scene, **away), "Failed")
    assert said.splitlines()[-1] == "A worker would end with APIUnreachable, exit code 13."
    assert scene.server.key not in said
