"""The Job of a worker: what the CRD promises, what Kubernetes demands, and no secret in it."""

import json
from copy import deepcopy
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import pytest
from unit.operator.builders import NOON, SECOND, make_spec
from unit.operator.pod_security import violations

from computepool_api.ids import ComputeManagerID
from computepool_operator.jobs import POISON_BYTES, build_job
from computepool_operator.memory import Crashes
from computepool_operator.names import (
    POISON_ANNOTATION,
    SETTINGS_ANNOTATION,
    PoolReference,
    job_name,
    pool_selector,
    service_prefix,
)
from computepool_operator.orders import NO_ORDERS, Orders
from computepool_operator.revision import revision_of
from computepool_worker.settings import Settings

Body = dict[str, Any]

POOL = PoolReference("lab", "a100", "7dd7aaf9-5071-4384-a107-2924ea1485f5", generation=3)
MANAGER = ComputeManagerID("lab.a100-d06a26067fa64217bf0781e0aaf2f45b")
NAME = "a100-46v8mb2q"

SPOOL = {"persistentVolumeClaim": {"claimName": "results"}}


def job(orders: Orders = NO_ORDERS, **spec: Any) -> Body:
    return build_job(POOL, make_spec(**spec), MANAGER, NAME, orders)


def pod_template(orders: Orders = NO_ORDERS, **spec: Any) -> Body:
    template: Body = job(orders, **spec)["spec"]["template"]
    return template


def pod_spec(orders: Orders = NO_ORDERS, **spec: Any) -> Body:
    found: Body = pod_template(orders, **spec)["spec"]
    return found


def with_template(template: Body) -> Body:
    return pod_spec(worker={"pod_template": {"spec": template}})


def container(spec: Body, name: str = "worker") -> Body:
    (found,) = [c for c in spec["containers"] if c["name"] == name]
    return dict(found)


def volume(spec: Body, name: str) -> Body:
    (found,) = [v for v in spec["volumes"] if v["name"] == name]
    return dict(found)


def settings(**spec: Any) -> Body:
    text = pod_template(**spec)["metadata"]["annotations"][SETTINGS_ANNOTATION]
    read: Body = json.loads(text)
    return read


class TestJob:
    def test_it_makes_one_pod_and_never_a_second(self) -> None:
        spec = job()["spec"]
        assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
        assert spec["podReplacementPolicy"] == "Failed"
        assert spec["template"]["spec"]["restartPolicy"] == "Never"

    def test_it_belongs_to_the_pool(self) -> None:
        metadata = job()["metadata"]
        assert metadata["labels"]["compute.alchemiscale.org/pool-uid"] == POOL.uid
        assert (metadata["namespace"], metadata["name"]) == ("lab", NAME)

    def test_garbage_collection_has_no_say_in_it(self) -> None:
        assert "ownerReferences" not in job()["metadata"]

    def test_job_and_pod_are_selected_by_the_labels_of_the_pool(self) -> None:
        wanted = dict(part.split("=") for part in pool_selector(POOL.uid).split(","))
        for labels in (job()["metadata"]["labels"], pod_template()["metadata"]["labels"]):
            assert wanted.items() <= labels.items()

    def test_job_and_pod_say_of_which_revision_they_are(self) -> None:
        for labels in (job()["metadata"]["labels"], pod_template()["metadata"]["labels"]):
            assert labels["compute.alchemiscale.org/worker-revision"] == str(
                revision_of(make_spec())
            )

    def test_it_says_of_which_generation_of_the_pool_it_is(self) -> None:
        annotations = job()["metadata"]["annotations"]
        assert annotations == {"compute.alchemiscale.org/pool-generation": "3"}

    def test_labels_and_annotations_are_added_and_the_operators_stay(self) -> None:
        more = {
            "labels": {"kueue.x-k8s.io/queue-name": "gpus"},
            "annotations": {"example.org/note": "yes"},
        }
        metadata, plain = job(job=more)["metadata"], job()["metadata"]
        assert metadata["labels"].items() >= more["labels"].items()
        assert metadata["labels"].keys() - more["labels"].keys() == plain["labels"].keys()
        assert metadata["annotations"] == {**plain["annotations"], **more["annotations"]}
        assert "kueue.x-k8s.io/queue-name" not in pod_template(job=more)["metadata"]["labels"]

    def test_a_deadline_is_in_seconds(self) -> None:
        assert job(job={"active_deadline": "90m"})["spec"]["activeDeadlineSeconds"] == 5400
        assert "activeDeadlineSeconds" not in job()["spec"]

    def test_the_longest_name_of_a_pool_gives_a_name_of_a_job(self) -> None:
        assert len(job_name("p" * 50, "x" * 8)) <= 63  # it becomes a label of the pod

    def test_names_of_services_begin_as_those_of_the_pools_jobs(self) -> None:
        assert service_prefix("a100") == "a100_"
        assert service_prefix("9-lives") == "N9_lives_"

    def test_it_is_json(self) -> None:
        assert json.loads(json.dumps(job())) == job()


