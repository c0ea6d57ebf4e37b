"""Whom to trust: TLS settings, and whether the file that they come from has changed since."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

Verify = bool | str | ssl.SSLContext

_Stamp = tuple[int, int, int]


class Trust:
    """The TLS settings for `verify`: see `ComputeAPI`. Raises ValueError if it is of no use."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._stamp = _stamp(verify)
        self.context = _read(verify)

    def renew(self) -> bool:
        """Read a CA bundle again if its file is another by now; whether that has worked.

        One that cannot be read, since it is being replaced perhaps, changes nothing.
        """
        stamp = _stamp(self._verify)
        if stamp in (None, self._stamp):
            return False
        try:
            self.context = _read(self._verify)
        except ValueError:
            return False
        self._stamp = stamp
        return True


def _stamp(verify: Verify) -> _Stamp | None:
    """Tell a file from what it was, also behind a link as in a ConfigMap's volume."""
    if not isinstance(verify, str):
        return None
    try:
        found = Path(verify).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(verify: Verify) -> ssl.SSLContext:
    try:
        if not isinstance(verify, str):
            return httpx.create_ssl_context(verify)
        if Path(verify).is_dir():
            return ssl.create_default_context(capath=verify)
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{_source(verify)} cannot be used: {reason}") from None


def _source(verify: Verify) -> str:
    if isinstance(verify, str):
        return f"the CA bundle {verify}"
    return "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
