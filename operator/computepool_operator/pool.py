"""The pool: models of the spec and the status of an `AlchemiscaleComputePool`.

They are the single source of the custom resource definition, of its defaults and of the reference
page: field docstrings become the descriptions of `kubectl explain`, annotations become its limits
and CEL rules (package `crd`). The API server applies those at admission. In Python the models read
what was admitted, add the defaults, and ignore fields that a newer operator may have added.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from computepool_operator.amount import (
    AMOUNT_PATTERN,
    Mebibytes,
    format_amount,
    parse_amount,
)
from computepool_operator.crd.markers import VALIDATIONS, AtMost, Keywords, Rule
from computepool_operator.crd.pod_schemas import (
    JOB_ANNOTATIONS,
    JOB_LABELS,
    POD_TEMPLATE,
    RESOURCES,
    SPOOL,
)
from computepool_operator.duration import DURATION_PATTERN, format_duration, parse_duration

GROUP: Final = "compute.alchemiscale.org"
VERSION: Final = "v1alpha1"
KIND: Final = "AlchemiscaleComputePool"
PLURAL: Final = "computepools"

RESUME_ANNOTATION: Final = f"{GROUP}/resume"
"""Annotation of a pool by which a person resumes it: each new value counts once."""

RESUME_LENGTH: Final = 256
"""Characters of it that count: no more are kept in the status."""

POOL_NAME_LENGTH: Final = 50
"""Longest name of a pool: a Job's name is the pool's and a suffix, within 63 characters."""

OpenMMPlatform = Literal["CUDA", "OpenCL", "HIP", "CPU", "Reference"]
DeletionPolicy = Literal["Drain", "Stop"]
InstructionName = Literal["OK", "SKIP", "SHUTDOWN"]
ConditionStatus = Literal["True", "False", "Unknown"]


def _kubernetes_name(snake_case: str) -> str:
    """`compute_manager_id` -> `computeManagerID`: camel case with the initialisms kept."""
    first, *others = snake_case.split("_")
    return first + "".join(
        word.upper() if word in {"api", "id"} else word.capitalize() for word in others
    )


class _Model(BaseModel):
    """What all models share: Kubernetes' field names, immutability, CEL rules of the object."""

    model_config = ConfigDict(
        alias_generator=_kubernetes_name,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return pydantic's schema with the rules of the class."""
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)[VALIDATIONS] = [r.keyword() for r in cls.rules]
        return schema


def _read_duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({"type": "string", "maxLength": 24}),
]
Timestamp = Annotated[AwareDatetime, PlainSerializer(_rfc3339, when_used="json")]


def _duration(low: str, high: str, why: str = "") -> Rule:
    return Rule(
        f"self.matches(r'{DURATION_PATTERN}') && duration(self) >= duration('{low}')"
        f" && duration(self) <= duration('{high}')",
        f"must be a duration from {low} to {high}, written like 90s or 1h30m{why}",
    )


def _read_amount(value: object) -> object:
    return parse_amount(value) if isinstance(value, str) else value


Amount = Annotated[
    int,
    BeforeValidator(_read_amount),
    PlainSerializer(format_amount, when_used="json"),
    WithJsonSchema({"type": "string", "maxLength": 8}),
]
"""In MiB."""
_AMOUNT: Final = Rule(
    f"self.matches(r'{AMOUNT_PATTERN}')",
    "must be a whole number of Mi or Gi, such as 512Mi or 4Gi, or 0 for none",
)


_NAME_OF_OBJECT: Final = (
    r"self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')"
)
_KEY_OF_OBJECT: Final = r"self.matches(r'^[-._a-zA-Z0-9]+$')"

DataKey = Annotated[
    str,
    Field(max_length=253),
    Rule(
        _KEY_OF_OBJECT,
        "must be a key under data: of letters, digits, '-', '_' and '.', such as identifier",
    ),
]

_SCOPE_WORD: Final = "[A-Za-z][A-Za-z0-9_]*"

