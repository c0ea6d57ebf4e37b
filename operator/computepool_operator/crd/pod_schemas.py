"""Schemas of the parts of a spec that Kubernetes defines: resources, a volume, a pod template.

They are passed on to the Job as they were written, so unknown fields are kept, and only what the
rules speak of is declared. The API server checks the rest when the Job is created.
"""

from typing import Any, Final

from computepool_operator.crd.markers import VALIDATIONS, Rule

OPERATOR_PREFIX: Final = "compute.alchemiscale.org/"
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"

_QUANTITY: Final[dict[str, Any]] = {"x-kubernetes-int-or-string": True, "maxLength": 64}


def _open_object(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", PRESERVE: True, **keywords}


def _rules(*rules: Rule) -> list[dict[str, str]]:
    return [rule.keyword() for rule in rules]


def _quantities(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": _QUANTITY,
        VALIDATIONS: _rules(
            Rule(
                "self.all(name, isQuantity(string(self[name])))",
                "every amount must be a Kubernetes quantity, such as 2, 500m or 8Gi",
            )
        ),
    }


RESOURCES: Final = _open_object(
    properties={
        "limits": _quantities(
            "The most that the container may use of each resource, for example memory: 8Gi."
        ),
        "requests": _quantities(
            "What the scheduler sets aside of each resource; where absent, the limits."
        ),
        "claims": {
            "description": (
                "Claims of dynamic resource allocation, by the names they have in"
                " podTemplate.spec.resourceClaims."
            ),
            "type": "array",
            "maxItems": 16,
            "items": _open_object(
                properties={
                    "name": {
                        "description": "Name of an entry of podTemplate.spec.resourceClaims.",
                        "type": "string",
                        "maxLength": 63,
                    }
                },
                required=["name"],
            ),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    },
    **{
        VALIDATIONS: _rules(
            Rule(
                "!has(self.requests) || !has(self.limits) || self.requests.all(name,"
                " !(name in self.limits) || !isQuantity(string(self.requests[name]))"
                " || !isQuantity(string(self.limits[name]))"
                " || !quantity(string(self.requests[name]))"
                ".isGreaterThan(quantity(string(self.limits[name]))))",
                "a request must not exceed the limit of the same resource:"
                " raise the limit or lower the request",
            )
        )
    },
)

# A spool in one of these would be gone with the pod, or could not be written.
_LOST_WITH_THE_POD: Final = (
    "emptyDir",
    "ephemeral",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "image",
)

SPOOL: Final = _open_object(
    minProperties=1,
    maxProperties=1,
    properties={
        "persistentVolumeClaim": _open_object(
            description="A PersistentVolumeClaim of the pool's namespace; several pods write to it,"
            " so its access mode must be ReadWriteMany unless the pool runs on one node.",
            properties={
                "claimName": {
                    "description": "Name of the PersistentVolumeClaim.",
                    "type": "string",
                    "maxLength": 253,
                },
                "readOnly": {
                    "description": "Must not be true: workers write to the spool.",
                    "type": "boolean",
                },
            },
            required=["claimName"],
        ),
        "nfs": _open_object(
            description="An NFS export.",
            properties={
                "server": {
                    "description": "Host name or address of the NFS server.",
                    "type": "string",
                    "maxLength": 253,
                },
                "path": {
                    "description": "Exported path.",
                    "type": "string",
                    "maxLength": 4096,
                },
                "readOnly": {
                    "description": "Must not be true: workers write to the spool.",
                    "type": "boolean",
                },
            },
            required=["server", "path"],
        ),
        "hostPath": _open_object(
            description="A directory of the node. A result then waits for a worker on the same"
            " node, and the `restricted` Pod Security Standard refuses the pod.",
            properties={
                "path": {
                    "description": "Path on the node.",
                    "type": "string",
                    "maxLength": 4096,
                },
            },
            required=["path"],
        ),
        "name": {
            "description": "Not to be set: the operator names the volume.",
            "type": "string",
            "maxLength": 253,
        },
    }
    | {
        source: _open_object(description="Not to be used: it is gone with the pod, or read-only.")
        for source in _LOST_WITH_THE_POD
    },
    **{
        VALIDATIONS: _rules(
            Rule(
                "!has(self.name)",
                "write only the volume source, such as persistentVolumeClaim: {claimName: spool},"
                " and leave out name: the operator names the volume",
            ),
            Rule(
                " && ".join(f"!has(self.{source})" for source in _LOST_WITH_THE_POD),
                "a spool must outlive the pod and be writable: use persistentVolumeClaim, nfs,"
                " hostPath or another storage volume",
            ),
            Rule(
                "(!has(self.persistentVolumeClaim) || !has(self.persistentVolumeClaim.readOnly)"
                " || !self.persistentVolumeClaim.readOnly)"
                " && (!has(self.nfs) || !has(self.nfs.readOnly) || !self.nfs.readOnly)",
                "workers write to the spool: leave out readOnly",
            ),
        )
    },
)

# jobs.py gives these to the pods of a pool; selectors, and what the worker reads, rest on them.
_OPERATORS_LABELS: Final = ("app.kubernetes.io/managed-by", "app.kubernetes.io/name")
_OPERATORS_VOLUMES: Final = ("settings", "credentials", "state", "ca", "spool")


def _texts(description: str, *rules: Rule) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 65_536},
        VALIDATIONS: _rules(
            Rule(
                f"self.all(name, !name.startsWith('{OPERATOR_PREFIX}'))",
                f"keys that begin with {OPERATOR_PREFIX} are the operator's own: use another"
                " prefix",
            ),
            *rules,
        ),
    }


