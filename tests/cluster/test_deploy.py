"""The manifests of deploy/ on a real API server: admitted, and with the rights that are needed."""

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from computepool_api.ids import ComputeManagerID
from computepool_operator.jobs import build_job
from computepool_operator.names import PoolReference, job_name
from computepool_operator.pool import PoolSpec
from simulator.process import SimulatorProcess
from testcluster import kubeconfig
from testcluster.cluster import Cluster
from testcluster.errors import TestClusterError
from testcluster.processes import wait_until
from written.manifests import DEPLOY, EXAMPLES, OVERLAYS, ROOT, is_overlay_part, is_pool, read
from written.pages import PAGES, Page, page, pools_in

pytestmark = pytest.mark.cluster

BASE = DEPLOY / "base"
SINGLE = DEPLOY / "overlays" / "single-namespace"
SEVERAL = DEPLOY / "overlays" / "several-namespaces"
RENDERED = [ROOT / "crds", BASE, *OVERLAYS, DEPLOY / "argocd"]
ACCOUNT = "computepool-operator"
POOLS = "computepools.compute.alchemiscale.org"
Right = tuple[str, str]
CLUSTER_WIDE = f"system:serviceaccount:computepool-system:{ACCOUNT}"

# What the operator's code asks for: verb, resource, and a name where only that one is allowed.
NEEDED = [
    ("get", POOLS),
    ("list", POOLS),
    ("watch", POOLS),
    ("patch", POOLS),
    ("patch", f"{POOLS}/status"),
    ("get", "jobs.batch"),
    ("list", "jobs.batch"),
    ("watch", "jobs.batch"),
    ("create", "jobs.batch"),
    ("delete", "jobs.batch"),
    ("list", "pods"),
    ("watch", "pods"),
    ("get", "secrets"),
    ("get", "configmaps"),
    ("create", "events"),
    ("list", "events"),
]