ScopeText = Annotated[
    str,
    Field(max_length=200),
    Rule(
        rf"self.matches(r'^(\*-\*-\*|{_SCOPE_WORD}-\*-\*|{_SCOPE_WORD}-{_SCOPE_WORD}-"
        rf"(\*|{_SCOPE_WORD}))$')",
        "must be org-campaign-project, each a letter followed by letters, digits and '_', or '*'"
        " for all; what follows a '*' must be '*' too, as in myorg-*-*",
    ),
]
Scopes = Annotated[
    tuple[ScopeText, ...], Field(max_length=64), Keywords({"x-kubernetes-list-type": "set"})
]

ProtocolName = Annotated[
    str,
    Field(max_length=128),
    Rule(
        "self.matches(r'^[A-Za-z][A-Za-z0-9_]*$')",
        "must be the bare class name of a Protocol, without its module, such as"
        " RelativeHybridTopologyProtocol",
    ),
]

# The reference grammar of the OCI distribution project, host and path, tag, digest.
_IMAGE_REFERENCE: Final = (
    r"^((([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[a-fA-F0-9:]+\])(:[0-9]+)?/)?"
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]+)?$"
)

_QUALIFIED_RESOURCE: Final = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)


class CredentialsSecretRef(_Model):
    """The Secret, in the pool's namespace, with the credentials of a compute identity."""

    rules = (
        Rule(
            "!has(self.settingsKey) || (!has(self.identifierKey) && !has(self.keyKey))",
            "set either settingsKey (a settings file that holds both) or identifierKey and keyKey"
            " (one value each), not both",
        ),
        Rule(
            "(has(self.identifierKey) ? self.identifierKey : 'identifier')"
            " != (has(self.keyKey) ? self.keyKey : 'key')",
            "identifierKey and keyKey must name two different keys of the Secret",
        ),
    )

    name: Annotated[
        str,
        Field(max_length=253),
        Rule(
            _NAME_OF_OBJECT,
            "must be the name of a Secret in the pool's namespace: lower-case letters, digits, '-'"
            " and '.'",
        ),
    ]
    """Name of the Secret. Changed contents are used within one cycle, without a restart."""

    identifier_key: DataKey | None = None
    """Key of the Secret that holds the identifier of the compute identity; `identifier` where
    absent."""

    key_key: DataKey | None = None
    """Key of the Secret that holds the key of the compute identity; `key` where absent."""

    settings_key: DataKey | None = None
    """Key of the Secret that holds a compute-service settings file (YAML or JSON), for Secrets of
    existing deployments. Its `identifier` and `key` are read, at the top level or under `init`;
    everything else in it is ignored. Excludes identifierKey and keyKey."""

    def pair(self) -> tuple[str, str] | None:
        """Return the keys of identifier and key, or None where a settings file holds both."""
        if self.settings_key is not None:
            return None
        return self.identifier_key or "identifier", self.key_key or "key"


class CABundleRef(_Model):
    """A ConfigMap, in the pool's namespace, with the certificate authority of a private server."""

    rules = (
        Rule(
            "(has(self.name) && self.name != '') == (has(self.key) && self.key != '')",
            "set both name and key (the ConfigMap, and its key that holds the PEM bundle), or"
            " neither to trust the public authorities",
        ),
    )

    name: Annotated[
        str,
        Field(max_length=253),
        Rule(
            f"self == '' || {_NAME_OF_OBJECT}",
            "must be the name of a ConfigMap in the pool's namespace: lower-case letters, digits,"
            " '-' and '.'",
        ),
    ] = ""
    """Name of the ConfigMap."""

    key: Annotated[
        str,
        Field(max_length=253),
        Rule(
            f"self == '' || {_KEY_OF_OBJECT}",
            "must be a key of the ConfigMap, of letters, digits, '-', '_' and '.', such as ca.crt",
        ),
    ] = ""
    """Key of the ConfigMap that holds the PEM bundle, such as `ca.crt`."""


