"""The `restricted` Pod Security Standard, as a function of a pod spec.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
ALLOWED_SECCOMP = ("RuntimeDefault", "Localhost")


def violations(spec: Body) -> list[str]:
    """What the standard objects to, empty if nothing."""
    found = [
        f"{field} is true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)
    ]
    pod = spec.get("securityContext") or {}
    for volume in spec.get("volumes") or ():
        others = volume.keys() - ALLOWED_VOLUMES - {"name"}
        found += [f"volume {volume['name']} is of type {kind}" for kind in sorted(others)]
    if pod.get("sysctls"):
        found.append("sysctls are set")
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            found += [f"container {container['name']}: {what}" for what in _of(container, pod)]
    return found


def _of(container: Body, pod: Body) -> Iterator[str]:
    own = container.get("securityContext") or {}

    def setting(name: str) -> Any:
        return own.get(name, pod.get(name))

    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if setting("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if setting("runAsUser") == 0:
        yield "runs as root"
    if (setting("seccompProfile") or {}).get("type") not in ALLOWED_SECCOMP:
        yield "has no seccomp profile"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "does not drop all capabilities"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "uses a port of the host"
    if own.get("procMount", "Default") != "Default":
        yield "changes /proc"
