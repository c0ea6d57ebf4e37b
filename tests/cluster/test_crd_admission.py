"""What a real API server makes of pools: refused with advice, or stored and readable."""

import copy
import json
import re
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from computepool_api.ids import ComputeManagerID
from computepool_operator.crd.manifest import custom_resource_definition
from computepool_operator.crd.pod_schemas import PRESERVE
from computepool_operator.jobs import build_job
from computepool_operator.names import PoolReference, job_name
from computepool_operator.pool import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    Condition,
    PoolSpec,
    PoolStatus,
)
from testcluster.cluster import Cluster
from testcluster.errors import TestClusterError
from written.merging import merged

pytestmark = pytest.mark.cluster

Body = dict[str, Any]
DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "computepools.yaml"
EXAMPLES = ROOT / "deploy" / "examples"
PLACEHOLDER = re.compile(r"\{(\d+) (characters|scopes)\}")


def filled_out(value: Any) -> Any:
    """Replace placeholders such as `{65 scopes}` by so many."""
    match value:
        case dict():
            return {key: filled_out(member) for key, member in value.items()}
        case list():
            return [filled_out(item) for item in value]
        case str() if found := PLACEHOLDER.search(value):
            count = int(found[1])
            if found[2] == "scopes":
                return [f"org-campaign-p{number}" for number in range(count)]
            return value.replace(found[0], "x" * count)
    return value


def cases(file: str) -> list[Any]:
    return [
        pytest.param(filled_out(case), id=case["name"])
        for case in yaml.safe_load((DATA / file).read_text("utf-8"))
    ]


def pool(patch: Body | None = None) -> Body:
    minimal = yaml.safe_load((DATA / "minimal_pool.yaml").read_text("utf-8"))
    body: Body = merged(minimal, patch or {})
    return body


class Pools:
    """The pools of one namespace, spoken to as kubectl does: unknown fields are errors."""

    def __init__(self, api: Any, namespace: str) -> None:
        self.api = api
        self.place = (GROUP, VERSION, namespace, PLURAL)

    def create(self, body: Body, *, dry_run: bool = False) -> Body:
        stored: Body = self.api.create_namespaced_custom_object(
            *self.place, body, dry_run="All" if dry_run else None, field_validation="Strict"
        )
        return stored

    def read(self, name: str) -> Body:
        stored: Body = self.api.get_namespaced_custom_object(*self.place, name)
        return stored

    def replace(self, body: Body) -> Body:
        stored: Body = self.api.replace_namespaced_custom_object(
            *self.place, body["metadata"]["name"], body, field_validation="Strict"
        )
        return stored

    def replace_status(self, name: str, status: Body) -> Body:
        body = {**self.read(name), "status": status}
        stored: Body = self.api.replace_namespaced_custom_object_status(
            *self.place, name, body, field_validation="Strict"
        )
        return stored


@pytest.fixture(scope="module")
def api(control_plane: Cluster) -> Iterator[Any]:
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    name = f"customresourcedefinition/{PLURAL}.{GROUP}"
    control_plane.kubectl("wait", "--for=condition=Established", name)
    connect: Any = config.new_client_from_config  # untyped there
    connection = connect(str(control_plane.kubeconfig))
    yield client.CustomObjectsApi(connection)
    connection.close()


@pytest.fixture(scope="module")
def default_pools(api: Any) -> Pools:
    """For dry runs, which leave nothing behind."""
    return Pools(api, "default")


@pytest.fixture
def pools(api: Any, namespace: str) -> Pools:
    return Pools(api, namespace)


def refusal(error: ApiException) -> tuple[str, set[str]]:
    """Return the message of a refusal and the fields that it blames, as far as it names them."""
    status = json.loads(str(error.body))
    causes = status.get("details", {}).get("causes", [])
    return status["message"], {cause["field"].removeprefix(".") for cause in causes} - {"<nil>"}


# Admission


@pytest.mark.parametrize("case", cases("invalid_pools.yaml"))
def test_refused_with_advice(case: Body, default_pools: Pools) -> None:
    with pytest.raises(ApiException) as caught:
        default_pools.create(pool(case["patch"]), dry_run=True)
    message, blamed = refusal(caught.value)
    assert caught.value.status in (400, 422)
    for words in case["says"]:
        assert words in message
    where = case.get("where", [])
    assert blamed == set([where] if isinstance(where, str) else where)


