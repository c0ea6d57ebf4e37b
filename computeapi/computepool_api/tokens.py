"""One token for all calls of a client: renewed in time, once at a time, and by no force.

The server checks a password with bcrypt, 250 ms of its processor. So calls that meet a 401 together
cause one renewal together, whether it succeeds or not, and a refused key is not tried again until
it changes, or a minute has passed (somebody may have corrected it on the server).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from computepool_api.credentials import Credentials, CredentialSource, CredentialsUnreadable
from computepool_api.endpoints import TOKEN
from computepool_api.errors import ComputeAPIError, CredentialsRefused
from computepool_api.secrecy import Secret

REFUSAL_KEPT: Final = 60.0
"""Seconds for which a refusal of unchanged credentials is believed without asking again."""

_MARGIN: Final = 60.0
_LONGEST_KEY: Final = 4096
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A token, and until when (monotonic seconds) to use it; None when it does not say."""

    secret: Secret
    usable_until: float | None


def read_token(body: object, date: str, requested_at: float) -> Token | None:
    """Read the answer of `/token`; None when it holds no token that fits in a header.

    `date` is the Date header of the answer: by the server's own clock, a skew between the clocks
    does not matter. `requested_at` is the monotonic time before the request was sent. The token is
    given up a minute before it ends, or a tenth of its life if that is less.
    """
    match body:
        case {"access_token": str(text)} if _BEARER.fullmatch(text):
            pass
        case _:
            return None
    expiry = _expiry(text)
    if expiry is None:
        return Token(Secret(text), None)
    lifetime = expiry - _clock(date)
    # A token that seems dead on arrival tells of clocks, not of the token: a 401 will tell better.
    if lifetime <= 0:
        return Token(Secret(text), None)
    return Token(Secret(text), requested_at + lifetime - min(_MARGIN, lifetime / 10))


def _expiry(jwt: str) -> float | None:
    """Read `exp` (Unix seconds) of a JWT without verifying it: only the server can."""
    parts = jwt.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    match claims:
        case {"exp": int() | float() as expiry}:
            return float(expiry)
        case _:
            return None


def _clock(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return time.time()


class TokenKeeper:
    """Holds the token. `request` asks the server for one and raises a ComputeAPIError."""

    def __init__(
        self,
        source: CredentialSource,
        request: Callable[[Credentials], Awaitable[Token]],
        monotonic: Callable[[], float],
    ) -> None:
        self._source = source
        self._request = request
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._token: Token | None = None
        self._requests = 0
        self._failure: ComputeAPIError | None = None
        self._refused: tuple[Credentials, float] | None = None

    async def current(self, *, refused: Token | None = None) -> Token:
        """Give a token to use now, other than `refused`, which met a 401.

        Raises CredentialsRefused, Unavailable, or what `request` raises.
        """
        if (token := self._usable(refused)) is not None:
            return token
        seen = self._requests
        async with self._lock:
            if (token := self._usable(refused)) is not None:
                return token
            if self._requests != seen and self._failure is not None:
                # Another call has asked while this one waited: its failure is this one's too.
                raise _again(self._failure)
            return await self._renew()

    def _usable(self, refused: Token | None) -> Token | None:
        token = self._token
        if token is None or token is refused:
            return None
        if token.usable_until is not None and self._monotonic() >= token.usable_until:
            return None
        return token

    async def _renew(self) -> Token:
        credentials = self._read_credentials()
        now = self._monotonic()
        if self._refused is not None and self._failure is not None:
            which, since = self._refused
            if which == credentials and now - since < REFUSAL_KEPT:
                raise _again(self._failure)
        try:
            self._token = await self._request(credentials)
        except ComputeAPIError as failure:
            self._failure = _again(failure)
            self._refused = (credentials, now) if isinstance(failure, CredentialsRefused) else None
            self._token = None
            self._requests += 1
            raise
        self._failure = self._refused = None
        self._requests += 1
        return self._token

    def _read_credentials(self) -> Credentials:
        """Read them anew, and refuse here what the server would not even check."""
        try:
            credentials = self._source()
        except CredentialsUnreadable as error:
            raise self._unusable(str(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise self._unusable(f"the credentials cannot be read ({reason})") from None
        if not credentials.identifier or not credentials.key:
            raise self._unusable("the identifier or the key is empty")
        if len(credentials.key) > _LONGEST_KEY:
            raise self._unusable(f"the key has more than {_LONGEST_KEY} characters")
        return credentials

    @staticmethod
    def _unusable(detail: str) -> CredentialsRefused:
        return CredentialsRefused(TOKEN.name, detail=detail)


def _again(failure: ComputeAPIError) -> ComputeAPIError:
    """Copy a failure for another call, without the traceback of the first."""
    return type(failure)(failure.endpoint, status=failure.status, detail=failure.detail)
