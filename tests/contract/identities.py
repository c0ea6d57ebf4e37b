"""The identities that recorded cases were sent by, beside the suite's own."""

from .recordings import Case

LIMITED, NO_SCOPES, DISABLED = "rig-limited", "rig-none", "rig-disabled"
IDENTITIES = {
    LIMITED: ("limited-key", ["rig-c-p", "rig-d-*"]),
    NO_SCOPES: ("none-key", []),
    DISABLED: ("k", ["rig-c-p"]),
}


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


def made_up_identity(case: Case) -> str | None:
    """The identity, other than the suite's own, that a case is by or about."""
    named = (name for name in IDENTITIES if name in case.path or name in str(case.form))
    return identity_of(case) or next(named, None)