class TestSecurity:
    def test_its_pod_passes_the_restricted_standard(self) -> None:
        everything: Body = {
            "worker": {"spool": SPOOL, "resources": {"limits": {"memory": "8Gi"}}},
            "compute_api": {"ca_bundle_ref": {"name": "ca", "key": "ca.crt"}},
        }
        assert violations(pod_spec(**everything)) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"securityContext": {"runAsNonRoot": None}},
            {"securityContext": {"seccompProfile": None}},
            {"hostNetwork": True},
            {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
            {"containers": [{"name": "worker", "securityContext": {"privileged": True}}]},
            {"containers": [{"name": "worker", "securityContext": {"capabilities": None}}]},
            {"containers": [{"name": "worker", "securityContext": None}]},
            {"containers": [{"name": "helper", "image": "helper:v1"}]},
        ],
    )
    def test_what_people_loosen_the_check_sees(self, change: Body) -> None:
        assert violations(with_template(change)) != []

    def test_it_has_no_token_of_kubernetes(self) -> None:
        assert pod_spec()["automountServiceAccountToken"] is False

    def test_the_root_file_system_is_read_only_and_what_is_written_has_volumes(self) -> None:
        spec = pod_spec()
        assert container(spec)["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = {m["mountPath"]: m.get("readOnly", False) for m in container(spec)["volumeMounts"]}
        assert mounts == {
            "/etc/computepool/settings": True,
            "/etc/computepool/credentials": True,
            "/run/computepool": False,
            "/scratch": False,
            "/tmp": False,
        }

    def test_credentials_are_a_mounted_file_and_nothing_else(self) -> None:
        spec = pod_spec()
        assert volume(spec, "credentials")["secret"] == {
            "secretName": "alchemiscale-compute",
            "defaultMode": 0o440,
            "items": [
                {"key": "identifier", "path": "identifier"},
                {"key": "key", "path": "key"},
            ],
        }
        everything_else = deepcopy(job())
        everything_else["spec"]["template"]["spec"]["volumes"] = []
        assert "secret" not in json.dumps(everything_else).lower()
        assert all("secretKeyRef" not in json.dumps(e) for e in container(spec)["env"])
        assert "envFrom" not in container(spec)

    def test_keys_of_other_names_are_mounted_under_the_workers_names(self) -> None:
        reference = {"name": "s", "identifier_key": "user", "key_key": "password"}
        spec = pod_spec(compute_api={"credentials_secret_ref": reference})
        assert volume(spec, "credentials")["secret"]["items"] == [
            {"key": "user", "path": "identifier"},
            {"key": "password", "path": "key"},
        ]

    def test_of_a_settings_file_only_that_file_is_mounted(self) -> None:
        reference = {"name": "s", "settings_key": "compute.yaml"}
        spec = pod_spec(compute_api={"credentials_secret_ref": reference})
        assert volume(spec, "credentials")["secret"]["items"] == [
            {"key": "compute.yaml", "path": "settings.yaml"}
        ]


def test_what_must_be_free_before_a_claim_is_demanded_in_the_worker_s_unit() -> None:
    demanded = settings(worker={"device_min_memory": "4Gi", "scratch_min_free": "512Mi"})
    assert (demanded["device_min_memory"], demanded["scratch_min_free"]) == (4096, 512)
    usual = {field.name: field.default for field in fields(Settings)}
    for name in ("device_min_memory", "scratch_min_free"):
        assert settings()[name] == usual[name]


class TestWorker:
    def test_its_command(self) -> None:
        worker = container(pod_spec())
        assert worker["command"] == ["computepool-worker"]
        assert worker["args"] == [
            "compute",
            "synchronous",
            "-c",
            "/etc/computepool/settings/settings.json",
        ]

    def test_it_knows_the_uid_of_its_pod(self) -> None:
        (uid,) = [e for e in container(pod_spec())["env"] if e["name"] == "COMPUTEPOOL_POD_UID"]
        assert uid["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}

    def test_it_is_ready_exactly_while_it_holds_a_task(self) -> None:
        probe = container(pod_spec())["readinessProbe"]
        assert probe["exec"]["command"] == ["test", "-e", "/run/computepool/holding"]
        assert (probe["failureThreshold"], probe["successThreshold"]) == (1, 1)
        assert probe["periodSeconds"] <= 2

    def test_it_is_told_to_stop_before_the_signal_comes(self) -> None:
        hook = container(pod_spec())["lifecycle"]["preStop"]
        assert hook["exec"]["command"] == ["touch", "/run/computepool/stop"]

    def test_its_last_words_are_where_the_kubelet_looks(self) -> None:
        worker = container(pod_spec())
        assert worker["terminationMessagePath"] == "/dev/termination-log"
        assert worker["terminationMessagePolicy"] == "File"

    def test_a_node_is_not_emptied_under_it_to_save_money(self) -> None:
        annotations = pod_template()["metadata"]["annotations"]
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        assert annotations["karpenter.sh/do-not-disrupt"] == "true"

    def test_a_gpu_is_a_limit_beside_what_people_ask_for(self) -> None:
        resources = {"requests": {"cpu": 2}, "limits": {"memory": "8Gi"}}
        worker = {"resources": resources, "gpu": {"resource": "amd.com/gpu", "count": 2}}
        assert container(pod_spec(worker=worker))["resources"] == {
            "requests": {"cpu": 2},
            "limits": {"memory": "8Gi", "amd.com/gpu": "2"},
        }

    def test_it_tolerates_the_taint_of_nodes_with_that_gpu(self) -> None:
        assert pod_spec()["tolerations"] == [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]

    def test_a_cpu_pool_asks_for_no_gpu_and_tolerates_no_taint(self) -> None:
        spec = pod_spec(worker={"gpu": {"count": 0}, "openmm_platform": "CPU"})
        assert container(spec)["resources"] == {}
        assert "tolerations" not in spec

    def test_the_certificate_of_a_private_server_is_mounted(self) -> None:
        spec = pod_spec(compute_api={"ca_bundle_ref": {"name": "ours", "key": "bundle.pem"}})
        assert volume(spec, "ca")["configMap"] == {
            "name": "ours",
            "items": [{"key": "bundle.pem", "path": "ca.crt"}],
        }
        mounts = {m["name"]: m["mountPath"] for m in container(spec)["volumeMounts"]}
        assert mounts["ca"] == "/etc/computepool/ca"

    def test_the_spool_is_the_volume_that_was_asked_for(self) -> None:
        spec = pod_spec(worker={"spool": SPOOL})
        assert volume(spec, "spool") == {"name": "spool", **SPOOL}
        mounts = {m["name"]: m["mountPath"] for m in container(spec)["volumeMounts"]}
        assert mounts["spool"] == "/var/spool/computepool"


class TestSettings:
    def test_they_have_alchemiscales_names_and_no_secret(self) -> None:
        spec = {
            "scopes": ["lab-*-*"],
            "scopes_exclude": ["lab-test-*"],
            "protocols": ["FEP"],
            "compute_api": {"url": "https://compute.example.org/prefix"},
            "worker": {
                "claim_limit": 2,
                "max_tasks": 4,
                "max_time": "2h",
                "heartbeat_interval": "90s",
                "n_retries": 1,
                "openmm_platform": "OpenCL",
            },
        }
        assert settings(**spec) == {
            "api_url": "https://compute.example.org/prefix",
            "name": "a100_46v8mb2q",
            "compute_manager_id": str(MANAGER),
            "scopes": ["lab-*-*"],
            "scopes_exclude": ["lab-test-*"],
            "protocols": ["FEP"],
            "claim_limit": 2,
            "max_tasks": 4,
            "max_time": 7200,
            "heartbeat_interval": 90,
            "n_retries": 1,
            "shared_basedir": "/scratch/shared",
            "scratch_basedir": "/scratch/scratch",
            "credentials_dir": "/etc/computepool/credentials",
            "state_dir": "/run/computepool",
            "openmm_platform": "OpenCL",
            "device_min_memory": 1024,
            "scratch_min_free": 1024,
            "client_verify": True,
            "termination_grace": 90,
        }

    def test_a_private_authority_is_named_by_its_file(self) -> None:
        reference = {"ca_bundle_ref": {"name": "ours", "key": "ca.pem"}}
        assert settings(compute_api=reference)["client_verify"] == "/etc/computepool/ca/ca.crt"

    def test_the_spool_is_named_where_there_is_one(self) -> None:
        assert settings(worker={"spool": SPOOL})["spool_dir"] == "/var/spool/computepool"
        assert "spool_dir" not in settings()

    def test_the_grace_that_people_give_is_told(self) -> None:
        template = {"spec": {"terminationGracePeriodSeconds": 300}}
        assert settings(worker={"pod_template": template})["termination_grace"] == 300
        assert with_template(template["spec"])["terminationGracePeriodSeconds"] == 300

    def test_they_reach_the_worker_as_a_file(self) -> None:
        items = volume(pod_spec(), "settings")["downwardAPI"]["items"]
        paths = {item["path"]: item["fieldRef"]["fieldPath"] for item in items}
        assert paths["settings.json"] == f"metadata.annotations['{SETTINGS_ANNOTATION}']"


class TestPodTemplate:
    """What people write is merged over what the operator builds."""

    @pytest.mark.parametrize(
        "field",
        [
            {"nodeSelector": {"gpu": "a100"}},
            {"priorityClassName": "science"},
            {"runtimeClassName": "nvidia"},
            {"imagePullSecrets": [{"name": "registry"}]},
            {"schedulerName": "other"},
            {"affinity": {"nodeAffinity": {"x": "y"}}},
        ],
    )
    def test_fields_that_only_people_set(self, field: Body) -> None:
        assert field.items() <= with_template(field).items()

    def test_an_extra_container_runs_beside_the_worker(self) -> None:
        spec = with_template({"containers": [{"name": "helper", "image": "helper:v1"}]})
        assert [c["name"] for c in spec["containers"]] == ["worker", "helper"]

    def test_the_worker_gets_variables_and_mounts_beside_its_own(self) -> None:
        more = {
            "name": "worker",
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        spec = with_template({"containers": [more], "volumes": [{"name": "data", "emptyDir": {}}]})
        worker = container(spec)
        names = [variable["name"] for variable in worker["env"]]
        assert names == ["COMPUTEPOOL_POD_UID", "HOME", "HTTPS_PROXY"]
        assert {"name": "data", "mountPath": "/data"} in worker["volumeMounts"]
        assert worker["command"] == ["computepool-worker"]
        assert volume(spec, "data") == {"name": "data", "emptyDir": {}}

    def test_scratch_may_be_on_another_volume(self) -> None:
        fast = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}
        assert volume(with_template({"volumes": [fast]}), "scratch") == fast

    def test_a_wrapper_gets_the_workers_arguments(self) -> None:
        wrap = {"name": "worker", "command": ["/wrap.sh"]}
        worker = container(with_template({"containers": [wrap]}))
        assert worker["command"] == ["/wrap.sh"]
        assert worker["args"][0] == "compute"

    def test_tolerations_replace_as_kubernetes_does(self) -> None:
        mine = [{"key": "lab", "operator": "Exists"}]
        assert with_template({"tolerations": mine})["tolerations"] == mine

    def test_whole_numbers_as_quantities_are_passed_on(self) -> None:
        # The typed models of the Kubernetes client refuse what people write here.
        spec = pod_spec(worker={"resources": {"limits": {"cpu": 4, "memory": "8Gi"}}})
        assert container(spec)["resources"]["limits"]["cpu"] == 4

    def test_labels_and_annotations_are_added_and_the_operators_stay(self) -> None:
        metadata = {
            "labels": {"team": "fep", "app.kubernetes.io/managed-by": "somebody"},
            "annotations": {"team": "fep"},
        }
        merged = pod_template(worker={"pod_template": {"metadata": metadata}})["metadata"]
        assert merged["labels"]["team"] == merged["annotations"]["team"] == "fep"
        assert merged["labels"]["app.kubernetes.io/managed-by"] == "computepool-operator"
        assert SETTINGS_ANNOTATION in merged["annotations"]

    def test_no_proxy_is_injected_that_would_outlive_the_worker(self) -> None:
        assert pod_template()["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"

    @pytest.mark.parametrize("wish", ["true", None])
    def test_unless_somebody_wants_it(self, wish: str | None) -> None:
        metadata = {"labels": {"sidecar.istio.io/inject": wish}}
        merged = pod_template(worker={"pod_template": {"metadata": metadata}})["metadata"]
        assert merged["labels"].get("sidecar.istio.io/inject") == wish

    def test_null_takes_away_what_the_operator_would_set(self) -> None:
        assert "tolerations" not in with_template({"tolerations": None})

    def test_what_was_written_is_not_changed(self) -> None:
        template = {
            "metadata": {"labels": {"team": "fep"}},
            "spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": "b"}]}]},
        }
        before = deepcopy(template)
        spec = make_spec(worker={"pod_template": template})
        for _ in range(2):
            build_job(POOL, spec, MANAGER, NAME)
        assert template == before
        assert spec.worker.pod_template == before


