"""What holds of everything the operator writes, whatever has been observed and demanded."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from unit.operator.builders import NOON, make_spec
from unit.operator.pod_security import violations
from unit.operator.strategies import fleets, situations, specs

from computepool_api.ids import ComputeManagerID
from computepool_operator.crd.manifest import custom_resource_definition
from computepool_operator.jobs import build_job
from computepool_operator.memory import Crashes, Memory
from computepool_operator.names import (
    POOL_UID_LABEL,
    SETTINGS_ANNOTATION,
    PoolReference,
    pool_selector,
)
from computepool_operator.orders import Orders
from computepool_operator.plan import Observation, Unknown, plan
from computepool_operator.pool import PoolSpec, PoolStatus
from computepool_operator.removal import plan_removal
from computepool_operator.status import Facts, build_status, recall
from computepool_operator.workers import Worker, WorkerState

POOL = PoolReference("lab", "a100", "7dd7aaf9-5071-4384-a107-2924ea1485f5", generation=3)
MANAGER = ComputeManagerID("lab.a100-d06a26067fa64217bf0781e0aaf2f45b")

(_VERSION,) = custom_resource_definition()["spec"]["versions"]
STATUS = Draft202012Validator(_VERSION["schema"]["openAPIV3Schema"]["properties"]["status"])

words = st.text(min_size=1, max_size=20)
names = st.sampled_from(["HTTPS_PROXY", "OMP_NUM_THREADS", "NVIDIA_VISIBLE_DEVICES"])
templates = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(st.sampled_from(["team", "cost"]), words, max_size=2),
                "annotations": st.dictionaries(st.sampled_from(["note", "why"]), words),
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "nodeSelector": st.dictionaries(st.sampled_from(["gpu", "zone"]), words),
                "priorityClassName": words,
                "runtimeClassName": words,
                "terminationGracePeriodSeconds": st.integers(1, 3600),
                "volumes": st.just([{"name": "cache", "emptyDir": {}}]),
                "containers": st.builds(
                    lambda env: [
                        {
                            "name": "worker",
                            "env": [{"name": name, "value": "1"} for name in sorted(env)],
                            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                        }
                    ],
                    st.sets(names),
                ),
            },
        ),
    },
)
orders = st.builds(
    Orders,
    avoid_nodes=st.lists(words, max_size=3, unique=True).map(tuple),
    poison=st.lists(
        st.builds(Crashes, st.just("Task-1-a-b-c"), st.integers(1, 9), st.just(NOON), st.text()),
        max_size=5,
    ).map(tuple),
)


def written(situation: tuple[PoolSpec, Observation, Memory], before: PoolStatus) -> PoolStatus:
    """The status after one cycle."""
    spec, observation, memory = situation
    decided = plan(spec, observation, memory, NOON)
    known = not isinstance(observation.instruction, Unknown)
    facts = Facts(
        generation=observation.generation,
        verdict=decided.verdict,
        memory=decided.memory,
        manager_id=str(MANAGER),
        selector=pool_selector(POOL.uid),
        counts=decided.counts,
        max_workers=spec.max_compute_services,
        registered=True if known else None,
        saturation=decided.saturation,
        completed=known,
    )
    return build_status(before, facts, NOON)


@given(situations())
def test_every_status_is_one_that_the_api_server_takes(
    situation: tuple[PoolSpec, Observation, Memory],
) -> None:
    body = {k: v for k, v in written(situation, PoolStatus()).to_body().items() if v is not None}
    for part in ("tasks", "circuit"):
        body[part] = {key: value for key, value in body[part].items() if value is not None}
    assert [error.message for error in STATUS.iter_errors(body)] == []


@given(situations())
def test_the_next_operator_decides_as_this_one_would(
    situation: tuple[PoolSpec, Observation, Memory],
) -> None:
    spec, observation, _memory = situation
    status = written(situation, PoolStatus())
    mine = plan(spec, observation, plan(*situation, NOON).memory, NOON)
    read = recall(PoolStatus.model_validate(json.loads(json.dumps(status.to_body()))))
    theirs = plan(spec, observation, read, NOON)
    assert (theirs.create_workers, theirs.verdict) == (mine.create_workers, mine.verdict)
    assert (theirs.saturation, theirs.error) == (mine.saturation, mine.error)
    assert {worker.name for worker in theirs.prune} == {worker.name for worker in mine.prune}
    assert {worker.name for worker in theirs.remove} == {worker.name for worker in mine.remove}
    assert set(theirs.reap) == set(mine.reap)


@given(templates, orders, st.integers(0, 4))
def test_every_pod_is_restricted_labelled_and_without_a_secret(
    template: dict[str, Any], ordered: Orders, gpus: int
) -> None:
    worker = {
        "pod_template": template,
        "gpu": {"resource": "nvidia.com/gpu", "count": gpus},
        "openmm_platform": "CUDA" if gpus else "CPU",
    }
    job = build_job(POOL, make_spec(worker=worker), MANAGER, "a100-46v8mb2q", ordered)
    made = job["spec"]["template"]
    assert violations(made["spec"]) == []
    assert made["spec"]["automountServiceAccountToken"] is False
    for labels in (job["metadata"]["labels"], made["metadata"]["labels"]):
        assert labels[POOL_UID_LABEL] == POOL.uid
    settings = json.loads(made["metadata"]["annotations"][SETTINGS_ANNOTATION])
    assert settings.keys().isdisjoint({"identifier", "key"})
    env = [entry for c in made["spec"]["containers"] for entry in c.get("env") or ()]
    assert not any("secretKeyRef" in entry.get("valueFrom", {}) for entry in env)


@given(specs(), fleets(), st.sampled_from(["Drain", "Stop"]))
def test_a_deleted_pool_goes_when_its_workers_have_gone_and_drain_ends_no_task(
    spec: PoolSpec, fleet: tuple[Worker, ...], policy: str
) -> None:
    spec = spec.model_copy(update={"deletion_policy": policy})
    removal = plan_removal(spec, fleet, NOON, NOON)
    active = [worker for worker in fleet if not worker.finished]
    assert removal.done is not bool(active)
    assert set(removal.stop) <= set(active)
    told_to_go = set(removal.stop) | {w for w in active if w.state is WorkerState.ENDING}
    if policy == "Stop":
        assert told_to_go == set(active)
    else:
        assert {w for w in active if w.state is WorkerState.RUNNING} == set(active) - told_to_go