class ComputeAPISpec(_Model):
    """The alchemiscale server: where its compute API is, and who this pool is there."""

    url: Annotated[
        str,
        Field(max_length=2048),
        Rule(
            r"self.matches(r'^https?://[^/?#@\s]+(/[^?#\s]*)?$') && isURL(self)"
            " && url(self).getHostname() != ''",
            "must be the base URL of the compute API, such as https://compute.example.org, with"
            " http or https and without user, query or fragment: credentials belong in the Secret",
        ),
    ]
    """Base URL of the compute API (not of the user API), with the path prefix if a proxy adds
    one."""

    credentials_secret_ref: CredentialsSecretRef
    """The Secret, in the pool's namespace, with the credentials of a compute identity. It needs
    the keys `identifier` and `key`; identifierKey, keyKey or settingsKey say otherwise."""

    ca_bundle_ref: CABundleRef = CABundleRef()
    """ConfigMap key with the certificate authority of a private server. Empty: the public
    authorities are trusted."""


class GPUSpec(_Model):
    """The GPUs of one worker."""

    resource: Annotated[
        str,
        Field(max_length=317),
        Rule(
            f"self.matches(r'{_QUALIFIED_RESOURCE}')"
            " && !self.matches(r'^(requests\\.|([^/]*\\.)?kubernetes\\.io/)')"
            " && self.split('/')[1].size() <= 63",
            "must be the full name of an extended resource, such as nvidia.com/gpu, amd.com/gpu or"
            " nvidia.com/mig-1g.10gb; kubectl describe node lists those of a node",
        ),
    ] = "nvidia.com/gpu"
    """Extended resource that the device plugin of the nodes offers."""

    count: Annotated[int, Field(ge=0, le=64)] = 1
    """GPUs per worker. 0 makes a CPU pool: nothing is asked for, and openmmPlatform must say CPU
    or Reference (or OpenCL)."""


class WorkerSpec(_Model):
    """The worker: what each Job of the pool runs."""

    rules = (
        Rule(
            "self.claimLimit <= self.maxTasks",
            "claimLimit must not exceed maxTasks: a worker may not claim more Tasks at once than"
            " it may execute; raise maxTasks or lower claimLimit",
        ),
        Rule(
            "!(has(self.resources.limits) && self.gpu.resource in self.resources.limits)"
            " && !(has(self.resources.requests) && self.gpu.resource in self.resources.requests)",
            "the GPU is asked for in gpu (resource and count): remove it from resources",
        ),
        Rule(
            "self.gpu.count > 0 || !(self.openmmPlatform in ['CUDA', 'HIP'])"
            " || has(self.resources.claims)",
            "gpu.count 0 makes a CPU pool, where CUDA and HIP cannot work: set openmmPlatform to"
            " CPU (or Reference), or give the workers a GPU",
        ),
        Rule(
            "!has(self.resources.claims) || self.resources.claims.all(claim,"
            " has(self.podTemplate.spec) && has(self.podTemplate.spec.resourceClaims)"
            " && self.podTemplate.spec.resourceClaims.exists(given, given.name == claim.name))",
            "each of resources.claims must be one of podTemplate.spec.resourceClaims: add it there",
        ),
    )

    image: Annotated[
        str,
        Field(max_length=1024),
        Rule(
            f"self.matches(r'{_IMAGE_REFERENCE}')",
            "must be an image reference without whitespace, such as"
            " registry.example.org/alchemiscale/worker:v0.1.0",
        ),
    ]
    """Container image of the worker. Name a version or a digest, so that all Tasks are computed
    with the same software."""

    gpu: GPUSpec = GPUSpec()
    """The GPUs of one worker."""

    resources: Annotated[dict[str, Any], Keywords(RESOURCES)] = {}
    """Requests, limits and claims of the worker's container, as in any container, without the GPU,
    which `gpu` says."""

    spool: Annotated[dict[str, Any], Keywords(SPOOL)] | None = None
    """A volume source, without a name, for results that could not be pushed. Whichever worker
    claims the Task next pushes its result from there instead of computing it again, so all nodes
    of the pool should reach the volume. Absent: such a result is lost and the Task runs again."""

    claim_limit: Annotated[int, Field(ge=1, le=1000)] = 1
    """Tasks that a worker claims at once. More than 1 keeps Tasks from idle workers while they
    queue in one pod."""

    max_tasks: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Tasks that one Job may execute, one after the other. More than 1 spreads the start-up time
    of a pod over several short Tasks."""

    max_time: Annotated[Duration, _duration("1s", "8760h")] | None = None
    """Time after which a worker claims no further Task. What it executes then is finished."""

    heartbeat_interval: Annotated[
        Duration, _duration("1s", "10m", ": the server drops a service that is silent for 30m")
    ] = timedelta(seconds=60)
    """Time between the heartbeats of a worker. The server drops a service, and puts its Tasks back
    to waiting, after 30 minutes of silence by default."""

    n_retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Times that a failed unit of a Task is tried again in the same worker before the Task
    fails."""

    openmm_platform: OpenMMPlatform = "CUDA"
    """OpenMM platform that must work on the node. A worker checks it before it claims; a node
    where the check fails gets no more workers for a while (failurePolicy.nodeQuarantine)."""

    device_min_memory: Annotated[Amount, _AMOUNT] = Mebibytes(1024)
    """Device memory that must be free on the node's GPU before a worker claims, such as 4Gi. 0
    demands none. Of OpenCL, CPU and Reference it is not known, and not demanded."""

    scratch_min_free: Annotated[Amount, _AMOUNT] = Mebibytes(1024)
    """Space that must be free for scratch files before a worker claims, such as 20Gi."""

    pod_template: Annotated[dict[str, Any], Keywords(POD_TEMPLATE)] = {}
    """A PodTemplateSpec, or the part of one that is needed, merged over what the operator builds:
    objects field by field; containers, volumes and env by name. Use it for nodeSelector,
    tolerations, affinity, priorityClassName, runtimeClassName, imagePullSecrets, extra volumes and
    the like. A command given for the container `worker` wraps the worker: it gets the worker's
    arguments, and must end in `exec computepool-worker "$@"` or the like."""