AVOID = Orders(avoid_nodes=("node-1", "node-2"))
OFF = [
    {"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]},
    {"key": "metadata.name", "operator": "NotIn", "values": ["node-2"]},
]


class TestOrders:
    """Nodes to stay off and Tasks not to run."""

    def terms(self, spec: Body) -> list[Body]:
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        found: list[Body] = spec["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
        return found

    def test_nodes_are_ruled_out(self) -> None:
        assert self.terms(pod_spec(AVOID)) == [{"matchFields": OFF}]

    def test_in_each_alternative_of_an_affinity_that_people_gave(self) -> None:
        gpu = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
        named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-3"]}]}
        affinity = {
            "podAntiAffinity": {"x": "y"},
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [],
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [gpu, named]
                },
            },
        }
        worker = {"pod_template": {"spec": {"affinity": affinity}}}
        spec = pod_spec(AVOID, worker=worker)
        assert self.terms(spec) == [
            {**gpu, "matchFields": OFF},
            {"matchFields": [*named["matchFields"], *OFF]},
        ]
        assert spec["affinity"]["podAntiAffinity"] == {"x": "y"}

    def test_without_orders_there_is_no_affinity(self) -> None:
        assert "affinity" not in pod_spec()

    def poison(self, at: datetime) -> Orders:
        return Orders(poison=(Crashes("Task-1-a-b-c", 3, at, "OOMKilled: exit code 137"),))

    def test_tasks_that_are_not_to_be_run_reach_the_worker_as_a_file(self) -> None:
        template = pod_template(self.poison(NOON))
        (task,) = json.loads(template["metadata"]["annotations"][POISON_ANNOTATION])
        assert task["task"] == "Task-1-a-b-c"
        assert "3 workers ended" in task["story"]
        assert "OOMKilled" in task["story"]
        text = template["metadata"]["annotations"][SETTINGS_ANNOTATION]
        assert json.loads(text)["poison_file"] == "/etc/computepool/settings/poison.json"

    def test_the_age_of_a_crash_is_not_told(self) -> None:
        one, other = self.poison(NOON), self.poison(NOON - timedelta(days=1))
        assert pod_template(one) == pod_template(other)


