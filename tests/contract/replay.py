"""Replaying a session of recorded cases: sending each again and comparing what comes back."""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import httpx

from simulator.client import AdminClient, AdminError
from simulator.identifiers import ComputeID

from .binding import Binding, MismatchError
from .comparing import compare
from .identities import DISABLED, IDENTITIES, identity_of, made_up_identity
from .observing import observe
from .recordings import ABSENT, Case
from .requests import Requests
from .session import NeedsAdminError, Outcome, Session, Target

_TIMEOUT = 30.0
_FAILURES = (AssertionError, LookupError, TypeError, ValueError, AdminError, httpx.HTTPError)
_MOST_DUPLICATES = 4


class Replay:
    """One run of one session."""

    def __init__(self, target: Target, session: Session) -> None:
        self.target = target
        self.session = session
        self.binding = Binding()
        self._http = httpx.Client(
            base_url=target.url, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._requests = Requests(target, self.binding)
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
        token = self.token(identity_of(case))
        headers = {k: v.replace("<jwt>", token) for k, v in case.headers.items()}
        content = self._requests.content(case, self._pusher(case))
        form = self._requests.form(case)
        path = self._requests.path(case)
        self.compare(case, self.send(case.method, path, headers, content=content, form=form))

    def compare(self, case: Case, answer: httpx.Response) -> None:
        """Compare an answer with the recorded one."""
        compare(case, answer, self.binding, knows_state=self.target.admin is not None)

    def _pusher(self, case: Case) -> str | None:
        """The service that a case pushed for."""
        services = self.session.services
        if case.name not in services and isinstance(case.after, dict):
            for entry in case.after.get("result_refs", ())[-1:]:
                creator: str | None = entry["creator"]
                return creator
        return services.get(case.name, services.get("*"))

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
            if self.target.admin is None and (needed := made_up_identity(case)):
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
        paths = [self._requests.path(case) for case in self.session.cases()]
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
