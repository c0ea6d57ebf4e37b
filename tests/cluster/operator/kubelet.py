"""What a kubelet would do to pods, done by hand: the control plane of these tests has no node.

Each method writes to a pod's status what a real kubelet writes at that point of its life (shapes
taken from a real one), after binding it to a node that exists as an object only. The Job
controller, the garbage collector and the operator can't tell the difference; real pods on a real
kubelet are the matter of tests/e2e.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from cluster.operator.kube import STRATEGIC_PATCH, Body, Kube

from computepool_api.outcomes import Outcome, TerminationMessage

KILLED = 137


def now(offset: float = 0.0) -> str:
    """The present (or so many seconds from it) as Kubernetes writes it: whole seconds."""
    return (datetime.now(UTC) + timedelta(seconds=offset)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: bool, at: str, reason: str = "") -> Body:
    """A condition of a pod."""
    found: Body = {"type": kind, "status": str(status), "lastTransitionTime": at}
    return found | ({"reason": reason} if reason else {})


class Kubelet:
    """Moves the pods of one namespace through their lives, on a node of its own."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.node = f"made-up-{secrets.token_hex(4)}"

    def join(self) -> None:
        """Let the node exist: the control plane removes pods from a node that does not.

        Here it never holds a silent node for lost; elsewhere after 40 s, longer than a test takes.
        """
        body = {"metadata": {"name": self.node}, "spec": {"unschedulable": True}}
        self._kube.call("POST", "/api/v1/nodes", json=body)

    def leave(self) -> None:
        """Take the node away again."""
        self._kube.call("DELETE", f"/api/v1/nodes/{self.node}")

    def bind(self, pod: str) -> None:
        """Give the pod the node, as the scheduler does; without effect if it has it."""
        found = self._kube.get("pods", pod)
        if found is not None and found["spec"].get("nodeName"):
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
        self._kube.post("pods", pod, "binding", {"metadata": {"name": pod}, "target": target})

    def start(self, pod: str) -> None:
        """Its container runs, and is not Ready: the worker has claimed nothing yet."""
        self.bind(pod)
        # The pod was admitted before its container could start.
        admitted, started = now(-1), now()
        self._write(
            pod,
            phase="Running",
            startTime=admitted,
            conditions=[
                condition("Initialized", True, admitted),
                condition("Ready", False, admitted, "ContainersNotReady"),
                condition("ContainersReady", False, admitted, "ContainersNotReady"),
            ],
            containerStatuses=[_container({"running": {"startedAt": started}}, ready=False)],
        )

    def turn_ready(self, pod: str, *, ready: bool = True) -> None:
        """The readiness probe finds (or misses) the file that says: I hold a Task."""
        at = now(1)  # whole seconds: the claim comes after the start
        state = self._kube.get("pods", pod)
        assert state is not None
        running = state["status"]["containerStatuses"][0]["state"]
        reason = "" if ready else "ContainersNotReady"
        self._write(
            pod,
            conditions=[
                condition("Ready", ready, at, reason),
                condition("ContainersReady", ready, at, reason),
            ],
            containerStatuses=[_container(running, ready=ready)],
        )

    def claim(self, pod: str) -> None:
        """Its container runs and is Ready: the worker holds a Task."""
        self.start(pod)
        self.turn_ready(pod)

    def finish(
        self,
        pod: str,
        outcome: Outcome = Outcome.DONE,
        *,
        exit_code: int | None = None,
        task: str | None = None,
        reason: str = "",
        later: float = 0,
    ) -> None:
        """Its container ends with these last words, in `later` seconds; the pod is terminal."""
        code = outcome.exit_code if exit_code is None else exit_code
        at = now(later)
        terminated = _terminated(outcome, code, task, reason, at)
        self._write(
            pod,
            phase="Succeeded" if code == 0 else "Failed",
            conditions=[
                condition("Ready", False, at, "PodCompleted" if code == 0 else "PodFailed"),
                condition("ContainersReady", False, at, "PodCompleted"),
            ],
            containerStatuses=[_container({"terminated": terminated}, ready=False)],
        )

    def kill(self, pod: str, outcome: Outcome, task: str | None, reason: str = "Error") -> None:
        """Its container dies of SIGKILL; what it said last stands in its message."""
        self.finish(pod, outcome, exit_code=KILLED, task=task, reason=reason)

    def outlive(self, pod: str, outcome: Outcome = Outcome.DONE, task: str | None = None) -> None:
        """Its worker ends so, or for its memory, and a proxy runs on beside it: so does the pod."""
        at = now()
        reason = "" if outcome.is_end else "OOMKilled"
        code = outcome.exit_code if outcome.is_end else KILLED
        proxy = {"running": {"startedAt": now(-2)}}
        self._write(
            pod,
            conditions=[
                condition("Ready", False, at, "ContainersNotReady"),
                condition("ContainersReady", False, at, "ContainersNotReady"),
            ],
            containerStatuses=[
                _container(
                    {"terminated": _terminated(outcome, code, task, reason, at)}, ready=False
                ),
                {**_container(proxy, ready=True), "name": "proxy"},
            ],
        )

    def evict(self, pod: str, task: str | None = None) -> None:
        """The kubelet ends the pod because the node is short of memory."""
        at = now()
        terminated = {
            "exitCode": KILLED,
            "reason": "Error",
            "finishedAt": at,
            "message": TerminationMessage(Outcome.HOLDING, task=task).to_json(),
        }
        self._write(
            pod,
            phase="Failed",
            reason="Evicted",
            message="The node was low on resource: memory.",
            conditions=[
                condition("DisruptionTarget", True, at, "TerminationByKubelet"),
                condition("Ready", False, at, "PodFailed"),
            ],
            containerStatuses=[_container({"terminated": terminated}, ready=False)],
        )

    def fail_to_pull(self, pod: str) -> None:
        """Its image can't be had."""
        self.bind(pod)
        waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "worker:v9"'}
        self._write(
            pod,
            phase="Pending",
            startTime=now(),
            conditions=[condition("Ready", False, now(), "ContainersNotReady")],
            containerStatuses=[_container({"waiting": waiting}, ready=False)],
        )

    def fail_to_mount(self, pod: str) -> None:
        """A Secret that it mounts is not there: only an event tells."""
        self.bind(pod)
        self._write(
            pod,
            phase="Pending",
            startTime=now(),
            conditions=[condition("Ready", False, now(), "ContainersNotReady")],
            containerStatuses=[
                _container({"waiting": {"reason": "ContainerCreating"}}, ready=False)
            ],
        )
        found = self._kube.get("pods", pod)
        assert found is not None
        about = {"kind": "Pod", "namespace": self._kube.namespace, "name": pod}
        event = {
            "metadata": {"generateName": f"{pod}."},
            "involvedObject": {"apiVersion": "v1", **about, "uid": found["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedMount",
            "message": 'MountVolume.SetUp failed for volume "credentials" : secret "x" not found',
            "source": {"component": "kubelet", "host": self.node},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        self._kube.create("events", event)

    def obey(self, pod: str) -> None:
        """End a pod that is being deleted, as a worker does on SIGTERM, and let go of it."""
        found = self._kube.get("pods", pod)
        if found is None:
            return
        statuses = found["status"].get("containerStatuses") or [{}]
        if "terminated" in statuses[0].get("state", {}):
            # Only a proxy was left, and died of the signal.
            self._write(pod, phase="Failed")
        elif found["status"].get("phase") not in ("Succeeded", "Failed"):
            self.finish(pod, Outcome.TERMINATED)
        self.vanish(pod)

    def vanish(self, pod: str) -> None:
        """Let the pod's object go without a word, as `kubectl delete --force` does."""
        self._kube.delete("pods", pod, gracePeriodSeconds=0)

    def _write(self, pod: str, **status: Any) -> None:
        # A strategic patch merges conditions by type, as the kubelet's own patches do, and takes
        # the fields of another state of the container out.
        for container in status.get("containerStatuses", ()):
            container["state"] = {"$retainKeys": list(container["state"]), **container["state"]}
        self._kube.patch(
            "pods", pod, {"status": status}, subresource="status", form=STRATEGIC_PATCH
        )


def _terminated(outcome: Outcome, code: int, task: str | None, reason: str, at: str) -> Body:
    return {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": now(-2),
        "finishedAt": at,
        "message": TerminationMessage(outcome, task=task, detail="said by a test").to_json(),
    }


def _container(state: Body, *, ready: bool) -> Body:
    return {
        "name": "worker",
        "image": "registry.example.org/worker:v1",
        "imageID": "",
        "restartCount": 0,
        "ready": ready,
        "started": ready,
        "state": state,
    }
