"""Requests to the Kubernetes API, in plain dictionaries, with errors sorted by their meaning.

The typed models of `kubernetes` refuse what people write (`nvidia.com/gpu: 1`), so bodies and
answers stay dictionaries; the library does configuration, credentials, TLS and connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio import client, config

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
SHORT_TIMEOUT = aiohttp.ClientTimeout(total=5)
"""For what can be done without."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

PAGE = 500
"""How many objects are listed at once."""

_LONGEST_MESSAGE = 1024


SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class InCluster:
    """How a pod reaches the API server."""

    server: str
    ca_path: str
    token: str = field(repr=False)


def service_account() -> InCluster | None:
    """What the kubelet gives a pod to reach the API server with; None outside of a cluster."""
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT"),
    )
    try:
        token = (SERVICE_ACCOUNT / "token").read_text().strip()
    except OSError:
        return None
    if not host or not port:
        return None
    bracketed = f"[{host}]" if ":" in host else host
    return InCluster(f"https://{bracketed}:{port}", str(SERVICE_ACCOUNT / "ca.crt"), token)


class KubernetesError(Exception):
    """The Kubernetes API did not do what was asked.

    `status` is the HTTP status, None where there was no answer; `message` is what Kubernetes says.
    """

    def __init__(self, request: str, status: int | None, message: str) -> None:
        self.request = request
        self.status = status
        self.message = message[:_LONGEST_MESSAGE]
        super().__init__(f"{request}: {status or 'no answer'}: {self.message}")


class Unavailable(KubernetesError):
    """No answer, too busy, or broken (429, 5xx, timeout): try again later.

    A write that ended so may or may not have been done.
    """


class NotFound(KubernetesError):
    """404: there is no such object."""


class AlreadyExists(KubernetesError):
    """409 on creation: there is an object of that name."""


class Conflict(KubernetesError):
    """409 otherwise: the object has changed meanwhile."""


class Gone(KubernetesError):
    """410: the resource version is too old; list again."""


class Refused(KubernetesError):
    """401, 403, 400, 422: permissions, quota, admission, an invalid object. A person must look."""


class NotLeading(KubernetesError):
    """Nothing was sent: another instance of the operator may lead by now."""

    def __init__(self, request: str) -> None:
        super().__init__(request, None, "this instance does not hold the Lease any more")


def _error(request: str, status: int, text: str) -> KubernetesError:
    reason, message = "", text
    with contextlib.suppress(ValueError, AttributeError):
        body = json.loads(text)
        reason, message = body.get("reason") or "", body.get("message") or text
    if status == 404:
        return NotFound(request, status, message)
    if status == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(request, status, message)
    if status == 410:
        return Gone(request, status, message)
    if status == 429 or status >= 500:
        return Unavailable(request, status, message)
    return Refused(request, status, message)


class KubeAPI:
    """A connection to one Kubernetes API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> Self:
        """Use the service account of the pod, or else the kubeconfig of the person."""
        settings = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=settings)
        return cls(client.ApiClient(settings))

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> dict[str, Any]:
        """Make one request and return the object that is answered.

        Raises:
            KubernetesError: one of the kinds above.

        """
        response = await self._send(method, path, query, body, content_type, timeout)
        name = f"{method} {path}"
        try:
            text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(name, response.status, _words(error)) from error
        finally:
            response.release()
        if response.status >= 400:
            raise _error(name, response.status, text)
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise Unavailable(name, response.status, "the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise Unavailable(name, response.status, "the answer is not an object")
        return answer

    async def pages(
        self, path: str, *, query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """List a collection, page after page. What came before an error is not all there is.

        Raises:
            KubernetesError: a page can't be had.

        """
        query = {**(query or {}), "limit": PAGE}
        while True:
            page = await self.request("GET", path, query=query)
            yield page
            if not (following := page["metadata"].get("continue")):
                return
            query["continue"] = following

    async def watch(
        self, path: str, *, query: Mapping[str, Any], silence: float, length: int
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield watch events until the server ends the watch after `length` seconds.

        Args:
            path: of the collection.
            query: selectors and the resource version to start from.
            silence: seconds without a byte (an event or a bookmark) after which the watch is
                taken for dead.
            length: seconds after which the server ends it.

        Raises:
            Gone: the resource version is too old.
            KubernetesError: otherwise.

        """
        timeout = aiohttp.ClientTimeout(total=length + silence, connect=10, sock_read=silence)
        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": length}
        name = f"WATCH {path}"
        response = await self._send("GET", path, query, None, "application/json", timeout)
        try:
            if response.status >= 400:
                raise _error(name, response.status, await response.text())
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _error(name, status.get("code", 500), json.dumps(status))
                yield event
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            raise Unavailable(name, response.status, _words(error)) from error
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._api.call_api(*request, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {path}", None, _words(error)) from error
        response: aiohttp.ClientResponse = answer.response
        return response


def _words(error: BaseException) -> str:
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timed out"
    return f"{type(error).__name__}: {error}"