class JobSpec(_Model):
    """The Jobs of the pool: their deadlines, and how many are kept when they have ended."""

    rules = (
        Rule(
            "!has(self.activeDeadline) || duration(self.activeDeadline)"
            " > duration(self.startupDeadline)",
            "activeDeadline counts from the creation of a Job's pod, its start-up included: make it"
            " longer than startupDeadline",
        ),
    )

    startup_deadline: Annotated[Duration, _duration("1m", "24h")] = timedelta(minutes=30)
    """Time within which the worker of a new Job must be running: scheduled, its image pulled,
    started. One that is not is removed and reported. Nodes that an autoscaler must first create
    need longer. While a Job is suspended, no time counts."""

    active_deadline: Annotated[Duration, _duration("1m", "8760h")] | None = None
    """Time after which Kubernetes ends a Job, whatever it does; the Task that it held goes back to
    waiting. Absent: a worker may take as long as its Task does."""

    labels: Annotated[dict[str, str], Keywords(JOB_LABELS)] = {}
    """Labels that the Jobs get besides the operator's, such as kueue.x-k8s.io/queue-name, by which
    Kueue knows the queue. Labels of the pods are given in worker.podTemplate."""

    annotations: Annotated[dict[str, str], Keywords(JOB_ANNOTATIONS)] = {}
    """Annotations that the Jobs get besides the operator's."""

    keep_succeeded: Annotated[int, Field(ge=0, le=1000)] = 3
    """Succeeded Jobs that are kept, with their logs; older ones are removed."""

    keep_failed: Annotated[int, Field(ge=0, le=1000)] = 10
    """Failed Jobs that are kept, with their logs; older ones are removed."""


class FailurePolicySpec(_Model):
    """What the pool does when workers fail."""

    max_consecutive_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    """Workers that may fail in a row, none succeeding in between, before the pool stops creating
    Jobs, tells the server ERROR, and tries again after retryAfter."""

    node_quarantine: Annotated[Duration, _duration("1m", "8760h")] = timedelta(hours=1)
    """Time for which a node gets no more workers of this pool, after a worker failed its device
    check there or the kubelet rejected its pod."""

    task_crash_limit: Annotated[int, Field(ge=1, le=100)] = 3
    """Workers that a Task may take down. From then on it is pushed as failed, with the story in
    its traceback, instead of being executed."""

    retry_after: Annotated[Duration, _duration("10s", "24h")] = timedelta(minutes=10)
    """Time after which a pool that stopped because of maxConsecutiveFailures tries one worker. It
    doubles with each attempt that fails, up to an hour, or to retryAfter if that is longer."""