# What it has no business with, in any namespace.
NOT_NEEDED = [
    ("create", POOLS),
    ("update", POOLS),
    ("delete", POOLS),
    ("update", f"{POOLS}/status"),
    ("update", f"{POOLS}/finalizers"),
    ("list", "secrets"),
    ("watch", "secrets"),
    ("create", "secrets"),
    ("patch", "secrets"),
    ("delete", "secrets"),
    ("list", "configmaps"),
    ("watch", "configmaps"),
    ("update", "configmaps"),
    ("get", "pods"),
    ("create", "pods"),
    ("delete", "pods"),
    ("patch", "pods"),
    ("create", "pods/exec"),
    ("create", "pods/eviction"),
    ("get", "pods/log"),
    ("patch", "jobs.batch"),
    ("update", "jobs.batch"),
    ("deletecollection", "jobs.batch"),
    ("patch", "jobs.batch/status"),
    ("watch", "events"),
    ("patch", "events"),
    ("delete", "leases.coordination.k8s.io"),
    ("list", "leases.coordination.k8s.io"),
    ("create", "serviceaccounts/token"),
    ("impersonate", "serviceaccounts"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("get", "persistentvolumeclaims"),
    ("get", "deployments.apps"),
    ("patch", "deployments.apps"),
]

# And none of these, which have no namespace.
NOT_NEEDED_AT_ALL = [
    ("get", "nodes"),
    ("list", "nodes"),
    ("list", "namespaces"),
    ("watch", "namespaces"),
    ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
]


def render(cluster: Cluster, path: Path) -> list[dict[str, Any]]:
    return read(cluster.kubectl("kustomize", str(path)))


def apply(cluster: Cluster, objects: list[dict[str, Any]], *options: str) -> None:
    cluster.kubectl("apply", *options, "-f", "-", input=yaml.safe_dump_all(objects))


def ensure_namespace(cluster: Cluster, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    options = ["--server-side", "--field-manager=test"]
    cluster.kubectl("apply", *options, "-f", "-", input=yaml.safe_dump(body))


@pytest.fixture(scope="module")
def installed(control_plane: Cluster) -> Cluster:
    """The cluster with deploy/base applied as docs/install.md says."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(BASE))
    control_plane.kubectl("wait", "--for=condition=Established", f"crd/{POOLS}", "--timeout=90s")
    return control_plane


@pytest.fixture
def confined(installed: Cluster, namespace: str, tmp_path: Path) -> str:
    """A namespace with the single-namespace overlay applied, by its one line to change."""
    apply(installed, render_in(installed, SINGLE, namespace, tmp_path))
    return namespace


def render_in(
    cluster: Cluster, overlay: Path, namespace: str, folder: Path
) -> list[dict[str, Any]]:
    """Render an overlay with another namespace, as an overlay of somebody's own does."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(overlay, folder.resolve())],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(cluster, folder.resolve())


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_kustomization_is_admitted(installed: Cluster, path: Path) -> None:
    objects = render(installed, path)
    for thing in objects:
        if namespace := thing["metadata"].get("namespace"):
            ensure_namespace(installed, namespace)
    apply(installed, objects, "--dry-run=server", "--validate=strict", "--server-side")


MOVABLE = [path for path in (BASE, *OVERLAYS) if path != SEVERAL]


@pytest.mark.parametrize("path", MOVABLE, ids=lambda path: path.name)
def test_an_overlay_of_ones_own_may_change_the_namespace(
    installed: Cluster, path: Path, tmp_path: Path
) -> None:
    objects = render_in(installed, path, "elsewhere", tmp_path)
    assert objects
    for thing in objects:
        if "namespace" in thing["metadata"]:
            assert thing["metadata"]["namespace"] == "elsewhere"
        for subject in thing.get("subjects", []):
            assert (subject["name"], subject["namespace"]) == (ACCOUNT, "elsewhere")


def test_the_single_namespace_overlay_asks_for_nothing_cluster_wide(installed: Cluster) -> None:
    objects = render(installed, SINGLE)
    assert {thing["metadata"].get("namespace") for thing in objects} == {"alchemiscale"}
    assert not any(thing["kind"].startswith("Cluster") for thing in objects)


def test_the_overlay_for_several_namespaces_serves_those_that_it_gives_rights_in(
    installed: Cluster,
) -> None:
    objects = render(installed, SEVERAL)
    assert not any(thing["kind"] == "ClusterRoleBinding" for thing in objects)
    given = {
        thing["metadata"]["namespace"]
        for thing in objects
        if thing["kind"] == "RoleBinding" and thing["roleRef"]["kind"] == "ClusterRole"
    }
    (deployment,) = [thing for thing in objects if thing["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert set(environment["COMPUTEPOOL_NAMESPACES"].split(",")) == given
    assert len(given) == 2


def test_the_overlay_that_the_documentation_shows_takes_its_own_image(
    installed: Cluster, tmp_path: Path
) -> None:
    (block,) = [
        b for b in page("docs/install.md").blocks("yaml") if "kind: Kustomization" in b.text
    ]
    (tmp_path / "alchemiscale-computepool").symlink_to(ROOT)
    mine = tmp_path / "my-cluster"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(block.text)
    objects = render(installed, mine)
    (deployment,) = [thing for thing in objects if thing["kind"] == "Deployment"]
    (image,) = yaml.safe_load(block.text)["images"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image['newName']}:{image['newTag']}"


PARTS = [
    document
    for block in page("docs/install.md").blocks("yaml")
    for document in read(block.text)
    if is_overlay_part(document) and "kind" not in document
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(part))
def test_what_the_documentation_adds_to_an_overlay_is_admitted(
    installed: Cluster, tmp_path: Path, part: dict[str, Any]
) -> None:
    (tmp_path / "alchemiscale-computepool").symlink_to(ROOT)
    mine = tmp_path / "my-cluster"
    mine.mkdir()
    base = "overlays/single-namespace" if "namespace" in part else "base"
    kustomization = {"resources": [f"../alchemiscale-computepool/deploy/{base}"], **part}
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = render(installed, mine)
    assert objects != render(installed, DEPLOY / base)
    ensure_namespace(installed, "alchemiscale")
    apply(installed, objects, "--dry-run=server", "--validate=strict", "--server-side")


def test_the_second_instance_goes_where_the_first_is(installed: Cluster, tmp_path: Path) -> None:
    (part,) = [part for part in PARTS if "components" in part]
    (tmp_path / "alchemiscale-computepool").symlink_to(ROOT)
    mine = tmp_path / "my-cluster"
    mine.mkdir()
    resources = ["../alchemiscale-computepool/deploy/overlays/single-namespace"]
    (mine / "kustomization.yaml").write_text(yaml.safe_dump({"resources": resources, **part}))
    objects = render(installed, mine)
    assert {thing["metadata"]["namespace"] for thing in objects} == {"alchemiscale"}
    (budget,) = [thing for thing in objects if thing["kind"] == "PodDisruptionBudget"]
    (deployment,) = [thing for thing in objects if thing["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 2
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_whoever_may_view_or_edit_a_namespace_may_do_the_same_to_its_pools(
    installed: Cluster, namespace: str
) -> None:
    looks = [(verb, POOLS) for verb in ("get", "list", "watch")]
    edits = [(verb, POOLS) for verb in ("create", "update", "patch", "delete")]
    edits += [("patch", f"{POOLS}/scale")]
    for role, allowed in {"view": looks, "edit": [*looks, *edits]}.items():
        binding = ["--clusterrole", role, "--user", f"{role}er", f"--namespace={namespace}"]
        installed.kubectl("create", "rolebinding", role, *binding)

        def agrees(role: str = role, allowed: list[Right] = allowed) -> bool:
            rights = [*looks, *edits, ("patch", f"{POOLS}/status")]
            return allowed_of(installed, f"{role}er", rights, namespace) == allowed

        wait_until(agrees, f"the rights of {role}", timeout=60)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_admitted(installed: Cluster, namespace: str, path: Path) -> None:
    options = ["--dry-run=server", "--validate=strict", f"--namespace={namespace}"]
    installed.kubectl("apply", *options, "-f", str(path))


@pytest.mark.parametrize("shown", [p for p in PAGES if pools_in(p)], ids=lambda p: p.name)
def test_every_pool_in_the_documentation_is_admitted(
    installed: Cluster, namespace: str, shown: Page
) -> None:
    for pool in pools_in(shown):
        pool["metadata"]["namespace"] = namespace
        apply(installed, [pool], "--dry-run=server", "--validate=strict")


def review(user: str, right: Right, namespace: str, name: str) -> dict[str, Any]:
    """The question whether a user has a right."""
    verb, resource = right
    resource, _, subresource = resource.partition("/")
    plural, _, group = resource.partition(".")
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user,
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "verb": verb,
                "group": group,
                "resource": plural,
                "subresource": subresource,
                "namespace": namespace,
                "name": name,
            },
        },
    }


def allowed_of(
    cluster: Cluster, user: str, rights: list[Right], namespace: str, name: str = ""
) -> list[Right]:
    """Ask the API server which of these rights a user has; namespace "": outside of any."""
    reviews = yaml.safe_dump_all(review(user, right, namespace, name) for right in rights)
    form = '-o=jsonpath={.status.allowed}{"\\n"}'
    answers = cluster.kubectl("create", "-f", "-", form, input=reviews).splitlines()
    assert set(answers) <= {"true", "false"}
    return [right for right, answer in zip(rights, answers, strict=True) if answer == "true"]


def test_the_operator_may_do_what_it_does_in_every_namespace(
    installed: Cluster, namespace: str
) -> None:
    assert allowed_of(installed, CLUSTER_WIDE, NEEDED, namespace) == NEEDED


@pytest.mark.parametrize("where", ["a namespace", "computepool-system"])
def test_the_operator_may_do_nothing_else(installed: Cluster, namespace: str, where: str) -> None:
    place = namespace if where == "a namespace" else where
    assert allowed_of(installed, CLUSTER_WIDE, NOT_NEEDED, place) == []
    assert allowed_of(installed, CLUSTER_WIDE, NOT_NEEDED_AT_ALL, "") == []


def test_the_operator_may_hold_its_own_lease_and_no_other(
    installed: Cluster, namespace: str
) -> None:
    leases = "leases.coordination.k8s.io"
    rights = [("get", leases), ("update", leases)]
    own = "computepool-system"
    creation = [("create", leases)]
    assert allowed_of(installed, CLUSTER_WIDE, creation, own) == creation
    assert allowed_of(installed, CLUSTER_WIDE, rights, own, ACCOUNT) == rights
    assert allowed_of(installed, CLUSTER_WIDE, rights, own, "another") == []
    assert allowed_of(installed, CLUSTER_WIDE, rights, namespace, ACCOUNT) == []
    assert allowed_of(installed, CLUSTER_WIDE, creation, "kube-system") == []


def test_a_confined_operator_may_do_the_same_in_its_namespace_and_nothing_elsewhere(
    installed: Cluster, confined: str
) -> None:
    user = f"system:serviceaccount:{confined}:{ACCOUNT}"
    assert allowed_of(installed, user, NEEDED, confined) == NEEDED
    assert allowed_of(installed, user, NOT_NEEDED, confined) == []
    assert allowed_of(installed, user, [*NEEDED, *NOT_NEEDED], "kube-system") == []
    assert allowed_of(installed, user, [*NEEDED, *NOT_NEEDED_AT_ALL], "") == []


def operators_pod(objects: list[dict[str, Any]], namespace: str) -> dict[str, Any]:
    (deployment,) = [thing for thing in objects if thing["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "operator", "namespace": namespace}
    spec = {**template["spec"], "serviceAccountName": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("path", [BASE, *OVERLAYS], ids=lambda path: path.name)
def test_the_operators_pod_passes_the_restricted_standard(
    installed: Cluster, namespace: str, path: Path
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    installed.kubectl("label", "namespace", namespace, label)
    pod = operators_pod(render(installed, path), namespace)
    apply(installed, [pod], "--dry-run=server")
    pod["spec"]["securityContext"].pop("seccompProfile")
    with pytest.raises(TestClusterError, match=r"violates PodSecurity.*seccompProfile"):
        apply(installed, [pod], "--dry-run=server")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_workers_of_every_example_pass_the_restricted_standard(
    installed: Cluster, namespace: str, path: Path
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    installed.kubectl("label", "namespace", namespace, label)
    manager = ComputeManagerID.new("test", uuid.uuid4())
    for pool in filter(is_pool, read(path.read_text())):
        reference = PoolReference(namespace, pool["metadata"]["name"], str(uuid.uuid4()), 1)
        spec = PoolSpec.model_validate(pool["spec"])
        job = build_job(reference, spec, manager, job_name(reference.name, "test"))
        apply(installed, [job], "--dry-run=server", "--validate=strict")
        template = job["spec"]["template"]
        template["spec"].pop("priorityClassName", None)  # an example has one that is not there
        metadata = {**template["metadata"], "name": "worker", "namespace": namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        apply(installed, [pod], "--dry-run=server")


def test_the_operators_namespace_enforces_the_restricted_standard(installed: Cluster) -> None:
    here = "--namespace=computepool-system"
    namespace = json.loads(installed.kubectl("get", "namespace", "computepool-system", "-o=json"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    selector = "--selector=app.kubernetes.io/name=computepool-operator"
    installed.kubectl("wait", "--for=create", "pod", selector, here, "--timeout=90s")


@contextmanager
def running_operator(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Path]:
    """Run the operator for one namespace under its own account; yield the file of its log."""
    token = cluster.kubectl("create", "token", ACCOUNT, f"--namespace={namespace}").strip()
    admin = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = admin["certificate-authority-data"]
    document = json.loads(kubeconfig.document(admin["server"], b"", ACCOUNT, token))
    document["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    config = folder / "operator.kubeconfig"
    config.write_text(json.dumps(document))
    environment = {
        **os.environ,
        "KUBECONFIG": str(config),
        "COMPUTEPOOL_NAMESPACES": namespace,
        "COMPUTEPOOL_LEASE_NAMESPACE": namespace,
        "COMPUTEPOOL_IDENTITY": "under-test",
    }
    log = folder / "operator.log"
    command = [sys.executable, "-m", "computepool_operator", "--health-port=0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            yield log
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_the_operator_needs_no_right_that_it_does_not_have(
    installed: Cluster, confined: str, tmp_path: Path
) -> None:
    """Its whole life under the ServiceAccount of deploy/: the Lease, a pool, Jobs, the end."""
    here = f"--namespace={confined}"
    (pool,) = read((DEPLOY / "examples" / "pool.yaml").read_text())
    pool["metadata"]["namespace"] = confined
    pool["spec"] |= {"maxComputeServices": 1, "job": {"keepSucceeded": 0}}
    authority = yaml.safe_load(installed.kubeconfig.read_text())["clusters"][0]["cluster"]
    with (
        SimulatorProcess() as server,
        running_operator(installed, confined, tmp_path) as log,
    ):
        server.admin.add_tasks(2)
        pool["spec"]["computeAPI"] |= {
            "url": server.url,
            "caBundleRef": {"name": "authority", "key": "ca.crt"},
        }
        credentials = [f"--from-literal=identifier={server.identifier}"]
        credentials += [f"--from-literal=key={server.key}"]
        secret = pool["spec"]["computeAPI"]["credentialsSecretRef"]["name"]
        installed.kubectl("create", "secret", "generic", secret, here, *credentials)
        bundle = tmp_path / "ca.crt"
        bundle.write_bytes(base64.b64decode(authority["certificate-authority-data"]))
        installed.kubectl("create", "configmap", "authority", here, f"--from-file={bundle}")
        apply(installed, [pool])

        def wait(condition: str, what: str = "computepool/a100") -> None:
            installed.kubectl("wait", f"--for={condition}", what, here, "--timeout=90s")

        wait("condition=Ready")
        wait("jsonpath={.status.workers.active}=1")
        assert [manager.name for manager in server.admin.managers()] == [f"{mapped(confined)}.a100"]

        jobs = json.loads(installed.kubectl("get", "jobs", here, "-o", "json"))["items"]
        end_job(installed, confined, jobs[0]["metadata"]["name"])
        wait("delete", f"job/{jobs[0]['metadata']['name']}")
        wait("jsonpath={.status.workers.succeeded}=1")
        assert installed.kubectl("diff", "-f", "-", input=yaml.safe_dump(pool)) == ""

        installed.kubectl("delete", "computepool", "a100", here, "--timeout=90s")
        assert server.admin.managers() == []
        assert installed.kubectl("get", "jobs", here, "-o", "name") == ""
        events = json.loads(installed.kubectl("get", "events", here, "-o", "json"))["items"]
    told = {e["reason"] for e in events if e["involvedObject"]["name"] == "a100"}
    assert {"Pending", "WorkersCreated"} <= told
    text = log.read_text()
    assert "forbidden" not in text.lower(), text
    assert "403" not in text, text


def mapped(namespace: str) -> str:
    return namespace.replace("-", "_")


def end_job(cluster: Cluster, namespace: str, job: str) -> None:
    """Let the pod of a Job have succeeded, as a kubelet would say it."""
    here = f"--namespace={namespace}"
    selector = f"--selector=batch.kubernetes.io/job-name={job}"
    cluster.kubectl("wait", "--for=create", "pod", selector, here, "--timeout=90s")
    pod = cluster.kubectl("get", "pod", selector, here, "-o", "name").strip()
    status = {"status": {"phase": "Succeeded"}}
    options = ["--subresource=status", "--type=merge", "-p", json.dumps(status)]
    cluster.kubectl("patch", pod, here, *options)