_NOT_THE_OPERATORS: Final = Rule(
    f"self.all(name, !(name in {list(_OPERATORS_LABELS)}))",
    f"{' and '.join(_OPERATORS_LABELS)} are the operator's own: use other labels",
)

JOB_LABELS: Final = _texts(
    "",
    _NOT_THE_OPERATORS,
    Rule(
        "self.all(name, self[name].matches(r'^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
        "values of labels are letters, digits, '-', '_' and '.', and begin and end with a letter or"
        " digit",
    ),
) | {"additionalProperties": {"type": "string", "maxLength": 63}}
JOB_ANNOTATIONS: Final = _texts("")

_METADATA: Final = _open_object(
    description="Labels and annotations that the pods get besides the operator's.",
    properties={
        "labels": _texts(
            "Labels of the pods.",
            _NOT_THE_OPERATORS,
            Rule(
                "self.all(name, !name.startsWith('batch.kubernetes.io/')"
                " && !(name in ['job-name', 'controller-uid']))",
                "labels of batch.kubernetes.io, job-name and controller-uid are set by Kubernetes:"
                " remove them",
            ),
        ),
        "annotations": _texts("Annotations of the pods."),
    },
)

_VOLUMES: Final[dict[str, Any]] = {
    "description": (
        "Volumes by name. `scratch` (files of the Tasks) and `tmp` may be given here, to have them"
        " on another storage than an emptyDir of the node."
    ),
    "type": "array",
    "maxItems": 64,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": _open_object(
        required=["name"],
        properties={
            "name": {
                "description": "Name of the volume, for volumeMounts.",
                "type": "string",
                "maxLength": 63,
                VALIDATIONS: _rules(
                    Rule(
                        f"!(self in {list(_OPERATORS_VOLUMES)})",
                        f"the volumes {', '.join(_OPERATORS_VOLUMES)} are the operator's own: use"
                        " another name; only scratch and tmp may be replaced, and the spool is set"
                        " in spec.worker.spool",
                    )
                ),
            }
        },
    ),
}

_NAME: Final[dict[str, Any]] = {"type": "string", "maxLength": 63}