class TestManyPoisonTasks:
    """An annotation that is too long would have every Job of the pool refused."""

    def poison(self, number: int, story: str) -> list[dict[str, str]]:
        crashes = tuple(
            Crashes(f"Task-{n:032x}-org-campaign-project", 3, NOON + n * SECOND, story)
            for n in range(number)
        )
        made = build_job(POOL, make_spec(), MANAGER, NAME, Orders(poison=crashes))
        text = made["spec"]["template"]["metadata"]["annotations"][POISON_ANNOTATION]
        assert len(text.encode()) <= POISON_BYTES
        found: list[dict[str, str]] = json.loads(text)
        return found

    @pytest.mark.parametrize("story", ["x" * 1000, "\N{SNOWMAN}" * 1000, '"' * 1000, "\0" * 1000])
    def test_the_latest_are_told_as_many_as_fit(self, story: str) -> None:
        told = [entry["task"] for entry in self.poison(512, story)]
        assert len(told) > 40
        latest = range(511, 511 - len(told), -1)
        assert told == [f"Task-{n:032x}-org-campaign-project" for n in latest]

    def test_a_story_is_cut_and_ascii(self) -> None:
        (entry,) = self.poison(1, "\N{SNOWMAN}" + "x" * 1000)
        assert entry["story"].endswith(" The last one: \\u2603" + "x" * 194)
