"""Names for the compute API's endpoints, by which faults and the audit log speak of them."""

import re
from dataclasses import dataclass, field

_ID = r"(?P<{}>[^/]+)"
_PATTERNS = [
    (name, method, re.compile(pattern))
    for name, method, pattern in (
        ("token", "POST", r"/token"),
        ("ping", "GET", r"/ping"),
        ("info", "GET", r"/info"),
        ("check", "GET", r"/check"),
        ("scopes", "GET", rf"/identities/{_ID.format('identity')}/scopes"),
        ("manager_register", "POST", rf"/computemanager/{_ID.format('manager')}/register"),
        ("manager_deregister", "POST", rf"/computemanager/{_ID.format('manager')}/deregister"),
        ("manager_instruction", "POST", rf"/computemanager/{_ID.format('manager')}/instruction"),
        ("manager_status", "POST", rf"/computemanager/{_ID.format('manager')}/status"),
        ("manager_clear_error", "POST", rf"/computemanager/{_ID.format('manager')}/clear_error"),
        ("service_register", "POST", rf"/computeservice/{_ID.format('service')}/register"),
        ("service_deregister", "POST", rf"/computeservice/{_ID.format('service')}/deregister"),
        ("service_heartbeat", "POST", rf"/computeservice/{_ID.format('service')}/heartbeat"),
        ("taskhubs", "GET", r"/taskhubs"),
        ("hub_claim", "POST", rf"/taskhubs/{_ID.format('hub')}/claim"),
        ("claim", "POST", r"/claim"),
        ("transformation", "GET", rf"/tasks/{_ID.format('task')}/transformation"),
        ("transformation_gufe", "GET", rf"/tasks/{_ID.format('task')}/transformation/gufe"),
        ("results", "POST", rf"/tasks/{_ID.format('task')}/results"),
    )
]
ENDPOINTS = tuple(name for name, _, _ in _PATTERNS)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which endpoint a request is for, and the ids in its path; `other` for unknown ones."""

    name: str
    ids: dict[str, str] = field(default_factory=dict)


def endpoint_of(method: str, path: str) -> Endpoint:
    """Recognise a request by method and path."""
    for name, wanted, pattern in _PATTERNS:
        found = pattern.fullmatch(path)
        if found and method == wanted:
            return Endpoint(name, found.groupdict())
    return Endpoint("other")
