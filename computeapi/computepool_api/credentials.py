"""The identity that a pool authenticates as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Identifier and key of a compute identity. The key is in no repr."""

    identifier: str
    key: str = field(repr=False)


class CredentialsUnreadable(ValueError):
    """No credentials are where they should be; tells what is missing and what was looked at.

    Its text names files and never repeats what is in them: unlike that of any other error, it is
    shown.
    """


CredentialSource = Callable[[], Credentials]
"""Called at each token request, so that a changed Secret is used at once.

It may raise OSError or ValueError when the credentials cannot be read: the client reports that as
`CredentialsRefused`.
"""
