"""Replaying a session of recorded cases: sending each again and comparing what comes back."""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

from simulator.client import AdminClient, AdminError
from simulator.identifiers import ComputeID

from .binding import Binding, MismatchError
from .observing import observe
from .pushes import body_of, encoded
from .recordings import ABSENT, Case, cases

LIMITED, NO_SCOPES, DISABLED = "rig-limited", "rig-none", "rig-disabled"
IDENTITIES = {
    LIMITED: ("limited-key", ["rig-c-p", "rig-d-*"]),
    NO_SCOPES: ("none-key", []),
    DISABLED: ("k", ["rig-c-p"]),
}
_COMPARED_HEADERS = (
    "content-type",
    "www-authenticate",
    "allow",
    "location",
    "vary",
    "content-encoding",
)
_TIMEOUT = 30.0
_FAILURES = (AssertionError, LookupError, TypeError, ValueError, AdminError, httpx.HTTPError)
_MOST_DUPLICATES = 4


class NeedsAdminError(Exception):
    """The case needs something that only the simulator's admin port can do."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test. A real one has no admin port."""

    url: str
    identifier: str
    key: str
    admin: AdminClient | None = None
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case: as recorded, an error, or not tried for a reason."""

    error: Exception | None = None
    skipped: str | None = None


Step = Callable[["Replay"], None]


@dataclass(frozen=True, slots=True)
class Session:
    """Cases that share a state, in order.

    `before` prepares what the recording had prepared out of band; `instead` performs and checks
    cases that are no single exchange; `services` names the pushing service of cases whose
    recording does not tell it (`*`: of all others), `subjects` the recorded key of the Task that
    `after` tells of, where the path does not.
    """

    name: str
    first: str
    last: str
    before: Mapping[str, Step] = field(default_factory=dict)
    instead: Mapping[str, Step] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)

    def cases(self) -> list[Case]:
        """The session's cases."""
        names = list(cases())
        chosen = names[names.index(self.first) : names.index(self.last) + 1]
        return [cases()[name] for name in chosen]