class PoolSpec(_Model):
    """What the pool should be: the server, the Tasks, the workers, and how many at most."""

    rules = (
        Rule(
            "self.scopes.all(scope, !(scope in self.scopesExclude))",
            "a scope is listed in both scopes and scopesExclude: remove it from one of them",
        ),
        Rule(
            "self.scopes.size() == 0 || self.scopes.exists(scope, !self.scopesExclude.exists("
            "excluded, excluded == '*-*-*' || scope == excluded"
            " || scope.startsWith(excluded.replace('-*', '') + '-')))",
            "scopesExclude covers everything in scopes, so no Task could ever be claimed: narrow"
            " scopesExclude",
        ),
        Rule(
            "!has(self.job.activeDeadline) || !has(self.worker.maxTime)"
            " || duration(self.job.activeDeadline) > duration(self.worker.maxTime)",
            "job.activeDeadline would end workers that may still claim: make it longer than"
            " worker.maxTime",
        ),
    )

    compute_api: ComputeAPISpec
    """The alchemiscale server: where its compute API is, and who this pool is there."""

    manager_name: Annotated[
        str,
        Field(max_length=128),
        Rule(
            "self == '' || self.matches(r'^[A-Za-z][A-Za-z0-9_.:]*$')",
            "must begin with a letter and consist of letters, digits, '_', '.' and ':' (no '-'),"
            " such as lab.a100",
        ),
    ] = ""
    """Name under which the pool registers as a compute manager. It must be unique on the server.
    Empty: derived from namespace and name, with '-' written as '_', as in `alchemiscale.a100`.
    Once set it cannot be changed, and once the pool has registered it cannot be set."""

    scopes: Annotated[
        Scopes,
        Rule("self.size() > 0", "list at least one scope; '*-*-*' is everything"),
    ] = ("*-*-*",)
    """Scopes whose Tasks are executed, as org-campaign-project; '*' is everything on its level,
    and nothing specific may follow it. Scopes that the compute identity lacks give no Tasks."""

    scopes_exclude: Scopes = ()
    """Scopes whose Tasks are left to others, though `scopes` includes them."""

    protocols: Annotated[
        tuple[ProtocolName, ...],
        Field(max_length=64),
        Keywords({"x-kubernetes-list-type": "set"}),
    ] = ()
    """Protocols whose Tasks are executed, as bare class names such as
    RelativeHybridTopologyProtocol. Empty: all. List those that the image has, when the server
    knows more."""

    max_compute_services: Annotated[int, Field(ge=0, le=1000)] = 16
    """Compute services, and so unfinished Jobs, that the pool has at most. Lowering it ends none of
    them. `kubectl scale` sets it."""

    max_submit_per_cycle: Annotated[int, Field(ge=1, le=1000)] = 8
    """Jobs that are created at most in one cycle, so that a long queue does not flood the
    cluster."""

    cycle_interval: Annotated[
        Duration, _duration("1s", "20m", ": the server drops a manager that is silent for 1h")
    ] = timedelta(seconds=30)
    """Time between two cycles of asking the server and acting. Events of the pool's Jobs start one
    at once; errors make the next one later."""

    suspend: bool = False
    """True: create no Jobs. Workers that run finish their Tasks."""

    worker: WorkerSpec
    """The worker: what each Job of the pool runs."""

    job: JobSpec = JobSpec()
    """The Jobs of the pool: their deadlines, and how many are kept when they have ended."""

    failure_policy: FailurePolicySpec = FailurePolicySpec()
    """What the pool does when workers fail."""

    deletion_policy: DeletionPolicy = "Drain"
    """What deleting the pool does to Tasks that are being executed. Drain: they are finished first.
    Stop: their workers are ended and they go back to waiting."""

    drain_timeout: Annotated[Duration, _duration("1s", "8760h")] | None = None
    """Time after which Drain turns into Stop. Absent: as long as the Tasks take."""


