"""A pool's connection to its alchemiscale server: URL, authority and credentials of the spec."""

from __future__ import annotations

import ssl

from computepool_api.credentials import Credentials
from computepool_api.transport import ComputeAPI

from . import __version__
from .cluster import Cluster
from .kubeapi import KubernetesError, NotFound, Refused
from .plan import Verdict
from .pool import ComputeAPISpec
from .reasons import Reason
from .secrets import SecretIncomplete, read_credentials

USER_AGENT = f"computepool-operator/{__version__}"


class NotConnected(Exception):
    """The pool can't speak to its server, and the verdict says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class Connection:
    """Holds the HTTP client of one pool and renews it when the spec points elsewhere."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._made_for: tuple[str, str, Credentials] | None = None
        self._api: ComputeAPI | None = None

    async def last(self, spec: ComputeAPISpec) -> ComputeAPI:
        """Like `prepare`, but with what was known before where the Secret is gone by now.

        A namespace that is deleted takes its Secrets along before its pools have said goodbye.
        """
        try:
            return await self.prepare(spec)
        except NotConnected:
            if self._api is None:
                raise
            return self._api

    async def prepare(self, spec: ComputeAPISpec) -> ComputeAPI:
        """Read the Secret and the CA bundle, and return a client that uses them.

        Raises:
            NotConnected: something is missing; the verdict says what to do.

        """
        credentials = await self._read_credentials(spec)
        bundle = await self._read_ca_bundle(spec)
        # A token that the old credentials have brought would be used for half an hour.
        wanted = (spec.url, bundle, credentials)
        if self._api is None or self._made_for != wanted:
            # The client there is stays, for `last`, until another has been made.
            made = _client(spec, bundle, credentials)
            await self.close()
            self._api, self._made_for = made, wanted
        return self._api

    async def close(self) -> None:
        """Close the client, if there is one."""
        if self._api is not None:
            await self._api.aclose()
        self._api = None

    async def _read_credentials(self, spec: ComputeAPISpec) -> Credentials:
        name = spec.credentials_secret_ref.name
        try:
            secret = await self._cluster.read_secret(self._namespace, name)
            return read_credentials(secret, spec.credentials_secret_ref)
        except NotFound:
            message = (
                f"There is no Secret {name} in namespace {self._namespace}: create it with the "
                "compute identity's identifier and key."
            )
            raise NotConnected(Verdict(Reason.SECRET_MISSING, message)) from None
        except SecretIncomplete as error:
            message = f"{str(error)[:1].upper()}{str(error)[1:]}."
            raise NotConnected(Verdict(Reason.SECRET_INCOMPLETE, message)) from None
        except Refused as error:
            message = f"The operator may not read the Secret {name}: {error.message}"
            raise NotConnected(Verdict(Reason.SECRET_MISSING, message)) from None
        except KubernetesError as error:
            raise NotConnected(Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error))) from None

    async def _read_ca_bundle(self, spec: ComputeAPISpec) -> str:
        reference = spec.ca_bundle_ref
        if not reference.name:
            return ""
        where = f"ConfigMap {reference.name} in namespace {self._namespace}"
        try:
            config_map = await self._cluster.read_config_map(self._namespace, reference.name)
        except NotFound:
            message = f"There is no {where}: create it with the server's CA certificate."
            raise NotConnected(Verdict(Reason.CA_BUNDLE_INVALID, message)) from None
        except Refused as error:
            message = f"The operator may not read {where}: {error.message}"
            raise NotConnected(Verdict(Reason.CA_BUNDLE_INVALID, message)) from None
        except KubernetesError as error:
            raise NotConnected(Verdict(Reason.KUBERNETES_UNAVAILABLE, str(error))) from None
        bundle = (config_map.get("data") or {}).get(reference.key)
        if not bundle:
            message = f"{where} has no key {reference.key}: add the CA certificate in PEM form."
            raise NotConnected(Verdict(Reason.CA_BUNDLE_INVALID, message))
        return str(bundle)


def _client(spec: ComputeAPISpec, bundle: str, credentials: Credentials) -> ComputeAPI:
    trust = _trust(spec, bundle)
    try:
        return ComputeAPI(spec.url, lambda: credentials, verify=trust, user_agent=USER_AGENT)
    except ValueError as error:
        # The URL, or a variable of the operator's environment such as HTTPS_PROXY.
        message = f"The operator cannot speak to the compute API: {error}."
        raise NotConnected(Verdict(Reason.COMPUTE_API_UNAVAILABLE, message)) from None


def _trust(spec: ComputeAPISpec, bundle: str) -> bool | ssl.SSLContext:
    if not bundle:
        return True
    # Comments between certificates may be in any script; ssl takes ASCII only.
    ascii_only = bundle.encode("ascii", "replace").decode()
    try:
        return ssl.create_default_context(cadata=ascii_only)
    except ssl.SSLError:
        reference = spec.ca_bundle_ref
        message = (
            f"The key {reference.key} of ConfigMap {reference.name} holds no certificate in PEM "
            "form: put the CA certificate there."
        )
        raise NotConnected(Verdict(Reason.CA_BUNDLE_INVALID, message)) from None