_CONTAINERS: Final[dict[str, Any]] = {
    "description": (
        "Containers by name. The one named `worker` is merged over the worker's own, so only what"
        " is to be added or changed is written: env, volumeMounts, securityContext and the like."
        " Others run beside it. A helper that does not end by itself belongs in initContainers with"
        " restartPolicy Always, else it keeps the GPU until the operator deletes the Job, and its"
        " logs, because the worker has left."
    ),
    "type": "array",
    "maxItems": 32,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": _open_object(
        required=["name"],
        properties={
            "name": {"description": "Name of the container; `worker` is the worker's.", **_NAME},
            "image": {
                "description": "Image of a container beside the worker.",
                "type": "string",
                "maxLength": 1024,
            },
            "resources": _open_object(description="Resources of a container beside the worker."),
            "args": {
                "description": "Not to be set for the worker.",
                "type": "array",
                "maxItems": 256,
                "items": {"type": "string", "maxLength": 65_536},
            },
            "restartPolicy": {
                "description": "Not to be set for the worker.",
                "type": "string",
                "maxLength": 16,
            },
            "readinessProbe": _open_object(description="Not to be set for the worker."),
            "terminationMessagePath": {
                "description": "Not to be set for the worker.",
                "type": "string",
                "maxLength": 4096,
            },
            "env": {
                "description": "Environment variables.",
                "type": "array",
                "maxItems": 256,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": _open_object(
                    required=["name"],
                    properties={
                        "name": {
                            "description": "Name of the variable.",
                            "type": "string",
                            "maxLength": 256,
                        }
                    },
                ),
            },
        },
        **{
            VALIDATIONS: _rules(
                Rule(
                    "self.name == 'worker' || (has(self.image) && self.image != '')",
                    "a container beside the worker needs an image; the worker's own container is"
                    " named worker",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.image)",
                    "set the worker's image in spec.worker.image, not in podTemplate",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.resources)",
                    "set the worker's resources in spec.worker.resources and spec.worker.gpu,"
                    " not in podTemplate",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.args)",
                    "leave out args of the worker: they are the operator's; a command that wraps"
                    " the worker gets them as its own",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.restartPolicy)",
                    "leave out restartPolicy of the worker: a restarted container would use the"
                    " registration of the one before it",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.readinessProbe)",
                    "leave out readinessProbe of the worker: its pod is Ready exactly while it"
                    " holds a Task, and the operator counts by that",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.terminationMessagePath)",
                    "leave out terminationMessagePath of the worker: the operator reads the"
                    " worker's last words there",
                ),
                Rule(
                    "self.name != 'worker' || !has(self.env)"
                    " || self.env.all(variable, !variable.name.startsWith('COMPUTEPOOL_'))",
                    "environment variables that begin with COMPUTEPOOL_ are the operator's own:"
                    " remove them",
                ),
            )
        },
    ),
}

POD_TEMPLATE: Final = _open_object(
    properties={
        "metadata": _METADATA,
        "spec": _open_object(
            description=(
                "Any field of a PodSpec: nodeSelector, tolerations, affinity, priorityClassName,"
                " runtimeClassName, imagePullSecrets, volumes, containers and so on."
            ),
            properties={
                "restartPolicy": {
                    "description": "Never, which is what the operator sets.",
                    "type": "string",
                    "maxLength": 16,
                },
                "containers": _CONTAINERS,
                "volumes": _VOLUMES,
                "resourceClaims": {
                    "description": "Claims of dynamic resource allocation, by name.",
                    "type": "array",
                    "maxItems": 16,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": _open_object(
                        required=["name"],
                        properties={
                            "name": {
                                "description": "Name of the claim, for resources.claims.",
                                **_NAME,
                            }
                        },
                    ),
                },
            },
            **{
                VALIDATIONS: _rules(
                    Rule(
                        "!has(self.restartPolicy) || self.restartPolicy == 'Never'",
                        "restartPolicy must be Never or absent: each pod is one compute service,"
                        " and a restarted one would use its registration again",
                    )
                )
            },
        ),
    }
)