def test_every_rule_is_broken_by_some_pool(default_pools: Pools) -> None:
    said = []
    for case in cases("invalid_pools.yaml"):
        with pytest.raises(ApiException) as caught:
            default_pools.create(pool(case.values[0]["patch"]), dry_run=True)
        said.append(refusal(caught.value)[0])
    for message in messages_of_rules(custom_resource_definition()):
        if "managerName cannot be changed" not in message:  # below, as it takes two pools
            assert any(message in text for text in said), message


def messages_of_rules(value: Any) -> Iterator[str]:
    match value:
        case {"x-kubernetes-validations": rules}:
            yield from (rule["message"] for rule in rules)
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from messages_of_rules(member)


@pytest.mark.parametrize("case", cases("valid_pools.yaml"))
def test_accepted_and_read_as_it_was_written(case: Body, default_pools: Pools) -> None:
    written = pool(case["patch"])
    stored = default_pools.create(written, dry_run=True)
    assert merged(stored["spec"], written["spec"]) == stored["spec"], "nothing was pruned"
    assert PoolSpec.model_validate(stored["spec"]) == PoolSpec.model_validate(written["spec"])


def example_pools() -> list[Any]:
    return [
        pytest.param(document, id=f"{path.name}: {document['metadata']['name']}")
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text("utf-8"))
        if document["kind"] == KIND
    ]


@pytest.mark.parametrize("body", example_pools())
def test_the_examples_are_accepted(body: Body, default_pools: Pools) -> None:
    metadata = {**body["metadata"], "namespace": "default"}
    default_pools.create({**body, "metadata": metadata}, dry_run=True)


@pytest.mark.parametrize("case", cases("valid_pools.yaml"))
def test_the_job_of_an_accepted_pool_is_accepted(case: Body, default_pools: Pools) -> None:
    stored = default_pools.create(pool(case["patch"]), dry_run=True)
    name = stored["metadata"]["name"]
    job = build_job(
        PoolReference("default", name, stored["metadata"]["uid"], 1),
        PoolSpec.model_validate(stored["spec"]),
        ComputeManagerID.new("lab.a100", uuid.UUID(int=1)),
        job_name(name, "x" * 12),
    )
    # The typed client refuses quantities that are numbers; the API server does not.
    default_pools.api.create_namespaced_custom_object(
        "batch", "v1", "default", "jobs", job, dry_run="All", field_validation="Strict"
    )


def test_the_table_is_large_enough_and_its_names_are_unique() -> None:
    for file, least in (("invalid_pools.yaml", 60), ("valid_pools.yaml", 20)):
        names = [case.id for case in cases(file)]
        assert len(names) == len(set(names)) >= least


def test_the_valid_pools_set_every_field() -> None:
    specs = [pool(case.values[0]["patch"])["spec"] for case in cases("valid_pools.yaml")]
    (version,) = custom_resource_definition()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set().union(*map(paths_of_value, specs)) >= set(paths_of_schema(schema))


def paths_of_schema(schema: Body, path: str = "") -> Iterator[str]:
    """Yield the fields that we define, down to the objects that Kubernetes defines."""
    for name, member in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        if PRESERVE not in member:
            yield from paths_of_schema(member, f"{path}.{name}")