class Condition(_Model):
    """One condition, in the common form of Kubernetes APIs."""

    type: Annotated[str, AtMost(316)]
    """Ready, Registered, Reconciling, Stalled or Saturated."""

    status: ConditionStatus
    """True, False or Unknown."""

    reason: Annotated[str, AtMost(1024)]
    """The reason in one word, from the closed list in the runbook."""

    message: Annotated[str, AtMost(4096)] = ""
    """The reason in a sentence: what happened, where, and what to do."""

    last_transition_time: Timestamp
    """When the status last changed."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the pool for which the condition was found."""


_SET = Keywords({"x-kubernetes-list-type": "set"})
JobName = Annotated[str, AtMost(63)]


class TasksStatus(_Model):
    """Tasks, as the server counts them."""

    waiting: Annotated[int, Field(ge=0)] | None = None
    """Tasks in the pool's scopes and protocols that wait to be claimed, by the server's last
    count."""

    unclaimable: Annotated[int, Field(ge=0)] = 0
    """How many of them no worker could claim (a hub or Task of weight 0)."""


class WorkersStatus(_Model):
    """Workers of the pool, each one Job, by what they are doing."""

    pending: Annotated[int, Field(ge=0)] = 0
    """Not on a node yet, or their image is not there yet."""

    starting: Annotated[int, Field(ge=0)] = 0
    """On a node, and have not claimed a Task yet."""

    running: Annotated[int, Field(ge=0)] = 0
    """Hold a Task, their pods being Ready; or have ended, and their pods are not gone yet."""

    active: Annotated[int, Field(ge=0)] = 0
    """All that have not finished; never more than maxComputeServices."""

    succeeded: Annotated[int, Field(ge=0)] = 0
    """Succeeded since the pool was created, including those whose Jobs have been removed."""

    failed: Annotated[int, Field(ge=0)] = 0
    """Failed since the pool was created, including those whose Jobs have been removed."""


class CircuitStatus(_Model):
    """The circuit breaker: open after failurePolicy.maxConsecutiveFailures."""

    open: bool = False
    """True: no Jobs are created but the one that tries whether workers can succeed again."""

    since: Timestamp | None = None
    """When it opened."""

    retry_at: Timestamp | None = None
    """When the next attempt is made."""

    retries: Annotated[int, Field(ge=0)] = 0
    """Attempts that have failed since it opened; the wait doubles with each."""


class QuarantinedNode(_Model):
    """A node that gets no workers of this pool for a while."""

    name: Annotated[str, AtMost(253)]
    """Name of the node."""

    reason: Annotated[str, AtMost(1024)] = ""
    """What happened there."""

    since: Timestamp | None = None
    """When the quarantine began."""

    until: Timestamp
    """When the node may get workers again."""

    in_a_row: bool = False
    """No worker has succeeded since, anywhere. From the second such node on each counts among
    consecutiveFailures."""


class PoisonTask(_Model):
    """A Task that was held by workers when they died."""

    task: Annotated[str, AtMost(512)]
    """Key of the Task."""

    crashes: Annotated[int, Field(ge=0)] = 1
    """Workers that died holding it. From failurePolicy.taskCrashLimit on it is not executed any
    more but pushed as failed."""

    last_crash_time: Timestamp | None = None
    """When a worker last died holding it."""

    message: Annotated[str, AtMost(1024)] = ""
    """How that worker ended."""

    in_a_row: bool = False
    """It is among consecutiveFailures, in which a Task counts once."""


class CountedJobs(_Model):
    """Finished Jobs that are kept and whose end has been taken into account."""

    succeeded: Annotated[tuple[JobName, ...], AtMost(2048), _SET] = ()
    """Names of those that succeeded."""

    failed: Annotated[tuple[JobName, ...], AtMost(2048), _SET] = ()
    """Names of those that failed."""


class LeftService(_Model):
    """A service that is registered under the pool's manager although no worker at work has it."""

    id: Annotated[str, AtMost(512)]
    """Id of the compute service."""

    since: Timestamp
    """Since when. It is deregistered, so that its Tasks wait again, once its process has certainly
    ended and a result that it may have sent is stored: after a minute if it was sending one, after
    its grace and a minute if its pod was removed by force, after five if nothing is known of it."""


