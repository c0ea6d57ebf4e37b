"""A model of Kubernetes: Job controller, scheduler, kubelets, node lifecycle, and their delays.

What a kubelet knows and what the API shows are kept apart: a node that nobody reaches, or an API
server that is away, leaves the API with old news.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from functools import partial

from computepool_operator.orders import Orders
from month.things import End, Job, Node, Pod, Process
from month.timeline import Timeline
from simulator.identifiers import IdMaker

GRACE = 90.0
NOT_READY_AFTER = 40.0
EVICTED_AFTER = 300.0
"""Seconds after which a node that does not answer is not ready, and then loses its pods."""

Launch = Callable[[Pod], Process]
Changed = Callable[[Job | Pod], None]


class APIAway(Exception):
    """The API server does not answer."""


class Kubernetes:
    """The cluster.

    `changed` is told of each change of an object in the API, `released` of each pod that gives its
    GPU back.
    """

    def __init__(self, timeline: Timeline, chance: random.Random, new_id: IdMaker) -> None:
        self.api_up = True
        self.nodes: list[Node] = []
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, Pod] = {}
        self.launch: Launch
        self.changed: Changed
        self.released: Callable[[Pod], None]
        self._timeline = timeline
        self._chance = chance
        self._new_id = new_id
        self._held_up: list[Callable[[], None]] = []

    # for clients

    def create_job(self, name: str, orders: Orders) -> Job:
        """Create a Job; its pod follows."""
        self._reach()
        job = Job(name, self._uid(), self._timeline.now, orders)
        self.jobs[name] = job
        self.changed(job)
        self._soon(0.1, 0.4, lambda: self._make_pod(job))
        return job

    def delete_job(self, job: Job, *, foreground: bool) -> None:
        """Delete a Job and its pod, the pod first or the Job first."""
        self._reach()
        if job.gone or job.deleting:
            return
        self._timeline.tell(f"Job {job.name} is being deleted")
        if foreground and job.pod is not None:
            job.deleting = True
            self.changed(job)
            self.delete_pod(job.pod)
            return
        self._job_goes(job)
        if (pod := job.pod) is not None:
            self._soon(0.1, 0.5, lambda: self.delete_pod(pod))

    def orphan(self, job: Job) -> None:
        """Delete a Job with `--cascade=orphan`: its pod goes on."""
        self._reach()
        if not job.gone and not job.deleting:
            self._job_goes(job)

    def delete_pod(self, pod: Pod, *, disrupted: bool = False, by_force: bool = False) -> None:
        """Delete a pod: with the grace of its spec, or at once from the API alone."""
        if pod.gone:
            return
        pod.disrupted = pod.disrupted or disrupted
        if not pod.deleting:
            pod.deleting = True
            self.changed(pod)
            self._timeline.tell(f"pod of {pod.job.name} is being deleted")
        if pod.finished or pod.node is None or by_force:
            self._pod_goes(pod)
        if pod.node is not None and pod.node.answers and not pod.finished:
            self._stop(pod)

    # what the kubelet is told by a process

    def process_ended(self, pod: Pod, code: int, reason: str, message: str) -> None:
        """The process of a pod has ended on its node."""
        if pod.end is None:
            pod.end = End(self._timeline.now, code, reason, message)
            self._soon(0.1, 0.6, lambda: self._report(pod))

    def holding_changed(self, pod: Pod) -> None:
        """The file that makes a pod Ready came or went; the probe sees it within a second."""
        self._soon(0.1, 1.1, lambda: self._report(pod))

    # what happens to nodes and the API server

    def set_api(self, *, up: bool) -> None:
        """Take the API server away, or bring it back."""
        self.api_up = up
        if up:
            waiting, self._held_up = self._held_up, []
            for call in waiting:
                self._soon(0.0, 1.0, call)

    def lose(self, node: Node, *, crash: bool, isolated: bool) -> None:
        """A node stops answering: because it has crashed, or because nobody reaches it."""
        node.answers = False
        if crash:
            node.up = False
            for pod in self.on(node):
                if pod.process is not None and pod.process.alive:
                    pod.process.kill()
        node.isolated = isolated or crash
        self._timeline.after(NOT_READY_AFTER, lambda: self._not_ready(node))
        self._timeline.after(EVICTED_AFTER, lambda: self._evict_from(node))

    def regain(self, node: Node) -> None:
        """A node answers again; after a crash, its containers have ended."""
        rebooted = not node.up
        node.up = node.answers = node.ready = True
        node.isolated = False
        for pod in self.on(node):
            if rebooted and pod.started_at is None and not pod.finished:
                pod.end = End(self._timeline.now, 255, "Unknown")
            if rebooted and pod.process is not None and not pod.finished:
                pod.end = End(self._timeline.now, 255, "Unknown", pod.process.message)
            self._report(pod)
            if pod.deleting:
                self._stop(pod)
        self._when_up(self._schedule)

    def forget(self, node: Node) -> None:
        """A node is gone for good, and so are its pods."""
        if node in self.nodes:
            self.nodes.remove(node)
            for pod in self.on(node):
                self._when_up(partial(self._pod_goes, pod))

    def on(self, node: Node) -> list[Pod]:
        """The pods on a node that have not finished."""
        return [p for p in self.pods.values() if p.node is node and not p.finished]

    def pods_at_work(self) -> list[Pod]:
        """The pods that have not finished."""
        return [pod for pod in self.pods.values() if not pod.finished]

    def try_again(self) -> None:
        """Something has made room."""
        self._soon(0.02, 0.3, self._schedule)

    # Job controller

    def _make_pod(self, job: Job) -> None:
        if not self.api_up:
            return self._when_up(lambda: self._make_pod(job))
        if job.gone or job.deleting:
            return None
        job.pod = pod = Pod(self._uid(), job, self._timeline.now)
        self.pods[pod.uid] = pod
        self.changed(pod)
        return self.try_again()

    def _settle(self, job: Job) -> None:
        """The pod of a Job has ended or gone: the Job has too, in two steps."""
        if not self.api_up:
            return self._when_up(lambda: self._settle(job))
        if job.gone or job.ended:
            return None
        if job.deleting:
            if job.pod is None or job.pod.gone:
                self._job_goes(job)
            return None
        good = job.pod is not None and job.pod.phase == "Succeeded"
        if not job.target:
            job.target = "SuccessCriteriaMet" if good else "FailureTarget"
            self._soon(0.2, 1.0, lambda: self._settle(job))
        else:
            job.ended = "Complete" if job.target == "SuccessCriteriaMet" else "Failed"
        job.ended_at = self._timeline.now
        return self.changed(job)

    def _job_goes(self, job: Job) -> None:
        job.gone = True
        self.jobs.pop(job.name, None)
        self.changed(job)

    # scheduler

    def _schedule(self) -> None:
        if not self.api_up:
            return self._when_up(self._schedule)
        waiting = [p for p in self.pods.values() if p.node is None and not p.deleting]
        for pod in waiting:
            node = self._place_for(pod)
            if node is not None:
                node.used += 1
                pod.node, pod.bound_at, pod.unschedulable = node, self._timeline.now, False
                self._soon(0.2, 1.0, partial(self._admit, pod))
            elif pod.unschedulable:
                continue
            else:
                pod.unschedulable = True
            self.changed(pod)
        return None

    def _place_for(self, pod: Pod) -> Node | None:
        free = [
            node
            for node in self.nodes
            if node.ready and node.used < node.gpus and node.name not in pod.job.orders.avoid_nodes
        ]
        return max(free, key=lambda node: (node.gpus - node.used, node.name), default=None)

    # kubelet

    def _admit(self, pod: Pod) -> None:
        node = pod.node
        assert node is not None
        if pod.gone or pod.end or pod.deleting or not node.answers:
            return
        if node.rejects:
            pod.reason = "UnexpectedAdmissionError"
            pod.end = End(self._timeline.now, 1, "")
            self._report(pod)
            return
        pull = 0.5 if node.has_image else self._chance.uniform(60, 240)
        self._timeline.after(pull, lambda: self._start(pod))

    def _start(self, pod: Pod) -> None:
        node = pod.node
        assert node is not None
        if not node.up or pod.end is not None or (pod.deleting and node.answers):
            return
        node.has_image = True
        pod.started_at = self._timeline.now
        pod.process = self.launch(pod)
        pod.process.start()
        self._report(pod)

    def _stop(self, pod: Pod) -> None:
        process = pod.process
        if process is None:
            if pod.end is None:
                pod.end = End(self._timeline.now, 137, "")
                self._soon(0.1, 0.5, lambda: self._report(pod))
        elif process.alive:
            process.terminate()
            self._timeline.after(GRACE, process.kill)

    def _report(self, pod: Pod) -> None:
        """Let the API know what the kubelet knows."""
        node = pod.node
        if node is None or pod.gone or pod.finished or not node.answers:
            return
        if not self.api_up:
            self._when_up(lambda: self._report(pod))
            return
        before = (pod.phase, pod.ready, pod.shows_started)
        ready = pod.end is None and pod.process is not None and pod.process.holding
        if ready != pod.ready:
            pod.ready, pod.ready_since = ready, self._timeline.now
        pod.shows_started = pod.started_at is not None
        if pod.end is not None:
            good = pod.end.code == 0 and pod.started_at is not None
            pod.phase = "Succeeded" if good else "Failed"
            self._release(pod)
        elif pod.shows_started:
            pod.phase = "Running"
        if before != (pod.phase, pod.ready, pod.shows_started):
            self.changed(pod)

    def _release(self, pod: Pod) -> None:
        assert pod.node is not None
        pod.node.used -= 1
        self.released(pod)
        self.try_again()
        self._soon(0.2, 1.0, lambda: self._settle(pod.job))
        if pod.deleting:
            self._soon(0.3, 1.2, lambda: self._pod_goes(pod))

    def _pod_goes(self, pod: Pod) -> None:
        if pod.gone:
            return
        if not self.api_up:
            self._when_up(lambda: self._pod_goes(pod))
            return
        pod.gone = True
        self.pods.pop(pod.uid, None)
        self.changed(pod)
        if not pod.finished and pod.node is not None:
            pod.node.used -= 1
            self.released(pod)
            self.try_again()
        self._soon(0.1, 0.5, lambda: self._settle(pod.job))

    # node lifecycle

    def _not_ready(self, node: Node) -> None:
        if node.answers:
            return
        if not self.api_up:
            self._when_up(lambda: self._not_ready(node))
            return
        node.ready = False
        for pod in self.on(node):
            if pod.ready:
                pod.ready, pod.ready_since = False, self._timeline.now
                self.changed(pod)

    def _evict_from(self, node: Node) -> None:
        if node.answers:
            return
        if not self.api_up:
            self._when_up(lambda: self._evict_from(node))
            return
        for pod in self.on(node):
            self.delete_pod(pod, disrupted=True)

    # delays

    def _reach(self) -> None:
        if not self.api_up:
            raise APIAway

    def _when_up(self, call: Callable[[], None]) -> None:
        if self.api_up:
            call()
        else:
            self._held_up.append(call)

    def _soon(self, least: float, most: float, call: Callable[[], None]) -> None:
        self._timeline.after(self._chance.uniform(least, most), call)

    def _uid(self) -> str:
        return str(uuid.UUID(self._new_id()))