def paths_of_value(value: Any, path: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {path}
    return {path}.union(*(paths_of_value(member, f"{path}.{key}") for key, member in value.items()))


def test_defaults_are_those_of_the_models(default_pools: Pools) -> None:
    stored = default_pools.create(pool(), dry_run=True)
    models = PoolSpec.model_validate(pool()["spec"]).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    assert stored["spec"] == models


def test_a_null_is_as_good_as_nothing(default_pools: Pools) -> None:
    written = pool()
    written["spec"] |= {"drainTimeout": None, "managerName": None, "job": None}
    written["spec"]["worker"] |= {"spool": None, "maxTime": None, "gpu": None}
    stored = default_pools.create(written, dry_run=True)
    assert stored["spec"] == default_pools.create(pool(), dry_run=True)["spec"]


def test_a_generated_name_is_measured_too(default_pools: Pools) -> None:
    body = pool()
    body["metadata"] = {"generateName": "x" * 45 + "-"}
    with pytest.raises(ApiException, match="at most 50 characters"):
        default_pools.create(body, dry_run=True)


# managerName


def test_a_manager_name_stays(pools: Pools) -> None:
    body = pools.create(pool({"spec": {"managerName": "lab.a100"}}))
    for other in ("lab.h100", ""):
        with pytest.raises(ApiException) as caught:
            pools.replace(merged(body, {"spec": {"managerName": other}}))
        message, _ = refusal(caught.value)
        assert "cannot be changed once it is set" in message
        assert "create another pool and delete this one" in message
    body = pools.replace(merged(body, {"spec": {"maxComputeServices": 2}}))
    assert body["spec"]["managerName"] == "lab.a100"


def test_a_manager_name_can_be_chosen_until_the_pool_has_registered(pools: Pools) -> None:
    body = pools.create(pool())
    pools.replace(merged(body, {"spec": {"managerName": "lab.early"}}))


def test_a_registered_pool_keeps_the_name_it_was_registered_under(pools: Pools) -> None:
    pools.create(pool())
    status = PoolStatus(compute_manager_id=f"alchemiscale.a100-{'0' * 32}").to_body()
    body = pools.replace_status("a100", status)
    with pytest.raises(ApiException, match="or the pool has registered"):
        pools.replace(merged(body, {"spec": {"managerName": "lab.late"}}))
    with pytest.raises(ApiException, match="or the pool has registered"):
        pools.replace(merged(body, {"spec": {"managerName": "alchemiscale"}}))
    body = pools.replace(merged(body, {"spec": {"managerName": "alchemiscale.a100"}}))
    assert body["spec"]["managerName"] == "alchemiscale.a100"


# Status


def example(schema: Body) -> Any:
    """Make a value that sets everything that a schema knows."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: example(member) for name, member in schema["properties"].items()}
        case "array":
            return [example(schema["items"])]
        case "string" if schema.get("format") == "date-time":
            return "2026-03-01T12:00:00Z"
        case "string":
            return "x" * min(schema["maxLength"], 8)
        case "integer":
            return 7
        case "boolean":
            return True
    raise AssertionError(schema)


def test_a_status_with_every_field_comes_back_unpruned(pools: Pools) -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    full = example(version["schema"]["openAPIV3Schema"]["properties"]["status"])
    status = PoolStatus.model_validate(full)
    assert status.to_body() == full, "the models know every field"
    pools.create(pool())
    pools.replace_status("a100", status.to_body())
    stored = pools.read("a100")
    assert stored["status"] == full
    assert PoolStatus.of(stored) == status


def test_the_status_of_a_new_pool_is_accepted_and_leaves_out_what_is_unknown(
    pools: Pools,
) -> None:
    pools.create(pool())
    pools.replace_status("a100", PoolStatus().to_body())
    stored = pools.read("a100")
    assert "instruction" not in stored["status"]
    assert "lastCycleTime" not in stored["status"]
    assert PoolStatus.of(stored) == PoolStatus()


def test_texts_of_any_length_are_storable(pools: Pools) -> None:
    condition = Condition(
        type="Ready",
        status="False",
        reason="ComputeAPIUnavailable",
        message="ä" * 100_000,
        last_transition_time=datetime(2026, 3, 1, tzinfo=UTC),
    )
    pools.create(pool())
    pools.replace_status("a100", PoolStatus(conditions=(condition,)).to_body())
    assert pools.read("a100")["status"]["conditions"][0]["message"].endswith("ä…")


def test_a_status_is_not_taken_from_whoever_writes_the_spec(pools: Pools) -> None:
    body = pool()
    body["status"] = {"reason": "Made up"}
    assert "status" not in pools.create(body)


# What people type


def condition_ready() -> Condition:
    return Condition(
        type="Ready",
        status="True",
        reason="WorkersRunning",
        last_transition_time=datetime(2026, 3, 1, tzinfo=UTC),
    )


def story() -> PoolStatus:
    return PoolStatus.model_validate(
        {
            "conditions": [condition_ready()],
            "reason": "WorkersRunning",
            "computeManagerID": f"alchemiscale.a100-{'0' * 32}",
            "instruction": "OK",
            "tasks": {"waiting": 12},
            "workers": {"active": 8},
            "saturation": "0.50",
            "selector": "compute.alchemiscale.org/pool=a100",
            "lastCycleTime": datetime.now(UTC),
        }
    )


def test_get_shows_the_columns_of_the_design(
    pools: Pools, control_plane: Cluster, namespace: str
) -> None:
    pools.create(pool())
    pools.replace_status("a100", story().to_body())
    header, row = control_plane.kubectl("get", "computepools", "-n", namespace).splitlines()
    assert " ".join(header.split()) == "NAME READY REASON TASKS ACTIVE MAX SATURATION AGE"
    assert " ".join(row.split()).startswith("a100 True WorkersRunning 12 8 16 0.50 ")
    header, row = control_plane.kubectl(
        "get", "alchemiscale", "-n", namespace, "-o", "wide"
    ).splitlines()
    assert re.split(r"  +", header.strip())[8:] == ["INSTRUCTION", "MANAGER", "URL", "LAST CYCLE"]
    assert re.split(r"  +", row.strip())[8:11] == [
        "OK",
        f"alchemiscale.a100-{'0' * 32}",
        "https://compute.alchemiscale.example.org",
    ]


def test_short_and_singular_names(pools: Pools, control_plane: Cluster, namespace: str) -> None:
    pools.create(pool())
    for kind in ("acp", "computepool", "computepools"):
        found = control_plane.kubectl("get", kind, "a100", "-n", namespace, "-o", "name")
        assert found.strip() == "alchemiscalecomputepool.compute.alchemiscale.org/a100"


def test_scale_sets_the_maximum_and_obeys_its_limits(
    pools: Pools, control_plane: Cluster, namespace: str
) -> None:
    pools.create(pool())
    pools.replace_status("a100", story().to_body())
    control_plane.kubectl("scale", "computepool", "a100", "--replicas=2", "-n", namespace)
    assert pools.read("a100")["spec"]["maxComputeServices"] == 2
    scale = pools.api.get_namespaced_custom_object_scale(*pools.place, "a100")
    assert scale["spec"]["replicas"] == 2
    assert scale["status"] == {
        "replicas": 8,
        "selector": "compute.alchemiscale.org/pool=a100",
    }
    with pytest.raises(TestClusterError, match="less than or equal to 1000"):
        control_plane.kubectl("scale", "computepool", "a100", "--replicas=2000", "-n", namespace)


def test_wait_for_ready(pools: Pools, control_plane: Cluster, namespace: str) -> None:
    pools.create(pool())
    pools.replace_status("a100", story().to_body())
    said = control_plane.kubectl(
        "wait", "--for=condition=Ready", "computepool/a100", "-n", namespace, "--timeout=60s"
    )
    assert "condition met" in said


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("computepool", "A pool of workers for an alchemiscale server."),
        ("computepool.spec.worker", "claimLimit"),
        ("computepool.spec.worker", "Tasks that a worker claims at once."),
        ("computepool.spec.worker.spool", "persistentVolumeClaim"),
        ("computepool.spec.worker.podTemplate.spec", "Any field of a PodSpec"),
        ("computepool.status.workers", "their pods being Ready"),
        ("computepool.status.conditions.reason", "from the closed list in the runbook"),
    ],
)
def test_explain(control_plane: Cluster, path: str, words: str) -> None:
    assert words in " ".join(control_plane.kubectl("explain", path).split())


def until_refused(pools: Pools, body: Body) -> None:
    """Wait until the API server follows a definition that refuses a pool."""
    for _ in range(100):
        try:
            pools.create(body, dry_run=True)
        except ApiException:
            return
        time.sleep(0.05)
    pytest.fail("the API server still accepts what the new definition refuses")


def test_a_pool_under_rules_that_came_later_can_still_be_worked_with(
    pools: Pools, control_plane: Cluster
) -> None:
    """A newer definition must not keep the operator from a pool that was admitted before it."""
    stricter = copy.deepcopy(custom_resource_definition())
    spec = stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["worker"]["properties"]["image"]["maxLength"] = 8
    body = pools.create(pool())
    definition = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    control_plane.kubectl(*definition, input=json.dumps(stricter))
    try:
        until_refused(pools, pool({"metadata": {"name": "another"}}))
        body["metadata"]["finalizers"] = ["compute.alchemiscale.org/clean-exit"]
        body = pools.replace(body)
        pools.replace_status("a100", story().to_body())
        body = pools.replace(merged(pools.read("a100"), {"metadata": {"finalizers": None}}))
        assert "finalizers" not in body["metadata"]
    finally:
        control_plane.kubectl(*definition, input=json.dumps(custom_resource_definition()))