class PoolStatus(_Model):
    """What the pool is, as the operator last saw it. Written by the operator only."""

    conditions: Annotated[
        tuple[Condition, ...],
        AtMost(16),
        Keywords({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Ready: the pool does its work. Registered: the server knows its manager. Reconciling: it
    waits for what passes by itself. Stalled: a person is needed. Saturated: as many workers as
    allowed."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the pool that this status is about."""

    reason: Annotated[str, AtMost(128)] = ""
    """The one reason that matters now, in one word; the runbook explains each."""

    message: Annotated[str, AtMost(4096)] = ""
    """That reason in a sentence: what happened, where, and what to do."""

    compute_manager_id: Annotated[str, AtMost(256)] = ""
    """Id under which the pool is registered as a compute manager: name, '-', 32 hex digits."""

    instruction: InstructionName | None = None
    """Last instruction of the server. OK: create services as Tasks wait. SKIP: create none now.
    SHUTDOWN: the server does not know this manager any more."""

    tasks: TasksStatus = TasksStatus()
    """Tasks, as the server counts them."""

    workers: WorkersStatus = WorkersStatus()
    """Workers of the pool, each one Job, by what they are doing."""

    saturation: Annotated[str, AtMost(8)] | None = None
    """Share of maxComputeServices in use, as last reported to the server, from "0.00" to
    "1.00"."""

    selector: Annotated[str, AtMost(512)] = ""
    """Label selector of the pool's worker pods, for the scale subresource."""

    last_cycle_time: Timestamp | None = None
    """When the last cycle was completed."""

    last_report_time: Timestamp | None = None
    """When the server last accepted this manager's registration or status."""

    consecutive_failures: Annotated[int, Field(ge=0)] = 0
    """Workers that failed in a row, none succeeding in between."""

    last_failure: Annotated[str, AtMost(1024)] = ""
    """How the last of them ended."""

    resume: Annotated[str, AtMost(RESUME_LENGTH)] | None = None
    """Value of the annotation compute.alchemiscale.org/resume that has been acted upon."""

    worker_revision: Annotated[str, AtMost(63)] = ""
    """What of the spec new workers are created from: the value of their label
    compute.alchemiscale.org/worker-revision."""

    consecutive_empty_claims: Annotated[int, Field(ge=0)] = 0
    """Pauses in a row because workers found nothing to claim although the server counted Tasks.
    Each is twice as long as the one before, up to an hour."""

    backoff_until: Timestamp | None = None
    """Until when tasks.unclaimable cause no Jobs. Other Tasks get theirs."""

    circuit: CircuitStatus = CircuitStatus()
    """The circuit breaker: open after failurePolicy.maxConsecutiveFailures."""

    quarantined_nodes: Annotated[
        tuple[QuarantinedNode, ...],
        AtMost(512),
        Keywords({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = ()
    """Nodes that get no workers of this pool for a while."""

    poison_tasks: Annotated[
        tuple[PoisonTask, ...],
        AtMost(512),
        Keywords({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["task"]}),
    ] = ()
    """Tasks that were held by workers when they died."""

    left_services: Annotated[
        tuple[LeftService, ...],
        AtMost(512),
        Keywords({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}),
    ] = ()
    """Services that are registered under the pool's manager although no worker at work has them."""

    given_up_jobs: Annotated[tuple[JobName, ...], AtMost(2048), _SET] = ()
    """Names of Jobs that did not start within job.startupDeadline and are being removed."""

    counted_jobs: CountedJobs = CountedJobs()
    """Finished Jobs that are kept and whose end has been taken into account, so that another
    operator does not count it again."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read the status of a pool's object; an absent one is that of a new pool."""
        return cls.model_validate(body.get("status") or {})

    def to_body(self) -> dict[str, Any]:
        """Return the whole status as JSON values, for a replacement or a merge patch.

        What is None is null there: a merge patch removes the field, and the API server prunes it
        from a replacement.
        """
        # `model_copy` does not validate, so what came in that way has not been cut yet.
        return self.model_validate(self.model_dump()).model_dump(mode="json")
