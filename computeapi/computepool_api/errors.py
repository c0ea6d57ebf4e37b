"""What can go wrong with the compute API, typed by what the caller can do about it.

ComputeAPIError
├── Unavailable           try again later: nothing was done, or repeating is harmless
├── CredentialsRefused    give up on this pool until the credentials change
├── ScopeRefused          give up on this Task
├── TaskUnusable          give up on this Task
├── ManagerNameTaken      another manager has the name: `held_status` says in which state
├── ManagerNotRegistered  the registration was stolen, cleared or has expired: create nothing more
├── ManagerUnknown        no manager of that name: the service cannot register under it
├── ServiceIDTaken        take a new id
├── ServiceNotRegistered  the registration and its claims are gone: stop, push nothing
├── ClaimAmbiguous        deregister, and start with a new id
├── PushAmbiguous         never push it again under this claim
├── InvalidRequest        a setting or this program is wrong: repeating does not help
│   └── Misdirected       the URL is wrong, or, if it has worked before, a proxy is being changed
└── UnexpectedAnswer      unknown: decide nothing by it

`str()` says what happened, where, and what to do. No error carries a key or a token, nor the
exception of the HTTP library, which would.
"""

from __future__ import annotations

from typing import ClassVar, Literal


class ComputeAPIError(Exception):
    """Any failure of a call to the compute API.

    `endpoint` is method and path template, such as `POST /claim`; `status` the HTTP status of the
    answer that decided, None without one; `detail` what happened, in one line.
    """

    _advice: ClassVar[str] = ""

    def __init__(self, endpoint: str, *, status: int | None = None, detail: str = "") -> None:
        self.endpoint = endpoint
        self.status = status
        self.detail = detail
        where = endpoint if status is None else f"{endpoint} answered {status}"
        what = detail.rstrip(". ") or "failed"
        super().__init__(f"{where}: {what}. {self._what_to_do()}".rstrip())

    def _what_to_do(self) -> str:
        return self._advice


class Unavailable(ComputeAPIError):
    """The server is unreachable or broken; nothing was done, or repeating is harmless."""

    _advice = "Try again later."


class CredentialsRefused(ComputeAPIError):
    """The server, or the lack of usable credentials, refuses this identity everything."""

    _advice = "Correct the identifier and key of this pool."


class ScopeRefused(ComputeAPIError):
    """The Task or hub is outside the scopes of this identity, also with a fresh token."""

    _advice = "Leave this Task, or grant the scope to the identity on the server."


class ManagerNameTaken(ComputeAPIError):
    """A manager of this name is registered, with the status `held_status`."""

    def __init__(
        self,
        endpoint: str,
        *,
        held_status: Literal["OK", "ERROR"],
        status: int | None = None,
        detail: str = "",
    ) -> None:
        self.held_status = held_status
        super().__init__(endpoint, status=status, detail=detail)

    def _what_to_do(self) -> str:
        if self.held_status == "OK":
            return "Steal it if its holder is known to be dead, or use another name."
        return "Clear its error first, or use another name."


class ManagerNotRegistered(ComputeAPIError):
    """The server has no registration of this manager name and uuid (any more)."""

    _advice = "Create no more services under it, and do not register again by itself."


class ManagerUnknown(ComputeAPIError):
    """A service asked to register under a manager name that is not registered."""

    _advice = "Register the manager first."


class ServiceIDTaken(ComputeAPIError):
    """A service is registered under this id already."""

    _advice = "Use a new id."


class ServiceNotRegistered(ComputeAPIError):
    """The registration of the service was lost, and with it whatever it had claimed."""

    _advice = "Stop work on what it claimed, push nothing, and begin with a new registration."


class TaskUnusable(ComputeAPIError):
    """The server works, but for this Task it answers 500 and will go on doing so."""

    _advice = "Deregister, so that the Task is not held, and report it."


class PushAmbiguous(ComputeAPIError):
    """A result was sent, and whether the server has stored it is unknown.

    `status` is None when no answer came; a 500 may come before or after storing.
    """

    _advice = (
        "Never send it again under this claim; keep the file, wait, and deregister: "
        "the Task waits again exactly if nothing was stored."
    )


class ClaimAmbiguous(ComputeAPIError):
    """A claim was sent, and which Tasks it took is unknown."""

    _advice = "Deregister, which releases them, and start with a new id."


class InvalidRequest(ComputeAPIError):
    """The request cannot succeed as it is: a wrong setting, or a bug of this program."""

    _advice = "Correct the settings; repeating it does not help."


class Misdirected(InvalidRequest):
    """What answers knows no such path, or is not the server. It was certainly not carried out."""


class UnexpectedAnswer(ComputeAPIError):
    """An answer that is not of the compute API's form."""

    _advice = "Check that the URL is that of an alchemiscale compute API; nothing is decided by it."
