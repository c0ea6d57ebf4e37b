"""Making a recorded request again, for the server at hand."""

import json
from typing import Any

from .binding import Binding
from .pushes import body_of, encoded
from .recordings import ABSENT, Case
from .session import Target

_LONG = f"/computemanager/{'m' * 5000}-109c880dd13e41b08a3541db399ae394/register"
_BARE_STRING = "svc-register-bare-string-body"


class Requests:
    """Recorded paths, forms and bodies, in terms of the target's credentials and live keys."""

    def __init__(self, target: Target, binding: Binding) -> None:
        self._target = target
        self._binding = binding
        self._own = {"compute-identity": target.identifier, "compute-key": target.key}

    def path(self, case: Case) -> str:
        """The path and query."""
        if case.name == "mgr-register-name-long-5000":
            return _LONG
        path = case.path.replace("/compute-identity/", f"/{self._target.identifier}/")
        return self._binding.live(path)

    def form(self, case: Case) -> dict[str, str] | None:
        """The form, if one was sent."""
        return None if case.form is None else self._with_own(case.form)

    def content(self, case: Case, pusher: str | None) -> bytes | None:
        """The body, if one was sent; what the recording only describes is made anew."""
        encoding = case.headers.get("Content-Encoding")
        body = case.body
        if body is ABSENT:
            return None
        if case.path.endswith("/results") and not _is_verbatim(body):
            return encoded(case.name, body_of(case.name, pusher), encoding)
        if case.name == "mgr-register-gzip-body":
            return encoded(case.name, b'{"steal": false}', encoding)
        if case.name == "claim-gzip-request-body":
            return encoded(case.name, json.dumps(_claim_in("rig-d-x", pusher)).encode(), encoding)
        if case.name == "mgr-status-detail-100kB":
            return json.dumps({"status": "ERROR", "detail": "x" * 100_000}).encode()
        if isinstance(body, str) and case.name != _BARE_STRING:
            return self._binding.live(body).encode()
        if isinstance(body, dict) and "username" in body:
            body = self._with_own(body)
        return json.dumps(self._binding.live_value(body)).encode()

    def _with_own(self, fields: dict[str, str]) -> dict[str, str]:
        return {name: self._own.get(value, value) for name, value in fields.items()}


def _is_verbatim(body: Any) -> bool:
    """Whether a recorded body of a push is all there."""
    return isinstance(body, str) and not body.startswith("<")


def _claim_in(scope: str, service: str | None) -> dict[str, Any]:
    org, campaign, project = scope.split("-")
    return {
        "scopes": [{"org": org, "campaign": campaign, "project": project}],
        "compute_service_id": service,
        "count": 1,
    }