class Replay:
    """One run of one session."""

    def __init__(self, target: Target, session: Session) -> None:
        self.target = target
        self.session = session
        self.binding = Binding()
        self._http = httpx.Client(
            base_url=target.url, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._tokens: dict[str, str] = {}
        self._unprepared: str | None = None

    @property
    def admin(self) -> AdminClient:
        """The admin port; NeedsAdminError if the server has none."""
        if self.target.admin is None:
            raise NeedsAdminError("needs the simulator's admin port")
        return self.target.admin

    def run(self) -> dict[str, Outcome]:
        """Run every case of the session; one that differs does not stop the others."""
        with self._http:
            self._start()
            outcomes = {case.name: self._outcome(case) for case in self.session.cases()}
            if self.target.admin is None:
                self._tidy()
            return outcomes

    # what preparations use

    def advance(self, seconds: float, *, keep_tokens: bool = False) -> None:
        """Let virtual time pass."""
        self.admin.advance(seconds)
        if not keep_tokens:
            self.renew_tokens()

    def renew_tokens(self) -> None:
        """Ask for new tokens from here on."""
        self._tokens.clear()

    def token(self, identity: str | None = None) -> str:
        """A token of an identity; the suite's own if none is named."""
        name = identity or self.target.identifier
        if name not in self._tokens:
            key = IDENTITIES[name][0] if name in IDENTITIES else self.target.key
            form = {"username": name, "password": key}
            answer = self.send("POST", "/token", {}, form=form).raise_for_status()
            self._tokens[name] = answer.json()["access_token"]
        return self._tokens[name]

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        content: bytes | None = None,
        form: dict[str, str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> httpx.Response:
        """Send one request on a connection of its own."""
        return self._http.request(
            method, path, headers=headers, content=content, data=form, timeout=timeout
        )

    def call(self, path: str, body: Any = None) -> Any:
        """POST something that must succeed, and return the answer."""
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        content = json.dumps({} if body is None else body).encode()
        answer = self.send("POST", path, headers, content=content)
        if answer.status_code != 200:
            raise MismatchError(f"preparation: POST {path} gave {answer.status_code} {answer.text}")
        return answer.json()

    def register(self, *services: str, manager: str | None = None) -> None:
        """Register services."""
        for service in services:
            self.call(f"/computeservice/{service}/register", {"compute_manager_id": manager})

    def waiting(self, *recorded: str, **details: Any) -> list[str]:
        """Add a waiting Task for each recorded key, each on a hub of its own unless told."""
        live = []
        for key in recorded:
            options = {"protocol": "DummyProtocol", "hubs": [key]} | details
            [task] = self.admin.add_tasks(1, scope=_scope(key), **options)
            self.binding.bind(key, task)
            live.append(task)
        return live

    def claim(self, recorded: str, service: str) -> None:
        """Let a service claim the Task of a recorded key, through its hub."""
        key = self.binding.live(recorded)
        [hub, *_] = self.admin.task(key).hubs
        body = {"compute_service_id": service, "count": 1, "protocols": None}
        if self.call(f"/taskhubs/{hub}/claim", body) != [key]:
            raise MismatchError(f"preparation: {service} could not claim {key}")

    def running(self, *recorded: str, service: str, **details: Any) -> None:
        """Add a Task for each recorded key and let a registered service claim it."""
        for key in recorded:
            self.waiting(key, **details)
            self.claim(key, service)

    # one case

    def exchange(self, case: Case) -> None:
        """Send a recorded request again and compare the answer."""
        form = self._own_form(case.form)
        content = self._content(case)
        headers = {name: self._header(case, value) for name, value in case.headers.items()}
        path = self._path(case)
        answer = self.send(case.method, path, headers, content=content, form=form)
        self.compare(case, answer)

    def compare(self, case: Case, answer: httpx.Response) -> None:
        """Compare an answer with the recorded one; MismatchError says where they differ."""
        if answer.status_code != case.status:
            text = answer.text[:500]
            raise MismatchError(f"status: recorded {case.status}, now {answer.status_code}: {text}")
        self._compare_headers(case, answer)
        if case.answer_headers.get("content-type") != "application/json":
            self.binding.match(case.answer, answer.text)
            return
        live = answer.json()
        recorded = case.answer
        if isinstance(recorded, dict) and recorded.keys() == {"truncated", "length"}:
            _compare_start(case, live)
        elif isinstance(recorded, dict) and recorded.get("access_token") == "<jwt>":
            _compare_token(recorded, live)
        else:
            self.binding.match(self._comparable(recorded), self._comparable(live))

    def _compare_headers(self, case: Case, answer: httpx.Response) -> None:
        host = httpx.URL(self.target.url).netloc.decode()
        for name in _COMPARED_HEADERS:
            recorded = case.answer_headers.get(name)
            recorded = recorded.replace("<host>", host) if recorded else recorded
            if answer.headers.get(name) != recorded:
                now = answer.headers.get(name)
                raise MismatchError(f"header {name}: recorded {recorded!r}, now {now!r}")
        varies = case.form is not None or "content-encoding" in case.answer_headers
        length = case.answer_headers["content-length"]
        if (
            self.target.admin is not None
            and not varies
            and answer.headers["content-length"] != length
        ):
            now = answer.headers["content-length"]
            raise MismatchError(
                f"content-length: recorded {length}, now {now}: {answer.text[:500]}"
            )

    def _comparable(self, value: Any) -> Any:
        """Leave out what the server does not promise, and on a real server what it holds."""
        if not isinstance(value, dict) or "instruction" not in value:
            return value
        value = dict(value)
        if "compute_service_ids" in value:
            value["compute_service_ids"] = sorted(value["compute_service_ids"])
        if self.target.admin is None and isinstance(value.get("num_tasks"), int):
            value["num_tasks"] = "some"
        return value

    # the request

    def _path(self, case: Case) -> str:
        if case.name == "mgr-register-name-long-5000":
            return f"/computemanager/{'m' * 5000}-109c880dd13e41b08a3541db399ae394/register"
        path = case.path.replace("/compute-identity/", f"/{self.target.identifier}/")
        return self.binding.live(path)

    def _own_form(self, form: dict[str, str] | None) -> dict[str, str] | None:
        own = {"compute-identity": self.target.identifier, "compute-key": self.target.key}
        return {k: own.get(v, v) for k, v in form.items()} if form is not None else None

    def _header(self, case: Case, value: str) -> str:
        return value.replace("<jwt>", self.token(identity_of(case))) if "<jwt>" in value else value

    def _content(self, case: Case) -> bytes | None:
        encoding = case.headers.get("Content-Encoding")
        body = case.body
        if body is ABSENT:
            return None
        if case.path.endswith("/results") and not _is_verbatim(case):
            return encoded(case.name, body_of(case.name, self._pusher(case)), encoding)
        if case.name == "mgr-register-gzip-body":
            return encoded(case.name, b'{"steal": false}', encoding)
        if case.name == "claim-gzip-request-body":
            return encoded(case.name, json.dumps(self._claim_in("rig-d-x")).encode(), encoding)
        if case.name == "mgr-status-detail-100kB":
            return json.dumps({"status": "ERROR", "detail": "x" * 100_000}).encode()
        if isinstance(body, str) and case.name != "svc-register-bare-string-body":
            return self.binding.live(body).encode()
        own = {"compute-identity": self.target.identifier, "compute-key": self.target.key}
        if isinstance(body, dict) and "username" in body:
            body = {k: own.get(v, v) for k, v in body.items()}
        return json.dumps(self.binding.live_value(body)).encode()

    def _claim_in(self, scope: str) -> dict[str, Any]:
        [service] = {s.id for s in self.admin.services()}
        org, campaign, project = scope.split("-")
        return {
            "scopes": [{"org": org, "campaign": campaign, "project": project}],
            "compute_service_id": service,
            "count": 1,
        }

    def _pusher(self, case: Case) -> str | None:
        if case.name in self.session.services:
            return self.session.services[case.name]
        if isinstance(case.after, dict) and case.after.get("result_refs"):
            creator: str | None = case.after["result_refs"][-1]["creator"]
            return creator
        return self.session.services["*"]

    # the session

    def _start(self) -> None:
        if self.target.admin is None:
            self._tidy()
            return
        self.admin.reset()
        for identifier, (key, scopes) in IDENTITIES.items():
            self.admin.add_identity(identifier, key, scopes, disabled=identifier == DISABLED)

    def _outcome(self, case: Case) -> Outcome:
        try:
            try:
                if prepare := self.session.before.get(case.name):
                    prepare(self)
            except NeedsAdminError as error:
                self._unprepared = str(error)
            if self._unprepared and not case.is_refused_unseen:
                return Outcome(skipped=self._unprepared)
            if self.target.admin is None and (needed := _made_up_identity(case)):
                return Outcome(skipped=f"needs the identity {needed}")
            if perform := self.session.instead.get(case.name):
                perform(self)
            else:
                self.exchange(case)
                self._compare_after(case)
        except NeedsAdminError as error:
            return Outcome(skipped=str(error))
        except _FAILURES as error:
            return Outcome(error=error)
        return Outcome()

    def _compare_after(self, case: Case) -> None:
        if self.target.admin is not None and case.after is not ABSENT:
            path = self.binding.live(self.session.subjects.get(case.name, case.path))
            self.binding.match(case.after, observe(case, path, self.admin), "after")

    def _tidy(self) -> None:
        """Remove from a real server whatever this session registers, or an earlier run left."""
        paths = [self._path(case) for case in self.session.cases()]
        for service in _ids(paths, "computeservice"):
            self._try(f"/computeservice/{service}/deregister")
        for name in {manager.name for manager in _ids(paths, "computemanager")}:
            own = ComputeID(name, "0" * 32)
            for _ in range(_MOST_DUPLICATES):
                self._try(f"/computemanager/{name}/clear_error")
                if self._try(f"/computemanager/{own}/register", {"steal": True}) != 422:
                    break
            self._try(f"/computemanager/{own}/deregister")

    def _try(self, path: str, body: Any = None) -> int:
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        content = json.dumps({} if body is None else body).encode()
        return self.send("POST", path, headers, content=content).status_code


def identity_of(case: Case) -> str | None:
    """Which identity sent a case, as far as it was not the suite's own."""
    name = case.name
    if name in {
        "mgr-instruction-identity-without-scopes",
        "mgr-instruction-proto-invalid-but-no-accessible-scope",
        "claim-identity-without-scopes",
    }:
        return NO_SCOPES
    parts = ("limited-identity", "scope-lacking", "lacking-scope", "by-another-identity")
    return LIMITED if any(part in name for part in parts) else None


def _made_up_identity(case: Case) -> str | None:
    """The identity, other than the suite's own, that a case is by or about."""
    named = (name for name in IDENTITIES if name in case.path or name in str(case.form))
    return identity_of(case) or next(named, None)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls at the same time and return their results in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def _scope(key: str) -> str:
    return "-".join(key.split("-")[2:])


def _ids(paths: Iterable[str], kind: str) -> set[ComputeID]:
    """The well-formed ids in the paths."""
    ids = set()
    for path in paths:
        if path.startswith(f"/{kind}/"):
            with contextlib.suppress(ValueError):
                ids.add(ComputeID.parse(unquote(path.split("/")[2]), kind))
    return ids


def _is_verbatim(case: Case) -> bool:
    """Whether a recorded body of a push is all there."""
    return isinstance(case.body, str) and not case.body.startswith("<")


def _compare_start(case: Case, live: Any) -> None:
    text = live if isinstance(live, str) else json.dumps(live)
    start = case.answer["truncated"].removesuffix("...")
    if not text.startswith(start):
        raise MismatchError(f"answer: recorded {start!r}..., now {text[: len(start)]!r}")
    if case.name != "transformation-gufe-extends" and len(text) != case.answer["length"]:
        raise MismatchError(f"answer: recorded {case.answer['length']} long, now {len(text)}")


def _compare_token(recorded: dict[str, Any], live: dict[str, Any]) -> None:
    if live.keys() != recorded.keys() or live["token_type"] != recorded["token_type"]:
        raise MismatchError(f"answer: recorded {recorded}, now {live.keys()}")
    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", live["access_token"]):
        raise MismatchError("access_token has not the form of a JSON web token")
