"""Access tokens: JSON web tokens signed with HMAC-SHA256."""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass


class InvalidTokenError(Exception):
    """The token is forged, foreign, malformed or expired; the server tells no difference."""


@dataclass(frozen=True, slots=True)
class TokenData:
    """Whom a token stands for, and the scopes as they were when it was issued."""

    identity: str
    scopes: tuple[str, ...]


def issue(data: TokenData, *, secret: str, expires_at: float) -> str:
    """Make a token; `expires_at` is in seconds since the epoch."""
    claims = {"sub": data.identity, "scopes": list(data.scopes), "exp": int(expires_at)}
    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{signed}.{_base64(_signature(signed, secret))}"


def read(token: str, *, secret: str, now: float) -> TokenData:
    """Check a token and say whose it is; InvalidTokenError otherwise."""
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(_base64(_signature(signed, secret)), signature):
        raise InvalidTokenError
    try:
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
    except (ValueError, binascii.Error):
        raise InvalidTokenError from None
    if claims["exp"] < now:
        raise InvalidTokenError
    return TokenData(claims["sub"], tuple(claims["scopes"]))


def _encode(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signature(signed: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
