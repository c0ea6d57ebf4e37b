"""The Kubernetes API for tests: objects of one namespace as plain dictionaries, and watches."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from kubernetes import config

from computepool_operator.pool import GROUP, VERSION

Body = dict[str, Any]

GROUPS = {
    "computepools": f"/apis/{GROUP}/{VERSION}",
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
}
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class Refused(Exception):
    """The API server answered with an error; the text is what it says."""


class Kube:
    """The API as an administrator sees it, within one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.namespace = namespace
        connect: Callable[[str], Any] = config.new_client_from_config
        connection = connect(str(kubeconfig))
        settings = connection.configuration
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        token = settings.get_api_key_with_prefix("BearerToken")
        self._http = httpx.Client(
            base_url=settings.host,
            verify=context,
            headers={"Authorization": token} if token else {},
            timeout=30,
            trust_env=False,
        )
        connection.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        """Path of a collection, of an object, or of its subresource."""
        parts = [GROUPS.get(kind, "/api/v1"), "namespaces", self.namespace, kind, name, subresource]
        return "/".join(part for part in parts if part)

    def list(self, kind: str, selector: str = "") -> list[Body]:
        """All objects of a kind, oldest first."""
        items = self.call("GET", self.path(kind), params={"labelSelector": selector})["items"]
        return sorted(items, key=lambda item: int(item["metadata"]["resourceVersion"]))

    def get(self, kind: str, name: str) -> Body | None:
        """One object, None if there is none."""
        answer = self._http.get(self.path(kind, name))
        return None if answer.status_code == 404 else _body(answer)

    def create(self, kind: str, body: Body) -> Body:
        """Create an object."""
        return self.call("POST", self.path(kind), json=body)

    def patch(
        self, kind: str, name: str, body: Body, *, subresource: str = "", form: str = MERGE_PATCH
    ) -> Body:
        """Patch an object."""
        return self.call(
            "PATCH",
            self.path(kind, name, subresource),
            content=json.dumps(body),
            headers={"Content-Type": form},
        )

    def post(self, kind: str, name: str, subresource: str, body: Body) -> Body:
        """Create a subresource, such as a pod's binding."""
        return self.call("POST", self.path(kind, name, subresource), json=body)

    def delete(self, kind: str, name: str, **options: Any) -> None:
        """Delete an object; without effect if it is gone."""
        answer = self._http.request("DELETE", self.path(kind, name), json=options)
        if answer.status_code != 404:
            _body(answer)

    def watch(self, kind: str) -> Watch:
        """Begin to watch a kind; what exists already comes first."""
        request = self._http.build_request(
            "GET", self.path(kind), params={"watch": "true"}, timeout=None
        )
        deadline = time.monotonic() + 20
        while True:
            answer = self._http.send(request, stream=True)
            # The API server puts watches of a new kind off until it has prepared its storage.
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or time.monotonic() > deadline:
                break
            answer.close()
            time.sleep(0.1)
        assert answer.status_code == httpx.codes.OK, answer.status_code
        return Watch(answer)

    def call(self, method: str, path: str, **options: Any) -> Body:
        return _body(self._http.request(method, path, **options))


class Watch:
    """The events of one collection as they come in, until `stop` is called from any thread."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer
        self._socket: socket.socket = answer.extensions["network_stream"].get_extra_info("socket")

    def __iter__(self) -> Iterator[tuple[str, Body]]:
        try:
            for line in self._answer.iter_lines():
                event = json.loads(line)
                yield event["type"], event["object"]
        except httpx.TransportError:
            return
        finally:
            self._answer.close()

    def stop(self) -> None:
        """End it; whoever reads it is woken."""
        with contextlib.suppress(OSError):
            # That of SSLSocket would let the reader go on without TLS.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _body(answer: httpx.Response) -> Body:
    if answer.is_error:
        raise Refused(f"{answer.request.method} {answer.request.url.path}: {answer.text}")
    body: Body = answer.json()
    return body
